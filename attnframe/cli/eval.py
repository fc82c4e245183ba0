"""`attnframe eval`: a finished run is scored again."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import nullcontext

from attnframe.cli import composition, run_arguments, settings
from attnframe.cli.command_schema import EvalSchema
from attnframe.cli.output import counting, wants_help
from attnframe.cli.result_folder import written_as_a_whole
from attnframe.cli.scored_data import with_whole_file
from attnframe.cli.scores import print_scores

USAGE = """attnframe eval run=DIR [OVERRIDE ...]     score a finished run again; its own files stay as they are

  attnframe eval run=outputs/tatoeba/2026-01-01                       its own data, greedily
  attnframe eval run=DIR decoding=beam decoding.beam_size=5           with beam search
  attnframe eval run=DIR checkpoint=last                              the state after the last step
  attnframe eval run=DIR data=parallel_file data.path=mine.tsv        on a file of yours, all of it
  attnframe eval run=DIR data=tatoeba data.path=fra-eng.zip           on the test set of another source

Overrides: decoding=greedy|beam, decoding.beam_size, decoding.length_penalty, checkpoint=best|last,
    device=auto|cpu|cuda, max_tokens (of a batch), data=... with its options. The tokenizers are those of the run.
Results: results.json, predictions.tsv and sentence_statistics.npz in DIR/eval/<time>/, as the run's own are, and
evaluation.json, which says what was scored with what.
"""


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    given = run_arguments.parse(arguments, flags={}, takes_sentences=False)
    composition.prepare()
    config = run_arguments.compose(with_whole_file(given), "eval", EvalSchema)

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
    shown = counting("sentences") if sys.stderr.isatty() else nullcontext(lambda number: None)
    with written_as_a_whole(place) as folder, shown as advance:
        results = rescore(
            run,
            RunFolder(folder),
            data=None if config["data"] is None else settings.with_absolute_paths(config["data"]),
            decoding=decoding,
            max_tokens=config["max_tokens"],
            advance=advance,
        )
    print_scores(results)
    print(f"results: {os.path.relpath(place)}", flush=True)
    return 0
