"""A norm that goes with autocast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float


class RMSNorm(nn.RMSNorm):
    """x / √(mean x² + ε) · gain over the last axis, of `width`, in the type of `x`.

    Reference: Zhang & Sennrich 2019, section 3, https://arxiv.org/abs/1910.07467. The one of torch warns where autocast
    makes x narrower than the gain.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return F.rms_norm(x, self.normalized_shape, eps=self.eps) * self.weight.to(x.dtype)
