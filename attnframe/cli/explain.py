"""`attnframe explain`: what attention does to one sentence, in numbers, as JSON, or as a figure for a paper."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli import composition, run_arguments
from attnframe.cli.blocks import print_blocks
from attnframe.cli.command_schema import ExplainSchema
from attnframe.cli.output import wants_help, write
from attnframe.cli.run_arguments import RunArguments, shown
from attnframe.cli.unseen_words import say_unseen
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.runs.explained import Explanation

USAGE = """attnframe explain run=DIR "SENTENCE" [--target "..."] [--site SITE] [--layer N] [--head N]
        the pattern of one head as a grid, its formula with this sentence's numbers, what it adds to each embedding
        (ΔE), and the words that each embedding is nearest to before and after attention, layer by layer

  attnframe explain run=outputs/grammar-multi_head/2026-01-01 "the big red dog"
  attnframe explain run=DIR "the big red dog" --site cross --layer 2 --head 3
  attnframe explain run=DIR "the big red dog" --target "le gros chien rouge"
  attnframe explain run=DIR --json "the big red dog" > explanation.json
  attnframe explain run=DIR "the big red dog" --site cross --layer 1 --head 3 --figure cross.pdf
  attnframe explain run=DIR "the big red dog" --layer all --head all --contributions --figure heads.svg
  attnframe explain run=DIR checkpoint=last -- "x=3 is a sentence, for it stands after --"

--site encoder_self|decoder_self|cross (encoder_self); --layer and --head count from 1 (1).
--target TEXT    what the decoder is told to say (the run's own translation)
--neighbours N   so many near words for each embedding (3)
--json           one object with every site, layer and head, which count from 0 there (docs/explain.schema.json)
--figure FILE    draws a .png, .svg or .pdf and prints its path instead; there --layer and --head may be all
--contributions  draws ‖P_ij·V_j·W_O‖, the length of what each key adds, instead of the weights
--no-note        leaves out the sentences below the figure, for papers that have captions of their own
Overrides: checkpoint=best|last, device=auto|cpu|cuda. Words that the run has never seen are named at the end.
"""

_MOST_NEIGHBOURS = 1_000_000

_FLAGS: dict[str, str | None] = {
    "--target": "TEXT",
    "--site": "SITE",
    "--layer": "N",
    "--head": "N",
    "--neighbours": "N",
    "--json": None,
    "--figure": "FILE",
    "--contributions": None,
    "--no-note": None,
}


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(list(itertools.takewhile(lambda item: item != "--", arguments))):
        print(USAGE, end="")
        return 0
    given = run_arguments.parse(arguments, flags=_FLAGS, takes_sentences=True)
    flags = given.flags
    _check_flags(flags)
    neighbours = _whole_number(flags, "--neighbours", "3")
    if "--figure" in flags:
        from attnframe.patterns.pictures.figure_file import check_figure_path

        check_figure_path(Path(flags["--figure"]))
    composition.prepare()
    try:
        config = run_arguments.compose(given, "explain", ExplainSchema)
    except UserError as error:
        sentence = next((item for item in given.overrides if " " in item), None)
        raise UserError(f"{error}; is {sentence!r} a sentence? Put it after --" if sentence else str(error)) from error
    source = _sentence(given)

    # Here and not above: -h and a mistyped option need not wait for a model to be read.
    from attnframe.data.tokenizer import spaced_otherwise
    from attnframe.patterns import PatternError
    from attnframe.runs.loading import load_run

    run = load_run(config["run"], checkpoint=config["checkpoint"], device=run_arguments.device(config["device"]))
    target = _utf8(flags["--target"], "--target") if "--target" in flags else None
    try:
        explanation = run.explain(source, target, neighbours=neighbours)
    except PatternError as error:
        raise UserError(f"run={config['run']}: there is no pattern to explain: {error}") from error
    site, layers, heads = _chosen(explanation, flags)
    if "--figure" in flags:
        from attnframe.cli.explanation_figure import draw

        contributions, noted = "--contributions" in flags, "--no-note" not in flags
        draw(explanation, site, layers, heads, Path(flags["--figure"]), contributions=contributions, noted=noted)
    if "--json" in flags:
        from attnframe.cli.explanation_json import as_json

        write(json.dumps(as_json(run, explanation), ensure_ascii=False, allow_nan=False) + "\n")
    elif "--figure" in flags:
        write(f"{flags['--figure']}\n")
    else:
        from attnframe.cli.explanation_text import blocks

        print_blocks(blocks(explanation, site, layers[0], heads[0]))
    say_unseen(explanation.unknown_in_source, spaced_otherwise(run.src_tokenizer, explanation.source))
    spaced = spaced_otherwise(run.tgt_tokenizer, explanation.target)
    say_unseen(explanation.unknown_in_target, spaced, " of the target")
    return 0


def _check_flags(flags: Mapping[str, str]) -> None:
    """Refuse what plays a part in figures only."""
    if "--figure" in flags:
        if not flags["--figure"]:
            raise UserError("--figure needs its FILE: --figure FILE")
        return
    for name in ("--layer", "--head"):
        if flags.get(name) == "all" and "--json" not in flags:
            raise UserError(f"{name} all: all of them are in a figure only: add --figure FILE, or take --json")
    if "--contributions" in flags:
        raise UserError("--contributions: this chooses what a figure shows: add --figure FILE (the text has both)")
    if "--no-note" in flags:
        raise UserError("--no-note: this leaves something out of a figure: add --figure FILE")


def _sentence(given: RunArguments) -> str:
    """The one sentence."""
    if not given.sentences:
        raise UserError(f'which sentence? attnframe explain {given.run} "the big red dog"')
    if len(given.sentences) > 1:
        whole = " ".join(given.sentences)
        raise UserError(
            f"explain takes one sentence, and there are {len(given.sentences)}; are they one? Put it in quotes: "
            f'"{whole if len(whole) < 80 else whole[:80] + "…"}"'
        )
    return _utf8(given.sentences[0], "the sentence")


def _utf8(text: str, place: str) -> str:
    """`text` without white space at its ends. An argument that is not UTF-8 comes with surrogates for its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} is not UTF-8: {text!r}") from error
    return text.strip()


