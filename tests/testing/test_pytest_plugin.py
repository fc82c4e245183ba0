"""The marker and the function in the tests of another package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attnframe.testing import CHECKS

VARIANT = '''
from attnframe import register_attention
from attnframe.attention.multi_head import MultiHead

@register_attention("outside")
class Outside(MultiHead):
    """Sees the next token."""
    def attend(self, q, k, v, mask, **how):
        return super().attend(q, k.roll(-1, 2), v.roll(-1, 2), mask, **how)
'''
TESTS = """
import outside, pytest
from attnframe.testing import attnframe_contract

@pytest.mark.attnframe_contract("outside", "multi_head", backend="eager")
def test_contract(attnframe_check):
    attnframe_check()

def test_function():
    attnframe_contract("outside", only=["shape", "axes"])
"""


@pytest.mark.slow
def test_one_test_for_each_check(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(VARIANT)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["attnframe.testing.pytest_plugin"]\n')
    (tmp_path / "test_outside.py").write_text(TESTS)
    choice = ["-k", "function or causal or padding or shape"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--strict-markers",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        *choice,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = dict(line.split(" ")[:2] for line in done.stdout.splitlines() if line.startswith("test_outside.py::"))
    results = {name.partition("::")[2]: result for name, result in lines.items()}
    assert results == {
        "test_contract[outside-shape]": "PASSED",
        "test_contract[outside-causal]": "FAILED",
        "test_contract[outside-padding]": "FAILED",
        "test_contract[multi_head-shape]": "PASSED",
        "test_contract[multi_head-causal]": "PASSED",
        "test_contract[multi_head-padding]": "PASSED",
        "test_function": "PASSED",
    }, done.stdout
    assert "outside: causal failed: backend=eager: causal, 7 tokens" in done.stdout
    assert f"{2 * (len(CHECKS) - 3)} deselected" in done.stdout
