#!/usr/bin/env bash
# Runs a command on all workers of a TPU, which is created if there is none, and created again when it is taken away.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat << 'HELP'
usage: launch/tpu_vm.sh --name NAME --zone ZONE --type TYPE [OPTION ...] -- COMMAND ...
       launch/tpu_vm.sh --name NAME --zone ZONE --stop | --delete

Asks for a TPU (a queued resource), or takes the one of that name; waits for it; copies this checkout to all its
workers, installs it and starts COMMAND on each; shows the output of worker 0 until it ends, and ends with its status.
Where the TPU is taken away (a spot one) or restarted, it is asked for again and COMMAND is started again:
`joint-st train` goes on from its last checkpoint, so its --workdir must be a gs:// path.

COMMAND continues when this script is interrupted or loses its connection; the same line again shows it again, and
does not start it twice. The TPU stays, and costs, until it is deleted.

  --name NAME           name of the TPU and of its queued resource
  --zone ZONE           the zone, such as europe-west4-b
  --type TYPE           accelerator and size, as in v5litepod-256
  --spot                a spot TPU, which is cheaper and can be taken away
  --reserved            a TPU from a reservation of the project (on demand without either)
  --project PROJECT     the project; that of gcloud's configuration by default
  --runtime VERSION     image of the workers; by default the one that fits TYPE
  --no-queue            create the TPU at once instead of queueing for it, and fail where there is none
  --create-flag FLAG    a further flag of gcloud's `create`, as in --create-flag=--service-account=ADDRESS; repeatable
  --ssh-flag FLAG       a further flag of gcloud's `ssh` and `scp`, as in --ssh-flag=--internal-ip; repeatable
  --uncommitted         run the checkout as it is; without it, changes that are not committed are refused
  --max-relaunches N    how often COMMAND may be started again; 20 by default
  --poll SECONDS        time between two queries of the TPU's state; 30 by default
  --timeout SECONDS     time limit of a call of gcloud, installing included; 1800 by default
  --delete-at-end       delete the TPU when COMMAND has ended well
  --stop                end what runs there (SIGTERM: `joint-st train` saves) and leave the TPU
  --delete              delete the TPU, whatever runs there
  --dry-run             print the commands of a first launch, and run nothing

examples:
  launch/tpu_vm.sh --name pod --zone europe-west4-b --type v5litepod-256 --spot -- \
      joint-st train configs/quickstart.py --workdir gs://bucket/runs/quickstart
  launch/tpu_vm.sh --name pod --zone europe-west4-b --stop
  launch/tpu_vm.sh --name pod --zone europe-west4-b --delete
HELP
}

name='' zone='' type='' tier=() project='' runtime='' how=queued create_flags=() ssh_flags=() uncommitted=''
max_relaunches=20 poll=30 timeout=1800 delete_at_end='' action=launch
split_arguments "$@"
set -- "${options[@]}"
while (($#)); do
    case $1 in
        --spot | --reserved) tier+=("$1") ;;
        --no-queue) how=vm ;;
        --uncommitted) uncommitted=yes ;;
        --delete-at-end) delete_at_end=yes ;;
        --stop | --delete) action=${1#--} ;;
        --dry-run) dry_run=yes ;;
        --*)
            value "$@"
            case $1 in
                --name) name=$2 ;;
                --zone) zone=$2 ;;
                --type) type=$2 ;;
                --project) project=$2 ;;
                --runtime) runtime=$2 ;;
                --create-flag) create_flags+=("$2") ;;
                --ssh-flag) ssh_flags+=("$2") ;;
                --max-relaunches) max_relaunches=$2 ;;
                --poll) poll=$2 ;;
                --timeout) timeout=$2 ;;
                *) unknown "$1" ;;
            esac
            shift
            ;;
        *) unknown "$1" ;;
    esac
    shift
done
need --name "$name" "a name of your choice"
need --zone "$zone" "where it is, as in --zone europe-west4-b"
if [ "$action" = launch ]; then
    need --type "$type" "accelerator and size, as in --type v5litepod-256"
    need "-- COMMAND" "${command[*]}" "what to run, as in -- joint-st train CONFIG --workdir gs://bucket/run"
