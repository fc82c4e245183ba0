"""The arithmetic that a call is credited with: the same for every backend, whatever it really computes."""

from __future__ import annotations

from collections.abc import Sequence

from attnframe.attention import AttendCall
from attnframe.bench.lines import ATTEND, Line
from attnframe.errors import UserError
from attnframe.model import AttentionFactory, VariantChoice
from attnframe.model.accounting import count_attention

_BACKWARD = 2.0
"""For each product of a forward pass, one for the inputs and one for the weights."""

_ATTEND_BACKWARD = 2.5
"""Of q·kᵀ and weights·v: four products, and q·kᵀ again, which fused kernels do not keep (Dao 2023, section 4.1,
https://arxiv.org/abs/2307.08691)."""


def credited_flops(line: Line, length: int, calls: Sequence[AttendCall]) -> tuple[float | None, float | None]:
    """FLOPs of a forward and a backward pass of one batch; a multiply-add is two, and only matrix products count.

    Of `attend`, q·kᵀ and weights·v over all keys, or over half of them where the mask is causal. Of a module besides
    what `attnframe describe` counts of it; None where that cannot be counted.
    """
    all_keys = sum(_products(call) for call in calls)
    attend = sum(_products(call) / (2 if call.mask.causal else 1) for call in calls)
    if line.timed == ATTEND:
        return attend, _ATTEND_BACKWARD * attend
    counted = _module_flops(line, length)
    if counted is None:
        return None, None
    rest = counted * line.batch_of(length) - all_keys
    return rest + attend, _BACKWARD * rest + _ATTEND_BACKWARD * attend


def _products(call: AttendCall) -> float:
    batch, heads, queries, head_dim = call.q.shape
    keys, value_dim = call.v.shape[2:]
    return 2 * batch * heads * queries * keys * (head_dim + value_dim)


def _module_flops(line: Line, length: int) -> int | None:
    """Of a forward pass over one sequence, in which causality saves nothing."""
    site = "decoder_self" if line.causal else "encoder_self"
    factory = AttentionFactory(
        choices={site: (VariantChoice(line.variant, line.options),)},
        d_model=line.d_model,
        encoder_d_model=line.d_model,
        num_heads=line.num_heads,
        bias=line.bias,
    )
    try:
        (count,) = count_attention(factory, length=length).sites
    except UserError:
        return None
    return count.layer_flops
