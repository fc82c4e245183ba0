from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from attnframe import UserError
from attnframe.data.tokenizer import PAD
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.training.optimization import make_optimizer, make_schedule, schedule_factor, token_losses

EXACT = {"rtol": 0.0, "atol": 1e-12}
SETTINGS = {"name": "adamw", "lr": 2e-3, "betas": [0.9, 0.98], "eps": 1e-9, "weight_decay": 0.25}


def batch_of(*lengths: int, vocab: int = 11) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    logits = 3 * torch.randn(len(lengths), max(lengths), vocab, dtype=torch.float64)
    tgt_out = torch.randint(PAD + 1, vocab, (len(lengths), max(lengths)))
    for row, length in enumerate(lengths):
        tgt_out[row, length:] = PAD
    return logits, tgt_out


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_losses_are_cross_entropy_over_real_tokens(smoothing: float) -> None:
    logits, tgt_out = batch_of(7, 2, 5)
    logits.requires_grad_()
    loss, nll = token_losses(logits, tgt_out, smoothing)
    assert loss.dtype == torch.float64
    flat = logits.reshape(-1, 11), tgt_out.reshape(-1)
    expected = cross_entropy(*flat, ignore_index=PAD, label_smoothing=smoothing)
    assert_close(loss, expected, **EXACT)
    assert_close(nll, cross_entropy(*flat, ignore_index=PAD), **EXACT)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    assert_close(gradient, expected_gradient, **EXACT)
    assert not gradient[1, 2:].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_mean_of_the_losses_of_shares_is_that_of_the_batch(smoothing: float, size: int) -> None:
    """A share without rows adds nothing, and its gradient is zero and not NaN."""
    logits, tgt_out = batch_of(7, 2, 5)
    logits.requires_grad_()
    expected = cross_entropy(
        logits.reshape(-1, 11), tgt_out.reshape(-1), ignore_index=PAD, label_smoothing=smoothing, reduction="mean"
    )
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    losses = []
    for rank in range(size):
        share = tgt_out[rank::size] if rank < 3 else torch.full_like(tgt_out[:1], PAD)
        mine = logits[rank::size] if rank < 3 else logits[:1]
        losses.append(token_losses(mine, share, smoothing, tokens=14 / size)[0])
    total = torch.stack(losses).mean()
    assert_close(total, expected, **EXACT)
    (gradient,) = torch.autograd.grad(total, logits)
    assert_close(gradient, expected_gradient, **EXACT)


def test_half_precision_is_summed_in_single() -> None:
    logits, tgt_out = batch_of(7, 2, 5)
    half = logits.bfloat16()
    loss, _ = token_losses(half, tgt_out, 0.1)
    assert loss.dtype == torch.float32
    expected = cross_entropy(half.double().reshape(-1, 11), tgt_out.reshape(-1), ignore_index=PAD, label_smoothing=0.1)
    assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_more_padding_changes_nothing() -> None:
    logits, tgt_out = batch_of(7, 2, 5)
    more = nn.functional.pad(logits, (0, 0, 0, 4), value=9.0), nn.functional.pad(tgt_out, (0, 4), value=PAD)
    for one, other in zip(token_losses(logits, tgt_out, 0.1), token_losses(*more, 0.1), strict=True):
        assert_close(one, other, **EXACT)


def test_parts_of_a_batch_weighted_by_their_tokens_give_the_whole() -> None:
    logits, tgt_out = batch_of(7, 2, 5)
    whole = token_losses(logits, tgt_out, 0.1)
    tokens = [7, 2, 5]
    rows = [token_losses(logits[i : i + 1], tgt_out[i : i + 1], 0.1) for i in range(3)]
    for kind in range(2):
        weighted = sum(row[kind] * count for row, count in zip(rows, tokens, strict=True)) / sum(tokens)
        assert_close(whole[kind], weighted, **EXACT)
        # And not the mean over sentences, which would give short ones more weight.
        assert abs(float(sum(row[kind] for row in rows)) / 3 - float(whole[kind])) > 1e-3


def cosine(step: int, *, total: float = 30, warmup: int = 10, final: float = 0.1) -> float:
    settings = {"name": "warmup_cosine", "warmup_steps": warmup, "final_ratio": final}
    return schedule_factor(settings, total)(step)


