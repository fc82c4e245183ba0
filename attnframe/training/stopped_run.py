"""A run that is to go on: what it left, and whether going on makes sense."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer

from attnframe.data.schema import Corpus
from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import read_manifest
from attnframe.training import attention_rows
from attnframe.training.metric_names import COLUMNS


@dataclass(frozen=True)
class StoppedRun:
    """A run folder with its manifest, and its last checkpoint if one was written.

    `limits` are the limits of training that are new, by the names of the trainer's arguments. Every method that refuses
    raises `UserError` and has changed nothing.
    """

    folder: RunFolder
    manifest: Mapping[str, Any]
    limits: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None

    @property
    def step(self) -> int:
        """The optimizer steps that need not be taken again."""
        return self.checkpoint["global_step"] if self.checkpoint else 0

    def check_limits(self, trainer: Mapping[str, Any]) -> None:
        """Refuse settings under which no step is left to a run that is done, or that lie before where it stands."""
        done = "DONE" in self.folder.markers
        if self.checkpoint is None:
            if done or self.folder.best_checkpoint.exists():
                raise UserError(f"{self.folder.last_checkpoint} is missing: the run cannot go on without it")
            return
        states = self.checkpoint["callbacks"]
        stands = {
            "max_steps": (self.step, 0),
            "max_epochs": (states["Place"]["epoch"], states["Place"]["batch"]),
            "max_time": (states["Timer"]["time_elapsed"]["train"], 0),
        }
        ends = {key: (value, 0) for key, value in _numbers(trainer).items()}
        for key in self.limits:
            if key in ends and stands[key] > ends[key]:
                raise UserError(f"trainer.{key}={trainer[key]}: the run is beyond that, at {self._whereabouts()}")
        if not done:
            return
        if any(state.get("has_stopped") for state in states.values()):
            raise UserError(
                f"{self.folder.path} is done: callbacks.early_stopping ended it after step {self.step}, "
                f"which a longer limit does not change"
            )
        for key, end in ends.items():
            if stands[key] >= end:
                raise UserError(
                    f"{self.folder.path} is done: it has reached trainer.{key}={trainer[key]}, at "
                    f"{self._whereabouts()}; give a larger trainer.{key} to go on"
                )

    def check_corpus(self, corpus: Corpus) -> None:
        """Refuse other data than the run has been trained on."""
        before = self.manifest["data"]["hash"]
        if corpus.hash() != before:
            raise UserError(
                f"{self.folder.path}: the data is not what the run was trained on any more (hash {corpus.hash()[:12]}, "
                f"in manifest.json {before[:12]})"
            )

    def check_weights(self, model: torch.nn.Module) -> None:
        """Refuse a model that the weights do not fit; those that do are loaded."""
        if self.checkpoint is None:
            return
        weights = {key.removeprefix("model."): value for key, value in self.checkpoint["state_dict"].items()}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            problem = " ".join(str(error).split())
            raise UserError(
                f"{self.folder.last_checkpoint} does not fit the variants as they are: {problem}"
            ) from error

    def _whereabouts(self) -> str:
        assert self.checkpoint is not None
        states = self.checkpoint["callbacks"]
        elapsed = states["Timer"]["time_elapsed"]["train"]
        return f"step {self.step} in epoch {states['Place']['epoch']} after {elapsed:.0f} s"


def read_stopped_run(folder: RunFolder, limits: Mapping[str, Any]) -> StoppedRun:
    """The run in `folder`, with the given new limits. Raises `UserError` where it has left nothing to go on from."""
    manifest = read_manifest(folder, "resume")
    file = folder.last_checkpoint
    if not file.exists():
        return StoppedRun(folder, manifest, limits, None)
    try:
        checkpoint = torch.load(file, weights_only=True, map_location="cpu")
        missing = {"Place", "MetricsLog", "Checkpoints", "Timer"} - checkpoint["callbacks"].keys()
        missing |= {"loops", "state_dict", "global_step"} - checkpoint.keys()
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} cannot be read, it is damaged: {error!r:.100}") from error
    if missing:
        raise UserError(f"{file} was written by an attnframe that could not go on with a run")
    has_best = folder.best_checkpoint.exists() or folder.next_best_checkpoint.exists()
    if checkpoint["callbacks"]["Checkpoints"]["best_step"] >= 0 and not has_best:
        raise UserError(f"{folder.best_checkpoint} is missing: the run cannot go on without it")
    _check_metrics(folder, checkpoint["callbacks"]["MetricsLog"]["rows"])
    return StoppedRun(folder, manifest, limits, checkpoint)


def _check_metrics(folder: RunFolder, rows: int) -> None:
    """Refuse a metrics.csv that has lost some of the `rows` that the checkpoint knows; one taken away begins anew."""
    file = folder.metrics
    if not file.exists():
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        lines = []
    # The last row that counts must be whole; what comes after it is cut off anyway.
    columns = "".join(lines[:1]).strip().split(",")
    whole = [line for line in lines[: 1 + rows] if line.count(",") == len(columns) - 1 and line.endswith("\n")]
    # An older version may have had fewer columns.
    if rows and (not set(columns) <= {*COLUMNS, *attention_rows.COLUMNS} or len(whole) < 1 + rows):
        raise UserError(
            f"{file} is damaged: the run has written {rows} rows, of which {max(0, len(whole) - 1)} are left"
        )


def _numbers(trainer: Mapping[str, Any]) -> dict[str, float]:
    """The limits that there are, as numbers: steps, epochs, seconds."""
    try:
        seconds = Timer(duration=trainer["max_time"]).time_remaining()
    except (MisconfigurationException, TypeError) as error:
        raise UserError(f"trainer.max_time={trainer['max_time']}: write it as DD:HH:MM:SS") from error
    numbers = {"max_steps": trainer["max_steps"], "max_epochs": trainer["max_epochs"], "max_time": seconds}
    return {key: value for key, value in numbers.items() if value not in (None, -1)}
