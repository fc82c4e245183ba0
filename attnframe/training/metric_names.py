"""The scores of a training run by their names."""

from __future__ import annotations

COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "train/loss",
    "train/nll",
    "train/grad_norm",
    "train/learning_rate",
    "train/tokens_per_second",
    "val/loss",
    "val/token_accuracy",
    "val/bleu",
    "val/chrf",
    "val/exact_match",
    "val/aer",
    "val/aer_norms",
    "val/aer_mean_heads",
    "val/aer_diagonal",
    "val/aer_perfect",
    "val/aer_soft",
    "val/alignment_precision",
    "val/alignment_recall",
)
"""The columns of `metrics.csv` in every run."""

MONITORED = tuple(name for name in COLUMNS if name.startswith("val/"))
"""The scores of a validation."""
