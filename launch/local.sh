#!/usr/bin/env bash
# Runs a `joint-st` command as several processes of this machine, which train or evaluate together.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat << 'HELP'
usage: launch/local.sh -n N [OPTION ...] -- joint-st train|evaluate ...

Runs the command N times at once, with --coordinator, --processes and --process appended, so that the processes work on
one run. The output of process 0 is shown, that of the others goes to files. Ctrl-C and SIGTERM reach all processes
(`joint-st train` saves at SIGTERM); a second one kills them. If one fails, the others are ended, its last lines are
shown, and the exit status is that of the first that failed. No second group of processes is started on the same run.

  -n, --processes N           number of processes
  --devices-per-process K     GPUs of each process, or, without GPUs, devices that its CPU counts as; by default as
                              many GPUs as can be had, and one CPU device; where CUDA_VISIBLE_DEVICES is set, the GPUs
                              are those of its list
  --logs DIR                  folder for the output of the others; a new folder by default
  --port PORT                 port on 127.0.0.1 by which they connect; a free one by default
  --grace SECONDS             time between ending the others and killing them; 30 by default
  --dry-run                   print the commands, and run nothing

examples:
  launch/local.sh -n 2 -- joint-st train configs/quickstart.py --workdir runs/quickstart
  launch/local.sh -n 4 --devices-per-process 1 -- joint-st evaluate runs/quickstart
HELP
}

processes='' devices='' logs='' port='' grace=30
split_arguments "$@"
set -- "${options[@]}"
while (($#)); do
    case $1 in
        --dry-run)
            dry_run=yes
            shift
            continue
            ;;
        -n | --processes) value "$@" && processes=$2 ;;
        --devices-per-process) value "$@" && devices=$2 ;;
        --logs) value "$@" && logs=$2 ;;
        --port) value "$@" && port=$2 ;;
        --grace) value "$@" && grace=$2 ;;
        *) unknown "$1" ;;
    esac
    shift 2
done
need -n "$processes" "how many processes, as in -n 2"
need "-- COMMAND" "${command[*]}" "what to run, as in -- joint-st train configs/quickstart.py"
refuse_missing
number -n "$processes"
[ -z "$devices" ] || number --devices-per-process "$devices"
[ -z "$port" ] || number --port "$port"
seconds --grace "$grace"
need_program "${command[0]}" "install it (README.md), or name it by its path"

gpus=() # those that may be used, by index or UUID
where=''
if [ "${JAX_PLATFORMS:-}" = cpu ]; then
    :