def _chosen(explanation: Explanation, flags: Mapping[str, str]) -> tuple[str, list[int], list[int]]:
    """The site, and its layers and heads, from 0, that are to be shown. Raises `UserError` for what there is not.

    `--json` shows everything whatever is chosen, a module without a pattern too.
    """
    sites = list(dict.fromkeys(site for site, _ in explanation))
    site = flags.get("--site", sites[0])
    if site not in sites:
        raise UserError(f"--site {site}: {did_you_mean(site, sites)}")
    layers = _numbers(flags, "--layer", sum(place[0] == site for place in explanation), f"{site} has")
    if all(explanation[site, layer].weights is None for layer in layers):
        if "--json" in flags and "--figure" not in flags:
            return site, layers, []
        raise UserError(_no_pattern(explanation, [(site, layer) for layer in layers]))
    where = f"{site}, layer {layers[0] + 1} has" if len(layers) == 1 else f"layers of {site} have"
    most = max(len(explanation[site, layer].heads) for layer in layers)
    heads = _numbers(flags, "--head", most, where)
    return site, layers, heads


def _no_pattern(explanation: Explanation, places: Sequence[tuple[str, int]]) -> str:
    from attnframe.patterns.pattern import missing_sentences, named_places

    others = named_places(place for place, part in explanation.items() if part.weights is not None)
    reasons = missing_sentences({place: explanation[place].no_pattern_because for place in places})
    hint = f"there are patterns at {others}, and " if others else ""
    return f"{'; '.join(reasons)}; {hint}--json gives what else there is"


def _numbers(flags: Mapping[str, str], name: str, count: int, whose: str) -> list[int]:
    value = flags.get(name, "1")
    if value == "all":
        return list(range(count))
    number = _counted(value, count)
    if number is None:
        what = name.removeprefix("--")
        there = f"one {what}" if count == 1 else f"{what}s 1 to {count}{', or all' if '--figure' in flags else ''}"
        given = value if value.isdecimal() and len(value) < 9 else shown(value)
        raise UserError(f"{name}: {whose} {there}, not {given}")
    return [number - 1]


def _whole_number(flags: Mapping[str, str], name: str, default: str) -> int:
    number = _counted(flags.get(name, default), _MOST_NEIGHBOURS)
    if number is None:
        raise UserError(f"{name}: {shown(flags[name])} is no whole number from 1 to {_MOST_NEIGHBOURS:,}")
    return number


def _counted(value: str, most: int) -> int | None:
    """The number from 1 to `most` that `value` is, if it is one."""
    # Python refuses to read thousands of digits.
    if not (value.isascii() and value.isdecimal()) or len(value.lstrip("0")) > len(str(most)):
        return None
    number = int(value.lstrip("0") or "0")
    return number if 1 <= number <= most else None
