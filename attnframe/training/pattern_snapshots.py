"""Patterns of a few sentences at each validation: arrays and pictures in the run folder, pictures to the loggers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image, ImageOps
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.data.schema import SentencePair
from attnframe.model import SITES
from attnframe.patterns.drawing import draw_patterns
from attnframe.runs.folder import RunFolder
from attnframe.runs.sentence_patterns import SentencePatterns, sentence_patterns
from attnframe.training.task import TranslationTask

_log = logging.getLogger(__name__)


class PatternSnapshots(L.Callback):
    """Records every site, layer and head on a varied few (`sentences`) of the validation pairs, whatever the backend.

    `patterns/step_000100/sentence_0.npz` holds an array [heads, query, key] for each site and layer
    (`cross/layer_0`), the labels and the kinds; `sentence_0_cross.png` and so on are the drawings. Rows and columns are
    words whatever the tokenizer, merged as `word_patterns` says. After `max_snapshots` validations only the last state
    of the run is still recorded.
    """

    def __init__(self, folder: RunFolder, *, sentences: int, max_snapshots: int) -> None:
        self._folder = folder
        self._sentences = sentences
        self._left = max_snapshots
        self._done_step = -1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        last = trainer.state.fn != "fit" or trainer.global_step == trainer.max_steps
        if trainer.sanity_checking or not self._sentences or (self._left <= 0 and not last):
            return
        self._left -= 1
        self.take(trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        return {"left": self._left, "done_step": self._done_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._left, self._done_step = state_dict["left"], state_dict["done_step"]

    def take(self, trainer: L.Trainer, task: TranslationTask) -> None:
        """Record, draw and log the patterns of the model as it is now; once a step."""
        step = task.global_step
        if step == self._done_step:
            return
        self._done_step = step
        folder = self._folder.patterns / f"step_{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        pictures: dict[str, list[tuple[Image.Image, str]]] = {site: [] for site in SITES}
        src, tgt = task.data.src_tokenizer, task.data.tgt_tokenizer
        pairs = varied(task.data.corpus.sets["val"], self._sentences)
        for index, pair in enumerate(pairs):
            patterns = sentence_patterns(task.model, src, tgt, pair.source, pair.target)
            _save(folder / f"sentence_{index}.npz", patterns)
            for site, (query_labels, key_labels) in patterns.labels.items():
                layers = [patterns[place].weights for place in patterns if place[0] == site]
                if not all(weights.isfinite().all() for weights in layers):
                    _log.warning("step %d: the weights at %s are not finite, so they were not drawn", step, site)
                    continue
                subtitle = _subtitle(site, step, task, patterns)
                picture = draw_patterns(
                    stack_layers(layers),
                    query_labels=query_labels,
                    key_labels=key_labels,
                    title=f"{site}: {pair.source}",
                    subtitle=subtitle,
                    alignment=pair.alignment if site == "cross" else None,
                )
                picture.save(folder / f"sentence_{index}_{site}.png")
                pictures[site].append((picture, f"{pair.source} | {subtitle}"))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for site, drawn in pictures.items():
                    if not drawn:
                        continue
                    logger.log_image(
                        f"patterns/{site}",
                        _on_equal_paper([picture for picture, _ in drawn]),
                        step=step,
                        caption=[caption for _, caption in drawn],
                    )


def varied(pairs: Sequence[SentencePair], count: int) -> list[SentencePair]:
    """`count` pairs that show much: each one that adds the most tags to those before it, then the one with the most."""
    chosen: list[SentencePair] = []
    left, shown = list(pairs), set[str]()
    while left and len(chosen) < count:
        best = max(left, key=lambda pair: (len(set(pair.tags) - shown), len(pair.tags)))
        left.remove(best)
        chosen.append(best)
        shown.update(best.tags)
    return chosen


def stack_layers(layers: Sequence[Tensor]) -> Tensor:
    """[layers, heads, query, key] of one sentence; a layer with fewer heads than another is filled up with zeros."""
    heads = max(weights.shape[0] for weights in layers)
    return torch.stack(
        [torch.nn.functional.pad(weights, (0, 0, 0, 0, 0, heads - weights.shape[0])) for weights in layers]
    )


def _on_equal_paper(pictures: list[Image.Image]) -> list[Image.Image]:
    """The pictures with white added at the right and below: W&B shows a list in frames of the first one's size."""
    size = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
    return [ImageOps.pad(picture, size, color="white", centering=(0, 0)) for picture in pictures]


def _subtitle(site: str, step: int, task: TranslationTask, patterns: SentencePatterns) -> str:
    kinds = sorted({patterns[place].kind for place in patterns if place[0] == site})
    parts = ["each row says its word"] if site == "cross" else []
    parts += [f"step {step}", f"val loss {task.val_scores['val/loss']:.3f}"]
    if site == "cross" and "val/aer" in task.val_scores:
        parts.append(f"AER {task.val_scores['val/aer']:.3f}")
    if kinds != [PatternKind.PROBABILITY]:
        parts.append("weights: " + ", ".join(kinds))
    return ", ".join(parts)


def _save(file: Path, patterns: SentencePatterns) -> None:
    arrays: dict[str, np.ndarray] = {}
    for (site, layer), pattern in patterns.items():
        arrays[f"{site}/layer_{layer}"] = pattern.weights.float().cpu().numpy()
        arrays[f"{site}/layer_{layer}/kind"] = np.array(str(pattern.kind))
    for site, (queries, keys) in patterns.labels.items():
        arrays[f"{site}/query_labels"] = np.array(queries)
        arrays[f"{site}/key_labels"] = np.array(keys)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
