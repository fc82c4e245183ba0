"""What there is to know of one sentence in one run: the answer of `runs.explanation.explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.patterns.anatomy import WorkedCell
from attnframe.runs.neighbours import Neighbour


@dataclass(frozen=True)
class TokenRow:
    """A query token of one site in one layer: what becomes of its embedding there.

    `reads` is the token at its place in the model's input. `says` is what the decoder is to say there, the next token
    of the target, and None in the encoder. `word` is its row in the pattern (from 0), where a row is a word.
    """

    reads: str
    says: str | None
    word: int
    norm: float
    """‖E‖ of the residual stream before the attention (and before the norm that the attention reads it through)."""
    delta_norm: float
    """‖ΔE‖ of the whole module, output bias included."""
    cosine: float
    """Between E and E' = E + ΔE, -1 to 1."""
    neighbours_before: tuple[Neighbour, ...]
    """Tokens whose embedding points the way of E."""
    neighbours_after: tuple[Neighbour, ...]
    """Tokens whose embedding points the way of E'."""


@dataclass(frozen=True)
class CallShape:
    """The shapes of one call of `attend`, without the batch: of q [heads, query, head_dim], and so on."""

    q: tuple[int, int, int]
    k: tuple[int, int, int]
    v: tuple[int, int, int]
    scale: float
    """What q·k is multiplied by: 1/√d_k unless the variant says otherwise."""


@dataclass(frozen=True)
class HeadExplanation:
    """What one head adds. None stands where heads cannot be told apart (`AttentionExplanation.no_heads_because`)."""

    delta_norms: Float[Tensor, " tokens"] | None
    """‖ΔE⁽ʰ⁾‖ for each query token, without the output bias."""
    delta_rank: float | None
    """Effective rank of this sentence's ΔE⁽ʰ⁾ [tokens, d_model], from 1 up (`patterns.spectrum.effective_rank`)."""
    value_rank: float | None
    """Effective rank of the head's V, the map from an embedding to the ΔE that it adds (`patterns.head_maps`)."""
    cell: WorkedCell | None
    """The weight between tokens nearest to ½, step by step; None where the pattern is not one softmax of `attend`."""


@dataclass(frozen=True)
class AttentionExplanation:
    """One site in one layer. Patterns are between words; `rows`, ΔE and cells between the tokens that the model reads.

    The two are the same unless a tokenizer cuts words into pieces.
    """

    site: str
    layer: int
    variant: str
    options: Mapping[str, Any]
    """Options of the variant that differ from their defaults."""
    formula: str
    """First line of the variant's docstring."""
    backend: str
    kind: PatternKind | None
    query_labels: tuple[str, ...]
    key_labels: tuple[str, ...]
    weights: Float[Tensor, "heads query key"] | None
    contributions: Float[Tensor, "heads query key"] | None
    """‖P_ij·V_j·W_O‖ of each head, query and key (`patterns.contributions`)."""
    calls: tuple[CallShape, ...]
    d_model: int
    rows: tuple[TokenRow, ...]
    key_tokens: tuple[str, ...]
    heads: tuple[HeadExplanation, ...]
    no_pattern_because: str
    """Why there is no pattern, and so no `kind`, `weights` or `heads` (`patterns.Patterns.missing`); empty where there
    is."""
    no_heads_because: str
    """Why there is no ΔE by head, a clause; empty where there is."""


@dataclass(frozen=True)
class Explanation(Mapping[tuple[str, int], AttentionExplanation]):
    """`AttentionExplanation` by (site, layer), layers from 0, in the order in which information flows through sites."""

    source: str
    target: str
    is_own_translation: bool
    """Whether `target` is what the run itself says, by greedy search."""
    unknown_in_source: tuple[str, ...]
    unknown_in_target: tuple[str, ...]
    places: Mapping[tuple[str, int], AttentionExplanation]

    def __getitem__(self, place: tuple[str, int]) -> AttentionExplanation:
        return self.places[place]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
