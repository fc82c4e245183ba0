"""The backward kernel for dK and dV. Each program owns a key tile: no atomics, so that equal inputs give equal bits."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.masked_tiles import kept_in_tile, masked_unless, may_attend, tiles_of_queries
from attnframe.backends.triton.modified_scores import modified_scores
from attnframe.backends.triton.score_gradients import score_gradients
from attnframe.backends.triton.tiles import described_heads, factor, load_tile, load_tile_of_head, store_tile


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def attention_backward_keys(
    q,
    k,
    v,
    key_keep,
    d_output,
    peak,
    shift,
    delta,
    d_entropy,
    d_k,
    d_v,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    d_output_batch,
    d_output_head,
    d_output_row,
    d_k_batch,
    d_k_head,
    d_k_row,
    d_v_batch,
    d_v_head,
    d_v_row,
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
    d_key_bias,
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
    """dK = scale·dSᵀ·Q and dV = Pᵀ·dO of one key tile, summed over the query heads that share the key head.

    Parameters as in the other kernels, of which `attention_backward_queries` made `shift` and `delta`; `d_key_bias` is
    contiguous [batch, key_heads, keys] in float32, or None.
    """
    tiles = tl.cdiv(keys, TILE_K)
    tile = tl.program_id(0) % tiles
    batch = (tl.program_id(0) // tiles // key_heads).to(tl.int64)
    key_head = (tl.program_id(0) // tiles % key_heads).to(tl.int64)
    group = heads // key_heads
    first_key = tile * TILE_K
    key_keep += batch * keys
    key_tile = load_tile(
        k + batch * k_batch + key_head * k_head, first_key, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, True, WIDEN
    )
    value_tile = load_tile(
        v + batch * v_batch + key_head * v_head,
        first_key,
        v_row,
        keys,
        TILE_K,
        VALUE_DIM,
        PADDED_VALUE_DIM,
        True,
        WIDEN,
    )
    key_idx = first_key + tl.arange(0, TILE_K)
    key_sums = tl.zeros([TILE_K, PADDED_HEAD_DIM], tl.float32)
    value_sums = tl.zeros([TILE_K, PADDED_VALUE_DIM], tl.float32)
    bias_sums = tl.zeros([TILE_K], tl.float32)
    bias = key_bias
    if key_bias is not None:
        # Finite, for the product of a weight 0 and a score -inf would be NaN.
        bias = tl.maximum(tl.load(key_bias + batch * keys + key_idx, mask=key_idx < keys, other=0.0), -1e30)
    if slopes is not None:
        slopes += key_head * group
    first, before, inside, after = tiles_of_queries(
        first_key, queries, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    if KEY_KEEP:
        some, each = kept_in_tile(key_keep, first_key, keys, TILE_K)
        before, inside, after = masked_unless(each & some, before, inside, after)
        before = tl.where(some, before, 0)
    # Of the first head of the group.
    q += batch * q_batch + key_head * group * q_head
    d_output += batch * d_output_batch + key_head * group * d_output_head
    q = described_heads(q, group, q_head, q_row, queries, TILE_Q, HEAD_DIM, PADDED_HEAD_DIM, DESCRIPTORS)
    d_output = described_heads(
        d_output, group, d_output_head, d_output_row, queries, TILE_Q, VALUE_DIM, PADDED_VALUE_DIM, DESCRIPTORS
    )
    rows = (batch * heads + key_head * group) * queries
    peak += rows
    shift += rows
    delta += rows
    d_entropy += rows
    key_sums, value_sums, bias_sums = _d_k_d_v_over_queries(
        key_sums, value_sums, bias_sums, key_tile, value_tile, q, d_output, peak, shift, delta, d_entropy, key_keep,
        q_head, q_row, d_output_head, d_output_row, group, first + before * TILE_Q, inside, 0, 0, key_idx,
        queries, keys, query_offset, window, scale, softcap, slopes, bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM,
        PADDED_VALUE_DIM, CAUSAL, WINDOW, KEY_KEEP, MODIFIED, ENTROPY, EXACT, WIDEN, TILE_Q, DESCRIPTORS,
        False,
    )  # fmt: skip
    key_sums, value_sums, bias_sums = _d_k_d_v_over_queries(
        key_sums, value_sums, bias_sums, key_tile, value_tile, q, d_output, peak, shift, delta, d_entropy, key_keep,
        q_head, q_row, d_output_head, d_output_row, group, first, before + after, before, inside, key_idx,
        queries, keys, query_offset, window, scale, softcap, slopes, bias, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM,
        PADDED_VALUE_DIM, CAUSAL, WINDOW, KEY_KEEP, MODIFIED, ENTROPY, EXACT, WIDEN, TILE_Q, DESCRIPTORS,
        True,
    )  # fmt: skip
    store_tile(
        d_k + batch * d_k_batch + key_head * d_k_head,
        key_sums * scale,
        first_key,
        d_k_row,
        keys,
        TILE_K,
        HEAD_DIM,
        PADDED_HEAD_DIM,
        WIDEN,
    )
    store_tile(
        d_v + batch * d_v_batch + key_head * d_v_head,
        value_sums,
        first_key,
        d_v_row,
        keys,
        TILE_K,
        VALUE_DIM,
        PADDED_VALUE_DIM,
        WIDEN,
    )
    if key_bias is not None:
        at = (batch * key_heads + key_head) * keys + key_idx
        tl.store(d_key_bias + at, bias_sums, mask=key_idx < keys)


@triton.jit
def _d_k_d_v_over_queries(
    key_sums,
    value_sums,
    bias_sums,
    key_tile,
    value_tile,
    q,
    d_output,
    peak,
    shift,
    delta,
    d_entropy,
    key_keep,
    q_head,
    q_row,
    d_output_head,
    d_output_row,
    group,
    first_query,
    count,
    gap_at,
    gap,
    key_idx,
    queries,
    keys,
    query_offset,
    window,
    scale,
    softcap,
    slopes,
    bias,
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
    DESCRIPTORS: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Σ dSᵀ·Q, Σ Pᵀ·dO and, with biases, Σ dS over `count` tiles of each head of the group, from `first_query` on,
    where `gap` tiles are left out after `gap_at`; scores stand as [key, query]."""
    # One loop, for of two the outer would keep the inner one's pointers in registers.
    member = 0
    number = 0
    for _ in range(0, group * count):
        at = first_query + number * TILE_Q
        if EDGE:
            at = tl.where(number < gap_at, at, at + gap * TILE_Q)
        query_tile = load_tile_of_head(
            q,
            member,
            q_head,
            at,
            q_row,
            queries,
            TILE_Q,
            HEAD_DIM,
            PADDED_HEAD_DIM,
            EDGE,
            WIDEN,
            DESCRIPTORS,
        )
        d_output_tile = load_tile_of_head(
            d_output,
            member,
            d_output_head,
            at,
            d_output_row,
            queries,
            TILE_Q,
            VALUE_DIM,
            PADDED_VALUE_DIM,
            EDGE,
            WIDEN,
            DESCRIPTORS,
        )
        query_idx = at + tl.arange(0, TILE_Q)
        row = member * queries + query_idx
        row_shift = tl.load(shift + row, mask=query_idx < queries, other=0.0)
        row_peak = row_shift
        if EXACT:
            row_peak = tl.load(peak + row, mask=query_idx < queries, other=0.0)
        row_delta = tl.load(delta + row, mask=query_idx < queries, other=0.0)
        row_d_entropy = row_delta
        if ENTROPY:
            row_d_entropy = tl.load(d_entropy + row, mask=query_idx < queries, other=0.0)
        scores = tl.dot(key_tile, tl.trans(query_tile), input_precision="ieee")
        d_weights = tl.dot(value_tile, tl.trans(d_output_tile), input_precision="ieee")
        unit = scale
        passed = 1.0
        if MODIFIED:
            unit = 1.0
            slope = slopes
            if slopes is not None:
                slope = tl.load(slopes + member)
            column = bias
            if bias is not None:
                column = bias[:, None]
            scores, passed = modified_scores(
                scores, query_idx[None, :], key_idx[:, None], query_offset, scale, softcap, slope, column, EXACT
            )
        allowed = True
        if EDGE:
            allowed = may_attend(
                query_idx[None, :],
                key_idx[:, None],
                queries,
                keys,
                query_offset,
                window,
                key_keep,
                CAUSAL,
                WINDOW,
                KEY_KEEP,
            )
        weights, d_scores = score_gradients(
            scores,
            d_weights,
            row_peak[None, :],
            row_shift[None, :],
            row_delta[None, :],
            row_d_entropy[None, :],
            allowed,
            unit,
            ENTROPY,
            EXACT,
            EDGE,
        )
        value_sums = tl.dot(factor(weights, d_output_tile, WIDEN), d_output_tile, value_sums, input_precision="ieee")
        if bias is not None:
            bias_sums += tl.sum(d_scores, axis=1)
        if softcap is not None:
            d_scores *= passed
        key_sums = tl.dot(factor(d_scores, query_tile, WIDEN), query_tile, key_sums, input_precision="ieee")
        number += 1
        member = tl.where(number == count, member + 1, member)
        number = tl.where(number == count, 0, number)
    return key_sums, value_sums, bias_sums
