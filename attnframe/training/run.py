"""One run from settings to results: build, train, validate, test, write."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping

from attnframe.errors import UserError, did_you_mean
from attnframe.model import AttentionFactory
from attnframe.runs.building import build_model
from attnframe.runs.folder import RunFolder
from attnframe.training.checkpoints import Checkpoints
from attnframe.training.data_module import TranslationData
from attnframe.training.interruption import Interrupted, Interruption
from attnframe.training.loggers import finish_wandb, make_loggers
from attnframe.training.manifest import make_manifest, settle_backends
from attnframe.training.metrics_log import COLUMNS, MetricsLog
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.progress import ProgressLine, working
from attnframe.training.task import TranslationTask
from attnframe.training.text_scores import signatures

_log = logging.getLogger(__name__)


class RunFailed(Exception):  # noqa: N818  reads as what happened
    """A run ended in an error that is written down in its folder."""


def run(settings: Mapping[str, Any], path: Path, attention: AttentionFactory) -> dict[str, Any]:
    """Train as `settings` say in the folder `path`, and return the flat `results.json`.

    Whatever happens, the folder ends with exactly one marker. Raises `UserError` (bad settings), `Interrupted`, or
    `RunFailed` for anything else, with the traceback in error.txt.
    """
    folder = RunFolder(path)
    folder.claim()
    try:
        results = _run(settings, folder, attention)
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        # Lightning answers a KeyboardInterrupt inside of its loops with a SystemExit of its own.
        stop = error.__context__ if isinstance(error, SystemExit) else error
        if isinstance(stop, KeyboardInterrupt):
            finish_wandb(exit_code=130)
            folder.close("INTERRUPTED")
            raise (stop if isinstance(stop, Interrupted) else Interrupted()) from None
        finish_wandb(exit_code=1)
        if isinstance(error, UserError | MisconfigurationException):
            folder.close("FAILED", f"{error}\n")
            raise UserError(str(error)) from error
        folder.close("FAILED", traceback.format_exc())
        reason = " ".join(str(error).split())
        raise RunFailed(f"{type(error).__name__}: {reason}; the traceback is in {folder.path / 'error.txt'}") from error
    finish_wandb(exit_code=0)
    folder.close("DONE")
    return results


def _run(settings: Mapping[str, Any], folder: RunFolder, attention: AttentionFactory) -> dict[str, Any]:
    _quieten()
    L.seed_everything(settings["seed"], workers=True, verbose=False)
    loggers = make_loggers(settings["logger"], folder, name=settings["name"], config=settings)
    shown = settings["trainer"]["enable_progress_bar"]
    with working("reading data", shown=shown):
        data = TranslationData(settings["data"], seed=settings["seed"])
    model = build_model(
        settings, attention, src_vocab_size=len(data.src_tokenizer), tgt_vocab_size=len(data.tgt_tokenizer)
    )
    folder.write_json(
        "tokenizers.json", {"source": data.src_tokenizer.state_dict(), "target": data.tgt_tokenizer.state_dict()}
    )
    task = TranslationTask(model, data, optimizer=settings["optimizer"], scheduler=settings["scheduler"])
    checkpoints, interruption = Checkpoints(folder), Interruption()
    metrics = MetricsLog(folder, every=settings["trainer"]["log_every_n_steps"])
    patterns = PatternSnapshots(folder, **settings["callbacks"]["patterns"])
    # The metrics log comes last of those that act at a validation: what they take is no training time.
    callbacks: list[Callback] = [checkpoints, patterns, metrics, interruption]
    stopping = settings["callbacks"]["early_stopping"]
    if stopping["patience"] is not None:
        monitored = [name for name in COLUMNS if name.startswith("val/")]
        if stopping["monitor"] not in monitored:
            hint = did_you_mean(stopping["monitor"], monitored)
            raise UserError(f"callbacks.early_stopping.monitor={stopping['monitor']}: there is no such score; {hint}")
        mode = "min" if stopping["monitor"].startswith(("val/loss", "val/aer")) else "max"
        callbacks.append(EarlyStopping(stopping["monitor"], patience=stopping["patience"], mode=mode))
    if shown:
        callbacks.append(ProgressLine())
    trainer = _make_trainer(settings["trainer"], folder, callbacks, loggers)
    resolutions = settle_backends(model, attention, trainer)
    folder.write_manifest(make_manifest(settings, data, model, trainer, resolutions, loggers))
    try:
        trainer.fit(task, datamodule=data)
        if interruption.requested:
            raise Interrupted(trainer.global_step)
        if metrics.validated_step != trainer.global_step:
            trainer.validate(task, datamodule=data, verbose=False)
        with working(f"testing the state of step {checkpoints.best_step}", shown=shown):
            results = _score_best(settings["trainer"], task, folder, interruption)
    finally:
        interruption.restore()
    results |= {
        "train/steps_to_95": metrics.steps_to_95,
        "train/steps": trainer.global_step,
        "train/best_step": checkpoints.best_step,
        "train/tokens_per_second": metrics.tokens_per_second,
        "train/seconds": metrics.seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": settings["seed"],
        "variant": settings["attention"]["name"],
        "backend": ",".join(sorted({entry["backend"] for entry in resolutions.values()})),
        **{f"signature/{name}": text for name, text in signatures().items()},
    }
    folder.write_json("results.json", results)
    for logger in loggers:
        logger.log_metrics(
            {name: value for name, value in results.items() if isinstance(value, float)}, step=trainer.global_step
        )
    return results


def _make_trainer(
    settings: Mapping[str, Any], folder: RunFolder, callbacks: list[Callback], loggers: list[Any]
) -> L.Trainer:
    arguments = {key: value for key, value in settings.items() if value is not None}
    if isinstance(settings["val_check_interval"], int):
        # Count validation intervals over epochs, not within one.
        arguments["check_val_every_n_epoch"] = settings["check_val_every_n_epoch"]
    arguments["enable_progress_bar"] = False  # ours is a callback
    arguments["reload_dataloaders_every_n_epochs"] = 1
    return L.Trainer(
        **arguments,
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=folder.path,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def _score_best(
    settings: Mapping[str, Any], task: TranslationTask, folder: RunFolder, interruption: Interruption
) -> dict[str, Any]:
    """Go back to the best state and score it on validation and every test set; writes predictions.tsv."""
    best = torch.load(folder.best_checkpoint, weights_only=True, map_location="cpu")
    task.load_state_dict(best["state_dict"])
    # A trainer without the other callbacks and loggers: these scores are no part of the training's history.
    trainer = _make_trainer(settings, folder, [interruption], [])
    trainer.validate(task, datamodule=task.data, verbose=False)
    trainer.test(task, datamodule=task.data, verbose=False)
    results: dict[str, Any] = dict(task.val_scores)
    choice = task.alignment_choice
    rows = []
    for name, evaluation in zip(task.data.corpus.test_sets, task.test_evaluations, strict=True):
        prefix = "test/" if name == "test" else f"test/{name}/"
        results |= {prefix + key: value for key, value in evaluation.scores(choice, split=True).items()}
        for translation in evaluation.translations():
            pair = translation.pair
            rows.append((pair.id, name, pair.source, pair.target, translation.hypothesis, ",".join(pair.tags)))
    folder.write_table("predictions.tsv", ("id", "set", "source", "reference", "hypothesis", "tags"), rows)
    if choice is not None:
        for key, head in (("aer", choice.head), ("aer_mean_heads", choice.mean_heads)):
            results |= {f"test/{key}/layer": head.layer, f"test/{key}/reading": str(head.reading)}
            if head.head is not None:
                results[f"test/{key}/head"] = head.head
    return results


def _quieten() -> None:
    """Lightning's advice for other set-ups than ours says nothing to a user of this framework."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
