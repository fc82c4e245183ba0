"""The backward kernel for dQ. Each program owns a query tile: no atomics, so that equal inputs give equal bits."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.masked_tiles import kept_keys, masked_unless, may_attend, tiles_of_keys
from attnframe.backends.triton.modified_scores import modified_scores
from attnframe.backends.triton.score_gradients import score_gradients
from attnframe.backends.triton.tiles import described, factor, load_tile, store_tile

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def attention_backward_queries(
    q,
    k,
    v,
    key_keep,
    output,
    d_output,
    peak,
    log_sum,
    entropy,
    d_lse,
    d_entropy,
    d_q,
    shift,
    delta,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    output_batch,
    output_head,
    output_row,
    d_output_batch,
    d_output_head,
    d_output_row,
    d_q_batch,
    d_q_head,
    d_q_row,
    heads,
    key_heads,
    queries,
    keys,
    query_offset,
    window,
    scale,
    softcap,
    slopes,
    key_bias,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    MODIFIED: tl.constexpr,
    ENTROPY: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    DESCRIPTORS: tl.constexpr = False,
):
    """dQ = scale·dS·K of one query tile; `shift` and `delta` of its rows, as `score_gradients` has them.

    Strides and the rest are as in the forward kernel. What there is one of for each row is contiguous [batch, heads,
    queries] in float32; `d_lse` may be None, and ENTROPY says whether `entropy` and `d_entropy` are there.
    """
    tiles = tl.cdiv(queries, TILE_Q)
    tile = tiles - 1 - tl.program_id(0) % tiles
    batch = (tl.program_id(0) // tiles // heads).to(tl.int64)
    head = (tl.program_id(0) // tiles % heads).to(tl.int64)
    key_head = head * key_heads // heads
    first_query = tile * TILE_Q
    k += batch * k_batch + key_head * k_head
    v += batch * v_batch + key_head * v_head
    k = described(k, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, DESCRIPTORS)
    v = described(v, v_row, keys, TILE_K, VALUE_DIM, PADDED_VALUE_DIM, DESCRIPTORS)
    key_keep += batch * keys
    unit = scale
    if MODIFIED:
        unit = 1.0
    slope = slopes
    if slopes is not None:
        slope = tl.load(slopes + head)
    if key_bias is not None:
        key_bias += batch * keys
    query_tile = load_tile(
        q + batch * q_batch + head * q_head, first_query, q_row, queries, TILE_Q, HEAD_DIM, PADDED_HEAD_DIM, True, WIDEN
    )
    d_output_tile = load_tile(
        d_output + batch * d_output_batch + head * d_output_head,
        first_query,
        d_output_row,
        queries,
        TILE_Q,
        VALUE_DIM,
        PADDED_VALUE_DIM,
        True,
        WIDEN,
    )
    output_tile = load_tile(
        output + batch * output_batch + head * output_head,
        first_query,
        output_row,
        queries,
        TILE_Q,
        VALUE_DIM,
        PADDED_VALUE_DIM,
        True,
        WIDEN,
    )
    query_idx = first_query + tl.arange(0, TILE_Q)
    at = (batch * heads + head) * queries + query_idx
    here = query_idx < queries
    row_peak = tl.load(peak + at, mask=here, other=0.0)
    row_shift = tl.load(log_sum + at, mask=here, other=0.0)
    if not EXACT:
        row_shift += row_peak * unit
    row_shift *= LOG2_E
    row_delta = tl.sum(output_tile.to(tl.float32) * d_output_tile.to(tl.float32), axis=1)
    if d_lse is not None:
        row_delta -= tl.load(d_lse + at, mask=here, other=0.0)
    row_d_entropy = row_delta
    if ENTROPY:
        row_d_entropy = tl.load(d_entropy + at, mask=here, other=0.0)
        row_delta += row_d_entropy * tl.load(entropy + at, mask=here, other=0.0)
    tl.store(shift + at, row_shift, mask=here)
    tl.store(delta + at, row_delta, mask=here)
    sums = tl.zeros([TILE_Q, PADDED_HEAD_DIM], tl.float32)
    whole = True
    if KEY_KEEP:
        keys, whole = kept_keys(key_keep, keys)
    first, before, inside, after = tiles_of_keys(
        first_query, keys, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    before, inside, after = masked_unless(whole, before, inside, after)
    sums = _d_q_over_keys(
        sums, query_tile, d_output_tile, row_peak, row_shift, row_delta, row_d_entropy, k, v, key_keep, k_row, v_row,
        first + before * TILE_K, inside, 0, 0, query_idx, queries, keys, query_offset, window, scale, unit,
        softcap, slope, key_bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
        CAUSAL, WINDOW, KEY_KEEP, MODIFIED, ENTROPY, EXACT, WIDEN, TILE_K, DESCRIPTORS, False,
    )  # fmt: skip
    sums = _d_q_over_keys(
        sums, query_tile, d_output_tile, row_peak, row_shift, row_delta, row_d_entropy, k, v, key_keep, k_row, v_row,
        first, before + after, before, inside, query_idx, queries, keys, query_offset, window, scale, unit,
        softcap, slope, key_bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
        CAUSAL, WINDOW, KEY_KEEP, MODIFIED, ENTROPY, EXACT, WIDEN, TILE_K, DESCRIPTORS, True,
    )  # fmt: skip
    store_tile(
        d_q + batch * d_q_batch + head * d_q_head,
        sums * scale,
        first_query,
        d_q_row,
        queries,
        TILE_Q,
        HEAD_DIM,
        PADDED_HEAD_DIM,
        WIDEN,
    )


@triton.jit
def _d_q_over_keys(
    sums,
    query_tile,
    d_output_tile,
    row_peak,
    row_shift,
    row_delta,
    row_d_entropy,
    k,
    v,
    key_keep,
    k_row,
    v_row,
    first_key,
    count,
    gap_at,
    gap,
    query_idx,
    queries,
    keys,
    query_offset,
    window,
    scale,
    unit,
    softcap,
    slope,
    key_bias,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    MODIFIED: tl.constexpr,
    ENTROPY: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_K: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Σ dS·K over `count` tiles from `first_key` on, where `gap` tiles are left out after `gap_at`."""
    for number in range(0, count):
        at = first_key + number * TILE_K
        if EDGE:
            at = tl.where(number < gap_at, at, at + gap * TILE_K)
        key_tile = load_tile(k, at, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN, DESCRIPTORS)
        value_tile = load_tile(v, at, v_row, keys, TILE_K, VALUE_DIM, PADDED_VALUE_DIM, EDGE, WIDEN, DESCRIPTORS)
        scores = tl.dot(query_tile, tl.trans(key_tile), input_precision="ieee")
        d_weights = tl.dot(d_output_tile, tl.trans(value_tile), input_precision="ieee")
        passed = 1.0
        if MODIFIED:
            key_idx = at + tl.arange(0, TILE_K)
            bias = key_bias
            if key_bias is not None:
                # Finite, for the product of a weight 0 and a score -inf would be NaN.
                bias = tl.maximum(tl.load(key_bias + key_idx, mask=key_idx < keys, other=0.0), -1e30)[None, :]
            scores, passed = modified_scores(
                scores, query_idx[:, None], key_idx[None, :], query_offset, scale, softcap, slope, bias, EXACT
            )
        allowed = True
        if EDGE:
            allowed = may_attend(
                query_idx[:, None],
                at + tl.arange(0, TILE_K)[None, :],
                queries,
                keys,
                query_offset,
                window,
                key_keep,
                CAUSAL,
                WINDOW,
                KEY_KEEP,
            )
        _, d_scores = score_gradients(
            scores,
            d_weights,
            row_peak[:, None],
            row_shift[:, None],
            row_delta[:, None],
            row_d_entropy[:, None],
            allowed,
            unit,
            ENTROPY,
            EXACT,
            EDGE,
        )
        if softcap is not None:
            d_scores *= passed
        sums = tl.dot(factor(d_scores, key_tile, WIDEN), key_tile, sums, input_precision="ieee")
    return sums
