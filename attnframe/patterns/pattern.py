"""A recorded pattern, and the patterns of a model by site and layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from attnframe.attention import PatternKind


@dataclass(frozen=True)
class Pattern:
    """The attention weights of one call of one module, and what kind of numbers they are.

    `contributions` are the norms ‖P_ij·V_j·W_O‖ of what each key adds to ΔE (`patterns.contributions`), and
    `joint_contributions` those of what it adds through all heads together: None where they were not asked for, and
    where what the module makes of its heads is not linear in them, so that no part of it is one key's; nor are there
    any while an intervention changes what `attend` returns.
    """

    weights: Float[Tensor, "batch heads query key"]
    kind: PatternKind
    contributions: Float[Tensor, "batch heads query key"] | None = None
    joint_contributions: Float[Tensor, "batch query key"] | None = None


class Patterns(Mapping[tuple[str, int], Pattern]):
    """Recorded patterns by (site, layer): for each module its latest call.

    A module that does not say what its pattern is has none; `missing` says so.
    """

    def __init__(self) -> None:
        self._patterns: dict[tuple[str, int], Pattern] = {}
        self._missing: dict[tuple[str, int], str] = {}

    def __getitem__(self, place: tuple[str, int]) -> Pattern:
        if place in self._missing:
            raise KeyError(f"{place}: {self._missing[place]}")
        return self._patterns[place]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self._patterns))

    def __len__(self) -> int:
        return len(self._patterns)

    @property
    def missing(self) -> Mapping[tuple[str, int], str]:
        """Why there is no pattern of a module that was called, by (site, layer): what it does and how to mend it."""
        return dict(sorted(self._missing.items()))

    def layers(self, site: str) -> list[Float[Tensor, "batch heads query key"]]:
        """The weights of one site, a tensor for each layer that has a pattern, from the first on."""
        return [self[place].weights for place in self if place[0] == site]

    def add(self, place: tuple[str, int], pattern: Pattern) -> None:
        """Keep `pattern` as the latest of its place."""
        self._missing.pop(place, None)
        self._patterns[place] = pattern

    def leave_out(self, place: tuple[str, int], reason: str) -> None:
        """Keep `reason` in the place of a pattern."""
        self._patterns.pop(place, None)
        self._missing[place] = reason


def missing_sentences(missing: Mapping[tuple[str, int], str]) -> list[str]:
    """`Patterns.missing` for a person to read, a sentence for each reason; layers count from 1 in it."""
    by_reason: dict[str, list[tuple[str, int]]] = {}
    for place, reason in sorted(missing.items()):
        by_reason.setdefault(reason, []).append(place)
    return [f"no patterns at {named_places(places)}: {reason}" for reason, places in by_reason.items()]


def named_places(places: Iterable[tuple[str, int]]) -> str:
    """Each (site, layer) for a person to read, as "cross layer 2, encoder_self layers 1 and 2": they count from 1."""
    layers: dict[str, list[str]] = {}
    for site, layer in sorted(places):
        layers.setdefault(site, []).append(str(layer + 1))
    return ", ".join(
        f"{site} layer{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}" for site, numbers in layers.items()
    )
