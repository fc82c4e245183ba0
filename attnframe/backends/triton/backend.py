"""The project's own fused kernels, for GPUs."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod

if TYPE_CHECKING:
    from jaxtyping import Float

    from attnframe.attention.mask import Mask

_WIDEST = 128


class Triton(Backend):
    """Fused kernels of our own for GPUs, which can give the entropy of each row beside the output."""

    name = "triton"

    def unsupported(self, request: Request) -> list[str]:
        reasons = []
        if request.device != "cuda":
            reasons.append(f"triton needs a GPU; this tensor is on {request.device}")
        if importlib.util.find_spec("triton") is None:
            reasons.append("triton is not installed: pip install 'attnframe[triton]'")
        if request.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            name = str(request.dtype).removeprefix("torch.")
            reasons.append(f"triton computes in float32, float16 and bfloat16, not in {name}")
        if max(request.head_dim, request.value_dim) > _WIDEST:
            widest = max(request.head_dim, request.value_dim)
            reasons.append(f"triton takes heads up to {_WIDEST} wide, and these are {widest}")
        if request.dropout:
            reasons.append("triton has no dropout of weights")
        if request.score_mod:
            reasons.append("triton has no score_mod")
        if request.mask_mod:
            reasons.append("triton has no mask_mod")
        if request.normaliser:
            reasons.append("triton has no normaliser but the softmax")
        return reasons

    def attend(
        self,
        q: Float[Tensor, "batch heads query head_dim"],
        k: Float[Tensor, "batch key_heads key head_dim"],
        v: Float[Tensor, "batch key_heads key value_dim"],
        mask: Mask,
        *,
        scale: float,
        dropout: float,
        score_mod: ScoreMod | None,
        mask_mod: MaskMod | None,
        normaliser: Normaliser | None,
    ) -> Float[Tensor, "batch heads query value_dim"]:
        # Not before it runs: triton takes its time to import, and need not be installed.
        from attnframe.backends.triton.attention import attention

        return attention(
            q,
            k,
            v,
            scale=scale,
            causal=mask.causal,
            window=mask.window,
            query_offset=mask.query_offset,
            key_keep=mask.key_keep,
        ).output
