"""As measure_kernels.py, for the kernels that sum a pattern up."""

from __future__ import annotations

import json
import sys

import torch
from kernel_cases import CASES
from reduction_errors import measure

if __name__ == "__main__":
    points = json.load(sys.stdin)
    print(json.dumps([measure(CASES[name], dtype, torch.device(sys.argv[1])) for name, dtype in points]))
