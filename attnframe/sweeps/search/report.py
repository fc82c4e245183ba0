"""`search.html`: one page without network that shows what a search did and found."""

from __future__ import annotations

import base64
import html
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from attnframe.errors import UserError
from attnframe.runs.folder import write_whole
from attnframe.sweeps.search import outcome, pictures
from attnframe.sweeps.search.study import FOLDER, SearchStudy

REPORT_FILE = "search.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e222a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code { font: 13px/1.5 ui-monospace, monospace; background: #f2f4f7; padding: .1rem .3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 13px; } div.wide { overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e3e7ec; white-space: nowrap; }
td.words { white-space: normal; min-width: 16rem; }
figure { display: inline-block; margin: 0 1rem 1rem 0; } img { max-width: 100%; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  body { color: #e2e5ea; background: #14171c; }
  code { background: #252a33; }
  th, td { border-color: #39404b; }
  figure img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; }
}
"""


def write_search_report(study: SearchStudy, folder: Path, lines: Sequence[str]) -> Path:
    """Write the page into the sweep's `folder`; `lines` are the best trials as overrides. Returns its path."""
    file = folder / REPORT_FILE
    title = f"search {study.study.study_name}"
    body = "\n".join(_body(study, title, lines))
    write_whole(
        file,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
    )
    return file


def _body(study: SearchStudy, title: str, lines: Sequence[str]) -> Iterator[str]:
    trials, objectives = study.trials, study.objectives
    yield f"<h1>{html.escape(title)}</h1>"
    yield f"<p>{html.escape(', '.join(map(str, objectives)))}. {html.escape(outcome.counts(study))}.</p>"
    yield "<h2>best</h2>"
    if not lines:
        yield "<p>No trial is complete.</p>"
    for trial, line in zip(study.best, lines, strict=True):
        scores = html.escape(outcome.scores(study, trial))
        yield f"<p>trial {trial.number}, {scores}:<br><code>attnframe train {html.escape(line)}</code></p>"
    yield "<h2>history</h2>"
    yield "<p>What is far worse than most is drawn at the edge.</p>"
    for index, objective in enumerate(objectives):
        yield _image(pictures.draw_history(trials, objective, index), f"{objective.key} of each trial")
    if len(objectives) > 1 and study.best:
        yield _image(pictures.draw_front(trials, study.best, objectives), "the compromises")
    yield "<h2>importance</h2>"
    yield "<p>How differently the values of the best trials are spread from those of all (PED-ANOVA).</p>"
    for index, objective in enumerate(objectives):
        yield _importance(study, index, f"for {objective.key}" if len(objectives) > 1 else "of each parameter")
    yield "<h2>scores over values</h2>"
    yield "<p>Stronger colours are later; crosses are pruned trials at their last score, triangles failed ones.</p>"
    for index, objective in enumerate(objectives):
        for parameter in study.space.parameters:
            picture = pictures.draw_slice(trials, parameter, objective, index)
            yield _image(picture, f"{objective.key} over {parameter.key}")
    yield "<h2>trials</h2>"
    yield from _table(study, trials)


def _importance(study: SearchStudy, index: int, of: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = outcome.importance(study, index)
    except UserError as error:
        return f"<p>{html.escape(str(error))}</p>"
    if not found:
        return "<p>There are too few complete trials to say.</p>"
    return _image(pictures.draw_importance(found), f"importance {of}")


def _table(study: SearchStudy, trials: Sequence[FrozenTrial]) -> Iterator[str]:
    columns = ["trial", *(objective.key for objective in study.objectives)]
    columns += [*(parameter.key for parameter in study.space.parameters), "ended"]
    yield f'<div class="wide"><table><tr>{"".join(f"<th>{html.escape(name)}</th>" for name in columns)}</tr>'
    for trial in trials:
        # In parts, for Optuna gives a pruned trial its last score as a value.
        values = trial.values if trial.state.name == "COMPLETE" else [None] * len(study.objectives)
        cells = [_number(study, trial), *("" if value is None else f"{value:.4g}" for value in values)]
        for parameter in study.space.parameters:
            has = parameter.key in trial.params
            cells.append(html.escape(parameter.text(trial.params[parameter.key])) if has else "")
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f'<tr>{row}<td class="words">{html.escape(outcome.ending(trial))}</td></tr>'
    yield "</table></div>"


def _number(study: SearchStudy, trial: FrozenTrial) -> str:
    """The trial's number, leading to the report of its run."""
    folder = trial.user_attrs.get(FOLDER)
    return (
        f'<a href="{html.escape(folder, quote=True)}/report.html">{trial.number}</a>' if folder else f"{trial.number}"
    )


def _image(svg: bytes, what: str) -> str:
    source = base64.b64encode(svg).decode()
    return f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{html.escape(what, quote=True)}"></figure>'
