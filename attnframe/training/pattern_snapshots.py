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
from attnframe.data.schema import Alignment, SentencePair
from attnframe.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from attnframe.data.words import without_marker
from attnframe.model import SITES
from attnframe.patterns import Patterns, record_patterns
from attnframe.patterns.drawing import draw_patterns
from attnframe.runs.folder import RunFolder
from attnframe.training.task import TranslationTask

_log = logging.getLogger(__name__)

_BOS, _EOS = SPECIAL_TOKENS[1], SPECIAL_TOKENS[2]


class PatternSnapshots(L.Callback):
    """Records every site, layer and head on a varied few (`sentences`) of the validation pairs, whatever the backend.

    `patterns/step_000100/sentence_0.npz` holds an array [heads, query, key] for each site and layer
    (`cross/layer_0`), the token labels and the kinds; `sentence_0_cross.png` and so on are the drawings. After
    `max_snapshots` validations only the last state of the run is still recorded.
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

    def take(self, trainer: L.Trainer, task: TranslationTask) -> None:
        """Record, draw and log the patterns of the model as it is now; once a step."""
        step = task.global_step
        if step == self._done_step:
            return
        self._done_step = step
        folder = self._folder.patterns / f"step_{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        pictures: dict[str, list[tuple[Image.Image, str]]] = {site: [] for site in SITES}
        was_training = task.model.training
        task.model.eval()
        pairs = varied(task.data.corpus.sets["val"], self._sentences)
        for index, pair in enumerate(pairs):
            batch = task.data.batch([pair]).to(task.device)
            with torch.no_grad(), record_patterns(task.model) as patterns:
                task.model(batch.src, None, batch.tgt_in)
            labels = _labels(pair, task.data.src_tokenizer, task.data.tgt_tokenizer)
            _save(folder / f"sentence_{index}.npz", patterns, labels)
            for site in SITES:
                if not all(weights.isfinite().all() for weights in patterns.layers(site)):
                    _log.warning("step %d: the weights at %s are not finite, so they were not drawn", step, site)
                    continue
                subtitle = _subtitle(site, step, task, patterns)
                picture = draw_patterns(
                    stack_layers(patterns.layers(site)),
                    query_labels=labels[site][0],
                    key_labels=labels[site][1],
                    title=f"{site}: {pair.source}",
                    subtitle=subtitle,
                    alignment=_gold_cells(pair, task.data.src_tokenizer, task.data.tgt_tokenizer)
                    if site == "cross"
                    else None,
                )
                picture.save(folder / f"sentence_{index}_{site}.png")
                pictures[site].append((picture, f"{pair.source} | {subtitle}"))
        task.model.train(was_training)
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
    heads = max(weights.shape[1] for weights in layers)
    return torch.stack(
        [torch.nn.functional.pad(weights[0], (0, 0, 0, 0, 0, heads - weights.shape[1])) for weights in layers]
    )


def _on_equal_paper(pictures: list[Image.Image]) -> list[Image.Image]:
    """The pictures with white added at the right and below: W&B shows a list in frames of the first one's size."""
    size = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
    return [ImageOps.pad(picture, size, color="white", centering=(0, 0)) for picture in pictures]


def _labels(pair: SentencePair, src: Tokenizer, tgt: Tokenizer) -> dict[str, tuple[list[str], list[str]]]:
    """(query labels, key labels) by site: what the encoder reads, and what the decoder reads."""
    source = [*map(without_marker, src.pieces(pair.source)), _EOS]
    target = [_BOS, *map(without_marker, tgt.pieces(pair.target))]
    return {"encoder_self": (source, source), "decoder_self": (target, target), "cross": (target, source)}


def _gold_cells(pair: SentencePair, src: Tokenizer, tgt: Tokenizer) -> Alignment | None:
    """The gold links as cells of the cross pattern: row t is the step that predicts target piece t."""
    if pair.alignment is None:
        return None
    src_words, tgt_words = src.word_ids(pair.source), tgt.word_ids(pair.target)

    def cells(links: frozenset[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        return frozenset(
            (key, row)
            for row, tgt_word in enumerate(tgt_words)
            for key, src_word in enumerate(src_words)
            if (src_word, tgt_word) in links
        )

    return Alignment(cells(pair.alignment.sure), cells(pair.alignment.possible))


def _subtitle(site: str, step: int, task: TranslationTask, patterns: Patterns) -> str:
    kinds = sorted({patterns[place].kind for place in patterns if place[0] == site})
    parts = ["each row predicts the next word"] if site == "cross" else []
    parts += [f"step {step}", f"val loss {task.val_scores['val/loss']:.3f}"]
    if site == "cross" and "val/aer" in task.val_scores:
        parts.append(f"AER {task.val_scores['val/aer']:.3f}")
    if kinds != [PatternKind.PROBABILITY]:
        parts.append("weights: " + ", ".join(kinds))
    return ", ".join(parts)


def _save(file: Path, patterns: Patterns, labels: dict[str, tuple[list[str], list[str]]]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for (site, layer), pattern in patterns.items():
        arrays[f"{site}/layer_{layer}"] = pattern.weights[0].float().cpu().numpy()
        arrays[f"{site}/layer_{layer}/kind"] = np.array(str(pattern.kind))
    for site, (queries, keys) in labels.items():
        arrays[f"{site}/query_labels"] = np.array(queries)
        arrays[f"{site}/key_labels"] = np.array(keys)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
