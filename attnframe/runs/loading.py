"""A finished run, ready to be used: its model and tokenizers again, from its folder."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch

from attnframe.attention.raising import words_and_place
from attnframe.data.tokenizer import Tokenizer, tokenizer_from_state
from attnframe.errors import UserError, did_you_mean
from attnframe.model import Seq2Seq
from attnframe.runs.building import attention_factory, build_model
from attnframe.runs.decoding import GREEDY, Decoding
from attnframe.runs.explained import Explanation
from attnframe.runs.explanation import explain
from attnframe.runs.folder import RunFolder
from attnframe.runs.sentence_patterns import SentencePatterns, sentence_patterns
from attnframe.runs.translation import TranslatedSentence, translate

CHECKPOINTS = ("best", "last")

# Where a trained task keeps the model among its weights.
_PREFIX = "model."


def load_run(path: str | Path, *, checkpoint: str = "best", device: str | torch.device = "cpu") -> Run:
    """The run in the folder `path`, its model in evaluation mode.

    `checkpoint` is "best" (lowest validation loss) or "last". Plugins are looked for as in every command. Raises
    `UserError` where there is no run, none that has saved anything, or a variant or its weights are not to be had.
    """
    folder = RunFolder(Path(path))
    manifest = read_manifest(folder)
    settings = manifest["settings"]
    src, tgt = _read_tokenizers(folder)
    try:
        model = build_model(settings, attention_factory(settings), src_vocab_size=len(src), tgt_vocab_size=len(tgt))
    except UserError as error:
        raise UserError(f"{folder.path}: this run cannot be built again: {error}{lost_plugins(manifest)}") from error
    except Exception as error:  # a variant's code is anybody's
        cause = f"{words_and_place(error)}{lost_plugins(manifest)}"
        raise UserError(f"{folder.path}: this run cannot be built again: {cause}") from error
    step = _load_weights(model, folder, checkpoint)
    return Run(folder, manifest, model.to(device).eval(), src, tgt, checkpoint, step)


@dataclass(frozen=True, repr=False)
class Run:
    """A trained model with its tokenizers and everything that is written down about it.

    `step` counts the training steps behind the weights; `settings` are those of the run, as plain values.
    """

    folder: RunFolder
    manifest: Mapping[str, Any]
    model: Seq2Seq
    src_tokenizer: Tokenizer
    tgt_tokenizer: Tokenizer
    checkpoint: str
    step: int

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, checkpoint={self.checkpoint!r}, step={self.step})"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The whole config of the run."""
        settings: Mapping[str, Any] = self.manifest["settings"]
        return settings

    # A str is a sequence of str too; the first signature is meant for it.
    @overload
    def translate(  # type: ignore[overload-overlap]
        self, sentences: str, *, beam_size: int = 1, length_penalty: float = 1.0
    ) -> str: ...
    @overload
    def translate(self, sentences: Sequence[str], *, beam_size: int = 1, length_penalty: float = 1.0) -> list[str]: ...
    def translate(
        self, sentences: str | Sequence[str], *, beam_size: int = 1, length_penalty: float = 1.0
    ) -> str | list[str]:
        """The translation of a sentence, or of each of several in their order.

        A `beam_size` of 1 is greedy; `length_penalty` is that of `model.beam_search`. An empty sentence stays empty.
        """
        single = isinstance(sentences, str)
        decoding = GREEDY if beam_size == 1 else Decoding("beam", beam_size, length_penalty)
        translated = self.translations([sentences] if isinstance(sentences, str) else sentences, decoding)
        texts = [sentence.best for sentence in translated]
        return texts[0] if single else texts

    def translations(
        self, sentences: Sequence[str], decoding: Decoding = GREEDY, *, n_best: int = 1
    ) -> list[TranslatedSentence]:
        """The `n_best` translations of each sentence with their scores, and the words that the run does not know."""
        return translate(self.model, self.src_tokenizer, self.tgt_tokenizer, sentences, decoding, n_best=n_best)

    def patterns(self, source: str, target: str | None = None) -> SentencePatterns:
        """What every head attends to while it reads `source` and says `target` (by default the run's translation)."""
        target = self.translate(source) if target is None else target
        return sentence_patterns(self.model, self.src_tokenizer, self.tgt_tokenizer, source, target)

    def explain(self, source: str, target: str | None = None, *, neighbours: int = 3) -> Explanation:
        """Patterns, ΔE by head and token, and what each embedding is near to: `runs.explanation.explain`."""
        return explain(self, source, target, neighbours=neighbours)


