"""The benchmarks are no package: they are found by path."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = [str(place) for place in (ROOT / "benchmarks", ROOT / "tests" / "backends" / "triton_kernels")]
sys.path += [place for place in PLACES if place not in sys.path]
