#!/usr/bin/env bash
# Are the kernels right on this machine's GPU, and how fast are they beside others? Within 8 minutes.
# Needs a checkout, torch, triton and numpy: benchmarks/gpu_suite.sh [--out DIR] [--seconds S] [--interpret]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
export PYTHONPATH="$here/..:$here:$here/../tests/backends/triton_kernels${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m gpu_suite "$@"
