"""Runs cases of the table, given as JSON [[case, dtype], ...], on DEVICE and prints what `measure` found as JSON.

A process of its own, for whether kernels run in the interpreter is settled when triton is imported.
"""

from __future__ import annotations

import json
import sys

import torch
from kernel_cases import CASES
from kernel_errors import measure

if __name__ == "__main__":
    points = json.load(sys.stdin)
    print(json.dumps([measure(CASES[name], dtype, torch.device(sys.argv[1])) for name, dtype in points]))
