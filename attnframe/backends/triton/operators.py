"""The attention kernels as operators that autograd, torch.compile and fake tensors know.

Importing this imports triton and registers `attnframe::triton_attention` and its backward.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from attnframe.backends.triton.backward_keys import attention_backward_keys
from attnframe.backends.triton.backward_queries import attention_backward_queries
from attnframe.backends.triton.descriptors import tiling_to_read
from attnframe.backends.triton.forward import attention_forward
from attnframe.backends.triton.launching import as_bytes, launch, padded, rows_contiguous, sizes, strides
from attnframe.backends.triton.tilings import INTERPRETED

KERNELS = {
    "forward": attention_forward,
    "backward_queries": attention_backward_queries,
    "backward_keys": attention_backward_keys,
}


@torch.library.custom_op("attnframe::triton_attention", mutates_args=())
def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_keep: Tensor | None,
    scale: float,
    causal: bool,
    window: int | None,
    query_offset: int,
    softcap: float | None,
    slopes: Tensor | None,
    key_bias: Tensor | None,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output, log-sum-exp, greatest score before the scale, logarithm of the sum, and entropy or nothing, by row."""
    outputs = _empty_outputs(q, v, statistics)
    batch, heads, queries, _ = q.shape
    if outputs[0].numel() == 0:
        return outputs
    q, k, v = (rows_contiguous(x) for x in (q, k, v))
    constants = _constants(q, v, key_keep, causal, window, softcap, slopes, key_bias)
    how = tiling_to_read("forward", q, v, (k, v), modified=constants["MODIFIED"])
    launch(
        attention_forward,
        triton.cdiv(queries, how["TILE_Q"]) * heads * batch,
        q,
        k,
        v,
        as_bytes(key_keep, q),
        *outputs,
        *strides(q, k, v, outputs[0]),
        *sizes(q, k, query_offset, window),
        scale,
        softcap,
        *_contiguous(slopes, key_bias),
        STATISTICS=statistics,
        **constants,
        **how,
    )
    return outputs


@triton_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_outputs(q, v, rest[-1])


@torch.library.custom_op("attnframe::triton_attention_backward", mutates_args=())
def _backward(
    d_output: Tensor,
    d_lse: Tensor | None,
    d_entropy: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_keep: Tensor | None,
    output: Tensor,
    peak: Tensor,
    log_sum: Tensor,
    entropy: Tensor,
    scale: float,
    causal: bool,
    window: int | None,
    query_offset: int,
    softcap: float | None,
    slopes: Tensor | None,
    key_bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_q, d_k, d_v, d_key_bias = _empty_gradients(q, k, v, key_bias)
    batch, heads, queries, _ = q.shape
    key_heads, keys = k.shape[1:3]
    if 0 in (batch, heads, queries, keys):
        return d_q.zero_(), d_k.zero_(), d_v.zero_(), d_key_bias.zero_()
    q, k, v, output, d_output = (rows_contiguous(x) for x in (q, k, v, output, d_output))
    keep = as_bytes(key_keep, q)
    shift, delta = torch.empty_like(peak), torch.empty_like(peak)
    # A kernel without ENTROPY is still given the pointers.
    d_entropy_rows = delta if d_entropy is None else d_entropy.contiguous()
    lengths = sizes(q, k, query_offset, window)
    modifications = (scale, softcap, *_contiguous(slopes, key_bias))
    constants = {
        "ENTROPY": d_entropy is not None,
        **_constants(q, v, key_keep, causal, window, softcap, slopes, key_bias),
    }
    how = tiling_to_read("backward_queries", q, v, (k, v), modified=constants["MODIFIED"])
    launch(
        attention_backward_queries,
        triton.cdiv(queries, how["TILE_Q"]) * heads * batch,
        q,
        k,
        v,
        keep,
        output,
        d_output,
        peak,
        log_sum,
        entropy,
        None if d_lse is None else d_lse.contiguous(),
        d_entropy_rows,
        d_q,
        shift,
        delta,
        *strides(q, k, v, output, d_output, d_q),
        *lengths,
        *modifications,
        **constants,
        **how,
    )
    how = tiling_to_read("backward_keys", q, v, (q, d_output), modified=constants["MODIFIED"])
    launch(
        attention_backward_keys,
        triton.cdiv(keys, how["TILE_K"]) * key_heads * batch,
        q,
        k,
        v,
        keep,
        d_output,
        peak,
        shift,
        delta,
        d_entropy_rows,
        d_k,
        d_v,
        *strides(q, k, v, d_output, d_k, d_v),
        *lengths,
        *modifications,
        None if key_bias is None else d_key_bias,
        **constants,
        **how,
    )
    return d_q, d_k, d_v, d_key_bias


@_backward.register_fake
def _(
    d_output: Tensor, d_lse: Tensor | None, d_entropy: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> Any:
    return _empty_gradients(q, k, v, rest[-1])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, key_keep, *structure, slopes, key_bias, statistics = inputs
    result, _, peak, log_sum, entropy = output
    ctx.save_for_backward(q, k, v, key_keep, result, peak, log_sum, entropy, slopes, key_bias)
    ctx.structure, ctx.statistics = structure, statistics
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, d_output: Tensor | None, d_lse: Tensor | None, _peak: None, _log_sum: None, d_entropy: Tensor | None
) -> tuple[Tensor | None, ...]:
    q, k, v, key_keep, output, peak, log_sum, entropy, slopes, key_bias = ctx.saved_tensors
    if d_output is None:
        d_output = torch.zeros_like(output)
    *gradients, d_key_bias = torch.ops.attnframe.triton_attention_backward(
        d_output,
        d_lse,
        d_entropy if ctx.statistics else None,
        q,
        k,
        v,
        key_keep,
        output,
        peak,
        log_sum,
        entropy,
        *ctx.structure,
        slopes,
        key_bias,
    )
    return (*gradients, *[None] * 7, None if key_bias is None else d_key_bias.sum(1), None)


triton_attention.register_autograd(_gradients, setup_context=_setup_context)


def _empty_outputs(q: Tensor, v: Tensor, statistics: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of one query lie beside each other, so that merging the heads copies nothing."""
    batch, heads, queries, _ = q.shape
    output = q.new_empty(batch, queries, heads, v.shape[-1]).transpose(1, 2)
    lse, peak, log_sum = (q.new_empty(batch, heads, queries, dtype=torch.float32) for _ in range(3))
    return output, lse, peak, log_sum, torch.empty_like(lse) if statistics else lse.new_empty(0)


def _empty_gradients(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last is that of the biases for each key head."""
    gradients = [x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in (q, k, v)]
    bias_shape = (0,) if key_bias is None else k.shape[:3]
    return gradients[0], gradients[1], gradients[2], k.new_empty(bias_shape, dtype=torch.float32)


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.contiguous() for x in tensors]


def _constants(
    q: Tensor, v: Tensor, key_keep: Tensor | None, causal: bool, window: int | None, *modifications: Any
) -> dict[str, Any]:
    return {
        "HEAD_DIM": q.shape[-1],
        "VALUE_DIM": v.shape[-1],
        "PADDED_HEAD_DIM": padded(q.shape[-1]),
        "PADDED_VALUE_DIM": padded(v.shape[-1]),
        "CAUSAL": causal,
        "WINDOW": window is not None,
        "KEY_KEEP": key_keep is not None,
        "MODIFIED": any(modification is not None for modification in modifications),
        "EXACT": q.dtype == torch.float32,
        "WIDEN": INTERPRETED and q.dtype == torch.bfloat16,
    }
