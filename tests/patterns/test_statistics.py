from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor
from torch.testing import assert_close

from attnframe.attention import Attention, Mask, PatternKind
from attnframe.patterns import Pattern, Patterns, record_patterns
from attnframe.patterns.statistics import (
    HeadStatistics,
    diagonality,
    head_similarity,
    head_statistics,
    received_mass,
    row_distance,
    row_entropy,
)

BATCH, HEADS, QUERIES, KEYS = 2, 3, 5, 7
EXACT = {"rtol": 0.0, "atol": 1e-10}
NUMBERS = [field.name for field in fields(HeadStatistics)][5:]
SITES = ("encoder_self", "decoder_self", "cross")


def random_weights(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def table(
    weights: Tensor,
    site: str = "cross",
    keep: tuple[Tensor | None, Tensor | None] = (None, None),
    kind: PatternKind = PatternKind.PROBABILITY,
) -> list[HeadStatistics]:
    return head_statistics({(site, 0): Pattern(weights, kind)}, {site: keep})


def numbers(rows: list[HeadStatistics]) -> Tensor:
    return torch.tensor([[getattr(row, name) for name in NUMBERS] for row in rows], dtype=torch.float64)


def one_hot(keys: list[int], num_keys: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(keys), num_keys).double()


def slowly(sentences: list[list[list[float]]], causal: bool) -> dict[str, float]:
    """One head's statistics from unpadded [query][key] tables, in plain loops; rows without weight are left out."""
    entropies, supports, largest, distances, by_chance, first, last = ([] for _ in range(7))
    for rows in sentences:
        for i, row in enumerate(rows):
            if sum(row) == 0:
                continue
            facing = i * (len(row) - 1) / (len(rows) - 1)
            allowed = range(i + 1) if causal else range(len(row))
            entropies.append(float(scipy.stats.entropy(row)))
            supports.append(math.exp(entropies[-1]))
            largest.append(max(row))
            distances.append(sum(p * abs(facing - j) for j, p in enumerate(row)))
            by_chance.append(sum(abs(facing - j) for j in allowed) / len(allowed))
            first.append(row[0])
            last.append(row[-1])
    mean = {
        "entropy": entropies,
        "effective_support": supports,
        "largest_weight": largest,
        "mean_distance": distances,
        "first_key_mass": first,
        "last_key_mass": last,
    }
    diagonal = 1 - sum(distances) / sum(by_chance)
    return {name: sum(x) / len(x) for name, x in mean.items()} | {"diagonality": diagonal}


def test_two_tokens_by_hand() -> None:
    weights = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]], dtype=torch.float64)
    (row,) = table(weights, "encoder_self")
    second = 2 * math.log(2) - 0.75 * math.log(3)  # -1/4 ln 1/4 - 3/4 ln 3/4
    assert (row.site, row.layer, row.head, row.kind, row.rows) == ("encoder_self", 0, 0, PatternKind.PROBABILITY, 2)
    expected = {
        "entropy": (math.log(2) + second) / 2,
        "effective_support": (2 + 4 / 3**0.75) / 2,
        "largest_weight": 0.625,
        "mean_distance": (0.5 + 0.25) / 2,
        "diagonality": 1 - 0.375 / 0.5,
        "first_key_mass": 0.375,
        "last_key_mass": 0.625,
    }
    assert {name: getattr(row, name) for name in NUMBERS} == pytest.approx(expected, abs=1e-12)
    assert_close(received_mass(weights), torch.tensor([[0.375, 0.625]], dtype=torch.float64), **EXACT)


def test_two_tokens_under_a_causal_mask_by_hand() -> None:
    (row,) = table(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]], dtype=torch.float64), "decoder_self")
    # Row 0 has no choice; row 1 is 0.25 away, uniform over two keys it would be 0.5 away.
    assert row.diagonality == pytest.approx(0.5, abs=1e-12)
    assert row.mean_distance == pytest.approx(0.125, abs=1e-12)


