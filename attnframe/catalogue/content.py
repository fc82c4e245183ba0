"""What the catalogue shows: of each variant its words, its costs and its maps, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from attnframe.catalogue.costs import Cost


@dataclass(frozen=True)
class Sizes:
    """Those at which costs are counted: of one layer, over a sequence of `length` tokens.

    `sites` are those that the model has of `encoder_self` and `decoder_self`; the encoder may have a width of its own.
    """

    d_model: int
    encoder_d_model: int
    num_heads: int
    bias: bool
    length: int
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Maps:
    """A recorded pattern: `weights` [heads, query, key], and what kind of numbers they are (`PatternKind`)."""

    weights: NDArray[np.float64]
    kind: str


@dataclass(frozen=True)
class CatalogueEntry:
    """One variant.

    - `formula`, `text`: the first line of its docstring, and the paragraphs after it
    - `options`: name, type and default of each, as one writes them
    - `takes`: what of `attnframe.options.GIVEN` its constructor asks for
    - `backends`: those that can run it, in the order in which `auto` tries them
    - `conformance`: `passed`, `failed: <checks>` or `not checked`
    - `costs` by site, and `maps` by the names of `sentence.MASKS`; in the place of either may stand a sentence that
      says why there is none
    """

    name: str
    is_plugin: bool
    formula: str
    text: Sequence[str]
    options: Sequence[tuple[str, str, str]]
    takes: Sequence[str]
    paper: str | None
    file: str
    backends: Sequence[str]
    conformance: str
    costs: Mapping[str, Cost | str]
    maps: Mapping[str, Maps | str]


@dataclass(frozen=True)
class Catalogue:
    """The whole page. `baseline` is the entry that costs are compared with; `notices` come first, a sentence each."""

    entries: Sequence[CatalogueEntry]
    sizes: Sizes
    versions: Mapping[str, str]
    notices: Sequence[str] = ()
    baseline: str = "multi_head"
