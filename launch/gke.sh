#!/usr/bin/env bash
# Runs a command on TPU slices of a GKE cluster, as a workload of xpk.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat << 'HELP'
usage: launch/gke.sh --cluster CLUSTER --name NAME --type TYPE [OPTION ...] -- COMMAND ...
       launch/gke.sh --cluster CLUSTER --name NAME --delete

Makes an image of this checkout and creates a workload (`xpk workload create`), which runs COMMAND on all hosts of the
slices. A workload that is preempted, or loses a host, is started again: `joint-st train` goes on from its last
checkpoint, so its --workdir must be a gs:// path. While a workload of that name waits or runs, nothing is done; a
finished one is replaced. The cluster must be one that `xpk cluster create` made.

  --cluster CLUSTER     the cluster
  --name NAME           name of the workload
  --type TYPE           accelerator and size of a slice, as in v5litepod-256
  --slices N            number of slices; 1 by default
  --zone ZONE           the zone; that of gcloud's configuration by default
  --project PROJECT     the project; that of gcloud's configuration by default
  --image IMAGE         run in this image, which has joint_st installed, instead of making one
  --uncommitted         run the checkout as it is; without it, changes that are not committed are refused
  --max-relaunches N    how often COMMAND may be started again; 20 by default
  --xpk FLAG            a further flag of `xpk workload create`, as in --xpk=--priority=high; repeatable
  --delete              delete the workload; what it runs gets SIGTERM and two minutes to save
  --dry-run             print the commands, and run nothing

examples:
  launch/gke.sh --cluster speech --name quickstart --type v5litepod-256 -- \
      joint-st train configs/quickstart.py --workdir gs://bucket/runs/quickstart
  launch/gke.sh --cluster speech --name quickstart --delete
HELP
}

cluster='' name='' type='' slices=1 where=() image='' uncommitted='' max_relaunches=20 flags=() action=create
split_arguments "$@"
set -- "${options[@]}"
while (($#)); do
    case $1 in
        --uncommitted) uncommitted=yes ;;
        --delete) action=delete ;;
        --dry-run) dry_run=yes ;;
        --*)
            value "$@"
            case $1 in
                --cluster) cluster=$2 ;;
                --name) name=$2 ;;
                --type) type=$2 ;;
                --slices) slices=$2 ;;
                --zone | --project) where+=("$1" "$2") ;;
                --image) image=$2 ;;
                --max-relaunches) max_relaunches=$2 ;;
                --xpk) flags+=("$2") ;;
                *) unknown "$1" ;;
            esac
            shift
            ;;
        *) unknown "$1" ;;
    esac
    shift
done
need --cluster "$cluster" "the GKE cluster, as xpk cluster list shows it"
need --name "$name" "a name of your choice"
if [ "$action" = create ]; then
    need --type "$type" "accelerator and size of a slice, as in --type v5litepod-256"
    need "-- COMMAND" "${command[*]}" "what to run, as in -- joint-st train CONFIG --workdir gs://bucket/run"
fi
refuse_missing
number --slices "$slices"
[[ $max_relaunches =~ ^(0|[1-9][0-9]*)$ ]] || refuse "--max-relaunches $max_relaunches: a whole number from 0 on"
need_program xpk "pip install xpk"

xpk_workload() { # xpk_workload VERB ARGUMENT...
    run xpk workload "$1" --cluster "$cluster" "${where[@]}" "${@:2}"
}

listed() { # listed STATUS: whether the workload is among those of a status
    xpk_workload list --filter-by-job "^$name\$" --filter-by-status "$1" > "$scratch/list" ||
        fail "xpk workload list failed: $(tail -n 1 "$scratch/list")"
    if [ -n "$dry_run" ]; then cat "$scratch/list"; fi
    grep -q "^${name}[[:space:]]" "$scratch/list"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ "$action" = delete ]; then
    xpk_workload delete --workload "$name" --force
    exit
fi
for status in QUEUED RUNNING; do
    if listed $status && [ -z "$dry_run" ]; then
        say "$name is there already (${status,,}); launch/gke.sh --cluster $cluster --name $name --delete ends it"
        exit
    fi
done

# xpk runs the command in a shell below the one that gets SIGTERM, so `exec` is needed.
line="exec $(quoted "${command[@]}")"
if [ -n "$image" ]; then
    from=(--docker-image "$image")
else
    find_tree "$uncommitted"
    # A folder with nothing but the checkout: xpk puts all of it into the image, and runs the command there.
    folder=$scratch/joint_st-$tree
    [ -z "$dry_run" ] || folder=${TMPDIR:-/tmp}/${folder##*/} # is printed, and not made
    run mkdir -p "$folder"
    run git -C "$checkout" archive --format tar --output "$folder.tar" "$tree"
    run tar -xf "$folder.tar" -C "$folder"
    from=(--base-docker-image python:3.12 --script-dir "$folder")
    # shellcheck disable=SC2016 # the container expands it
    line='bash launch/install.sh tpu && PATH=$PWD/.venv/bin:$PATH && '$line
fi
note_local_run "the containers"
# Status 75: joint-st lost another of its processes. --quiet lets xpk replace a workload of that name, a finished one.
xpk_workload create --workload "$name" --tpu-type "$type" --num-slices "$slices" "${from[@]}" \
    --max-restarts "$max_relaunches" --restart-on-exit-codes 75 --termination-grace-period-seconds 120 \
    --quiet "${flags[@]}" --command "$line"
