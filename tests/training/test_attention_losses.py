"""Losses on the rows of attention, beside the same sums written down row by row."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_row_statistics
from attnframe.attention import RecordedRows
from attnframe.backends import RowStatistics
from attnframe.data.batching import Batch, Example, collate, collate_share
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.training.attention_losses import RowLosses, real_rows, row_losses
from attnframe.training.world import World

HEADS, WIDTH = 3, 21
LENGTHS = [(5, 2), (1, 6), (4, 3)]
CLOSE = {"rtol": 0.0, "atol": 1e-10}


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    ids = [[torch.randint(4, 17, (length,), generator=generator).tolist() for length in pair] for pair in LENGTHS]
    return [Example(index, *pair) for index, pair in enumerate(ids)]


@pytest.fixture
def model() -> Seq2Seq:
    torch.manual_seed(1)
    choices = {site: (VariantChoice("multi_head"),) * 2 for site in SITES}
    attention = AttentionFactory(
        choices=choices, d_model=WIDTH, encoder_d_model=WIDTH, num_heads=HEADS, backend="eager"
    )
    model = Seq2Seq(
        src_vocab_size=17,
        tgt_vocab_size=17,
        attention=attention,
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=11,
        dropout=0.0,
    ).double()
    for module in model.modules():
        if isinstance(module, Attention):
            # Far from uniform.
            module.query_proj.weight.data *= 4
    return model


def losses_of(model: Seq2Seq, batch: Batch, world: World | None = None) -> RowLosses:
    with record_row_statistics(model) as rows:
        model(batch.src, batch.src_keep, batch.tgt_in)
    return row_losses(rows, real_rows(batch), world or World())


def dense_rows(model: Seq2Seq, pairs: list[Example]) -> Iterator[Tensor]:
    """The scores of each row of each head, every sentence for itself, without padding and so without a mask of it."""
    for pair in pairs:
        batch = collate([pair])
        projected: dict[nn.Module, Tensor] = {}
        modules = [module for module in model.modules() if isinstance(module, Attention)]
        with contextlib.ExitStack() as stack:
            for module in modules:
                for part in (module.query_proj, module.key_proj):
                    keep = functools.partial(_keep, projected)
                    stack.callback(part.register_forward_hook(keep).remove)
            model(batch.src, None, batch.tgt_in)
        for module in modules:
            q, k = projected[module.query_proj][0], projected[module.key_proj][0]
            for head in range(HEADS):
                dims = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                for i in range(len(q)):
                    keys = k[: i + 1] if module.site == "decoder_self" else k
                    yield keys[:, dims] @ q[i, dims] / math.sqrt(WIDTH // HEADS)


def _keep(projected: dict[nn.Module, Tensor], part: nn.Module, _: object, output: Tensor) -> None:
    projected[part] = output


def dense_losses(model: Seq2Seq, pairs: list[Example]) -> RowLosses:
    entropies, squares = [], []
    for scores in dense_rows(model, pairs):
        powers = scores.exp()
        weights = powers / powers.sum()
        entropies.append(-(weights * weights.log()).sum())
        squares.append(powers.sum().log() ** 2)
    assert len(squares) == 2 * HEADS * sum(source + 1 + 2 * (target + 1) for source, target in LENGTHS)
    return RowLosses(torch.stack(entropies).mean(), torch.stack(squares).mean())


def gradients(loss: Tensor, model: Seq2Seq) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]


@pytest.mark.parametrize("name", RowLosses._fields)
def test_values_and_gradients_are_those_of_real_rows_alone(model: Seq2Seq, name: str) -> None:
    loss, expected = (
        getattr(found, name) for found in (losses_of(model, collate(examples())), dense_losses(model, examples()))
    )
    assert_close(loss, expected, **CLOSE)
    wanted = gradients(expected, model)
    assert sum(bool(gradient.abs().max() > 1e-4) for gradient in wanted) > 20
    for gradient, other in zip(gradients(loss, model), wanted, strict=True):
        assert_close(gradient, other, **CLOSE)


class SharedBatch(World):
    """A process that is told how many rows all of them have."""

    def __init__(self, rank: int, size: int, rows: int) -> None:
        super().__init__(rank, size)
        self._rows = rows

    def total(self, values: Tensor) -> Tensor:
        return torch.full_like(values, self._rows)


@pytest.mark.parametrize("size", [2, 5])
def test_the_mean_over_processes_is_that_of_the_whole_batch(model: Seq2Seq, size: int) -> None:
    """A process for which the batch has no sentence adds nothing, though it is given one."""
    whole = losses_of(model, collate(examples()))
    rows = 2 * HEADS * sum(source + 1 + 2 * (target + 1) for source, target in LENGTHS)
    shares = [
        losses_of(model, collate_share(examples(), rank, size), SharedBatch(rank, size, rows)) for rank in range(size)
    ]
    for name in RowLosses._fields:
        mean = torch.stack([getattr(share, name) for share in shares]).mean()
        assert_close(mean, getattr(whole, name), **CLOSE)
        for gradient, other in zip(gradients(mean, model), gradients(getattr(whole, name), model), strict=True):
            assert_close(gradient, other, **CLOSE)


def test_rows_that_may_attend_to_nothing_are_no_part_of_the_mean() -> None:
    module = build_attention("multi_head", d_model=WIDTH, num_heads=HEADS, backend="eager").double()
    module.site = "cross"
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    real = {"cross": torch.ones(2, 5, dtype=torch.bool)}
    # Without the first key the first query has none.
    mask = Mask(torch.tensor([[False, True, True, True, True]] * 2), causal=True)
    with record_row_statistics(module) as rows:
        module(x, x, x, mask)
    (statistics,) = rows["cross", 0]
    blind = statistics.lse == -torch.inf
    assert blind[:, :, 0].all()
    assert not blind[:, :, 1:].any()
    losses = row_losses(rows, real)
    assert_close(losses.entropy, statistics.entropy[:, :, 1:].mean(), **CLOSE)
    assert_close(losses.z_loss, statistics.lse[:, :, 1:].square().mean(), **CLOSE)
    for loss in losses:
        found = torch.autograd.grad(loss, [module.query_proj.weight, module.key_proj.weight], retain_graph=True)
        assert all(gradient.isfinite().all() and gradient.any() for gradient in found)


def by_hand(lse: Tensor, *, site: str = "cross") -> RecordedRows:
    rows = RecordedRows()
    rows.add((site, 0), RowStatistics(lse, lse.detach(), torch.zeros_like(lse)))
    return rows


def test_without_a_real_row_both_are_zero_and_so_are_their_gradients() -> None:
    lse = torch.full((2, 3, 5), -torch.inf).index_fill(2, torch.tensor([0]), 7.0).requires_grad_()
    losses = row_losses(by_hand(lse), {"cross": torch.tensor([[False] * 5, [False, True, True, False, False]])})
    assert [loss.item() for loss in losses] == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(losses.z_loss, lse)
    assert (gradient == 0).all()


def test_attention_inside_a_variant_has_no_site_and_does_not_count() -> None:
    rows = by_hand(torch.full((2, 3, 5), 2.0))
    rows.add(("", 0), RowStatistics(*[torch.full((2, 1, 4), 9.0)] * 3))
    assert float(row_losses(rows, {"cross": torch.ones(2, 5, dtype=torch.bool)}).z_loss) == 4.0


def test_other_rows_than_tokens_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^cross layer 1 calls attend with 5 queries in a batch of 2, but there are 4 "
    ):
        row_losses(by_hand(torch.zeros(2, 3, 5)), {"cross": torch.ones(2, 4, dtype=torch.bool)})
