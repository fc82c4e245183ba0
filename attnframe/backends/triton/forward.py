"""The forward kernel: softmax(QKᵀ·scale)V tile by tile, and the statistics of its rows on the way."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.masked_tiles import kept_keys, masked_unless, may_attend, tiles_of_keys
from attnframe.backends.triton.modified_scores import modified_scores
from attnframe.backends.triton.tiles import described, factor, load_tile, store_tile

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


# Lengths and counts of all kinds share one compiled kernel.
@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def attention_forward(
    q,
    k,
    v,
    key_keep,
    output,
    lse,
    peak,
    log_sum,
    entropy,
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
    STATISTICS: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    DESCRIPTORS: tl.constexpr = False,
):
    """One query tile of one head of one sequence. The online softmax of Milakov & Gimelshein 2018,
    https://arxiv.org/abs/1805.02867, in tiles as in Dao 2023, https://arxiv.org/abs/2307.08691.

    `x_batch`, `x_head`, `x_row` are strides; rows are contiguous. `lse`, `peak`, `log_sum` and `entropy` are
    contiguous [batch, heads, queries] in float32: LSE = peak·scale + log_sum, with the greatest score before scaling as
    the peak. `key_keep` is contiguous [batch, keys] in bytes; it and `entropy` are there where KEY_KEEP and STATISTICS
    say so. `softcap`, `slopes` [heads] and `key_bias` [batch, keys] in float32 may each be None. MODIFIED says that one
    is not: then the peak is scaled. EXACT subtracts scores before it scales them.
    """
    tiles = tl.cdiv(queries, TILE_Q)
    # Under a causal mask the last tiles have most to do: they start first.
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
        q + batch * q_batch + head * q_head,
        first_query,
        q_row,
        queries,
        TILE_Q,
        HEAD_DIM,
        PADDED_HEAD_DIM,
        True,
        WIDEN,
    )
    # m is finite where nothing was seen yet: -inf - -inf would be NaN.
    m = tl.full([TILE_Q], -1e30, tl.float32)
    l = tl.zeros([TILE_Q], tl.float32)
    t = tl.zeros([TILE_Q], tl.float32)
    sums = tl.zeros([TILE_Q, PADDED_VALUE_DIM], tl.float32)
    whole = True
    if KEY_KEEP:
        keys, whole = kept_keys(key_keep, keys)
    first, before, inside, after = tiles_of_keys(
        first_query, keys, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    before, inside, after = masked_unless(whole, before, inside, after)
    m, l, t, sums = _over_keys(
        m, l, t, sums, query_tile, k, v, key_keep, k_row, v_row, first + before * TILE_K, inside, 0, 0, first_query,
        queries, keys, query_offset, window, scale, softcap, slope, key_bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM,
        PADDED_VALUE_DIM, CAUSAL, WINDOW, KEY_KEEP, MODIFIED, STATISTICS, EXACT, WIDEN, TILE_Q, TILE_K,
        DESCRIPTORS, False,
    )  # fmt: skip
    m, l, t, sums = _over_keys(
        m, l, t, sums, query_tile, k, v, key_keep, k_row, v_row, first, before + after, before, inside, first_query,
        queries, keys, query_offset, window, scale, softcap, slope, key_bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM,
        PADDED_VALUE_DIM, CAUSAL, WINDOW, KEY_KEEP, MODIFIED, STATISTICS, EXACT, WIDEN, TILE_Q, TILE_K,
        DESCRIPTORS, True,
    )  # fmt: skip

    blind = l == 0.0
    l = tl.where(blind, 1.0, l)
    store_tile(
        output + batch * output_batch + head * output_head,
        sums / l[:, None],
        first_query,
        output_row,
        queries,
        TILE_Q,
        VALUE_DIM,
        PADDED_VALUE_DIM,
        WIDEN,
    )
    query_idx = first_query + tl.arange(0, TILE_Q)
    at = (batch * heads + head) * queries + query_idx
    log_l = tl.log2(l) * LN_2
    tl.store(lse + at, tl.where(blind, float("-inf"), m * unit + log_l), mask=query_idx < queries)
    tl.store(peak + at, tl.where(blind, 0.0, m), mask=query_idx < queries)
    tl.store(log_sum + at, log_l, mask=query_idx < queries)
    if STATISTICS:
        # t is in bits; rounding may take the sum just below 0.
        tl.store(entropy + at, tl.maximum(log_l - t / l * LN_2, 0.0), mask=query_idx < queries)


@triton.jit
def _over_keys(
    m,
    l,
    t,
    sums,
    query_tile,
    k,
    v,
    key_keep,
    k_row,
    v_row,
    first_key,
    count,
    gap_at,
    gap,
    first_query,
    queries,
    keys,
    query_offset,
    window,
    scale,
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
    STATISTICS: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    EDGE: tl.constexpr,
):
    """(m, l, t, sums) after `count` tiles from `first_key` on, where `gap` tiles are left out after `gap_at`: the
    greatest score s, unscaled unless MODIFIED, Σp, Σp·x and Σp·v, where p = 2^x and x = (s - m)·log₂e, scaled."""
    bits = scale * LOG2_E
    if MODIFIED:
        bits = LOG2_E
    for number in range(0, count):
        at = first_key + number * TILE_K
        if EDGE:
            at = tl.where(number < gap_at, at, at + gap * TILE_K)
        key_tile = load_tile(k, at, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN, DESCRIPTORS)
        scores = tl.dot(query_tile, tl.trans(key_tile), input_precision="ieee")
        if MODIFIED:
            query_idx = first_query + tl.arange(0, TILE_Q)
            key_idx = at + tl.arange(0, TILE_K)
            bias = key_bias
            if key_bias is not None:
                bias = tl.load(key_bias + key_idx, mask=key_idx < keys, other=0.0)[None, :]
            scores, _ = modified_scores(
                scores, query_idx[:, None], key_idx[None, :], query_offset, scale, softcap, slope, bias, EXACT
            )
        if EDGE:
            allowed = may_attend(
                first_query + tl.arange(0, TILE_Q)[:, None],
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
            scores = tl.where(allowed, scores, float("-inf"))
        new_m = tl.maximum(m, tl.max(scores, axis=1))
        if EXACT:
            x = (scores - new_m[:, None]) * bits
        else:
            # One multiply-add an element.
            x = scores * bits - (new_m * bits)[:, None]
        p = tl.exp2(x)
        step = (m - new_m) * bits
        shrink = tl.exp2(step)
        if STATISTICS:
            if EDGE or MODIFIED:
                # x may be -inf; where it is so low p is 0.
                x = tl.maximum(x, -9999.0)
            t = shrink * (t + l * step) + tl.sum(p * x, axis=1)
        l = shrink * l + tl.sum(p, axis=1)
        value_tile = load_tile(v, at, v_row, keys, TILE_K, VALUE_DIM, PADDED_VALUE_DIM, EDGE, WIDEN, DESCRIPTORS)
        sums = tl.dot(factor(p, value_tile, WIDEN), value_tile, sums * shrink[:, None], input_precision="ieee")
        m = new_m
    return m, l, t, sums
