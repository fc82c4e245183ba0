"""A search space: what is searched, where it exists, and what is the same in every trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from attnframe.errors import UserError
from attnframe.sweeps.search.conditions import ALWAYS, Condition

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Value = str | float | int


@dataclass(frozen=True)
class Parameter:
    """What is searched under `key` (as before the ``=`` of an override), where `condition` holds."""

    key: str
    distribution: Distribution
    condition: Condition = ALWAYS

    def suggest(self, trial: Trial) -> Value:
        """The value of the trial, which its sampler chooses."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            return str(trial.suggest_categorical(self.key, of.choices))
        if isinstance(of, IntDistribution):
            return trial.suggest_int(self.key, of.low, of.high, step=of.step, log=of.log)
        return trial.suggest_float(self.key, of.low, of.high, step=of.step, log=of.log)

    def text(self, value: Value) -> str:
        """The value as one writes it behind ``=``: of a number that is not whole, four digits, within the bounds."""
        of = self.distribution
        if isinstance(of, FloatDistribution):
            return repr(min(max(float(f"{value:.4g}"), of.low), of.high))
        return str(value)

    def values(self) -> list[Value] | None:
        """All values in their order; None for an interval of real numbers."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            return [str(choice) for choice in of.choices]
        if of.step is None:
            return None
        if isinstance(of, IntDistribution):
            return list(range(of.low, of.high + 1, of.step))
        return [stepped(of.low, of.step, index) for index in range(round((of.high - of.low) / of.step) + 1)]


@dataclass(frozen=True)
class SearchSpace:
    """The parameters, each after those that it depends on, and the overrides that are the same in every trial.

    `never` are parameters left out because what is fixed never lets them exist.
    """

    parameters: Sequence[Parameter]
    fixed: Mapping[str, str]
    never: Sequence[Parameter] = ()

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """By key, the values of what exists in this trial."""
        values: dict[str, Value] = {}
        texts = dict(self.fixed)
        for parameter in self.parameters:
            if parameter.condition.holds(texts):
                values[parameter.key] = value = parameter.suggest(trial)
                texts[parameter.key] = parameter.text(value)
        return values

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """The command line of a trial: what is fixed, then its values."""
        fixed = [key if key.startswith("~") and not text else f"{key}={text}" for key, text in self.fixed.items()]
        return [*fixed, *self.chosen(values)]

    def chosen(self, values: Mapping[str, Value]) -> list[str]:
        """The overrides of the values alone."""
        return [f"{p.key}={p.text(values[p.key])}" for p in self.parameters if p.key in values]

    def probes(self) -> Iterator[tuple[str, dict[str, Value]]]:
        """Trials that show whether the space can be composed: of each parameter its named values, or one number."""
        for parameter in self.parameters:
            of = parameter.distribution
            is_named = isinstance(of, CategoricalDistribution)
            for value in parameter.values() or () if is_named else (_inside(of),):
                wanted = {parameter.key: value}
                self._want_parents(parameter, wanted)
                yield parameter.key, self._first(wanted)

    def _want_parents(self, parameter: Parameter, wanted: dict[str, Value]) -> None:
        by_key = {parameter.key: parameter for parameter in self.parameters}
        for key, texts in parameter.condition.allowed.items():
            if key in by_key and key not in wanted:
                parent = by_key[key]
                wanted[key] = next(value for value in parent.values() or () if parent.text(value) in texts)
                self._want_parents(parent, wanted)

    def _first(self, wanted: Mapping[str, Value]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        texts = dict(self.fixed)
        for parameter in self.parameters:
            if parameter.condition.holds(texts):
                value = wanted.get(parameter.key, _inside(parameter.distribution))
                values[parameter.key], texts[parameter.key] = value, parameter.text(value)
        return values

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every combination that exists, once; the last parameter turns fastest. Raises `UserError` for an interval."""
        for parameter in self.parameters:
            if parameter.values() is None:
                raise UserError(
                    f"hydra.sweeper.sampler.name=grid: {parameter.key} is an interval, which has no steps: write "
                    f"range(START,STOP,STEP) or name the values"
                )
        yield from self._grid(0, {}, dict(self.fixed))

    def _grid(self, index: int, values: dict[str, Value], texts: dict[str, str]) -> Iterator[dict[str, Value]]:
        if index == len(self.parameters):
            yield values
            return
        parameter = self.parameters[index]
        if not parameter.condition.holds(texts):
            yield from self._grid(index + 1, values, texts)
            return
        for value in parameter.values() or ():
            chosen = {parameter.key: value}
            yield from self._grid(index + 1, values | chosen, texts | {parameter.key: parameter.text(value)})


def _inside(of: Distribution) -> Value:
    """The first named value, or a number somewhere between the bounds."""
    if isinstance(of, CategoricalDistribution):
        return str(of.choices[0])
    if isinstance(of, IntDistribution):
        return of.low
    return of.low if of.step else of.low + 0.37 * (of.high - of.low)


def stepped(low: float, step: float, count: int) -> float:
    """`count` steps above `low`, without what binary fractions add."""
    return float(Decimal(str(low)) + count * Decimal(str(step)))
