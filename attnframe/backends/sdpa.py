"""PyTorch's scaled_dot_product_attention, which picks a fused kernel for the device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod, allowed

if TYPE_CHECKING:
    from jaxtyping import Float

    from attnframe.attention.mask import Mask


class Sdpa(Backend):
    """torch.nn.functional.scaled_dot_product_attention, on the kernel that it picks.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """

    name = "sdpa"

    def unsupported(self, request: Request) -> list[str]:
        reasons = []
        if request.score_mod:
            reasons.append("sdpa has no score_mod")
        if request.normaliser:
            reasons.append("sdpa has no normaliser but the softmax")
        if request.device == "meta":
            reasons.append("sdpa picks its kernel by device, and a meta tensor has none")
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
        keep, is_causal = self._mask(q, k, mask, mask_mod)
        kernels: AbstractContextManager[None] = nullcontext()
        if keep is not None and q.is_cuda:
            # cuDNN's kernel, the default on Hopper, gives NaN gradients for some lengths under a dense mask.
            kernels = sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
        with kernels:
            return F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=keep,
                dropout_p=dropout,
                is_causal=is_causal,
                scale=scale,
                enable_gqa=k.shape[1] != q.shape[1],
            )

    @staticmethod
    def _mask(q: Tensor, k: Tensor, mask: Mask, mask_mod: MaskMod | None) -> tuple[Tensor | None, bool]:
        """(dense mask or None, is_causal): no dense mask where the structure says enough."""
        queries, keys = q.shape[2], k.shape[2]
        if mask_mod is None and mask.key_keep is None and mask.window is None:
            # From the last position on, as in cached decoding, causality hides no key.
            if not mask.causal or mask.query_offset >= keys - 1 >= 0:
                return None, False
            # The kernel aligns causality to the top left: with fewer queries than keys that is another mask.
            if queries == keys and mask.query_offset == 0:
                return None, True
        keep = allowed(mask, mask_mod, q.shape[:3] + k.shape[2:3], q.device)
        return keep, False