def read_manifest(folder: RunFolder, word: str = "run") -> dict[str, Any]:
    """The manifest of a run. Raises `UserError`, which names the folder as `word`=, where there is none to be read.

    With an empty `word` it is named by its path alone.
    """
    place = f"{word}={folder.path}" if word else str(folder.path)
    if not folder.path.is_dir():
        raise UserError(f"{place}: there is no such folder{_nearest(folder.path)}")
    try:
        manifest: dict[str, Any] = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse_stopped_early(folder, place)
        raise UserError(f"{place}: this folder holds no run (no manifest.json){_runs_in(folder.path)}") from None
    except ValueError:
        manifest = {}
    if not isinstance(manifest, dict) or not {"settings", "plugins"} <= manifest.keys():
        if not manifest and (folder.path / "error.txt").exists():
            cause = folder.last_error or "for no given reason"
            raise UserError(f"{place}: this run failed before it began: {cause}")
        if not manifest:
            _refuse_stopped_early(folder, place)
        raise UserError(f"{folder.manifest} does not say what ran: the run was stopped before it began, or is damaged")
    return manifest


def _refuse_stopped_early(folder: RunFolder, place: str) -> None:
    if "INTERRUPTED" in folder.markers:
        raise UserError(f"{place}: this run was stopped before its first checkpoint: there is nothing to go on from")


def lost_plugins(manifest: Mapping[str, Any]) -> str:
    """A clause for a run that cannot be built again: the plugins that it had, and how to have them here."""
    if not manifest["plugins"]:
        return ""
    return f"; it was trained with the plugins {', '.join(manifest['plugins'])}: $ATTNFRAME_PLUGINS names their folders"


def _read_tokenizers(folder: RunFolder) -> tuple[Tokenizer, Tokenizer]:
    file = folder.path / "tokenizers.json"
    try:
        states = json.loads(file.read_text(encoding="utf-8"))
        return tokenizer_from_state(states["source"]), tokenizer_from_state(states["target"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read, it is missing or damaged: {error!r}") from error


def _load_weights(model: Seq2Seq, folder: RunFolder, checkpoint: str) -> int:
    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint={checkpoint}: {did_you_mean(checkpoint, CHECKPOINTS)}")
    file = folder.checkpoints / f"{checkpoint}.ckpt"
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        weights = {key.removeprefix(_PREFIX): value for key, value in state["state_dict"].items()}
    except FileNotFoundError:
        others = [name for name in CHECKPOINTS if (folder.checkpoints / f"{name}.ckpt").exists()]
        hint = f"; checkpoint={others[0]} is there" if others else ""
        raise UserError(f"{file} is missing: the run was stopped before it had saved this state{hint}") from None
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} cannot be read: {str(error).partition(chr(10))[0]}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise UserError(f"the weights in {file} do not fit the variants as they are now: {problem}") from error
    return int(state["global_step"])


def _nearest(path: Path) -> str:
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    return f": {did_you_mean(path.name, siblings)}" if siblings else ""


def _runs_in(path: Path) -> str:
    """A run below `path` that can be used."""
    found = [file.parent.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/checkpoints/best.ckpt")]
    latest = max(found, key=lambda run: run.stat().st_mtime, default=None)
    return "" if latest is None else f"; it holds runs, the latest is {latest}"