fi
refuse_missing
((${#tier[@]} < 2)) || refuse "${tier[*]}: one or the other"
[[ $max_relaunches =~ ^(0|[1-9][0-9]*)$ ]] || refuse "--max-relaunches $max_relaunches: a whole number from 0 on"
seconds --poll "$poll"
seconds --timeout "$timeout"
if [ "$action" = launch ] && [ -z "$runtime" ]; then
    case $type in
        v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
        v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
        v5p-*) runtime=v2-alpha-tpuv5 ;;
        v6e-*) runtime=v2-alpha-tpuv6e ;;
        *) refuse "--type $type: no image of the workers is known for it; name one with --runtime VERSION" ;;
    esac
fi
need_program gcloud "see https://cloud.google.com/sdk/docs/install"
need_program timeout "it is part of the GNU coreutils"

CODE=joint_st/code # on the workers, relative to the home directory: a link to the checkout copied last
GRACE=600          # seconds that a command has to save and end after --stop
SETTLE=2           # polls until the state of a TPU that is taken away shows it
LOST=75            # how a command ends that others or the machine have left
GOES_ON="what was started on $name goes on: the same line shows it again, --stop ends it, --delete deletes $name"

scratch=$(mktemp -d)
trap finish EXIT
archive='' call='' follower='' # the checkout's archive; what `finish` ends
kind='' state='' seen='' told='' asked='' relaunches=0
started='' # whether COMMAND was started and is not known to have ended

finish() {
    local status=$?
    [ -z "$call" ] || kill -TERM "$call" 2> /dev/null || true
    [ -z "$follower" ] || kill -TERM -- "-$follower" 2> /dev/null || true
    rm -rf "$scratch"
    [ -z "$started" ] || say "$GOES_ON"
    exit "$status"
}

detach() { # detach STATUS
    say "left; $GOES_ON"
    started=''
    exit "$1"
}

# --- single calls of gcloud -----------------------------------------------------------------------------------------

tpus() { # tpus GROUP VERB ARGUMENT...: without end where $timeout is 0; status 124 where it took longer
    local status=0 line=(gcloud compute tpus "$@" --zone "$zone" --quiet)
    [ "$timeout" = 0 ] || line=(timeout "$timeout" "${line[@]}")
    [ -z "$project" ] || line+=(--project "$project")
    if [ -n "$dry_run" ]; then
        quoted "${line[@]}"
        return
    fi
    # In the background, so that a signal to this script is not kept waiting.
    "${line[@]}" < /dev/null &
    call=$!
    wait "$call" || status=$?
    call=''
    [ $status != 124 ] || say "gcloud compute tpus $1 $2 took more than $timeout s and was ended (--timeout)"
    return $status
}

describe_queued() { tpus queued-resources describe "$name" "--format=value($1)"; }

describe_vm() { tpus tpu-vm describe "$name" "--format=value($1)"; }

create_queued() {
    tpus queued-resources create "$name" --node-id "$name" --accelerator-type "$type" --runtime-version "$runtime" \
        "${tier[@]}" "${create_flags[@]}" --async
}

create_vm() {
    tpus tpu-vm create "$name" --accelerator-type "$type" --version "$runtime" "${tier[@]}" "${create_flags[@]}"
}

delete_queued() { tpus queued-resources delete "$name" --force --async; }

delete_vm() { tpus tpu-vm delete "$name" --async; }

remotely() { # remotely WORKER COMMAND: a connection is given up 90 s after the worker has gone silent
    tpus tpu-vm ssh "$name" --worker "$1" '--ssh-flag=-o ServerAliveInterval=30' "${ssh_flags[@]}" --command "$2"
}

worker() { # worker WHICH VERB ARGUMENT...: a verb of worker.sh
    remotely "$1" "bash $CODE/launch/worker.sh $(quoted "${@:2}")"
}

