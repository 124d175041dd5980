#!/usr/bin/env bash
# Measures joint_st on one GPU, with what pack.py has packed into .gpu/:
#
#   bash benchmarks/one_gpu/run.sh
#
# Results are written to $OUT (default /tmp/one_gpu/out) as soon as they are known. A stage that fails or overruns its
# time costs the other stages nothing.
#
# RUN_S   seconds for everything (540)              STAGES  of abc (abc)
# A_S B_S seconds of the stages a and b (200, 45)   C_S     seconds of c at most (what is left)
# TINY=1  use a model and data so small that a CPU runs everything in some minutes
set -u
began=$(date +%s)
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$kit/../.." && pwd)
cd "$checkout" || exit 1
RUN_S=${RUN_S:-540}
STAGES=${STAGES:-abc}
A_S=${A_S:-200}
B_S=${B_S:-45}
C_S=${C_S:-100000}
python=${PYTHON:-python3}
export OUT=${OUT:-/tmp/one_gpu/out} WORK=${WORK:-/tmp/one_gpu}
mkdir -p "$OUT" "$WORK/home"
exec > >(tee -a "$OUT/log.txt") 2>&1

left() { echo $((RUN_S - ($(date +%s) - began))); }
say() { printf '== %4d s: %s\n' $(($(date +%s) - began)) "$*"; }
least() { if [ "$1" -lt "$2" ]; then echo "$1"; else echo "$2"; fi; }

# stage SECONDS NAME COMMAND...: runs a command, and ends it with all that it has started after so many seconds
stage() {
    local seconds=$1 name=$2 status=0
    shift 2
    if [ "$seconds" -lt 15 ]; then
        say "$name: no time left"
        return 0
    fi
    say "$name: $seconds s"
    timeout --kill-after=10 "$((seconds + 5))" "$@" || status=$?
    say "$name: status $status"
    "$python" "$kit/results.py" "$name" "$status" || true
}

say "packages"
"$python" "$kit/prepare.py" packages "$WORK" || say "packages: not all could be unpacked"
export PYTHONPATH="$WORK/site:$checkout:$checkout/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2
# A home of its own, so that caches of compiled programs and phonemes belong to this run alone.
export HOME="$WORK/home" JOINT_ST_DATA="$WORK/data"
if [ -n "${TINY:-}" ]; then
    export LIMIT="${LIMIT:-12}" JAX_PLATFORMS=cpu
    export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
fi

nice -n 5 "$python" "$kit/prepare.py" data "$WORK" > "$OUT/data.log" 2>&1 &
preparing=$!

# Without Triton's matrix products XLA compiles in a fraction of the time. Not every version of XLA knows the flag.
flag=--xla_gpu_enable_triton_gemm=false
if [ -z "${XLA_FLAGS:-}" ] &&
    XLA_FLAGS=$flag JAX_PLATFORMS=cpu timeout 60 "$python" -c 'import jax; jax.numpy.ones(2).sum()' > /dev/null 2>&1; then
    export XLA_FLAGS=$flag
fi
say "device (XLA_FLAGS ${XLA_FLAGS:-none})"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2> /dev/null
if ! XLA_PYTHON_CLIENT_PREALLOCATE=false timeout 90 "$python" "$kit/results.py" device; then
    say "no device; RUN_ANYWAY=1 goes on"
    [ -n "${TINY:-}${RUN_ANYWAY:-}" ] || { kill "$preparing"; exit 1; }
fi

case $STAGES in *a*)
    seconds=$(least "$A_S" "$(left)")
    stage "$seconds" step_speed env XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" "$kit/step_speed.py" "$seconds"
esac
case $STAGES in *b*)
    seconds=$(least "$B_S" "$(left)")
    stage "$seconds" ops_speed env XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" "$kit/ops_speed.py" "$seconds"
esac
case $STAGES in *c*)
    for _ in $(seq 600); do
        [ -e "$WORK/data.done" ] || ! kill -0 "$preparing" 2> /dev/null || [ "$(left)" -lt 30 ] && break
        sleep 0.2
    done
    cat "$OUT/data.log"
    seconds=$(least "$C_S" "$(($(left) - 8))")
    stage "$seconds" recorded "$python" "$kit/recorded_run.py" "$seconds"
esac
kill "$preparing" 2> /dev/null
rm -f "$OUT/data.log" "$OUT"/*.part
"$python" "$kit/results.py" show
say "done"
