from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CONSOLE_SCRIPT, environment
from PIL import Image
from terminal import printed_at_a_terminal

from attnframe.attention.capability import devices_at_hand
from attnframe.backends import backends
from attnframe.bench import Benchmark
from attnframe.cli import bench, bench_lines
from attnframe.cli.bench_table import COLUMNS
from attnframe.errors import UserError

# The real one: `_apart` puts another in its place.
set_signal = signal.signal

SMALL = ("model.d_model=12", "model.num_heads=2", "bench.lengths=[5,11]", "bench.rounds=2", "device=cpu")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a conf/, and with what the command sets for its process restored afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR", "KINETO_LOG_LEVEL"):
        monkeypatch.setenv(name, "99" if name.startswith("K") else "")
    monkeypatch.setattr(signal, "signal", lambda *of: None)


def lines(*overrides: str) -> list[tuple[str, str]]:
    bench_lines.composition.prepare()
    return [
        (line.label, line.backend) for line in bench_lines.asked([*SMALL, "bench.timed=[module]", *overrides]).lines
    ]


def test_a_pipe_gets_a_row_for_each_combination_and_the_files_have_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table, picture = tmp_path / "table.csv", tmp_path / "picture.png"
    chosen = ("attention=multi_head,linear", "backend=eager,sdpa,triton", "--csv", str(table), f"--figure={picture}")
    assert bench.main([*SMALL, *chosen]) == 0
    header, *printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == [column.heading for column in COLUMNS]
    ran = [("multi_head", "eager"), ("multi_head", "sdpa"), ("linear", "own")]
    declined = [("module", "multi_head", "triton"), ("attend", "multi_head", "triton"), ("attend", "linear", "own")]
    expected = [("module", *pair, length) for length in ("5", "11") for pair in ran]
    expected += [("attend", *pair, length) for length in ("5", "11") for pair in ran[:2]]
    place = [header.index(name) for name in ("timed", "variant", "backend", "length")]
    assert [tuple(row[index] for index in place) for row in printed] == [
        *expected,
        *((*names, "") for names in declined),
    ]
    with table.open(encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == len(printed)
    for row, record in zip(printed, kept, strict=True):
        for column, cell in zip(COLUMNS, row, strict=True):
            value = record[column.key]
            scale = 1e3 if "_seconds" in column.key and "growth" not in column.key else 1
            scale = 2**-20 if column.key.endswith("_peak_bytes") else scale
            if cell and column.heading.split()[-1] in ("ms", "quartile", "TFLOP/s", "MiB", "length^"):
                assert float(cell) == pytest.approx(scale * float(value), rel=0.006, abs=0.0051)
            else:
                assert cell == {"True": "yes", "False": "no"}.get(value, value)
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_json_has_the_whole_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([*SMALL, "backend=sdpa", "bench.timed=[attend]", "bench.causal=true,false", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["interrupted"] is False
    assert [(row["causal"], row["length"]) for row in found["rows"]] == [
        (True, 5), (False, 5), (True, 11), (False, 11)
    ]  # fmt: skip
    for row in found["rows"]:
        assert row["forward_kernels"][0] == row["forward_kernel"]
        assert row["forward_kernel"] == "aten::_scaled_dot_product_flash_attention_for_cpu"
        assert row["rounds"] == 2
        products = 2 * 2 * row["length"] ** 2 * 12 / (2 if row["causal"] else 1)
        assert row["forward_tflops"] * row["forward_seconds"] * 1e12 == pytest.approx(products)


def test_without_a_choice_every_backend_is_measured_but_what_is_taken_only_by_name() -> None:
    assert devices_at_hand()[0] == "cuda" or lines() == [
        ("multi_head", name) for name, backend in backends().items() if not backend.only_by_name
    ]
    assert lines("backend=auto") == [("multi_head", "auto")]
    assert lines("backend=flex") == [("multi_head", "flex")]


def test_choices_are_multiplied() -> None:
    assert lines("attention=low_rank_v", "attention.rank=2,3", "backend=eager,sdpa") == [
        ("low_rank_v(rank=2)", "eager"),
        ("low_rank_v(rank=2)", "sdpa"),
        ("low_rank_v(rank=3)", "eager"),
        ("low_rank_v(rank=3)", "sdpa"),
    ]
    assert len(lines("attention=glob(low_rank*)", "backend=eager")) == 2


def test_ctrl_c_prints_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = Benchmark.run

    def interrupted(self: Benchmark, advance: Callable[[float, float], None]) -> None:
        def stop(done: float, total: float) -> None:
            # In the rounds of the second length.
            if done > 0.85 * total:
                raise KeyboardInterrupt

        run(self, stop)

    monkeypatch.setattr(Benchmark, "run", interrupted)
    table = tmp_path / "table.csv"
    assert bench.main([*SMALL, "backend=eager", "bench.timed=[module]", "--csv", str(table)]) == 130
    said = capsys.readouterr()
    assert said.err == "attnframe bench: stopped; this is what was measured until then\n"
    assert len(said.out.splitlines()) == len(table.read_text(encoding="utf-8").splitlines()) == 3


SLOW_ONE = """
import pathlib, time
from torch import nn
from attnframe import Attention, register_attention

@register_attention("slow_one")
class SlowOne(Attention):
    '''A product with V, slow for more than 7 tokens.'''
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.value_proj = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask):
        if query.shape[1] > 7:
            pathlib.Path("begun").touch()
            time.sleep(1)
        return self.value_proj(query)
"""


@pytest.mark.slow
def test_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow_one.py").write_text(SLOW_ONE, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, "bench", *SMALL, "attention=slow_one"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        # A shell in the background would have it ignored.
        preexec_fn=lambda: set_signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 100
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "attnframe bench: stopped; this is what was measured until then\n"
    assert printed.splitlines()[0].startswith("timed\tvariant")
    assert [line.split("\t")[9] for line in printed.splitlines()[1:]] == ["5", ""]


@pytest.mark.slow
def test_at_a_terminal_what_all_have_in_common_is_said_once(tmp_path: Path) -> None:
    chosen = ("backend=eager,triton", "bench.timed=[module]")
    printed = printed_at_a_terminal("bench", *SMALL, *chosen, cwd=tmp_path, home=tmp_path, columns=110, seconds=100)
    assert printed.count("d_model 12") == 1
    assert "num_heads 2" in printed
    assert "5-11" in printed
    assert "±" in printed
    assert "module multi_head triton float32: backend=triton cannot run this" in printed
    assert "left" in printed, "the time that is left"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["attention=multi_heda"], "did you mean 'multi_head'"),
        (["backend=eagre"], "did you mean 'eager'"),
        (["bench.lenghts=[5]"], "did you mean 'lengths'"),
        (["bench.lengths=5,11"], r"brackets: bench.lengths=\[5,11\]"),
        (["bench.lengths=[]"], "bench.lengths is empty"),
        (["bench.lengths=[0,5]"], r"bench.lengths=\[0, 5\]: at least 1"),
        (["bench.lengths=64"], r"bench.lengths=64: this is a list, in brackets: bench.lengths=\[64\]"),
        (["bench.lengths=[five]"], "bench.lengths"),
        (["bench.tokens=0"], "bench.tokens=0: it must be a whole number from 1 on, or null"),
        (["bench.dtypes=[float23]"], "did you mean 'float32'"),
        (["bench.dtypes=[]"], "bench.dtypes is empty"),
        (["bench.timed=[modul]"], "did you mean 'module'"),
        (["bench.rounds=0"], "bench.rounds=0: it must be a whole number from 1 on"),
        (["bench.warm_up=-1"], "bench.warm_up=-1: it must be a whole number from 0 on"),
        (["bench.rounds=1,2"], "bench.rounds is the same for all lines"),
        (["model.d_model=interval(1,2)"], "give the values one by one"),
        (["model.num_heads=5"], "model.num_heads=5"),
        (["model=tiyn"], "did you mean 'tiny'"),
        (["data=grammar"], "data"),
        (["device=cuba"], "did you mean 'cuda'"),
        (["bench.rounds"], "neither KEY=VALUE nor a flag"),
        (["backend=eager,"], "is no override"),
        (["--jsn"], "did you mean '--json'"),
        (["--json=1"], "--json takes no value"),
        (["--csv"], "--csv needs its FILE"),
        (["--csv", "nowhere/a.csv"], "there is no folder nowhere"),
        (["--csv", "."], "this is a folder"),
        (["--figure", "a.gif"], "known: pdf, png, svg"),
    ],
)
def test_what_can_be_mended_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Benchmark, "run", lambda *of: pytest.fail("it was measured all the same"))
    with pytest.raises(UserError, match=sentence) as refused:
        bench.main(arguments)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_written_loses_no_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, text: str, encoding: str) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"--csv .*a\.csv: it cannot be written: No space left"):
        bench.main([*SMALL, "backend=eager", "bench.timed=[module]", "--csv", str(tmp_path / "a.csv")])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["-h"]) == 0
    assert "attnframe bench attention=multi_head,latent,linear" in capsys.readouterr().out
