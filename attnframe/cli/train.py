"""`attnframe train`: one run, or with -m a sweep."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attnframe import discovery
from attnframe.cli import composition, messages, processes, resume, settings
from attnframe.cli.run_results import print_results
from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.runs import building
from attnframe.runs.decoding import Decoding

USAGE = """attnframe train [OVERRIDE ...]       train, validate, test; everything lands in one run folder
attnframe train -m [OVERRIDE ...]    a sweep: one run for each combination of comma-separated values
attnframe train resume=DIR           go on with a run that was stopped, in its folder and with its config

  attnframe train                                             multi-head attention on the embedded data
  attnframe train attention=low_rank_v attention.rank=4       another variant with an option of its own
  attnframe train attention@cross=low_rank_v cross.rank=2     another variant at one site only
  attnframe train layers.cross=[multi_head,uniform]           another variant in each layer of a site
  attnframe train model=small trainer.max_epochs=20           a larger model, for 20 passes over the data
  attnframe train trainer=ddp trainer.devices=2               one run in two processes
  attnframe train trainer.max_time=00:00:10:00 scheduler=inverse_square_root    ten minutes
  attnframe train -m attention=self,multi_head,low_rank_v seed=1,2,3
  attnframe train resume=outputs/grammar-multi_head/TIME trainer.max_steps=5000    to a later end than before
  attnframe train --cfg job --resolve                         print the config and stop

--help lists every config group and option; `attnframe list GROUP` explains one.
Results: results.json, metrics.csv, predictions.tsv, patterns/ and checkpoints/ in outputs/<name>/<time>/.
"""

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 1 a run failed, 2 something to mend, 130 interrupted."""
    if arguments == ["-h"]:
        print(USAGE, end="")
        return 0
    if resume.is_asked_for(arguments):
        return resume.main(arguments)
    composition.prepare()
    overrides = [item for item in arguments if not item.startswith("-")]
    try:
        if overrides == arguments:
            # One run: refuse what cannot be before Hydra makes a folder for it.
            plain, _ = _check(composition.compose_config(overrides))
            if processes.is_another(plain["trainer"]):
                return processes.take_part()
            _refuse_used_folder(overrides)
        return _launch(arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, overrides)) from error
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        raise UserError(f"a group is chosen by name, and one of these is none: {' '.join(overrides)}") from error
    except OSError as error:
        raise UserError(f"the run folder cannot be written: {error}") from error


def _check(config: DictConfig) -> tuple[dict[str, Any], AttentionFactory]:
    """The settings of a run that can be built, and what builds its attention."""
    plain = settings.plain(config)
    if plain["model"]["kind"] != "seq2seq":
        raise UserError(
            f"model.kind={plain['model']['kind']} cannot be trained, only described (attnframe describe); "
            f"models to train: tiny, small, base"
        )
    attention = building.attention_factory(plain)
    building.try_attention(attention)
    Decoding.of(plain["decoding"])
    return plain, attention


def _launch(arguments: list[str]) -> int:
    """Hand over to Hydra, which calls `_job` for each run."""
    # Hydra reads its own part of the command line, and a job sees it whole.
    whole, sys.argv = sys.argv, [sys.argv[0], *_multirun_first(arguments)]
    failures: list[Exception] = []

    def job(config: DictConfig) -> float | None:
        sys.argv = whole
        try:
            return _run(config)
        except Exception as error:
            failures.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # so that the sweeper knows
            return None

    try:
        hydra.main(
            version_base=composition.VERSION_BASE,
            config_path=str(composition.conf_folder()),
            config_name=composition.PRIMARY,
        )(job)()
    except Exception as error:
        if error not in failures:
            raise
    finally:
        sys.argv = whole
    return _report(failures)


def _run(config: DictConfig) -> float | None:
    """One run. Returns what a sweeper minimises: the validation loss."""
    plain, attention = _check(config)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        processes.check_job(plain["trainer"])
    for file in discovery.loaded_plugins():
        _log.info("plugin %s", file)
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(f"run folder: {os.path.relpath(folder)}", flush=True)

    # Here and not above: Lightning takes seconds to import, which a misspelt option must not cost.
    from attnframe.training.run import run

    with resume.advising(folder):
        results = run(plain, folder, attention)
    print_results(results, folder)
    return float(results["val/loss"])


def _report(failures: list[Exception]) -> int:
    """Say what went wrong, a sentence for each run; the exit code."""
    for failure in failures:
        print(f"attnframe train: {failure}", file=sys.stderr)
    if not failures:
        return 0
    return 2 if len(failures) == 1 and isinstance(failures[0], UserError) else 1


def _multirun_first(arguments: list[str]) -> list[str]:
    """Hydra's parser takes -m only before the overrides; a user writes it anywhere."""
    flags = [item for item in arguments if item in ("-m", "--multirun")]
    return [*flags[:1], *(item for item in arguments if item not in ("-m", "--multirun"))]


def _refuse_used_folder(arguments: list[str]) -> None:
    """Hydra would write its own files into a folder before the run could refuse it."""
    for item in arguments:
        key, _, value = item.partition("=")
        if key == "hydra.run.dir" and (Path(value) / "manifest.json").exists():
            raise UserError(f"{item}: this folder already holds a run; choose another")
