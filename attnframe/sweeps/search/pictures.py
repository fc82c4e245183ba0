"""Drawings of a search: its history, what each parameter was good for, and the scores over its values."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from attnframe.sweeps.search.objectives import Objective
from attnframe.sweeps.search.space import Parameter

_COMPLETE: Final = "#2b6cb0"
_PRUNED: Final = "#8a94a3"
_FAILED: Final = "#c05621"
_INK: Final = "#1e222a"
# A score is drawn at the edge where it is so many times as far from the best as three quarters of the complete ones.
_FARTHEST: Final = 3
_LONGEST_NAME: Final = 24


def draw_history(trials: Sequence[FrozenTrial], objective: Objective, index: int) -> bytes:
    """An SVG: the score of each trial by number, the best so far, and which were pruned or failed."""
    within = _edge(trials, objective, index)

    def draw(axes: Axes) -> None:
        complete = _in_state(trials, TrialState.COMPLETE)
        values = [trial.values[index] for trial in complete]
        better = min if objective.direction == "minimize" else max
        numbers = [trial.number for trial in complete]
        if complete:
            last = max(trial.number for trial in trials)
            best = [within(value) for value in accumulate(values, better)]
            axes.step([*numbers, last], [*best, best[-1]], where="post", color=_INK, label="best so far")
        axes.plot(numbers, [within(value) for value in values], "o", color=_COMPLETE, label="complete")
        pruned = [(trial.number, _last_score(trial)) for trial in _in_state(trials, TrialState.PRUNED)]
        known = [(number, within(value)) for number, value in pruned if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "x", color=_PRUNED, label="pruned, at its last score")
        if failed := [trial.number for trial in _in_state(trials, TrialState.FAIL)]:
            # On the lower edge, for they have no score.
            axes.plot(
                failed,
                [0.03] * len(failed),
                "^",
                color=_FAILED,
                label="failed",
                transform=axes.get_xaxis_transform(),
            )
        axes.set_xlabel("trial")
        axes.set_ylabel(objective.key)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)

    return _svg(7.0, 3.2, draw)


def draw_importance(importance: Mapping[str, float]) -> bytes:
    """An SVG: a bar for each parameter, the largest on top."""

    def draw(axes: Axes) -> None:
        ordered = sorted(importance.items(), key=lambda item: item[1])
        bars = axes.barh([_short(key) for key, _ in ordered], [value for _, value in ordered], color=_COMPLETE)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axes.set_xlim(0, 1.1 * max(1e-9, *importance.values()))
        axes.set_xlabel("share of the importance")

    return _svg(7.0, 0.8 + 0.32 * len(importance), draw)


def draw_slice(trials: Sequence[FrozenTrial], parameter: Parameter, objective: Objective, index: int) -> bytes:
    """An SVG: the scores over the values of one parameter; later is darker, pruned a cross, failed below."""
    within = _edge(trials, objective, index)

    def draw(axes: Axes) -> None:
        having = [trial for trial in trials if parameter.key in trial.params]
        complete, pruned = _in_state(having, TrialState.COMPLETE), _in_state(having, TrialState.PRUNED)
        place, names = _places(parameter)
        scores = [within(trial.values[index]) for trial in complete]
        known = [(trial, within(score)) for trial in pruned if (score := _last_score(trial)) is not None]
        axes.plot([place(trial) for trial, _ in known], [score for _, score in known], "x", color=_PRUNED)
        axes.scatter(
            [place(trial) for trial in complete],
            scores,
            c=[trial.number for trial in complete],
            cmap="Blues",
            vmin=-max(1, len(trials)) / 2,
            vmax=max(1, len(trials)),
            edgecolors=_INK,
            linewidths=0.4,
            zorder=3,
        )
        if failed := [place(trial) for trial in _in_state(having, TrialState.FAIL)]:
            axes.plot(failed, [0.03] * len(failed), "^", color=_FAILED, transform=axes.get_xaxis_transform())
        if names:
            axes.set_xticks(range(len(names)), [_short(name) for name in names])
            axes.set_xlim(-0.5, len(names) - 0.5)
            if sum(map(len, names)) > 40:
                axes.tick_params("x", rotation=30)
        elif getattr(parameter.distribution, "log", False):
            axes.set_xscale("log")
        elif isinstance(parameter.distribution, IntDistribution):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(parameter.key)
        axes.set_ylabel(objective.key)

    return _svg(3.4, 2.8, draw)


def draw_front(trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> bytes:
    """An SVG: the first two scores of each complete trial against one another; `best` are joined."""

    def draw(axes: Axes) -> None:
        complete = _in_state(trials, TrialState.COMPLETE)
        axes.plot(*_pairs(complete), "o", color=_COMPLETE, label="complete")
        axes.plot(*_pairs(sorted(best, key=lambda trial: trial.values[0])), "o-", color=_INK, label="best compromises")
        axes.set_xlabel(objectives[0].key)
        axes.set_ylabel(objectives[1].key)
        axes.legend(frameon=False, fontsize=8)

    return _svg(7.0, 3.6, draw)


def _pairs(trials: Sequence[FrozenTrial]) -> tuple[list[float], list[float]]:
    return [trial.values[0] for trial in trials], [trial.values[1] for trial in trials]


def _places(parameter: Parameter) -> tuple[Callable[[FrozenTrial], Any], list[str]]:
    """Where a trial stands across, and the names of the places if they have names."""
    if isinstance(parameter.distribution, CategoricalDistribution):
        names = [str(choice) for choice in parameter.distribution.choices]
        return lambda trial: names.index(trial.params[parameter.key]), names
    return lambda trial: trial.params[parameter.key], []


def _in_state(trials: Sequence[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == state]


def _last_score(trial: FrozenTrial) -> float | None:
    score = None if trial.last_step is None else trial.intermediate_values[trial.last_step]
    return score if score is not None and math.isfinite(score) else None


def _edge(trials: Sequence[FrozenTrial], objective: Objective, index: int) -> Callable[[float], float]:
    """Brings a score that is far worse than most to the edge of what is drawn, which it would squeeze together."""
    sign = 1 if objective.direction == "minimize" else -1
    costs = sorted(sign * trial.values[index] for trial in _in_state(trials, TrialState.COMPLETE))
    if not costs:
        return lambda score: score
    usual = costs[(3 * len(costs)) // 4] - costs[0]
    edge = costs[0] + _FARTHEST * usual if usual > 0 else math.inf
    return lambda score: sign * min(sign * score, edge)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _svg(width: float, height: float, draw: Callable[[Axes], None]) -> bytes:
    """What `draw` draws, `width` by `height` inches."""
    # Whoever has settings of his own for matplotlib gets the same drawing.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "attnframe", "font.size": 9})
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        draw(axes)
        written = io.BytesIO()
        FigureCanvasSVG(figure).print_figure(written, format="svg", metadata={"Date": None})
        return written.getvalue()