@pytest.mark.parametrize("site", SITES)
def test_plain_loops_agree_and_padding_on_either_side_changes_nothing(site: str) -> None:
    causal = site == "decoder_self"
    lengths = [(5, 7), (2, 3), (4, 2)] if site == "cross" else [(7, 7), (3, 3), (5, 5)]
    sentences = [random_weights(HEADS, *length, seed=seed) for seed, length in enumerate(lengths)]
    if causal:
        sentences = [weights.tril() / weights.tril().sum(-1, keepdim=True) for weights in sentences]
    sentences[0][1, 3] = 0  # in one head a query may attend to nothing
    expected = [slowly([weights[head].tolist() for weights in sentences], causal) for head in range(HEADS)]
    for left in (0, 2):
        # What padded queries attend to, and what padded keys get, is anything, NaN too.
        padded = torch.full((len(sentences), HEADS, 11, 13), math.nan, dtype=torch.float64)
        query_keep, key_keep = torch.zeros(len(sentences), 11).bool(), torch.zeros(len(sentences), 13).bool()
        for index, weights in enumerate(sentences):
            queries, keys = (slice(left, left + length) for length in lengths[index])
            padded[index, :, queries, keys] = weights
            query_keep[index, queries] = key_keep[index, keys] = True
        found = table(padded, site, (query_keep, key_keep))
        for row, values in zip(found, expected, strict=True):
            assert row.rows == sum(queries for queries, _ in lengths) - (row.head == 1)
            assert {name: getattr(row, name) for name in NUMBERS} == pytest.approx(values, abs=1e-10)
        similarity = head_similarity(padded, query_keep, key_keep)
        mass = received_mass(padded, query_keep, key_keep)
        for index, (weights, (_, keys)) in enumerate(zip(sentences, lengths, strict=True)):
            assert_close(mass[index, :, left : left + keys], received_mass(weights), **EXACT)
            assert mass[index, :, ~key_keep[index]].eq(0).all()
        num_rows = torch.tensor([(weights[0].sum(-1) * weights[1].sum(-1)).sum() for weights in sentences])
        pairs = torch.stack([head_similarity(weights)[0, 1] for weights in sentences])
        assert_close(similarity[0, 1], (pairs * num_rows).sum() / num_rows.sum(), **EXACT)


@pytest.mark.parametrize("site", SITES)
def test_uniform_attention(site: str) -> None:
    weights = torch.ones(BATCH, HEADS, KEYS, KEYS, dtype=torch.float64)
    if site == "decoder_self":
        weights = weights.tril()
    for row in table(weights / weights.sum(-1, keepdim=True), site):
        assert row.diagonality == pytest.approx(0, abs=1e-12)
        if site != "decoder_self":
            assert row.effective_support == pytest.approx(KEYS, abs=1e-10)
            assert row.entropy == pytest.approx(math.log(KEYS), abs=1e-12)
            assert row.mean_distance == pytest.approx((KEYS**2 - 1) / (3 * KEYS), abs=1e-12)
            assert [row.first_key_mass, row.last_key_mass] == pytest.approx([1 / KEYS] * 2, abs=1e-12)
    assert_close(head_similarity(weights), torch.ones(HEADS, HEADS, dtype=torch.float64), **EXACT)


def test_one_hot_attention() -> None:
    diagonal, backwards = one_hot([0, 1, 2, 3, 4], 5), one_hot([4, 3, 2, 1, 0], 5)
    sink = one_hot([0] * 5, 5)
    on_it, across, first = table(torch.stack([diagonal, backwards, sink]), "encoder_self")
    for row in (on_it, across, first):
        assert (row.entropy, row.effective_support, row.largest_weight) == (0, 1, 1)
    assert (on_it.mean_distance, on_it.diagonality) == (0, 1)
    # 4 + 2 + 0 + 2 + 4 keys away where uniform attention is 2 + 1.4 + 1.2 + 1.4 + 2.
    assert across.diagonality == pytest.approx(1 - 12 / 8, abs=1e-12)
    assert (first.first_key_mass, first.last_key_mass, first.mean_distance) == (1, 0, 2)
    # The diagonal and its mirror image share the middle row alone, and each one row with the sink.
    fifth = torch.tensor([[5, 1, 1], [1, 5, 1], [1, 1, 5]], dtype=torch.float64) / 5
    assert_close(head_similarity(torch.stack([diagonal, backwards, sink])), fifth, **EXACT)


