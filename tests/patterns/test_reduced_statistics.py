"""Statistics from reductions against those of the recorded pattern."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe.attention import Mask, build_attention
from attnframe.backends import chunked_reductions
from attnframe.patterns import record_patterns
from attnframe.patterns.reduced_statistics import record_statistics, reduced_statistics
from attnframe.patterns.statistics import head_statistics, received_mass, row_entropy

BATCH, QUERIES, KEYS, WIDTH = 3, 11, 13, 24
EXACT = {"rtol": 0.0, "atol": 1e-10, "equal_nan": True}
QUERY_KEEP = torch.arange(QUERIES) < torch.tensor([[11], [7], [2]])
KEY_KEEP = torch.arange(KEYS) < torch.tensor([[5], [13], [1]])
SELF_KEEP = torch.arange(QUERIES) >= torch.tensor([[0], [4], [10]])

# By who says which keys are padding: what the masks of both sites keep. In the last case each hides something else.
HIDDEN: dict[str, tuple[Tensor | None, Tensor | None]] = {
    "the mask": (SELF_KEEP, KEY_KEEP),
    "keep": (None, None),
    "both": (torch.arange(QUERIES).expand(BATCH, -1) % 3 != 1, torch.arange(KEYS).expand(BATCH, -1) % 4 != 0),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_reductions, "_CHUNK", 500)


def embeddings(length: int) -> Tensor:
    return torch.randn(BATCH, length, WIDTH, generator=torch.Generator().manual_seed(length), dtype=torch.float64)


class TwoSites(nn.Module):
    """A self-attention and a cross-attention of one variant, whose masks keep what they are told to."""

    def __init__(
        self,
        variant: str,
        options: dict[str, Any],
        self_keep: Tensor | None = SELF_KEEP,
        memory_keep: Tensor | None = KEY_KEEP,
    ) -> None:
        super().__init__()
        self.self_keep, self.memory_keep = self_keep, memory_keep
        torch.manual_seed(41)
        self.own = build_attention(variant, d_model=WIDTH, num_heads=4, **options).double()
        self.other = copy.deepcopy(self.own)
        self.own.site, self.other.site, self.other.layer = "decoder_self", "cross", 1

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.own(x, x, x, Mask(self.self_keep, causal=True))
        return self.other(x, memory, memory, Mask(self.memory_keep))


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("multi_head", {}),
        ("grouped_query", {"num_kv_heads": 2}),
        ("alibi", {}),
        ("low_rank_v", {"rank": 2}),
        ("sliding_window", {"window": 3}),
    ],
)
@pytest.mark.parametrize("said_by", HIDDEN)
def test_they_are_those_of_the_recorded_pattern(variant: str, options: dict[str, Any], said_by: str) -> None:
    model = TwoSites(variant, options, *HIDDEN[said_by])
    given = embeddings(QUERIES), embeddings(KEYS)
    keep = {"decoder_self": (SELF_KEEP, SELF_KEEP), "cross": (QUERY_KEEP, KEY_KEEP)}
    with record_patterns(model) as patterns, record_statistics(model, keep=keep) as reduced:
        output = model(*given)
    assert torch.equal(output, model(*given))
    assert not reduced.missing
    assert len(reduced.heads) == 8
    for one, other in zip(reduced.heads, head_statistics(patterns, keep), strict=True):
        found, expected = asdict(one), asdict(other)
        assert list(found.values())[:5] == list(expected.values())[:5]
        numbers = [torch.tensor(list(row.values())[5:], dtype=torch.float64) for row in (found, expected)]
        assert numbers[0].isfinite().all()
        assert_close(*numbers, **EXACT)
    for place, pattern in patterns.items():
        received = reduced.by_place[place].received_mass
        assert_close(received, received_mass(pattern.weights, *keep[place[0]]), **EXACT)
        rows = reduced.by_place[place].rows
        shares = pattern.weights.where(keep[place[0]][1][:, None, None], 0.0)
        blind = shares.sum(-1) == 0
        assert_close(rows.entropy[~blind], row_entropy(shares)[~blind], **EXACT)


def test_sites_can_be_chosen() -> None:
    model = TwoSites("multi_head", {})
    with record_statistics(model, sites={"cross"}) as reduced:
        model(embeddings(QUERIES), embeddings(KEYS))
    assert list(reduced.by_place) == [("cross", 1)]


@pytest.mark.parametrize(
    ("variant", "says"),
    [("talking_heads", "pattern of its own"), ("linear", "pattern of its own"), ("entmax15", "softmax")],
)
def test_what_no_softmax_gives_is_left_out_with_a_reason(variant: str, says: str) -> None:
    module = build_attention(variant, d_model=WIDTH, num_heads=4).double()
    x = embeddings(QUERIES)
    with record_statistics(module) as reduced:
        module(x, x, x)
    assert not reduced.by_place
    assert says in reduced.missing["", 0]
    assert not reduced.heads


def test_a_head_that_attends_to_nothing_has_no_statistics_and_a_nan_shows() -> None:
    q = torch.randn(1, 2, 5, 3, dtype=torch.float64)
    mask = Mask(torch.zeros(1, 5, dtype=torch.bool)).bind(1, 5, 5)
    blind = reduced_statistics(q, q, mask).heads[0]
    assert blind.rows == 0
    assert torch.tensor([blind.entropy, blind.mean_distance, blind.diagonality, blind.first_key_mass]).isnan().all()
    q[0, 1, 2] = torch.nan
    first, second = reduced_statistics(q, torch.ones_like(q), Mask().bind(1, 5, 5)).heads
    assert first.entropy == pytest.approx(torch.tensor(5.0).log().item())
    assert second.entropy != second.entropy
    with pytest.raises(ValueError, match="without a key"):
        reduced_statistics(q, q[:, :, :0], Mask().bind(1, 5, 0))


def test_masks_that_do_not_fit_are_refused() -> None:
    q = torch.randn(3, 2, 5, 4)
    mask = Mask(torch.ones(3, 5, dtype=torch.bool)).bind(3, 5, 5)
    for wrong in (torch.ones(2, 5, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool), torch.ones(3, 5)):
        with pytest.raises(ValueError, match="query_keep"):
            reduced_statistics(q, q, mask, query_keep=wrong)
        with pytest.raises(ValueError, match="key_keep"):
            reduced_statistics(q, q, mask, key_keep=wrong)
