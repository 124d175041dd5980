#!/usr/bin/env bash
# The batch script of slurm.sh: one task of the command on each node. Where SIGTERM ended the tasks, which `--signal`
# sends them before the time limit, the job is queued again under the same number.
set -euo pipefail

# When one task has ended the others have two minutes to do so too: joint-st ends them itself where one has crashed.
status=0
srun --wait=120 "$@" || status=$?

state_of_job() { # waits for a controller that is busy or restarts
    local tries
    for ((tries = 1; tries <= 5; tries++)); do
        ((tries == 1)) || sleep 2
        if squeue --jobs "$SLURM_JOB_ID" --noheader --format %T; then return; fi
    done
    echo "slurm_job.sh: ended by SIGTERM, and not queued again: squeue does not tell the job's state (see above)" >&2
}

# What scancel ends gets SIGTERM too, and is completing by now.
if [ "$status" = 143 ] && [ "$(state_of_job)" = RUNNING ]; then
    echo "slurm_job.sh: ended by SIGTERM; queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
