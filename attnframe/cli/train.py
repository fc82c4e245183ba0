"""`attnframe train`: one run, or with -m a sweep."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from attnframe.cli import composition, messages, processes, resume
from attnframe.cli.train_job import TrainJob
from attnframe.errors import UserError

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
  attnframe train -m attention=self,multi_head,low_rank_v seed=1,2,3 sweep=first
                                                              and the same again does what is left of it
  attnframe train -m attention=multi_head,uniform match=params    as many parameters each, by turning model.d_ff
  attnframe train -m hparams_search=optuna_default            a search for the best settings (docs/search.md)
  attnframe train resume=outputs/grammar-multi_head/TIME trainer.max_steps=5000    to a later end than before
  attnframe train --cfg job --resolve                         print the config and stop

--help lists every config group and option; `attnframe list GROUP` explains one.
Results: results.json, metrics.csv, predictions.tsv, patterns/ and checkpoints/ in outputs/<name>/<time>/.
"""


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
            _refuse_sweep_name(overrides)
            plain, _ = TrainJob().settings(composition.compose_config(overrides))
            if processes.is_another(plain["trainer"]):
                return processes.take_part()
            _say_that_nothing_is_searched(overrides)
            _refuse_used_folder(overrides)
        return _launch(arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, overrides)) from error
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        raise UserError(composition.not_a_name(overrides) or str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"the run folder cannot be written: {error}") from error


def _launch(arguments: list[str]) -> int:
    """Hand over to Hydra, which calls the job for each run."""
    job = TrainJob()
    # Hydra reads its own part of the command line, and a job sees it whole.
    whole, sys.argv = sys.argv, [sys.argv[0], *_multirun_first(arguments)]
    try:
        hydra.main(
            version_base=composition.VERSION_BASE,
            config_path=str(composition.conf_folder()),
            config_name=composition.PRIMARY,
        )(job)()
    except KeyboardInterrupt as stop:
        if job.sweep_name is None:
            raise
        again = shlex.join([*arguments, *([] if _names_sweep(arguments) else [f"sweep={job.sweep_name}"])])
        raise KeyboardInterrupt(f"{str(stop) or 'stopped'}; go on with: attnframe train {again}") from None
    except Exception as error:
        if error not in job.failures:
            raise
    finally:
        sys.argv = whole
    if job.sweep_name is not None:
        return 1 if any(outcome.reason for outcome in job.ended) or job.search_failed else 0
    return _report(job.failures)


def _report(failures: list[Exception]) -> int:
    """Say what went wrong; the exit code."""
    for failure in failures:
        print(f"attnframe train: {failure}", file=sys.stderr)
    if not failures:
        return 0
    return 2 if len(failures) == 1 and isinstance(failures[0], UserError) else 1


def _names_sweep(arguments: list[str]) -> bool:
    return any(item.startswith("sweep=") for item in arguments)


def _multirun_first(arguments: list[str]) -> list[str]:
    """Hydra's parser takes -m only before the overrides; a user writes it anywhere."""
    flags = [item for item in arguments if item in ("-m", "--multirun")]
    return [*flags[:1], *(item for item in arguments if item not in ("-m", "--multirun"))]


def _refuse_sweep_name(arguments: list[str]) -> None:
    for item in arguments:
        if item.startswith("sweep="):
            raise UserError(f"{item}: this names the folder of a sweep, and without -m there is one run: add -m")


def _say_that_nothing_is_searched(arguments: list[str]) -> None:
    # Said and not refused, for a recipe may set more than the search.
    for item in arguments:
        if item.startswith("hparams_search="):
            print(f"attnframe train: {item}: without -m there is one run, and nothing is searched", file=sys.stderr)


def _refuse_used_folder(arguments: list[str]) -> None:
    """Hydra would write its own files into a folder before the run could refuse it."""
    for item in arguments:
        key, _, value = item.partition("=")
        if key == "hydra.run.dir" and (Path(value) / "manifest.json").exists():
            raise UserError(f"{item}: this folder already holds a run; choose another")
