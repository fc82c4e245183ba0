"""Which cases are tried on which tilings, and what their results are worth."""

from __future__ import annotations

import torch
from gpu_suite.checking import chosen
from gpu_suite.points import DTYPES, architectures, case_of, interpreted_points, points
from kernel_cases import CASES, LONG_CASES

from attnframe.backends.triton import tilings

TABLE = tilings.table()
HOPPER = points(["sm_90", "any"], TABLE)


def test_every_case_is_tried_on_every_tiling_that_holds_it() -> None:
    assert len(HOPPER) == len(set(HOPPER))
    expected = {
        (name, dtype, f"{architecture}/{width}")
        for name in (*CASES, *LONG_CASES)
        for dtype in DTYPES
        for architecture in ("sm_90", "any")
        for width in TABLE[architecture][dtype]
        if max(case_of(name).head_dim, case_of(name).value_dim) <= int(width)
    }
    expected |= {(name, dtype, "sdpa") for name, case in CASES.items() for dtype in DTYPES if not case.changes_scores}
    expected |= {
        (name, dtype, f"reductions on {subject}")
        for name, dtype, subject in expected
        if subject != "sdpa" and not case_of(name).changes_scores
    }
    assert {(point.case, point.dtype, point.subject) for point in HOPPER} == expected
    assert {subject for _, _, subject in expected} >= {
        f"{architecture}/{width}" for architecture in TABLE for width in TABLE[architecture]["float16"]
    }


def test_first_come_the_tilings_that_nobody_has_to_choose() -> None:
    first = HOPPER[: len(DTYPES) * (len(CASES) + len(LONG_CASES))]
    assert {(point.case, point.dtype) for point in first} == {
        (name, dtype) for name in (*CASES, *LONG_CASES) for dtype in DTYPES
    }
    for point in first:
        case = case_of(point.case)
        needed = max(case.head_dim, case.value_dim)
        by_hand = tilings.entry("forward", "sm_90", getattr(torch, point.dtype), needed)
        with chosen(point.subject):
            assert tilings.entry("forward", "of no GPU", getattr(torch, point.dtype), 1) == by_hand


def test_a_chosen_tiling_is_of_its_subject_and_ends_with_it() -> None:
    before = tilings.entry("backward_keys", "sm_90", torch.float32, 32)
    with chosen("any/128"):
        names = ("TILE_Q", "TILE_K", "num_warps", "num_stages")
        wanted = dict(zip(names, TABLE["any"]["float32"]["128"]["backward_keys"], strict=True))
        assert tilings.entry("backward_keys", "sm_90", torch.float32, 32) == wanted != before
    assert tilings.entry("backward_keys", "sm_90", torch.float32, 32) == before


def test_a_gpu_runs_its_own_tilings_and_those_for_all() -> None:
    assert architectures((9, 0), TABLE) == ["sm_90", "any"]
    assert architectures((8, 0), TABLE) == ["any"]
    assert architectures((7, 5), TABLE) == []


def test_what_runs_beside_each_other_needs_other_kernels() -> None:
    first = [point for point in HOPPER if point.subject == HOPPER[0].subject and point.dtype == HOPPER[0].dtype][:5]
    kernels = {
        (
            *(case.head_dim, case.value_dim, case.causal, case.window is None, case.key_keep, case.statistics),
            *(case.layout, case.softcap, case.slopes, case.key_bias),
        )
        for case in (case_of(point.case) for point in first)
    }
    assert len(kernels) == len(first)


def test_longer_cases_have_several_tiles_of_a_gpu_and_the_same_mask() -> None:
    assert len(LONG_CASES) > 40
    for name, case in LONG_CASES.items():
        assert case.keys < 700
        short = CASES[name.removesuffix(", 7 times as long")]
        assert (case.keys, case.queries, case.query_offset) == tuple(
            7 * n for n in (short.keys, short.queries, short.query_offset)
        )
        if short.window is not None and short.window < short.keys:
            assert case.window == 7 * short.window
    assert max(case.queries for case in LONG_CASES.values()) > 3 * 128


def test_the_interpreter_gets_few() -> None:
    assert {point.dtype for point in interpreted_points()} == set(DTYPES)
    assert len(interpreted_points()) <= 5
