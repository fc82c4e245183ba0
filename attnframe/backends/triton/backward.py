"""The backward kernels: one owns a query tile and its dQ, the other a key tile and its dK and dV. No atomics, so that
equal inputs give equal bits."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.tiles import key_range, load_tile, may_attend, query_range, store_tile

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def score_gradients(scores, d_weights, lse, delta, d_entropy, allowed, scale, ENTROPY: tl.constexpr, MASKED: tl.constexpr):
    """(P, dS) = (e^{s - LSE}, P∘(dP - δ - dH·(s - LSE))) with δ = rowsum(dO∘O) - dLSE + dH·H."""
    log_weights = scores * scale - lse
    weights = tl.exp2(log_weights * LOG2_E)
    gradients = d_weights - delta
    if ENTROPY:
        gradients -= d_entropy * log_weights
    gradients = weights * gradients
    if MASKED:
        # Also where the LSE is -inf, and with it the rest NaN.
        weights = tl.where(allowed, weights, 0.0)
        gradients = tl.where(allowed, gradients, 0.0)
    return weights, gradients


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def attention_backward_queries(
    q,
    k,
    v,
    key_keep,
    d_output,
    lse,
    delta,
    d_entropy,
    d_q,
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
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    ENTROPY: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
):
    """dQ = scale·dS·K of one query tile. Strides and the rest are as in the forward kernel; `lse`, `delta` and
    `d_entropy` are contiguous [batch, heads, queries] in float32."""
    tiles = tl.cdiv(queries, TILE_Q)
    tile = tiles - 1 - tl.program_id(0) % tiles
    batch = (tl.program_id(0) // tiles // heads).to(tl.int64)
    head = (tl.program_id(0) // tiles % heads).to(tl.int64)
    key_head = head * key_heads // heads
    first_query = tile * TILE_Q
    k += batch * k_batch + key_head * k_head
    v += batch * v_batch + key_head * v_head
    key_keep += batch * keys
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
    query_idx = first_query + tl.arange(0, TILE_Q)
    at = (batch * heads + head) * queries + query_idx
    row_lse = tl.load(lse + at, mask=query_idx < queries, other=0.0)
    row_delta = tl.load(delta + at, mask=query_idx < queries, other=0.0)
    row_d_entropy = row_delta
    if ENTROPY:
        row_d_entropy = tl.load(d_entropy + at, mask=query_idx < queries, other=0.0)
    sums = tl.zeros([TILE_Q, PADDED_HEAD_DIM], tl.float32)
    begin, inner_begin, inner_end, end = key_range(
        first_query, keys, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    if WINDOW:
        sums = _d_q_over_keys(
            sums, query_tile, d_output_tile, row_lse, row_delta, row_d_entropy, k, v, key_keep, k_row, v_row,
            begin, inner_begin, query_idx, queries, keys, query_offset, window, scale,
            HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
            CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_K, True,
        )  # fmt: skip
    sums = _d_q_over_keys(
        sums, query_tile, d_output_tile, row_lse, row_delta, row_d_entropy, k, v, key_keep, k_row, v_row,
        inner_begin, inner_end, query_idx, queries, keys, query_offset, window, scale,
        HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
        CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_K, False,
    )  # fmt: skip
    sums = _d_q_over_keys(
        sums, query_tile, d_output_tile, row_lse, row_delta, row_d_entropy, k, v, key_keep, k_row, v_row,
        inner_end, end, query_idx, queries, keys, query_offset, window, scale,
        HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
        CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_K, True,
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
    )


@triton.jit
def _d_q_over_keys(
    sums,
    query_tile,
    d_output_tile,
    row_lse,
    row_delta,
    row_d_entropy,
    k,
    v,
    key_keep,
    k_row,
    v_row,
    begin,
    end,
    query_idx,
    queries,
    keys,
    query_offset,
    window,
    scale,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    ENTROPY: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_K: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Σ dS·K over the keys from `begin` to `end`."""
    for first_key in range(begin, end, TILE_K):
        key_tile = load_tile(k, first_key, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN)
        value_tile = load_tile(v, first_key, v_row, keys, TILE_K, VALUE_DIM, PADDED_VALUE_DIM, EDGE, WIDEN)
        scores = tl.dot(query_tile, tl.trans(key_tile), input_precision="ieee")
        d_weights = tl.dot(d_output_tile, tl.trans(value_tile), input_precision="ieee")
        allowed = True
        if EDGE or KEY_KEEP:
            allowed = may_attend(
                query_idx[:, None],
                first_key + tl.arange(0, TILE_K)[None, :],
                queries,
                keys,
                query_offset,
                window,
                key_keep,
                CAUSAL,
                WINDOW,
                KEY_KEEP,
                EDGE,
            )
        _, d_scores = score_gradients(
            scores,
            d_weights,
            row_lse[:, None],
            row_delta[:, None],
            row_d_entropy[:, None],
            allowed,
            scale,
            ENTROPY,
            EDGE or KEY_KEEP,
        )
        sums = tl.dot(d_scores.to(key_tile.dtype), key_tile, sums, input_precision="ieee")
    return sums


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def attention_backward_keys(
    q,
    k,
    v,
    key_keep,
    d_output,
    lse,
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
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    ENTROPY: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
):
    """dK = scale·dSᵀ·Q and dV = Pᵀ·dO of one key tile, summed over the query heads that share the key head."""
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
        v + batch * v_batch + key_head * v_head, first_key, v_row, keys, TILE_K, VALUE_DIM, PADDED_VALUE_DIM, True, WIDEN
    )
    key_idx = first_key + tl.arange(0, TILE_K)
    key_sums = tl.zeros([TILE_K, PADDED_HEAD_DIM], tl.float32)
    value_sums = tl.zeros([TILE_K, PADDED_VALUE_DIM], tl.float32)
    begin, inner_begin, inner_end, end = query_range(
        first_key, queries, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    for member in range(0, group):
        head = key_head * group + member
        head_q = q + batch * q_batch + head * q_head
        head_d_output = d_output + batch * d_output_batch + head * d_output_head
        rows = (batch * heads + head) * queries
        if CAUSAL or WINDOW:
            key_sums, value_sums = _d_k_d_v_over_queries(
                key_sums, value_sums, key_tile, value_tile, head_q, head_d_output, lse + rows, delta + rows,
                d_entropy + rows, key_keep, q_row, d_output_row, begin, inner_begin, key_idx, queries, keys,
                query_offset, window, scale, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
                CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_Q, True,
            )  # fmt: skip
        key_sums, value_sums = _d_k_d_v_over_queries(
            key_sums, value_sums, key_tile, value_tile, head_q, head_d_output, lse + rows, delta + rows,
            d_entropy + rows, key_keep, q_row, d_output_row, inner_begin, inner_end, key_idx, queries, keys,
            query_offset, window, scale, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
            CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_Q, False,
        )  # fmt: skip
        key_sums, value_sums = _d_k_d_v_over_queries(
            key_sums, value_sums, key_tile, value_tile, head_q, head_d_output, lse + rows, delta + rows,
            d_entropy + rows, key_keep, q_row, d_output_row, inner_end, end, key_idx, queries, keys,
            query_offset, window, scale, HEAD_DIM, VALUE_DIM, PADDED_HEAD_DIM, PADDED_VALUE_DIM,
            CAUSAL, WINDOW, KEY_KEEP, ENTROPY, WIDEN, TILE_Q, True,
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
    )


@triton.jit
def _d_k_d_v_over_queries(
    key_sums,
    value_sums,
    key_tile,
    value_tile,
    q,
    d_output,
    lse,
    delta,
    d_entropy,
    key_keep,
    q_row,
    d_output_row,
    begin,
    end,
    key_idx,
    queries,
    keys,
    query_offset,
    window,
    scale,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    ENTROPY: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    EDGE: tl.constexpr,
):
    """Σ dSᵀ·Q and Σ Pᵀ·dO over the queries from `begin` to `end` of one head; scores stand as [key, query]."""
    for first_query in range(begin, end, TILE_Q):
        query_tile = load_tile(q, first_query, q_row, queries, TILE_Q, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN)
        d_output_tile = load_tile(
            d_output, first_query, d_output_row, queries, TILE_Q, VALUE_DIM, PADDED_VALUE_DIM, EDGE, WIDEN
        )
        query_idx = first_query + tl.arange(0, TILE_Q)
        row_lse = tl.load(lse + query_idx, mask=query_idx < queries, other=0.0)
        row_delta = tl.load(delta + query_idx, mask=query_idx < queries, other=0.0)
        row_d_entropy = row_delta
        if ENTROPY:
            row_d_entropy = tl.load(d_entropy + query_idx, mask=query_idx < queries, other=0.0)
        scores = tl.dot(key_tile, tl.trans(query_tile), input_precision="ieee")
        d_weights = tl.dot(value_tile, tl.trans(d_output_tile), input_precision="ieee")
        allowed = True
        if EDGE or KEY_KEEP:
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
                EDGE,
            )
        weights, d_scores = score_gradients(
            scores,
            d_weights,
            row_lse[None, :],
            row_delta[None, :],
            row_d_entropy[None, :],
            allowed,
            scale,
            ENTROPY,
            EDGE or KEY_KEEP,
        )
        value_sums = tl.dot(weights.to(d_output_tile.dtype), d_output_tile, value_sums, input_precision="ieee")
        key_sums = tl.dot(d_scores.to(query_tile.dtype), query_tile, key_sums, input_precision="ieee")
    return key_sums, value_sums
