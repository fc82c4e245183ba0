"""The kernel for what is said of each query's row of the pattern. Each program owns a query tile."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.masked_tiles import kept_keys, masked_unless, may_attend, tiles_of_keys
from attnframe.backends.triton.tiles import load_tile

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)
NO_KEY: tl.constexpr = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window"])
def reduce_rows(
    q,
    k,
    key_keep,
    query_position,
    key_position,
    lse,
    log_sum,
    entropy,
    argmax,
    mean_position,
    mean_distance,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    heads,
    key_heads,
    queries,
    keys,
    query_offset,
    window,
    scale,
    HEAD_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
):
    """The rows of one query tile of one head of one sequence, by the online softmax of `attention_forward`.

    `query_position` and `key_position` are contiguous [batch, length] in float32, the results contiguous [batch, heads,
    queries] in float32, `argmax` in int32. `log_sum` is LSE less the greatest score.
    """
    tiles = tl.cdiv(queries, TILE_Q)
    # Under a causal mask the last tiles have most to do: they start first.
    tile = tiles - 1 - tl.program_id(0) % tiles
    batch = (tl.program_id(0) // tiles // heads).to(tl.int64)
    head = (tl.program_id(0) // tiles % heads).to(tl.int64)
    first_query = tile * TILE_Q
    k += batch * k_batch + (head * key_heads // heads) * k_head
    key_keep += batch * keys
    key_position += batch * keys
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
    query_idx = first_query + tl.arange(0, TILE_Q)
    row_position = tl.load(query_position + batch * queries + query_idx, mask=query_idx < queries, other=0.0)
    # m is finite where nothing was seen yet: -inf - -inf would be NaN.
    m = tl.full([TILE_Q], -1e30, tl.float32)
    l = tl.zeros([TILE_Q], tl.float32)
    t = tl.zeros([TILE_Q], tl.float32)
    best = tl.full([TILE_Q], NO_KEY, tl.int32)
    positions = tl.zeros([TILE_Q], tl.float32)
    distances = tl.zeros([TILE_Q], tl.float32)
    whole = True
    if KEY_KEEP:
        keys, whole = kept_keys(key_keep, keys)
    first, before, inside, after = tiles_of_keys(
        first_query, keys, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    before, inside, after = masked_unless(whole, before, inside, after)
    m, l, t, best, positions, distances = _rows_over_keys(
        m, l, t, best, positions, distances, query_tile, row_position, k, key_keep, key_position, k_row,
        first + before * TILE_K, inside, 0, 0, first_query, queries, keys, query_offset, window, scale,
        HEAD_DIM, PADDED_HEAD_DIM, CAUSAL, WINDOW, KEY_KEEP, EXACT, WIDEN, TILE_Q, TILE_K, False,
    )  # fmt: skip
    m, l, t, best, positions, distances = _rows_over_keys(
        m, l, t, best, positions, distances, query_tile, row_position, k, key_keep, key_position, k_row,
        first, before + after, before, inside, first_query, queries, keys, query_offset, window, scale,
        HEAD_DIM, PADDED_HEAD_DIM, CAUSAL, WINDOW, KEY_KEEP, EXACT, WIDEN, TILE_Q, TILE_K, True,
    )  # fmt: skip

    blind = l == 0.0
    l = tl.where(blind, 1.0, l)
    log_l = tl.log2(l) * LN_2
    at = (batch * heads + head) * queries + query_idx
    here = query_idx < queries
    tl.store(lse + at, tl.where(blind, float("-inf"), m * scale + log_l), mask=here)
    tl.store(log_sum + at, log_l, mask=here)
    # t is in bits; rounding may take the sum just below 0.
    tl.store(entropy + at, tl.maximum(log_l - t / l * LN_2, 0.0), mask=here)
    tl.store(argmax + at, tl.where(blind, -1, best), mask=here)
    tl.store(mean_position + at, tl.where(blind, float("nan"), positions / l), mask=here)
    tl.store(mean_distance + at, tl.where(blind, float("nan"), distances / l), mask=here)


@triton.jit
def _rows_over_keys(
    m,
    l,
    t,
    best,
    positions,
    distances,
    query_tile,
    row_position,
    k,
    key_keep,
    key_position,
    k_row,
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
    HEAD_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    EXACT: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    EDGE: tl.constexpr,
):
    """(m, l, t, best, positions, distances) after `count` tiles from `first_key` on, where `gap` tiles are left out
    after `gap_at`: m, l and t as in the forward kernel, the first key whose score is m, and Σ p times where keys are
    and how far away."""
    bits = scale * LOG2_E
    for number in range(0, count):
        at = first_key + number * TILE_K
        if EDGE:
            at = tl.where(number < gap_at, at, at + gap * TILE_K)
        key_tile = load_tile(k, at, k_row, keys, TILE_K, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN)
        scores = tl.dot(query_tile, tl.trans(key_tile), input_precision="ieee")
        key_idx = at + tl.arange(0, TILE_K)
        if EDGE:
            allowed = may_attend(
                first_query + tl.arange(0, TILE_Q)[:, None],
                key_idx[None, :],
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
        peak = tl.max(scores, axis=1)
        # Tiles do not come in order, so that of equals the earlier one is kept by its index.
        peak_at = tl.min(tl.where(scores == peak[:, None], key_idx[None, :], NO_KEY), axis=1)
        best = tl.where(peak > m, peak_at, tl.where(peak == m, tl.minimum(best, peak_at), best))
        new_m = tl.maximum(m, peak)
        if EXACT:
            x = (scores - new_m[:, None]) * bits
        else:
            # One multiply-add an element.
            x = scores * bits - (new_m * bits)[:, None]
        p = tl.exp2(x)
        step = (m - new_m) * bits
        shrink = tl.exp2(step)
        if EDGE:
            # x may be -inf; where it is so low p is 0.
            x = tl.maximum(x, -9999.0)
        t = shrink * (t + l * step) + tl.sum(p * x, axis=1)
        l = shrink * l + tl.sum(p, axis=1)
        position = tl.load(key_position + key_idx, mask=key_idx < keys, other=0.0)
        positions = shrink * positions + tl.sum(p * position[None, :], axis=1)
        away = tl.abs(row_position[:, None] - position[None, :])
        distances = shrink * distances + tl.sum(p * away, axis=1)
        m = new_m
    return m, l, t, best, positions, distances
