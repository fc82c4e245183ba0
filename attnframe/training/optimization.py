"""Optimizer, learning-rate schedule and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from attnframe.data.tokenizer import PAD
from attnframe.errors import UserError, did_you_mean
from attnframe.training.optimizer_names import OPTIMIZERS, SCHEDULES


def token_losses(
    logits: Float[Tensor, "batch target vocab"],
    tgt_out: Int[Tensor, "batch target"],
    label_smoothing: float,
    *,
    tokens: float | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(smoothed loss, negative log-likelihood), each the mean over target tokens, padding left out, in nats.

    `tokens` is what the sums are divided by in place of how many they are over.
    Smoothing spreads `label_smoothing` evenly over the vocabulary (Szegedy et al. 2016, section 7,
    https://arxiv.org/abs/1512.00567).
    """
    log_probabilities = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    keep = tgt_out != PAD
    count = keep.sum() if tokens is None else tokens
    nll = -log_probabilities.gather(-1, tgt_out[..., None])[..., 0].masked_fill(~keep, 0.0).sum() / count
    spread = -log_probabilities.mean(dim=-1).masked_fill(~keep, 0.0).sum() / count
    return (1 - label_smoothing) * nll + label_smoothing * spread, nll


def sentence_losses(
    logits: Float[Tensor, "batch target vocab"], tgt_out: Int[Tensor, "batch target"]
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each sentence in nats, summed over its target tokens, padding left out."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(logits.transpose(1, 2), tgt_out, ignore_index=PAD, reduction="none").sum(-1)


def make_optimizer(
    model: nn.Module,
    settings: Mapping[str, Any],
    *,
    fused: bool = True,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> Optimizer:
    """AdamW over the `parameter_groups` of `model`; `groups` are those, where they were made before."""
    if settings["name"] not in OPTIMIZERS:
        raise UserError(f"optimizer.name={settings['name']}: {did_you_mean(settings['name'], OPTIMIZERS)}")
    made = [dict(group) for group in groups or parameter_groups(model, settings)]
    return AdamW(made, lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"], fused=fused)


def parameter_groups(model: nn.Module, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters for an optimizer. Weight decay acts on matrices only: biases, norms and embeddings have none."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decay if parameter.ndim > 1 and id(parameter) not in embeddings else plain).append(parameter)
    return [{"params": decay, "weight_decay": settings["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]


def make_schedule(optimizer: Optimizer, settings: Mapping[str, Any], total_steps: float) -> LambdaLR:
    """The factor on the learning rate by step. `total_steps` is infinite for a run limited by time.

    Raises `UserError` for a schedule that needs an end where there is none.
    """
    return LambdaLR(optimizer, schedule_factor(settings, total_steps))


def check_schedule(settings: Mapping[str, Any]) -> None:
    """Raise `UserError` where the settings of a run name a schedule that needs an end, and give it none."""
    trainer = settings["trainer"]
    is_endless = trainer["max_steps"] == -1 and trainer["max_epochs"] in (None, -1)
    schedule_factor(settings["scheduler"], math.inf if is_endless else 1)


def schedule_factor(settings: Mapping[str, Any], total_steps: float) -> Callable[[int], float]:
    """The function from steps taken to the factor in (0, 1]."""
    warmup, name = max(1, settings["warmup_steps"]), settings["name"]
    if name == "inverse_square_root":
        return lambda step: float(min((step + 1) / warmup, math.sqrt(warmup / (step + 1))))
    if name != "warmup_cosine":
        raise UserError(f"scheduler.name={name}: {did_you_mean(name, SCHEDULES)}")
    if not math.isfinite(total_steps):
        raise UserError(
            "scheduler=warmup_cosine falls towards a last step, but the run has no trainer.max_steps or "
            "trainer.max_epochs; use scheduler=inverse_square_root"
        )
    final = settings["final_ratio"]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1.0, total_steps - warmup))
        return float(final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))

    return factor
