"""The project's own fused kernels, for GPUs."""

from __future__ import annotations

import importlib.util
import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.backends.row_statistics import RowStatistics
from attnframe.backends.score_mods import DistanceBias, KeyBias, Softcap, links

if TYPE_CHECKING:
    from jaxtyping import Float

    from attnframe.attention.mask import Mask
    from attnframe.backends.triton.attention import AttentionOutput

_WIDEST = 128

# What the kernels do to scores, in their order.
_STEPS = ("softcap", "distance_bias", "key_bias")
_SCORE_MODS = {chosen for count in range(4) for chosen in itertools.combinations(_STEPS, count)}


class Triton(Backend):
    """Fused kernels of our own for GPUs, which can give the entropy of each row beside the output."""

    name = "triton"
    only_by_name = "triton was not measured on a GPU yet, so it is taken only by name"

    def unsupported(self, request: Request) -> list[str]:
        reasons = []
        if request.device != "cuda":
            reasons.append(f"triton needs a GPU, and this is on {request.device}")
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
        if request.score_mod and request.score_mod not in _SCORE_MODS:
            reasons.append("triton has no score_mod but a soft cap, then a bias by distance, then one by key")
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
        return self._run(q, k, v, mask, scale, score_mod, statistics=False).output

    def attend_with_statistics(
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
    ) -> tuple[Float[Tensor, "batch heads query value_dim"], RowStatistics]:
        """Both from one pass over the keys, without a [query, key] matrix."""
        found = self._run(q, k, v, mask, scale, score_mod, statistics=True)
        assert found.max_score is not None
        assert found.entropy is not None
        return found.output, RowStatistics(found.lse, found.max_score, found.entropy)

    @staticmethod
    def _run(
        q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, score_mod: ScoreMod | None, *, statistics: bool
    ) -> AttentionOutput:
        # Not before it runs: triton takes its time to import, and need not be installed.
        from attnframe.backends.triton.attention import attention

        modifications: dict[str, Any] = {}
        for link in links(score_mod):
            match link:
                case Softcap():
                    modifications["softcap"] = link.cap
                case DistanceBias():
                    modifications["slopes"] = link.slopes
                case KeyBias():
                    modifications["key_bias"] = link.bias
        return attention(
            q,
            k,
            v,
            scale=scale,
            causal=mask.causal,
            window=mask.window,
            query_offset=mask.query_offset,
            key_keep=mask.key_keep,
            statistics=statistics,
            **modifications,
        )
