"""The operator's checks, and what the backend declines."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnframe.backends import Request, Triton, resolve
from attnframe.backends.triton import tilings

NO_SCORE_MOD = "triton has no score_mod but a soft cap, then a bias by distance, then one by key"
REQUEST = Request("cuda", torch.bfloat16, heads=4, key_heads=2, head_dim=128, value_dim=64)


@pytest.mark.slow
@pytest.mark.parametrize("checks", ["operator_checks.py", "training_checks.py"])
def test_it_is_right_in_the_interpreter(checks: str) -> None:
    file = Path(__file__).with_name(checks)
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cpu"}, "triton needs a GPU, and this is on cpu"),
        ({"device": "meta"}, "triton needs a GPU, and this is on meta"),
        ({"dtype": torch.float64}, "triton computes in float32, float16 and bfloat16, not in float64"),
        ({"value_dim": 129}, "triton takes heads up to 128 wide, and these are 129"),
        ({"dropout": 0.1}, "triton has no dropout of weights"),
        ({"score_mod": ("function",)}, NO_SCORE_MOD),
        ({"score_mod": ("softcap", "function")}, NO_SCORE_MOD),
        ({"score_mod": ("distance_bias", "softcap")}, NO_SCORE_MOD),
        ({"score_mod": ("softcap", "softcap")}, NO_SCORE_MOD),
        ({"mask_mod": True}, "triton has no mask_mod"),
        ({"normaliser": True}, "triton has no normaliser but the softmax"),
    ],
)
def test_what_it_declines(change: dict[str, object], reason: str) -> None:
    assert Triton().unsupported(REQUEST) == []
    assert Triton().unsupported(dataclasses.replace(REQUEST, **change)) == [reason]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "steps", [("softcap",), ("distance_bias",), ("softcap", "key_bias"), ("softcap", "distance_bias", "key_bias")]
)
def test_score_mods_that_it_runs(steps: tuple[str, ...]) -> None:
    assert Triton().unsupported(dataclasses.replace(REQUEST, score_mod=steps)) == []


def test_where_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert Triton().unsupported(REQUEST) == ["triton is not installed: pip install 'attnframe[triton]'"]


def test_auto_leaves_it_to_be_asked_for() -> None:
    for request, taken in ((REQUEST, "sdpa"), (dataclasses.replace(REQUEST, score_mod=("softcap",)), "eager")):
        assert resolve("auto", [request]).backend.name == taken
        assert resolve("triton", [request]).backend.name == "triton"


def test_it_declines_the_widths_that_no_tiling_is_for() -> None:
    assert Triton().unsupported(dataclasses.replace(REQUEST, head_dim=tilings.WIDEST)) == []
    assert Triton().unsupported(dataclasses.replace(REQUEST, head_dim=tilings.WIDEST + 1)) != []


def test_naming_it_does_not_import_triton() -> None:
    program = (
        "import sys, attnframe.backends as b, torch; list(b.backends()); "
        "b.Triton().unsupported(b.Request('cuda', torch.float32, 1, 1, 8, 8)); sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
