#!/usr/bin/env bash
# Submits a command to Slurm: one task on each node, queued again where it is preempted or runs out of time.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat << 'HELP'
usage: launch/slurm.sh --name NAME --nodes N [OPTION ...] -- COMMAND ...

Runs COMMAND as one job with one task on each node; JAX finds the tasks by itself. Two minutes before the time limit
the tasks get SIGTERM: `joint-st train` saves, and the job is queued again and goes on. The checkout and the run must
lie where all nodes see them. While a job of that name waits or runs, no second one is submitted.

  --name NAME             name of the job
  --nodes N               number of nodes
  --tasks-per-node N      number of tasks on each node; 1 by default
  --gpus-per-node N       GPUs of each node in sbatch's notation, such as 8 or a100:8; none by default
  --time LIMIT            time limit in sbatch's notation (2-00:00:00 is two days); that of the partition by default
  --partition PARTITION   partition; the cluster's default if not given
  --sbatch FLAG           a further flag of sbatch, as in --sbatch=--account=speech; repeatable
  --dry-run               print the commands, and run nothing

examples:
  launch/slurm.sh --name quickstart --nodes 4 --gpus-per-node 8 --time 1-00:00:00 -- \
      joint-st train configs/quickstart.py --workdir /shared/runs/quickstart
  scancel --name quickstart
HELP
}

name='' nodes='' tasks=1 gpus='' limit='' partition='' flags=()
split_arguments "$@"
set -- "${options[@]}"
while (($#)); do
    case $1 in
        --dry-run)
            dry_run=yes
            shift
            continue
            ;;
        --name) value "$@" && name=$2 ;;
        --nodes) value "$@" && nodes=$2 ;;
        --tasks-per-node) value "$@" && tasks=$2 ;;
        --gpus-per-node) value "$@" && gpus=$2 ;;
        --time) value "$@" && limit=$2 ;;
        --partition) value "$@" && partition=$2 ;;
        --sbatch) value "$@" && flags+=("$2") ;;
        *) unknown "$1" ;;
    esac
    shift 2
done
need --name "$name" "a name of your choice"
need --nodes "$nodes" "how many, as in --nodes 4"
need "-- COMMAND" "${command[*]}" "what to run, as in -- joint-st train CONFIG --workdir /shared/runs/one"
refuse_missing
number --nodes "$nodes"
number --tasks-per-node "$tasks"
need_program sbatch "this is no machine of a Slurm cluster"
need_program "${command[0]}" "install it (README.md), or name it by its path"

jobs=$(run squeue --me --name "$name" --noheader --format '%i %T') || fail "squeue failed (see above)"
if [ -n "$dry_run" ]; then
    echo "$jobs"
elif [ -n "$jobs" ]; then
    say "$name is there already: job $jobs; scancel --name $name ends it"
    exit
fi
run sbatch --job-name "$name" --nodes "$nodes" --ntasks-per-node "$tasks" ${gpus:+--gpus-per-node "$gpus"} \
    ${limit:+--time "$limit"} ${partition:+--partition "$partition"} --signal TERM@120 --requeue --open-mode append \
    --output "slurm-$name-%j.out" "${flags[@]}" "$checkout/launch/slurm_job.sh" "${command[@]}"
