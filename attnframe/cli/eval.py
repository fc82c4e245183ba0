"""`attnframe eval`: a finished run is scored again."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

from attnframe.cli import composition, run_arguments
from attnframe.cli.output import counting, wants_help
from attnframe.cli.run_arguments import RunArguments
from attnframe.cli.schema import EvalSchema
from attnframe.cli.scores import print_scores
from attnframe.errors import UserError

USAGE = """attnframe eval run=DIR [OVERRIDE ...]     score a finished run again; its own files stay as they are

  attnframe eval run=outputs/tatoeba/2026-01-01                       its own data, greedily
  attnframe eval run=DIR decoding=beam decoding.beam_size=5           with beam search
  attnframe eval run=DIR checkpoint=last                              the state after the last step
  attnframe eval run=DIR data=parallel_file data.path=mine.tsv        on a file of yours, all of it
  attnframe eval run=DIR data=grammar data.seed=7                     on other generated sentences

Overrides: decoding=greedy|beam, decoding.beam_size, decoding.length_penalty, checkpoint=best|last,
    device=auto|cpu|cuda, data=... with its options. The tokenizers are those of the run.
Results: results.json and predictions.tsv in DIR/eval/<time>/, with the keys and columns of the run's own.
"""


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    given = run_arguments.parse(arguments, flags={}, takes_sentences=False)
    composition.prepare()
    config = run_arguments.compose(_with_whole_file(given), "eval", EvalSchema)

    # Here and not above: -h and a mistyped option need not wait for them.
    from attnframe.runs.decoding import Decoding
    from attnframe.runs.folder import RunFolder
    from attnframe.runs.loading import load_run
    from attnframe.training.rescoring import rescore

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    decoding = Decoding.of(config["decoding"])
    run = load_run(config["run"], checkpoint=config["checkpoint"], device=run_arguments.device(config["device"]))
    place = run.folder.path / "eval" / os.environ["ATTNFRAME_LAUNCH"]
    partial = _new_folder(place)
    try:
        with counting("sentences") if sys.stderr.isatty() else nullcontext(lambda number: None) as advance:
            results = rescore(run, RunFolder(partial), data=config["data"], decoding=decoding, advance=advance)
    except BaseException:
        # Half of an evaluation is none.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(place)
    print_scores(results)
    print(f"results: {os.path.relpath(place)}", flush=True)
    return 0


def _with_whole_file(given: RunArguments) -> RunArguments:
    """A user's file is a test set as a whole, unless he says otherwise."""
    keys = {item.partition("=")[0]: item.partition("=")[2] for item in given.overrides}
    if keys.get("data") != "parallel_file" or "data.use" in keys:
        return given
    return RunArguments(given.run, [*given.overrides, "data.use=test"], given.flags)


def _new_folder(place: Path) -> Path:
    partial = place.with_name(f".{place.name}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}") from error
    return partial
