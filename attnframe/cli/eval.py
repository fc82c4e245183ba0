"""`attnframe eval`: a finished run is scored again."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from attnframe.cli import composition, run_arguments, settings
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
  attnframe eval run=DIR data=tatoeba data.path=fra-eng.zip           on the test set of another source

Overrides: decoding=greedy|beam, decoding.beam_size, decoding.length_penalty, checkpoint=best|last,
    device=auto|cpu|cuda, max_tokens (of a batch), data=... with its options. The tokenizers are those of the run.
Results: results.json and predictions.tsv in DIR/eval/<time>/, with the keys and columns of the run's own, and
evaluation.json, which says what was scored with what.
"""


_WHOLE = {"data.use": "test", "data.max_length": "null"}

_NO_PART = {
    **{
        f"data.{key}": "the tokenizers are those of the run"
        for key in ("tokenizer", "lowercase", "normalization", "min_count", "vocab_size")
    },
    "data.max_tokens": "nothing is trained; the size of a batch is max_tokens",
}


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
    # What a source leaves out of a file it says at INFO, for train.log; here it goes to the terminal.
    logging.getLogger("attnframe.data").setLevel(logging.INFO)
    # So that SIGTERM too leaves no half of an evaluation.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    decoding = Decoding.of(config["decoding"])
    run = load_run(config["run"], checkpoint=config["checkpoint"], device=run_arguments.device(config["device"]))
    place = run.folder.path / "eval" / os.environ["ATTNFRAME_LAUNCH"]
    partial = _new_folder(place)
    try:
        with counting("sentences") if sys.stderr.isatty() else nullcontext(lambda number: None) as advance:
            data = None if config["data"] is None else settings.with_absolute_paths(config["data"])
            results = rescore(
                run,
                RunFolder(partial),
                data=data,
                decoding=decoding,
                max_tokens=config["max_tokens"],
                advance=advance,
            )
        partial.rename(place)
    except BaseException as error:
        # Half of an evaluation is none.
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            place.parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise UserError(f"{place} cannot be written: {error.strerror or error}") from error
        raise
    print_scores(results)
    print(f"results: {os.path.relpath(place)}", flush=True)
    return 0


def _with_whole_file(given: RunArguments) -> RunArguments:
    """A user's file is a test set as a whole, unless he says otherwise. Refuses settings that play no part here."""
    keys = {item.partition("=")[0].lstrip("+"): item.partition("=")[2] for item in given.overrides}
    for key in keys:
        if key in _NO_PART:
            raise UserError(f"{key}={keys[key]}: {_NO_PART[key]}; leave it out")
    if keys.get("data") != "parallel_file":
        return given
    whole = [f"{key}={value}" for key, value in _WHOLE.items() if key not in keys]
    return RunArguments(given.run, [*given.overrides, *whole], given.flags)


def _new_folder(place: Path) -> Path:
    partial = place.with_name(f".{place.name}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}") from error
    return partial
