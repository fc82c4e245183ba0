"""The suite's arithmetic: operations, turns, targets, the document and the page made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gpu_suite import l1_pass, report, timing
from gpu_suite.rows import Row, rows, tflops
from gpu_suite.targets import Target, targets

ROOT = Path(__file__).parents[2]

NUMBER = {"type": "number"}
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
SPREAD = {
    "type": "object",
    "required": ["median", "least", "greatest", "rounds"],
    "properties": {"median": NUMBER, "rounds": {"type": "array", "items": NUMBER}},
}
CONTENDER = {
    "type": "object",
    "required": ["ms", "tflops", "peak_mib", "kernels"],
    "properties": {
        "ms": SPREAD,
        "tflops": NUMBER,
        "kernels": {"type": "array", "items": {"type": "object", "required": ["name", "ms"]}},
    },
}
POINT = {
    "type": "object",
    "required": ["case", "dtype", "subject", "errors", "verdict", "complaints", "seconds"],
    "properties": {"verdict": {"enum": ["right", "wrong"]}, "complaints": TEXTS},
}
TARGET = {
    "type": "object",
    "required": ["name", "unit", "floor", "goal", "stretch", "value", "verdict", "values"],
    "properties": {"verdict": {"enum": ["not measured", "missed", "floor met", "goal met", "stretch met"]}},
}
SKIPPED = {"type": "object", "required": ["what", "why"], "properties": {"what": TEXT, "why": TEXT}}
ROW = {
    "type": "object",
    "required": ["row", "direction", "causal", "head_dim", "length", "batch", "heads", "flops", "contenders"],
    "properties": {"contenders": {"type": "object", "additionalProperties": CONTENDER}},
}
DOCUMENT = {
    "type": "object",
    "required": ["version", "machine", "seconds", "verdicts", "wrong", "targets", "benchmark", "points", "skipped"],
    "properties": {
        "version": {"const": 1},
        "machine": {"type": "object", "required": ["gpu", "driver", "torch", "triton"]},
        "seconds": NUMBER,
        "verdicts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "wrong": TEXTS,
        **{
            of: {"type": "array", "items": items}
            for of, items in (("targets", TARGET), ("benchmark", ROW), ("points", POINT), ("skipped", SKIPPED))
        },
    },
    "additionalProperties": False,
}
MACHINE = {"gpu": "A GPU", "driver": "1.2", "torch": "2.x", "triton": "3.x", "cuda": None}
POINTS = [
    ({"case": "plain", "dtype": "float16", "subject": "any/64"}, "right", []),
    ({"case": "no keys", "dtype": "float32", "subject": "any/64"}, "wrong", ["output is off by 3"]),
]


def contender(*rounds: float, tflops: float = 1.0, peak_mib: float = 2.0) -> dict[str, Any]:
    kernels = [{"name": "the kernel", "ms": rounds[0]}]
    return {"ms": timing.spread(rounds), "tflops": tflops, "peak_mib": peak_mib, "kernels": kernels}


def by_name(measured: list[tuple[Row, dict[str, Any]]]) -> dict[str, Target]:
    return {target.name: target for target in targets(measured)}


def test_operations_are_those_of_the_products() -> None:
    # Of 4 sequences and 16 heads, 4096 x 4096 scores of 128 products each, and as many again for the output; a
    # product and its sum are two operations.
    full = Row("forward", False, 128, 4096)
    assert full.flops == 2 * 2 * 4 * 16 * 4096 * 4096 * 128
    assert dataclasses.replace(full, causal=True).flops == full.flops / 2
    assert dataclasses.replace(full, direction="backward").flops == 2.5 * full.flops
    assert dataclasses.replace(full, direction="reductions").flops == full.flops / 2
    assert tflops(full, full.flops / 1e12 * 1000) == pytest.approx(1.0)


def test_all_rows_have_as_many_tokens_and_every_target_is_about_some() -> None:
    found = rows()
    assert len(found) == len(set(found))
    assert {row.batch * row.length for row in found} == {16384}
    assert {row.heads * row.head_dim for row in found} == {2048}
    # What a target is about comes first: time may run out.
    assert {(row.direction, row.causal, row.head_dim, row.flex) for row in found[:5]} == {
        *(("forward", False, 128, True), ("forward", True, 128, True), ("forward", False, 64, True)),
        *(("backward", False, 128, True), ("backward", False, 64, True)),
    }
    everything = {
        name: contender(1.0)
        for name in ("triton", "triton with statistics", "flex", "key reductions", "eager")
    }  # fmt: skip
    assert [target.name for target in targets([(row, everything) for row in found]) if not target.values] == []
    assert {target.verdict for target in targets([])} == {"not measured"}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(429.9, "missed"), (430, "floor met"), (499.9, "floor met"), (500, "goal met"), (580, "stretch met")],
)
def test_a_rate_is_the_worst_of_the_lengths_that_count(value: float, verdict: str) -> None:
    measured = [
        (Row("forward", False, 128, 4096), {"triton": contender(1.0, tflops=value)}),
        (Row("forward", False, 128, 8192), {"triton": contender(1.0, tflops=600)}),
        # Too short, another mask, another direction, another head: other targets, or none.
        (Row("forward", False, 128, 2048), {"triton": contender(1.0, tflops=1)}),
        (Row("forward", True, 128, 4096), {"triton": contender(1.0, tflops=2)}),
        (Row("backward", False, 128, 4096), {"triton": contender(1.0, tflops=3)}),
        (Row("forward", False, 64, 2048), {"triton": contender(1.0, tflops=4)}),
        (Row("forward", False, 128, 16384), {"flash": contender(1.0, tflops=5)}),
    ]
    found = by_name(measured)
    target = found["forward full d=128, L >= 4k"]
    assert (target.value, target.verdict) == (value, verdict)
    assert found["forward causal d=128, L >= 4k"].value == 2
    assert found["backward full d=128, L >= 4k"].value == 3
    assert found["forward full d=64, L >= 2k"].value == 4
    assert found["against Flex"].verdict == "not measured"


def test_ratios_are_taken_round_by_round() -> None:
    row = Row("forward", False, 128, 4096)
    # In each round the same share more; the medians of the two, of rounds apart, are 2 and 6.3.
    plain, more = contender(1.0, 2.0, 6.0), contender(1.05, 6.3, 2.1)
    found = by_name([(row, {"triton": plain, "triton with statistics": contender(1.05, 2.1, 6.3), "flex": more})])
    assert found["statistics on top of the forward"].value == pytest.approx(5.0)
    assert found["statistics on top of the forward"].verdict == "floor met"
    assert found["statistics on top of the backward"].verdict == "not measured"
    assert found["against Flex"].value == pytest.approx(1.05)
    reductions = {
        "triton": contender(1.0, 2.0),
        "key reductions": contender(0.7, 1.4, peak_mib=3),
        "eager": contender(2.1, 4.2, peak_mib=330),
    }
    found = by_name([(Row("reductions", False, 128, 4096), reductions)])
    assert (found["L1 pass, share of the forward"].value, found["L1 pass, share of the forward"].verdict) == (
        pytest.approx(0.7),
        "goal met",
    )
    assert found["L1 pass against eager at 4k, time"].verdict == "missed"
    assert found["L1 pass against eager at 4k, time"].value == pytest.approx(3.0)
    assert found["L1 pass against eager at 4k, memory"].value == pytest.approx(110)


def test_turns_begin_with_another_each_round_and_are_long_enough() -> None:
    turns: list[tuple[str, int]] = []
    speeds = {"slow": 4.0, "quick": 0.5}

    def timed(call: Callable[[], str], times: int) -> float:
        turns.append((call(), times))
        return speeds[call()] * times

    calls = {"slow": lambda: "slow", "quick": lambda: "quick"}
    found = timing.interleaved(calls, timed, rounds=3, least=10.0)
    assert found == {"slow": [4.0] * 3, "quick": [0.5] * 3}
    assert turns[4:] == [("slow", 3), ("quick", 20), ("quick", 20), ("slow", 3), ("slow", 3), ("quick", 20)]
    assert timing.interleaved({}, timed) == {}
    assert timing.spread([3.0, 1.0, 8.0]) == {"median": 3.0, "least": 1.0, "greatest": 8.0, "rounds": [3.0, 1.0, 8.0]}


def test_the_document_has_everything_and_the_page_says_it() -> None:
    row = Row("forward", False, 128, 4096)
    answer = {
        "contenders": {"triton": contender(1.0, 1.1, 0.9, tflops=512.0), "cudnn": contender(2.0, tflops=256.0)},
        "declined": {"flash": "RuntimeError: not here"},
        "complaints": ["the row: triton is 0.5 from flash; the limit is 0.016"],
    }
    answered = [
        (point, {"errors": {"output": [1e-7, 2e-7]}, "verdict": verdict, "complaints": lines, "seconds": 0.1})
        for point, verdict, lines in POINTS
    ]
    answered[1][1]["errors"] = {"output": [float("nan"), float("inf")]}
    dead = {"case": "plain", "dtype": "float32", "subject": "sdpa"}
    found = report.document(
        MACHINE,
        [*answered, (dead, {"died": "the process ended with -6: abort"})],
        [(dataclasses.asdict(row), answer), (dataclasses.asdict(Row("backward", True, 64, 512)), {"died": "gone"})],
        [{"what": "3 points (any/128 float32)", "why": "the time was up"}],
        123.4,
    )
    found = json.loads(json.dumps(found, allow_nan=False))
    jsonschema.validate(found, DOCUMENT)
    assert [point["errors"] for point in found["points"][:2]] == [{"output": [1e-7, 2e-7]}, {"output": ["nan", "inf"]}]
    assert found["verdicts"] == {"right": 1, "wrong": 2}
    assert found["wrong"] == [
        "no keys, float32, any/64: output is off by 3",
        "plain, float32, sdpa: the process ended with -6: abort",
        "the row: triton is 0.5 from flash; the limit is 0.016",
    ]
    assert [(skipped["what"], skipped["why"]) for skipped in found["skipped"]] == [
        ("3 points (any/128 float32)", "the time was up"),
        ("backward causal d=64 L=512", "gone"),
        ("flash in forward full d=128 L=4096", "RuntimeError: not here"),
    ]
    assert [(row["length"], row["batch"]) for row in found["benchmark"]] == [(4096, 4)]
    page = report.summary(found)
    for said in (
        "A GPU (driver 1.2, torch 2.x, triton 3.x), 123 s",
        "3 points, 1 right, 2 wrong",
        *(f"WRONG {line}" for line in found["wrong"]),
        "triton, forward: the kernel",
        "3 points (any/128 float32): the time was up",
    ):
        assert said in page
    lines = {" ".join(line.split()) for line in page.splitlines()}
    assert "forward full d=128, L >= 4k (TFLOP/s) 430 500 580 512 goal met" in lines
    assert "against Flex (x) 1 1.15 - - not measured" in lines


def test_the_pass_that_is_timed_is_the_kernel() -> None:
    tables = json.loads((ROOT / "attnframe/backends/triton/tilings.json").read_text(encoding="utf-8"))
    tiles = {
        tile for by_architecture in tables.values() for by_dtype in by_architecture.values()
        for by_width in by_dtype.values() for kernels in by_width.values() for tile in kernels["reduce_keys"][:2]
    }  # fmt: skip
    assert len(tiles) > 1
    assert all(l1_pass.BLOCK % tile == 0 for tile in tiles), "the reductions would be chunked ones"
