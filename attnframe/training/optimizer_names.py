"""The optimizers and learning-rate schedules there are, by name."""

from __future__ import annotations

OPTIMIZERS = ("adamw",)
SCHEDULES = ("inverse_square_root", "warmup_cosine")