set_up() { # copies the checkout to all workers and installs it there
    local package=joint_st-$tree.tar.gz unpack
    unpack="mkdir -p joint_st/$tree && tar -xzf $package -C joint_st/$tree && ln -sfn $tree $CODE"
    run git -C "$checkout" archive --format tar.gz --output "$archive" "$tree" &&
        tpus tpu-vm scp "$archive" "$name:$package" --worker all "${ssh_flags[@]}" &&
        remotely all "$unpack && bash $CODE/launch/install.sh tpu"
}

# --- the life of the TPU --------------------------------------------------------------------------------------------

look() { # look DESCRIBE FIELD: sets `seen` to the state that gcloud gives, or to ABSENT; fails where it gives none
    if seen=$("$1" "$2" 2> "$scratch/error"); then
        seen=${seen:-UNSPECIFIED}
    else
        grep -q NOT_FOUND "$scratch/error" && seen=ABSENT
    fi
}

look_at_both() { # a queued resource is ready with its TPU VM; a TPU VM can also be there without one
    kind=queued
    look describe_queued state.state || return
    [ "$seen" != ABSENT ] || kind=vm
    case $seen in ABSENT | ACTIVE) look describe_vm state ;; esac
}

find_state() { # sets `state` to absent, coming, ready, gone, failed, stopped or leaving, and `kind` to queued or vm
    local failures=0
    until look_at_both; do
        cat "$scratch/error" >&2
        ((++failures < 5)) || fail "$name: gcloud did not tell its state in $failures tries (see above)"
        pause "$poll"
    done
    case $kind:$seen in
        *:READY) state=ready ;;
        vm:ABSENT) state=absent ;;
        queued:ABSENT | *:SUSPENDING | *:SUSPENDED | *:PREEMPTED | *:TERMINATED | *:UNKNOWN) state=gone ;;
        *:FAILED) state=failed ;;
        *:STOPPING | *:STOPPED) state=stopped ;;
        *:DELETING) state=leaving ;;
        *) state=coming ;;
    esac
    [ "$told" = "$kind $seen" ] || say "$name is $seen"
    told="$kind $seen"
}

delete() { # deletes the TPU, and waits until it is gone
    find_state
    while [ "$state" != absent ]; do
        [ "$state" = leaving ] || "delete_$kind" || fail "$name could not be deleted (see above)"
        pause "$poll"
        find_state
    done
}

another() { # another REASON: counts a relaunch, and ends the script where there were too many
    ((++relaunches <= max_relaunches)) || fail "$1, after $max_relaunches relaunches (--max-relaunches)"
    say "$1; relaunch $relaunches of $max_relaunches"
}

bring_up() { # returns when the TPU is ready
    while find_state && [ "$state" != ready ]; do
        case $state in
            absent)
                say "asking for $name ($type)"
                asked=yes
                "create_$how" || not_given "$name could not be created"
                pause "$poll"
                ;;
            failed)
                describe_queued state.failedData.error.message >&2 || true
                [ -z "$asked" ] || not_given "the request for $name failed"
                delete
                ;;
            gone)
                say "deleting what is left of $name"
                delete
                ;;
            stopped)
                fail "$name is $seen: --delete it, or gcloud compute tpus tpu-vm start $name --zone $zone"
                ;;
            *) pause "$poll" ;;
        esac
    done
}

not_given() { # not_given REASON: what fails before anything ran was asked for wrongly, or is not allowed
    ((relaunches)) || fail "$1 (see above)"
    another "$1"
}

still_ready() { # whether the TPU is still there, after the time that its state may take to show the contrary
    local polls
    for ((polls = 0; polls < SETTLE; polls++)); do
        pause "$poll"
        find_state
        [ "$state" = ready ] || return 1
    done
}

# --- the command on it ----------------------------------------------------------------------------------------------

