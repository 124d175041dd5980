#!/usr/bin/env bash
# Runs one command on a worker of a TPU, in the background, so that it goes on where the connection is lost; tpu_vm.sh
# calls it there:
#
#   worker.sh start COMMAND...   starts the command; leaves it where it runs already; status 4 where another one does;
#                                ends what a command that has ended left running
#   worker.sh follow             shows the command's output until it ends, and ends with its status
#   worker.sh stop SECONDS       SIGTERM, and SIGKILL to what is left after so many seconds
#   worker.sh report             says how it ended and, where it failed, its last lines
#
# `follow` ends with status 75 where the command was ended from outside: the machine restarted, or was taken away.
set -euo pipefail

LOST=75
checkout=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
job=$HOME/joint_st/job
mkdir -p "$job"

running() { # whether a command runs: it and its children hold the lock, and a restart of the machine lets it go
    ! flock --shared --nonblock "$job/lock" true
}

end_rest() { # ends what a command that has ended left running; fails where the command itself runs
    [ -e "$job/status" ] || return 1
    echo "$HOSTNAME: ends what the command before has left"
    kill -TERM -- "-$(cat "$job/session")" || true
    flock --wait 10 9 || { kill -KILL -- "-$(cat "$job/session")" && flock --wait 10 9; }
}

start() {
    local wanted
    wanted=$(printf '%q ' "$@")
    exec 9>> "$job/lock"
    if ! flock --wait 1 9 && ! end_rest; then
        if [ "$(cat "$job/command")" = "$wanted" ]; then
            echo "$HOSTNAME: runs already"
            return
        fi
        echo "$HOSTNAME: error: runs another command: $(cat "$job/command")" >&2
        exit 4
    fi
    rm -f "$job/status" "$job/stopped" "$job/pid"
    echo "$wanted" > "$job/command"
    [ ! -e "$job/log" ] || mv "$job/log" "$job/log.previous"
    cd "$checkout"
    PATH=$checkout/.venv/bin:$PATH setsid "$BASH" "$checkout/launch/worker.sh" hold "$@" > "$job/log" 2>&1 < /dev/null &
    # Where it was killed before it could note the command, nothing ever will; `follow` then says that it was lost.
    until [ -e "$job/pid" ] || ! kill -0 $! 2> /dev/null; do sleep 0.1; done
    echo "$HOSTNAME: started"
}

hold() { # runs the command and notes its status, also at a shutdown, which sends SIGTERM to this shell too
    local status=0
    trap : TERM
    echo $$ > "$job/session"
    # In the foreground: a signal that ends `wait` can lose the status.
    # shellcheck disable=SC2016
    "$BASH" -c 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"' "$job/pid" "$@" || status=$?
    note_status "$status"
}

note_status() { # note_status STATUS: whole or not at all, since `follow` may read it at any time
    echo "$1" > "$job/status.new"
    mv "$job/status.new" "$job/status"
}

ended_from_outside() { # killed with the shell that holds it, or by a SIGTERM that did not come from `stop`
    [ ! -e "$job/status" ] || { [ "$(cat "$job/status")" = 143 ] && [ ! -e "$job/stopped" ]; }
}

follow() {
    [ -e "$job/pid" ] || exit "$LOST"
    tail --lines 100 --follow=name --sleep-interval 0.5 --pid "$(cat "$job/pid")" "$job/log" 2> /dev/null || true
    # The command's children may hold the lock a little longer than it lives.
    while [ ! -e "$job/status" ] && running; do sleep 0.1; done
    ! ended_from_outside || exit "$LOST"
    exit "$(cat "$job/status")"
}

stop() {
    local seconds=$1
    if ! running; then
        echo "$HOSTNAME: nothing runs"
        return
    fi
    touch "$job/stopped"
    kill -TERM "$(cat "$job/pid")" 2> /dev/null || true
    if ! flock --shared --wait "$seconds" "$job/lock" true; then
        kill -KILL -- "-$(cat "$job/session")" || true
        [ -e "$job/status" ] || note_status 137
    fi
    echo "$HOSTNAME: stopped"
}

report() {
    if running; then
        echo "$HOSTNAME: runs"
    elif ended_from_outside; then
        echo "$HOSTNAME: ended from outside"
    else
        echo "$HOSTNAME: ended with status $(cat "$job/status")"
        [ "$(cat "$job/status")" = 0 ] || tail --lines 20 "$job/log"
    fi
}

case $1 in
    start) start "${@:2}" ;;
    hold) hold "${@:2}" ;;
    follow) follow ;;
    stop) stop "$2" ;;
    report) report ;;
esac
exit # before the file is read any further: a later checkout may have taken its place
