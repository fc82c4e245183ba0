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
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attnframe import discovery
from attnframe.cli import composition, messages, settings
from attnframe.errors import UserError

USAGE = """attnframe train [OVERRIDE ...]       train, validate, test; everything lands in one run folder
attnframe train -m [OVERRIDE ...]    a sweep: one run for each combination of comma-separated values

  attnframe train                                             multi-head attention on the embedded data
  attnframe train attention=low_rank_v attention.rank=4       another variant with an option of its own
  attnframe train attention@cross=low_rank_v cross.rank=2     another variant at one site only
  attnframe train layers.cross=[multi_head,uniform]           another variant in each layer of a site
  attnframe train model=small trainer.max_time=00:00:10:00    a larger model, ten minutes
  attnframe train -m attention=self,multi_head,low_rank_v seed=1,2,3
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
    composition.prepare()
    _refuse_used_folder(arguments)
    # Lightning starts the other processes of a run from sys.argv, so the job sees it whole; Hydra reads its own part.
    whole, sys.argv = sys.argv, [sys.argv[0], *_multirun_first(arguments)]
    failures: list[Exception] = []
    try:
        hydra.main(
            version_base=composition.VERSION_BASE,
            config_path=str(composition.conf_folder()),
            config_name=composition.PRIMARY,
        )(lambda config: _job(config, whole, failures))()
    except (HydraException, OmegaConfBaseException) as error:
        overrides = [item for item in arguments if not item.startswith("-")]
        raise UserError(messages.sentence(error, overrides)) from error
    except Exception as error:
        return _report_failure(error, failures)
    finally:
        sys.argv = whole
    return 0


def _job(config: DictConfig, argv: list[str], failures: list[Exception]) -> float | None:
    """One run, inside Hydra. Returns what a sweeper minimises: the validation loss."""
    sys.argv = argv
    try:
        return _run(config)
    except Exception as error:
        # In a sweep Hydra speaks of a failed job only when all jobs have run.
        failures.append(error)
        raise


def _run(config: DictConfig) -> float | None:
    plain = settings.plain(config)
    if plain["model"]["kind"] != "seq2seq":
        raise UserError(
            f"model.kind={plain['model']['kind']} cannot be trained, only described: "
            f"`attnframe describe model=gpt3`; models to train: model=tiny, small, base"
        )
    attention = settings.attention_factory(plain)
    settings.try_attention(attention)
    for file in discovery.loaded_plugins():
        _log.info("plugin %s", file)
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(f"run folder: {os.path.relpath(folder)}", flush=True)

    # Here and not above: Lightning takes seconds to import, which a misspelt option must not cost.
    from attnframe.training.run import run

    results = run(plain, folder, attention, encoder_layers=settings.encoder_of(plain["model"])["num_layers"])
    _print_results(results, folder)
    return float(results["val/loss"])


def _print_results(results: dict[str, Any], folder: Path) -> None:
    from attnframe.cli.output import print_table

    sets = ["test", *(key.split("/")[1] for key in results if key.startswith("test/") and key.endswith("/chrf"))]
    measures = ("exact_match", "bleu", "chrf", "loss", "aer", "aer_mean_heads", "aer_diagonal", "aer_perfect")
    rows = []
    for name in sets:
        prefix = "test/" if name == "test" else f"test/{name}/"
        rows.append([name, *(_number(results.get(prefix + measure)) for measure in measures)])
    print_table(["set", *measures], rows)
    print(f"trained {results['train/steps']} steps in {results['train/seconds']:.0f} s, "
          f"{results['train/tokens_per_second']:.0f} target tokens/s, backend {results['backend']}")
    print(f"patterns: {os.path.relpath(folder / 'patterns')}", flush=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _report_failure(error: Exception, failures: list[Exception]) -> int:
    from attnframe.training.interruption import Interrupted
    from attnframe.training.run import RunFailed

    if isinstance(error, Interrupted):
        print(f"attnframe train: {error}; its state is in checkpoints/last.ckpt", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"attnframe train: {failure}", file=sys.stderr)
    if isinstance(error, UserError) and len(failures) <= 1:
        return 2
    if isinstance(error, (RunFailed, UserError)):
        return 1
    raise error


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