follow() { # shows the output of worker 0 while the TPU is ready; sets `status` to how the command ended there
    local sleeper=''
    set -m # in a process group of its own, to end all of it
    timeout=0 worker 0 follow &
    follower=$!
    set +m
    while kill -0 "$follower" 2> /dev/null; do
        if [ -z "$sleeper" ]; then
            sleep "$poll" > /dev/null 2>&1 &
            sleeper=$!
        fi
        wait -n || true # for whichever ends first
        kill -0 "$sleeper" 2> /dev/null && continue
        sleeper=''
        find_state
        if [ "$state" != ready ]; then
            kill -TERM -- "-$follower" 2> /dev/null || true
            wait "$follower" || true
            follower='' status=$LOST
            return
        fi
    done
    status=0
    wait "$follower" || status=$?
    follower=''
}

launch() {
    local clean='' status
    while :; do
        status=0
        bring_up
        if ! set_up; then
            ! still_ready || fail "the checkout could not be installed on $name (see above)"
            another "$name was taken away"
            continue
        fi
        # A worker that was restarted alone could not join what still runs on the others.
        [ -z "$clean" ] || worker all stop 30 || true
        clean=''
        worker all start "${command[@]}" || status=$?
        if [ $status = 4 ]; then
            fail "$name runs something else (see above); --stop ends it"
        elif [ $status != 0 ]; then
            ! still_ready || fail "the command could not be started on $name (see above)"
            another "$name was taken away"
            continue
        fi
        started=yes
        follow
        [ "$status" = 255 ] || started='' # 255: of ssh, whose connection was lost, or of COMMAND
        case $status in
            0) return ;;
            143)
                say "stopped; the same line goes on"
                exit 143
                ;;
        esac
        if [ "$status" = 255 ] && still_ready; then
            worker all report > "$scratch/report" || true
            if grep -q ': ended ' "$scratch/report"; then
                started=''
                another "the connection was lost"
            else
                say "the connection was lost; the command goes on"
            fi
        elif [ "$state" != ready ] || ! still_ready; then
            started=''
            another "$name was taken away or restarted"
            clean=yes
        else
            worker all stop 30 || true
            # A worker that cannot even be asked was lost.
            if worker all report | tee "$scratch/report"; then judge; fi
            another "a worker was lost"
            clean=yes
        fi
    done
}

judge() { # ends the script where a worker failed, unless another was ended from outside: that makes the rest fail too
    local failed
    ! grep -q 'ended from outside' "$scratch/report" || return 0
    # 75: joint-st lost another of its processes. 137 and 143: still there when the others had failed, and ended.
    failed=$(sed -nE '/status (0|75|137|143)$/!s/.*: ended with status ([0-9]+)$/\1/p' "$scratch/report" | head -n 1)
    [ -n "$failed" ] || return 0
    say "error: the command ended with status $failed (see above); $name stays until it is deleted (--delete)"
    exit "$failed"
}

plan() { # each command that a first launch, --stop or --delete runs, once
    describe_queued state.state
    describe_vm state
    case $action in
        stop) worker all stop $GRACE ;;
        delete) "delete_$how" ;;
        launch)
            "create_$how"
            set_up
            worker all start "${command[@]}"
            timeout=0 worker 0 follow
            [ -z "$delete_at_end" ] || "delete_$how"
            ;;
    esac
}

if [ "$action" = launch ]; then
    find_tree "$uncommitted"
    archive=$scratch/joint_st-$tree.tar.gz
    [ -z "$dry_run" ] || archive=${TMPDIR:-/tmp}/${archive##*/} # is printed, and not made
    note_local_run "the workers"
fi
if [ -n "$dry_run" ]; then
    plan
    exit
fi
trap 'detach 130' INT
trap 'detach 143' TERM
case $action in
    launch)
        launch
        say "the command has ended well"
        if [ -n "$delete_at_end" ]; then delete; else say "$name stays, and costs, until it is deleted (--delete)"; fi
        ;;
    stop)
        find_state
        [ "$state" = ready ] || fail "nothing to stop: $name is $seen"
        worker all stop $GRACE || fail "$name could not be stopped (see above)"
        ;;
    delete) delete ;;
esac