elif [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    where=' in CUDA_VISIBLE_DEVICES'
    IFS=, read -ra listed <<< "${CUDA_VISIBLE_DEVICES// /}"
    for gpu in "${listed[@]}"; do
        if [ -z "$gpu" ] || [ "$gpu" = -1 ]; then break; fi # CUDA sees none from there on
        gpus+=("$gpu")
    done
elif type -P nvidia-smi > /dev/null; then
    count=$(nvidia-smi --list-gpus | wc -l)
    for ((i = 0; i < count; i++)); do gpus+=("$i"); done
fi
if ((${#gpus[@]})); then
    devices=${devices:-$((${#gpus[@]} / processes))}
    ((devices && devices * processes <= ${#gpus[@]})) ||
        refuse "-n $processes: at least one GPU each, but there are ${#gpus[@]}$where; fewer processes, or JAX_PLATFORMS=cpu"
fi

lock_run() { # refuses a second start on the run that --workdir names, or else of the same command
    local run=${command[*]} i
    for ((i = 0; i < ${#command[@]}; i++)); do
        if [ "${command[i]}" = --workdir ]; then run=${command[i + 1]:-}; fi
        if [[ ${command[i]} = --workdir=* ]]; then run=${command[i]#*=}; fi
    done
    [[ $run = /* ]] || run=$PWD/$run
    if ! type -P flock > /dev/null; then return; fi
    # The processes inherit the lock, and hold it as long as one of them lives; what else is started here does not.
    exec 9> "${TMPDIR:-/tmp}/joint_st-$UID-$(cksum <<< "$run" | tr ' ' -).lock"
    # What was killed a moment ago may still be leaving.
    flock --timeout 4 9 || fail "processes of another launch/local.sh work on $run; end them first"
}

free_port() { # below the ports that Linux gives to outgoing connections
    local tries candidate
    for ((tries = 0; tries < 100; tries++)); do
        candidate=$((20000 + RANDOM % 10000))
        if ! (exec 3<> "/dev/tcp/127.0.0.1/$candidate") 2> /dev/null; then
            echo $candidate
            return
        fi
    done
    fail "no free port from 20000 to 29999"
}
port=${port:-$(free_port)}
if [ -z "$logs" ] && [ -z "$dry_run" ] && ((processes > 1)); then
    logs=$(mktemp -d "${TMPDIR:-/tmp}/joint_st.XXXXXX")
fi

command_of() { # command_of I: sets `line` to the command of a process
    local own
    line=()
    if ((${#gpus[@]})); then
        own=$(printf ',%s' "${gpus[@]:$1*devices:devices}")
        line+=(env "CUDA_VISIBLE_DEVICES=${own:1}")
    elif [ -n "$devices" ]; then
        line+=(env "JAX_NUM_CPU_DEVICES=$devices")
    fi
    line+=("${command[@]}" --coordinator "127.0.0.1:$port" --processes "$processes" --process "$1")
}

log_of() { echo "${logs:-LOGS}/process-$1.log"; }

if [ -n "$dry_run" ]; then
    for ((i = 0; i < processes; i++)); do
        command_of $i
        if ((i)); then echo "$(quoted "${line[@]}") > $(quoted "$(log_of $i)") 2>&1"; else quoted "${line[@]}"; fi
    done
    exit
fi

lock_run
pids=()     # by process, of those that live
signalled=0 # how often this script was told to end
first=''    # status of the first process that failed
killer=''

tell_all() { # tell_all SIGNAL [GROUP]: to each process that lives; with GROUP, to its children too
    local pid
    for pid in "${pids[@]}"; do
        kill "-$1" -- "${2:+-}$pid" 2> /dev/null || true
    done
}

# shellcheck disable=SC2329 # the traps call it
pass_on() { # pass_on SIGNAL: the second time it kills
    if ((signalled++)); then tell_all KILL group; else tell_all "$1"; fi
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
trap '[ -z "$killer" ] || kill "$killer" 2> /dev/null || true' EXIT

if ((processes > 1)); then
    mkdir -p "$logs"
    say "the output of processes 1 to $((processes - 1)) goes to $logs/process-*.log"
fi
end_others() { # end_others FAILED
    if (($1)); then tail -n 20 "$(log_of "$1")" >&2; fi
    tell_all TERM
    {
        sleep "$grace"
        tell_all KILL group
    } > /dev/null 2>&1 9>&- &
    killer=$!
}

set -m # process groups of their own, which Ctrl-C reaches through this script alone
for ((i = 0; i < processes; i++)); do
    command_of $i
    if ((i)); then
        "${line[@]}" > "$(log_of $i)" 2>&1 < /dev/null &
    else
        "${line[@]}" < /dev/null &
    fi
    pids[i]=$!
done
set +m

while ((${#pids[@]})); do
    pause 0.5
    for i in "${!pids[@]}"; do
        if kill -0 "${pids[i]}" 2> /dev/null; then continue; fi
        status=0
        wait "${pids[i]}" || status=$?
        kill -KILL -- "-${pids[i]}" 2> /dev/null || true # children that it left behind
        unset "pids[i]"
        if ((status)) && [ -z "$first" ]; then
            first=$status
            say "process $i ended with status $status"
            if ((!signalled)); then end_others "$i"; fi
        fi
    done
done
exit "${first:-0}"
