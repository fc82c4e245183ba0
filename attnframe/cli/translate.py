"""`attnframe translate`: a finished run translates sentences."""

from __future__ import annotations

import codecs
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from attnframe.cli import composition, run_arguments
from attnframe.cli.command_schema import TranslateSchema
from attnframe.cli.output import counting, wants_help, write
from attnframe.cli.run_arguments import RunArguments
from attnframe.cli.unseen_words import say_unseen
from attnframe.errors import UserError

if TYPE_CHECKING:
    from attnframe.runs.decoding import Decoding
    from attnframe.runs.loading import Run
    from attnframe.runs.translation import TranslatedSentence

USAGE = """attnframe translate run=DIR [SENTENCE ...] [--input FILE] [--n-best N] [--json]
        one translation a line, in the order of the sentences; without sentences they are read from standard input

  attnframe translate run=outputs/tatoeba/2026-01-01 "I don't know where he is." "Tom is happy."
  attnframe translate outputs/tatoeba/2026-01-01 < english.txt > french.txt
  attnframe translate run=DIR --input english.txt
  attnframe translate run=DIR decoding=beam decoding.beam_size=5 "Tom is happy."
  attnframe translate run=DIR --n-best 3 "Tom is happy."
  attnframe translate run=DIR checkpoint=last -- "x=3 is a sentence, for it stands after --"

Overrides: decoding=greedy|beam, decoding.beam_size, decoding.length_penalty, checkpoint=best|last,
    device=auto|cpu|cuda.
--n-best N prints N lines a sentence: its number, rank, score and translation, with tabs between; without decoding= it
    takes a beam of 5, or of N. The score is the log-probability (nats) over the length penalty.
--json prints one object a line: source, translation, score, log_probability (nats), unknown_words, n_best.
An empty line gives an empty line. Words that the run has never seen are named at the end.
"""

_DEFAULT_BEAM = 5
_LONGEST = 1000  # tokens in a sentence
_CHUNK = 512


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(list(itertools.takewhile(lambda item: item != "--", arguments))):
        print(USAGE, end="")
        return 0
    given = run_arguments.parse(
        arguments, flags={"--json": None, "--n-best": "N", "--input": "FILE"}, takes_sentences=True
    )
    n_best = _whole_number(given.flags.get("--n-best", "1"))
    if given.sentences and "--input" in given.flags:
        raise UserError(f"--input {given.flags['--input']}: give a file or sentences, not both")
    composition.prepare()
    try:
        config = run_arguments.compose(_with_beam(given, n_best), "translate", TranslateSchema)
    except UserError as error:
        sentence = next((item for item in given.overrides if " " in item), None)
        raise UserError(f"{error}; is {sentence!r} a sentence? Put it after --" if sentence else str(error)) from error

    # Here and not above: -h and a mistyped option need not wait for a model to be read.
    from attnframe.data.tokenizer import spaced_otherwise
    from attnframe.runs.decoding import Decoding
    from attnframe.runs.loading import load_run

    decoding = Decoding.of(config["decoding"])
    run = load_run(config["run"], checkpoint=config["checkpoint"], device=run_arguments.device(config["device"]))
    as_json, n_best_lines = "--json" in given.flags, "--n-best" in given.flags
    # What is typed at a terminal is answered line by line.
    size = 1 if not given.sentences and "--input" not in given.flags and sys.stdin.isatty() else _CHUNK
    unknown: dict[str, None] = {}
    spaced: dict[str, bool] = {}
    for number, translated in enumerate(_translate_all(run, decoding, _sentences(given), n_best, size), start=1):
        unknown |= dict.fromkeys(translated.unknown_words)
        if translated.unknown_words:
            spaced |= spaced_otherwise(run.src_tokenizer, translated.source)
        if as_json:
            write(json.dumps(_as_json(translated), ensure_ascii=False) + "\n")
        elif n_best_lines:
            for rank, candidate in enumerate(translated.candidates, start=1):
                write(f"{number}\t{rank}\t{candidate.score:.4f}\t{candidate.text}\n")
            if not translated.candidates:
                write(f"{number}\t1\t\t\n")
        else:
            write(translated.best + "\n")
    say_unseen(unknown, spaced)
    return 0


def _with_beam(given: RunArguments, n_best: int) -> RunArguments:
    """Several translations need a beam: choose one where the user has not."""
    if n_best == 1 or any(item.partition("=")[0].startswith("decoding") for item in given.overrides):
        return given
    beam = ["decoding=beam", f"decoding.beam_size={max(_DEFAULT_BEAM, n_best)}"]
    return RunArguments(given.run, [*given.overrides, *beam], given.flags, given.sentences)


def _translate_all(
    run: Run, decoding: Decoding, sentences: Iterable[tuple[str, str]], n_best: int, size: int
) -> Iterator[TranslatedSentence]:
    """In chunks of `size`, so that a long input begins to come out soon and never lies in memory as a whole."""
    # A count on the terminal while the translations go elsewhere.
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    with counting("sentences") if shown else nullcontext(lambda number: None) as advance:
        lines = iter(sentences)
        problem: UserError | None = None
        while problem is None:
            chunk = []
            try:
                for place, sentence in itertools.islice(lines, size):
                    _check_length(run, sentence, place)
                    chunk.append(sentence)
            except UserError as error:
                # What came before the line that cannot be translated is not lost.
                problem = error
            yield from run.translations(chunk, decoding, n_best=n_best)
            advance(len(chunk))
            if problem is None and not chunk:
                return
        raise problem


def _check_length(run: Run, sentence: str, place: str) -> None:
    # Characters first: cutting a huge word into pieces takes long itself.
    if len(sentence) > _LONGEST * 20:
        raise UserError(f"{place} has {len(sentence):,} characters: a sentence may have {_LONGEST * 20:,}")
    tokens = len(run.src_tokenizer.encode(sentence))
    if tokens > _LONGEST:
        raise UserError(f"{place} has {tokens:,} tokens: a sentence may have {_LONGEST:,}")


def _sentences(given: RunArguments) -> Iterable[tuple[str, str]]:
    """(place, sentence), in their order."""
    if given.sentences:
        # An argument that is not UTF-8 comes with surrogates in the place of its bytes.
        return [
            (f"sentence {number}", _decoded(os.fsencode(sentence), f"sentence {number}"))
            for number, sentence in enumerate(given.sentences, start=1)
        ]
    if (name := given.flags.get("--input")) is not None:
        try:
            return _lines(Path(name).open("rb"), name)
        except OSError as error:
            raise UserError(f"--input {name}: {error.strerror}") from error
    if sys.stdin.isatty():
        print("a sentence on each line; Ctrl-D ends", file=sys.stderr)
    return _lines(sys.stdin.buffer, "standard input")


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[str, str]]:
    with file:
        for number, line in enumerate(file, start=1):
            place = f"{name}, line {number}"
            yield place, _decoded(line.removeprefix(codecs.BOM_UTF8 if number == 1 else b""), place)


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not UTF-8: {error.reason}") from error


def _as_json(translated: TranslatedSentence) -> dict[str, Any]:
    best = translated.candidates[0] if translated.candidates else None
    return {
        "source": translated.source,
        "translation": translated.best,
        "score": None if best is None else best.score,
        "log_probability": None if best is None else best.log_probability,
        "unknown_words": list(translated.unknown_words),
        "n_best": [
            {"translation": candidate.text, "score": candidate.score, "log_probability": candidate.log_probability}
            for candidate in translated.candidates
        ],
    }


def _whole_number(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"--n-best {value}: {value!r} is no whole number from 1 on")
    return int(value)
