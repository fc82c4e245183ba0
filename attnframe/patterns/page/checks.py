"""What cannot be shown on the page is refused here, before anything is put together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from attnframe.patterns.page.content import PagePattern, PageRun, PageSentence, PageTable

MAX_RUNS = 2


def check_runs(runs: Sequence[PageRun]) -> None:
    """Raises ValueError, with the place and the value, for runs that the page cannot show."""
    if not 1 <= len(runs) <= MAX_RUNS:
        raise ValueError(f"the page shows one run or two side by side, not {len(runs)}")
    for run in runs:
        check_run(run)


def check_run(run: PageRun) -> None:
    """Raises ValueError, with the place and the value, for a run that no page can show."""
    where = f"run {run.name!r}"
    for name, steps in (("steps", run.steps), ("pattern steps", run.shown_steps)):
        if any(after <= before for before, after in itertools.pairwise(steps)):
            raise ValueError(f"{where}: {name} {list(steps)} do not rise")
    if unknown := sorted({*run.shown_steps} - {*run.steps}):
        raise ValueError(f"{where}: pattern steps {unknown} are not among the steps {list(run.steps)}")
    if run.sentences and not run.shown_steps:
        raise ValueError(f"{where}: it has sentences but no pattern steps")
    sources = [sentence.source for sentence in run.sentences]
    for sentence in run.sentences:
        if sources.count(sentence.source) > 1:
            raise ValueError(f"{where}: the sentence {sentence.source!r} comes twice")
        _check_sentence(sentence, len(run.shown_steps), f"{where}, sentence {sentence.source!r}")
    named = {"": run.traces} | {f" of {head}": traces for head, traces in run.head_traces.items()}
    for head, traces in named.items():
        for name, values in traces.items():
            if len(values) != len(run.steps):
                raise ValueError(f"{where}: trace {name}{head} has {len(values)} values for {len(run.steps)} steps")
    for table in run.tables:
        check_table(table, f"{where}, ")


def check_table(table: PageTable, where: str = "") -> None:
    """Raises ValueError, beginning with `where`, for a table whose rows are not as long as its columns."""
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"{where}table {table.title!r}: a row of {len(row)} cells under {len(table.columns)} columns"
            )


def _check_sentence(sentence: PageSentence, steps: int, where: str) -> None:
    for (site, layer), pattern in sentence.patterns.items():
        if site not in sentence.labels:
            raise ValueError(f"{where}: no labels for site {site}")
        queries, keys = map(len, sentence.labels[site])
        _check_pattern(pattern, steps, queries, keys, f"{where}, {site} layer {layer}")
    if sentence.alignment is None:
        return
    if "cross" not in sentence.labels:
        raise ValueError(f"{where}: gold links, but no labels for cross")
    queries, keys = map(len, sentence.labels["cross"])
    for source, target in sorted(sentence.alignment.possible):
        if not (0 <= source < keys and 0 <= target < queries):
            raise ValueError(f"{where}: link ({source}, {target}) lies outside {queries} queries x {keys} keys")


def _check_pattern(pattern: PagePattern, steps: int, queries: int, keys: int, where: str) -> None:
    shape = pattern.weights.shape
    if len(shape) != 4 or shape[0] != steps or shape[1] == 0 or shape[2:] != (queries, keys) or 0 in (queries, keys):
        raise ValueError(
            f"{where}: weights of shape {shape} are not [{steps} steps, heads, {queries} query labels, "
            f"{keys} key labels]"
        )
    if pattern.contributions is not None and pattern.contributions.shape != shape:
        raise ValueError(f"{where}: contributions of shape {pattern.contributions.shape} beside weights of {shape}")
