#!/usr/bin/env bash
# Every measurement of a GPU, within ten minutes: random weights of 1.5 billion parameters, then of 8 billion.
#
#     bash benchmarks/gpu.sh [RESULTS]
#
# A script that fails or needs longer than its limit in seconds does not stop the others; it is named at the end.
# PYTHON is the interpreter. `DEVICE=cpu ARGUMENTS=--tiny` only checks that every script runs.
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python} device=${DEVICE:-cuda} results=${1:-benchmarks/results} failed=()

measure() {
    local limit=$1 script=$2
    shift 2
    echo "== $script $*"
    # shellcheck disable=SC2086 (ARGUMENTS are several words)
    timeout "$limit" "$python" "benchmarks/$script.py" --device "$device" --results "$results" "$@" ${ARGUMENTS:-} ||
        failed+=("$script $*")
}

measure 30 fisher_exact
measure 90 fisher_speed
measure 50 penalty_cost
measure 80 training_speed
measure 80 thumbs
measure 110 fisher_speed --full
measure 60 penalty_cost --full
measure 90 training_speed --full

if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed or too slow: %s\n' "${failed[@]}" >&2
    exit 1
fi