@pytest.mark.parametrize(
    ("step", "factor"),
    # Half of the cosine: 1/2 (1 + cos π p) is 1, (2 + √2)/4, 1/2, (2 - √2)/4, 0 at p = 0, 1/4, 1/2, 3/4, 1.
    [
        (0, 0.1),
        (4, 0.5),
        (9, 1.0),
        (10, 1.0),
        (15, 0.1 + 0.9 * (2 + math.sqrt(2)) / 4),
        (20, 0.55),
        (25, 0.1 + 0.9 * (2 - math.sqrt(2)) / 4),
        (30, 0.1),
        (99, 0.1),
    ],
)
def test_warmup_cosine(step: int, factor: float) -> None:
    assert cosine(step) == pytest.approx(factor, abs=1e-12)


def test_warmup_cosine_without_warmup_or_shorter_than_it() -> None:
    assert cosine(0, warmup=0) == 1.0
    assert [cosine(step, total=5) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(("step", "factor"), [(0, 1 / 16), (7, 0.5), (15, 1.0), (63, 0.5), (255, 0.25)])
def test_inverse_square_root(step: int, factor: float) -> None:
    settings = {"name": "inverse_square_root", "warmup_steps": 16, "final_ratio": 0.0}
    assert schedule_factor(settings, math.inf)(step) == pytest.approx(factor, abs=1e-12)


def test_inverse_square_root_is_the_one_of_the_paper() -> None:
    settings = {"name": "inverse_square_root", "warmup_steps": 23, "final_ratio": 0.0}
    factor = schedule_factor(settings, math.inf)
    for step in range(1, 200):
        # Vaswani et al. 2017, equation 3, over its highest value, which it has at step = warmup.
        paper = min(step**-0.5, step * 23**-1.5) / 23**-0.5
        assert factor(step - 1) == pytest.approx(paper, rel=1e-12)


def test_a_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="scheduler=inverse_square_root"):
        cosine(0, total=math.inf)


@pytest.mark.parametrize("total", [30, math.inf])
def test_an_unknown_schedule_or_optimizer_is_refused(total: float) -> None:
    with pytest.raises(UserError, match="did you mean 'warmup_cosine'"):
        schedule_factor({"name": "warmup_cosin", "warmup_steps": 1, "final_ratio": 0.0}, total)
    with pytest.raises(UserError, match=r"optimizer\.name=adam: did you mean 'adamw'"):
        make_optimizer(nn.Linear(2, 2), {**SETTINGS, "name": "adam"})


def test_the_schedule_sets_the_learning_rate_of_each_step() -> None:
    optimizer = make_optimizer(nn.Linear(2, 3), SETTINGS)
    schedule = make_schedule(optimizer, {"name": "warmup_cosine", "warmup_steps": 4, "final_ratio": 0.0}, 8)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([5e-4, 1e-3, 1.5e-3, 2e-3, 2e-3, 2e-3 * (2 + math.sqrt(2)) / 4])


def tiny_model(variant: str = "multi_head") -> Seq2Seq:
    torch.manual_seed(0)
    choices = {site: (VariantChoice(variant),) * 2 for site in SITES}
    factory = AttentionFactory(choices=choices, d_model=14, encoder_d_model=14, num_heads=2)
    return Seq2Seq(
        src_vocab_size=17,
        tgt_vocab_size=19,
        attention=factory,
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=23,
        dropout=0.0,
    )


def test_only_matrices_that_are_no_embeddings_decay() -> None:
    model = tiny_model()
    optimizer = make_optimizer(model, SETTINGS)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = set()
    for name, parameter in model.named_parameters():
        # With zero gradients a step does nothing but decay: θ - lr·λ·θ.
        if torch.equal(parameter, before[name]):
            continue
        assert_close(parameter.detach(), before[name] * (1 - 2e-3 * 0.25), rtol=1e-6, atol=1e-8)
        decayed.add(name)
    modules = dict(model.named_modules())
    linear = {f"{name}.weight" for name, module in modules.items() if isinstance(module, nn.Linear)}
    assert len(linear) >= 20
    assert decayed == linear


def test_tied_weights_are_counted_once() -> None:
    model = tiny_model()
    assert model.decode(torch.tensor([[1]]), torch.randn(1, 3, 14), None).shape[-1] == 19  # logits from the embedding
    held = [id(parameter) for group in make_optimizer(model, SETTINGS).param_groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters()}

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.output = nn.Linear(3, 5)
            self.output.weight = self.embedding.weight

    groups = make_optimizer(Tied(), SETTINGS).param_groups
    assert [[tuple(parameter.shape) for parameter in group["params"]] for group in groups] == [[], [(5, 3), (5,)]]