def test_the_diagonal_scales_with_the_lengths() -> None:
    (row,) = table(one_hot([0, 3, 6], 7)[None])
    assert (row.mean_distance, row.diagonality) == (0, 1)
    assert_close(row_distance(one_hot([2], 3)[None]), torch.tensor([[2.0]], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_scipy_agrees_on_random_rows(seed: int) -> None:
    weights = random_weights(BATCH, HEADS, QUERIES, KEYS, seed=seed)
    weights[..., 0] = 0  # so that not every row sums to 1
    expected = torch.from_numpy(np.asarray(scipy.stats.entropy(weights.numpy(), axis=-1)))
    assert_close(row_entropy(weights), expected, **EXACT)
    distances = jensenshannon(weights.numpy()[:, :, None], weights.numpy()[:, None], base=2, axis=-1)
    similarity = torch.from_numpy(1 - distances**2).mean((0, 3))
    assert_close(head_similarity(weights), similarity, **EXACT)


def test_entropy_knows_no_order_and_the_rest_follows_the_heads() -> None:
    weights = random_weights(BATCH, HEADS, QUERIES, KEYS)
    keys, heads = torch.tensor([4, 0, 6, 1, 3, 5, 2]), torch.tensor([2, 0, 1])
    assert_close(row_entropy(weights[..., keys]), row_entropy(weights), **EXACT)
    assert_close(head_similarity(weights[..., keys]), head_similarity(weights), **EXACT)
    assert_close(received_mass(weights[..., keys]), received_mass(weights)[..., keys], **EXACT)
    assert_close(numbers(table(weights[:, heads])), numbers(table(weights))[heads], **EXACT)
    assert_close(head_similarity(weights[:, heads]), head_similarity(weights)[heads][:, heads], **EXACT)
    # Seen in the mirror, first is last and the diagonal stays where it is.
    mirrored, straight = table(weights.flip(-1, -2)), table(weights)
    for one, other in zip(mirrored, straight, strict=True):
        assert one.first_key_mass == pytest.approx(other.last_key_mass, abs=1e-12)
        assert one.diagonality == pytest.approx(other.diagonality, abs=1e-12)


def test_similarity_is_symmetric_and_bounded() -> None:
    torch.manual_seed(0)
    similarity = head_similarity(random_weights(BATCH, HEADS, QUERIES, KEYS))
    assert_close(similarity, similarity.T, rtol=0.0, atol=0.0)
    assert_close(similarity.diagonal(), torch.ones(HEADS, dtype=torch.float64), rtol=0.0, atol=0.0)
    assert ((similarity >= 0) & (similarity <= 1)).all()
    nearly_equal = random_weights(1, QUERIES, KEYS).float() + torch.rand(97, 1, 1) * 1e-7
    assert (head_similarity(nearly_equal) <= 1).all()


def test_rows_without_weight_are_left_out_and_a_head_of_them_is_nan() -> None:
    weights = random_weights(HEADS, QUERIES, KEYS)
    fewer = weights.clone()
    fewer[0, [1, 3]] = 0
    fewer[2] = 0
    rows, untouched = table(fewer), table(weights)
    assert [row.rows for row in rows] == [3, QUERIES, 0]
    assert rows[1] == untouched[1]
    assert rows[0].largest_weight == pytest.approx(float(weights[0, [0, 2, 4]].amax(-1).mean()), abs=1e-12)
    assert numbers(rows)[2].isnan().all()
    assert_close(received_mass(fewer)[0], weights[0, [0, 2, 4]].mean(0), **EXACT)
    assert received_mass(fewer)[2].isnan().all()
    similarity = head_similarity(fewer)
    assert_close(similarity[0, 1], head_similarity(weights[:, [0, 2, 4]])[0, 1], **EXACT)
    assert similarity[2].isnan().all()
    assert numbers(table(weights[:, :0])).isnan().all()
    assert row_entropy(fewer)[0].isnan().tolist() == [False, True, False, True, False]


def test_nan_weights_show_in_their_head_alone() -> None:
    weights = random_weights(BATCH, HEADS, QUERIES, KEYS)
    broken = weights.clone()
    broken[1, 2, 3] = math.nan
    found = numbers(table(broken))
    assert found[2].isnan().all()
    assert_close(found[:2], numbers(table(weights))[:2], rtol=0.0, atol=0.0)
    assert head_similarity(broken)[2].isnan().all()
    assert_close(head_similarity(broken)[:2, :2], head_similarity(weights)[:2, :2], rtol=0.0, atol=0.0)
    assert received_mass(broken)[1, 2].isnan().all()


def test_one_key_leaves_nothing_to_tell_of_the_diagonal() -> None:
    (row,) = table(torch.ones(1, 3, 1))
    assert math.isnan(row.diagonality)
    assert (row.mean_distance, row.effective_support, row.first_key_mass, row.last_key_mass) == (0, 1, 1, 1)
    assert diagonality(random_weights(HEADS, 1, KEYS), causal=True).isnan().all()


@pytest.mark.parametrize("kind", list(PatternKind))
def test_of_other_kinds_there_are_shares_but_no_entropy(kind: PatternKind) -> None:
    weights = random_weights(BATCH, HEADS, QUERIES, KEYS)
    probabilities = table(weights)
    if kind is not PatternKind.PROBABILITY:
        signs = torch.tensor([[-1.0, 1], [1, 1], [-1, -1], [1, -1], [1, -1]]).repeat(1, 4)[:, :KEYS]
        weights = weights * signs * torch.tensor([3.0, 2, 5, 1, 4])[:, None]
    for row, probable in zip(table(weights, kind=kind), probabilities, strict=True):
        assert row.kind is kind
        for name in NUMBERS:
            of_probabilities = name in {"entropy", "effective_support", "largest_weight"}
            if of_probabilities and kind is not PatternKind.PROBABILITY:
                assert math.isnan(getattr(row, name))
            else:
                assert getattr(row, name) == pytest.approx(getattr(probable, name), abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    weights = random_weights(HEADS, QUERIES, 997).to(dtype)
    assert_close(numbers(table(weights)), numbers(table(weights.double())), rtol=1e-5, atol=1e-5)
    for result in (row_entropy(weights), row_distance(weights), received_mass(weights), head_similarity(weights)):
        assert result.dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "query_keep", "key_keep", "says"),
    [
        (torch.ones(2, 3), None, None, r"\(2, 3\) are not \[\*batch, heads, query, key\]"),
        (torch.ones(2, 3, 0), None, None, "with a key"),
        (torch.ones(2, 3, 5, 7), torch.ones(2, 7).bool(), None, r"query_keep .*\(2, 7\).* need .*\(2, 5\)"),
        (torch.ones(2, 3, 5, 7), None, torch.ones(7).bool(), r"key_keep .* need torch.bool of shape \(2, 7\)"),
        (torch.ones(2, 3, 5, 7), None, torch.ones(2, 7), "key_keep is torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused(
    weights: Tensor, query_keep: Tensor | None, key_keep: Tensor | None, says: str
) -> None:
    for refuses in (head_similarity, received_mass, row_distance, diagonality):
        with pytest.raises(ValueError, match=says):
            refuses(weights, query_keep, key_keep)
    with pytest.raises(ValueError, match=says):
        table(weights, keep=(query_keep, key_keep))


def test_the_table_has_a_flat_row_for_each_head_in_order() -> None:
    patterns = Patterns()
    for site, layer in (("cross", 1), ("encoder_self", 0), ("cross", 0)):
        pattern = Pattern(random_weights(BATCH, HEADS, QUERIES, QUERIES, seed=layer), PatternKind.PROBABILITY)
        patterns.add((site, layer), pattern)
    rows = head_statistics(patterns)
    places = [("cross", 0), ("cross", 1), ("encoder_self", 0)]
    assert [(row.site, row.layer, row.head) for row in rows] == [
        (*place, head) for place in places for head in (0, 1, 2)
    ]
    assert all(isinstance(value, str | int | float) for row in rows for value in asdict(row).values())
    assert head_statistics({}) == []


def test_recorded_patterns_are_measured(
    variant_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    attention = build(variant_name, d_model=6, num_heads=1 if variant_name == "self" else 2)
    attention.site, attention.layer = "encoder_self", 0
    x = torch.randn(BATCH, KEYS, 6, dtype=torch.float64, device=device)
    keep = torch.ones(BATCH, KEYS, dtype=torch.bool, device=device)
    keep[1, 4:] = False
    with record_patterns(attention) as patterns:
        attention(x, x, x, Mask(key_keep=keep))
    padded = head_statistics(patterns, {"encoder_self": (keep, keep)})
    with record_patterns(attention) as patterns:
        attention(x[1:, :4], x[1:, :4], x[1:, :4], Mask())
    alone = head_statistics(patterns)
    first = head_statistics({("encoder_self", 0): Pattern(patterns["encoder_self", 0].weights[0], alone[0].kind)})
    assert_close(numbers(first), numbers(alone), equal_nan=True, **EXACT)
    assert [row.rows for row in padded] == [KEYS + 4] * len(padded)
    assert not numbers(padded)[:, 3:].isnan().any()
