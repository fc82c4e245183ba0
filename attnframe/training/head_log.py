"""What each head is like at each validation: `patterns/heads.csv`, and means by site to every logger."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L

from attnframe.attention import Attention
from attnframe.model import Seq2Seq
from attnframe.patterns.head_alignment import HeadAlignment
from attnframe.patterns.head_maps import value_maps
from attnframe.patterns.spectrum import effective_rank, low_rank_spectrum
from attnframe.runs.folder import RunFolder
from attnframe.training.recorded_statistics import recorded_statistics
from attnframe.training.task import TranslationTask

COLUMNS = (
    "step",
    "site",
    "layer",
    "head",
    "kind",
    "entropy",
    "effective_support",
    "largest_weight",
    "mean_distance",
    "diagonality",
    "first_key_mass",
    "last_key_mass",
    "value_rank",
    "aer",
    "aer_norms",
)
_LOGGED = ("entropy", "diagonality")

_Head = tuple[str, int, int]


class HeadLog(L.Callback):
    """A row for each site, layer and head at each validation, written through at once; layers and heads from 0.

    The columns of `patterns.statistics.HeadStatistics` are over the first `sentences` of the validation set (fewer
    where they are long), between pieces. `value_rank` is the effective rank of the map from an embedding to the ΔE that
    the head makes of it, W_V·W_O of multi-head attention; `aer` and `aer_norms` are the better reading's on the whole
    set, by weights and by contributions. A cell is empty where there is no such number; a module without a pattern has
    no rows. Loggers get the means over a site's heads of entropy (nats) and diagonality, as `patterns/cross/entropy`.
    `widths` are `AttentionFactory.widths`. A run that goes on forgets the rows that its checkpoint has not seen.
    """

    def __init__(self, folder: RunFolder, widths: Callable[[str], tuple[int, int]], *, sentences: int) -> None:
        self._folder = folder
        self._widths = widths
        self._sentences = max(0, sentences)
        self._rows = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._sentences:
            return
        file = self._folder.head_log
        try:
            kept = self._folder.keep_lines("patterns/heads.csv", 1 + self._rows) if self._rows else 0
        except (FileNotFoundError, UnicodeDecodeError):
            # Lost or damaged: it begins anew, which is no reason to stop.
            kept = 0
        self._rows = max(0, kept - 1)
        if not kept:
            file.parent.mkdir(exist_ok=True)
            with file.open("w", encoding="utf-8", newline="") as opened:
                csv.writer(opened).writerow(COLUMNS)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        if trainer.sanity_checking or not self._sentences:
            return
        step = trainer.global_step
        rows = [{"step": step, **row} for row in head_rows(pl_module, self._widths, self._sentences)]
        with self._folder.head_log.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerows(rows)
        self._rows += len(rows)
        if means := _site_means(rows):
            for logger in trainer.loggers:
                logger.log_metrics(means, step=step)

    def state_dict(self) -> dict[str, int]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._rows = state_dict["rows"]


def head_rows(
    task: TranslationTask, widths: Callable[[str], tuple[int, int]], sentences: int
) -> list[dict[str, str | int | float | None]]:
    """Of each head of the model as it is now what `HeadLog` writes, but for the step."""
    pairs = task.data.corpus.sets["val"][:sentences]
    table, missing = recorded_statistics(task.whole_model, task.data, pairs) if pairs else ([], {})
    task.missing_patterns |= missing
    ranks = value_ranks(task.whole_model, widths)
    aligned = _error_rates(task.val_evaluation.alignment_table() if task.val_evaluation else [])
    rows = []
    for row in table:
        place = row.site, row.layer, row.head
        aer, aer_norms = aligned.get(place, (None, None))
        by_name = {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
        rows.append({**by_name, "value_rank": ranks.get(place), "aer": aer, "aer_norms": aer_norms})
    return rows


def value_ranks(model: Seq2Seq, widths: Callable[[str], tuple[int, int]]) -> dict[_Head, float]:
    """The effective rank of each head's `value_maps`; heads of a module that has none are left out."""
    ranks = {}
    for module in model.modules():
        # A module inside another one has no site, and is part of what that one does.
        if isinstance(module, Attention) and module.site:
            d_model, d_context = widths(module.site)
            maps = value_maps(module, d_model=d_model, d_context=d_context)
            if maps is not None and maps.isfinite().all():
                # Mostly each head has its share of the width. On the CPU, for a GPU takes longer for many small ones.
                values = low_rank_spectrum(maps.cpu(), -(-d_model // len(maps)))
                for head, rank in enumerate(effective_rank(values).tolist()):
                    ranks[module.site, module.layer, head] = rank
    return ranks


def _error_rates(table: Iterable[HeadAlignment]) -> dict[_Head, tuple[float, float | None]]:
    """By head of the cross-attention the AER of its better reading: by weights, and by contributions."""
    rates: dict[_Head, tuple[float, float | None]] = {}
    for row in table:
        if row.head is not None:
            place = "cross", row.layer, row.head
            aer, aer_norms = rates.get(place, (row.aer, row.aer_norms))
            if row.aer_norms is not None and aer_norms is not None:
                aer_norms = min(row.aer_norms, aer_norms)
            rates[place] = min(row.aer, aer), aer_norms
    return rates


def _site_means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean over the heads of a site that have a number."""
    means = {}
    for site in dict.fromkeys(row["site"] for row in rows):
        for name in _LOGGED:
            values = [row[name] for row in rows if row["site"] == site and math.isfinite(row[name])]
            if values:
                means[f"patterns/{site}/{name}"] = sum(values) / len(values)
    return means
