from __future__ import annotations

import pytest
import torch
from small_translator import LAYERS, make_model, sources
from torch.testing import assert_close

from attnframe import record_patterns
from attnframe.data.tokenizer import BOS
from attnframe.model import SITES, Seq2Seq
from attnframe.model.residuals import record_residuals

TOLERANCE = {"rtol": 0.0, "atol": 1e-12}


def batch(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    src, keep = sources(device)
    tgt = torch.randint(4, 13, (len(src), 5), device=device)
    tgt[:, 0] = BOS
    return src, keep, tgt


@pytest.fixture
def model(variant_name: str, device: torch.device) -> Seq2Seq:
    return make_model(variant_name, device=device)


@torch.no_grad()
def test_the_stream_goes_on_as_e_plus_delta(model: Seq2Seq, device: torch.device) -> None:
    src, keep, tgt = batch(device)
    with record_residuals(model) as residuals:
        logits = model(src, keep, tgt)
    assert sorted(residuals) == sorted((site, layer) for site in SITES for layer in range(LAYERS))
    # Each E is made of the one before it: ΔE added, and the feed-forward behind the last attention of a layer.
    x = model.src_embedding(src)
    for number, layer in enumerate(model.encoder):
        here = residuals["encoder_self", number]
        assert_close(here.before, x, **TOLERANCE)
        x = here.before + here.delta
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
    x = model.tgt_embedding(tgt)
    for number, layer in enumerate(model.decoder):
        here, across = residuals["decoder_self", number], residuals["cross", number]
        assert_close(here.before, x, **TOLERANCE)
        assert_close(across.before, here.after, **TOLERANCE)
        x = across.before + across.delta
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
    assert_close(model.decoder_norm(x) @ model.tgt_embedding.token.weight.T, logits, **TOLERANCE)


def test_nothing_is_changed_and_nothing_stays(model: Seq2Seq, device: torch.device) -> None:
    src, keep, tgt = batch(device)
    plain = model(src, keep, tgt)
    with record_residuals(model) as residuals:
        assert torch.equal(model(src, keep, tgt), plain)
    assert not any(residual.before.requires_grad or residual.delta.requires_grad for residual in residuals.values())
    kept = dict(residuals)
    model(src, keep, tgt[:, :3])
    assert residuals == kept
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_the_latest_pass_stays(model: Seq2Seq, device: torch.device) -> None:
    src, keep, tgt = batch(device)
    with record_residuals(model) as residuals:
        model(src, keep, tgt)
        first = residuals["cross", 1]
        model(src[:2], keep[:2], tgt[:2])
    assert first.before.shape == (len(src), 5, 12)
    assert_close(residuals["cross", 1].before, first.before[:2], **TOLERANCE)


@torch.no_grad()
def test_a_module_that_is_asked_for_its_head_maps_meanwhile_adds_nothing(model: Seq2Seq, device: torch.device) -> None:
    src, keep, tgt = batch(device)
    with record_residuals(model) as alone:
        model(src, keep, tgt)
    with record_patterns(model, contributions=True), record_residuals(model) as beside:
        model(src, keep, tgt)
    for place, residual in alone.items():
        assert torch.equal(beside[place].before, residual.before)
        assert torch.equal(beside[place].delta, residual.delta)


def test_hooks_go_when_a_pass_fails(device: torch.device) -> None:
    model = make_model("multi_head", device=device)
    with pytest.raises(IndexError), record_residuals(model):
        model(torch.tensor([[99]], device=device), None, torch.tensor([[BOS]], device=device))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
