"""The stages of a run that is put together: train, validate, test, write down the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from attnframe.runs.decoding import Decoding
from attnframe.training.assembly import Assembly
from attnframe.training.cost import peak_memory_bytes, training_flops_per_token, watch_memory
from attnframe.training.final_report import leave_report, leave_report_of_stopped_run
from attnframe.training.interruption import Interrupted, cause_of
from attnframe.training.parallelism import in_one_process
from attnframe.training.place import same_random_numbers
from attnframe.training.processes import Team
from attnframe.training.progress import working
from attnframe.training.pruning import Pruned
from attnframe.training.scoring import described, write_test_scores
from attnframe.training.trainer import make_trainer, restore_callbacks


def fit(parts: Assembly, *, checkpoint: Path | None) -> None:
    """Train from the state in `checkpoint`, or from the start, to a last state that is validated and saved."""
    trainer, task, data = parts.trainer, parts.task, parts.data
    if checkpoint and trainer.strategy.restore_checkpoint_after_setup:
        # Where Lightning restores so late, callbacks would begin without knowing what they have done.
        restore_callbacks(trainer, checkpoint)
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    # Where nothing was left to train.
    parts.place.restore_random_state()
    if parts.world.first_says(parts.interruption.requested):
        raise Interrupted(trainer.global_step)
    if parts.metrics.validated_step != trainer.global_step:
        with same_random_numbers():
            trainer.validate(task, datamodule=data, verbose=False)
        parts.checkpoints.save(trainer)


def train_and_score(parts: Assembly, team: Team, *, checkpoint: Path | None) -> dict[str, Any]:
    """Train from the state in `checkpoint`, or from the start; validate and test; the results."""
    settings, data, metrics, checkpoints = parts.settings, parts.data, parts.metrics, parts.checkpoints
    tokenizers = {"source": data.src_tokenizer.state_dict(), "target": data.tgt_tokenizer.state_dict()}
    parts.folder.write_json("tokenizers.json", tokenizers)
    trainer = parts.trainer
    device = trainer.strategy.root_device
    watch_memory(device)
    try:
        with team.naming_the_dead():
            team.meet(trainer.strategy.root_device, lambda ended: parts.folder.close("FAILED", f"{ended}\n"))
            fit(parts, checkpoint=checkpoint)
        # What is left to do takes one process.
        team.part()
        with working(f"testing the state of step {checkpoints.best_step}", shown=parts.shown):
            results = _score_best(parts)
    except (Interrupted, Pruned, SystemExit) as error:
        if isinstance(cause_of(error), Interrupted | Pruned):
            leave_report_of_stopped_run(parts.folder)
        raise
    finally:
        parts.interruption.restore()
    results |= {
        "train/steps_to_95": metrics.steps_to_95,
        "train/steps": trainer.global_step,
        "train/best_step": checkpoints.best_step,
        "train/tokens_per_second": metrics.tokens_per_second,
        "train/seconds": metrics.seconds,
        "train/target_tokens": metrics.tokens,
        "train/flops_per_token": training_flops_per_token(settings, parts.attention, data),
        "train/peak_memory_bytes": peak_memory_bytes(device),
        "backend": ",".join(sorted({entry["backend"] for entry in parts.backends.values()})),
        **described(
            settings, parts.task.whole_model, data.corpus, data.tgt_tokenizer, Decoding.of(settings["decoding"])
        ),
    }
    parts.folder.write_json("results.json", results)
    for logger in trainer.loggers:
        logger.log_metrics(
            {name: value for name, value in results.items() if isinstance(value, float)}, step=trainer.global_step
        )
    with working("writing the report", shown=parts.shown):
        leave_report(parts.folder, trainer.loggers, step=trainer.global_step, best_step=checkpoints.best_step)
    return results


def _score_best(parts: Assembly) -> dict[str, Any]:
    """Go back to the best state and score it on validation and every test set; writes predictions.tsv."""
    folder, task = parts.folder, parts.evaluated_task()
    best = torch.load(folder.best_checkpoint, weights_only=True, map_location="cpu")
    task.load_state_dict(best["state_dict"])
    # A trainer without the other callbacks and loggers: these scores are no part of the training's history.
    trainer = make_trainer(in_one_process(parts.settings["trainer"]), folder, [parts.interruption])
    trainer.validate(task, datamodule=task.data, verbose=False)
    trainer.test(task, datamodule=task.data, verbose=False)
    results: dict[str, Any] = dict(task.val_scores)
    evaluations = dict(zip(task.data.corpus.test_sets, task.test_evaluations, strict=True))
    return results | write_test_scores(folder, evaluations, task.alignment_choice)
