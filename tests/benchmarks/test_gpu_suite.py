"""The GPU suite as it is started: without a GPU, without our dependencies, and in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# Distributions of ours that a machine with a GPU need not have, by the name that is imported.
ABSENT = {
    *("PIL", "cmaes", "hydra", "jaxtyping", "lightning", "matplotlib", "omegaconf", "optuna", "pytest", "rich"),
    *("sacrebleu", "scipy", "tokenizers", "wandb"),
}


def suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = [str(ROOT / "benchmarks" / "gpu_suite.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    result = suite("--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr == (
        "gpu_suite: torch finds no GPU on this machine (--interpret tries a few cases without one)\n"
    )
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_kernels_and_suite_need_torch_triton_and_numpy_only() -> None:
    program = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
try:
    import jaxtyping
except ImportError:
    print("absent")
import attnframe.backends.triton.attention, kernel_cases, kernel_errors
import gpu_suite.__main__, gpu_suite.benchmarking, gpu_suite.checking, gpu_suite.machine, gpu_suite.report
print("imported")
"""
    places = [ROOT, ROOT / "benchmarks", ROOT / "tests" / "backends" / "triton_kernels"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.stdout.split() == ["absent", "imported"], result.stderr


@pytest.mark.slow
def test_in_the_interpreter_it_tries_cases_and_writes_them_down(tmp_path: Path) -> None:
    result = suite("--interpret", "--out", str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "gpu_suite.json").read_text(encoding="utf-8"))
    assert found["verdicts"] == {"right": 5}
    assert {point["dtype"] for point in found["points"]} == {"bfloat16", "float16", "float32"}
    assert all(point["errors"].get("d_q", point["errors"].get("received"))[0] > 0 for point in found["points"])
    assert found["machine"]["gpu"] is None
    assert [skipped["what"] for skipped in found["skipped"]] == ["the benchmark"]
    assert "5 points, 5 right, 0 wrong" in result.stdout
    assert (tmp_path / "gpu_suite.txt").read_text(encoding="utf-8") in result.stdout


@pytest.mark.slow
def test_what_a_gpu_would_measure_runs_in_the_interpreter() -> None:
    places = [ROOT, ROOT / "benchmarks", ROOT / "tests" / "backends" / "triton_kernels"]
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
    script = Path(__file__).with_name("benchmark_in_the_interpreter.py")
    command = [sys.executable, "-W", "error", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    forward, causal_backward = json.loads(result.stdout)
    for found in (forward, causal_backward):
        # The CPU has a kernel of FlashAttention, and none of cuDNN.
        assert set(found["contenders"]) == {"triton", "triton with statistics", "flash"}
        assert set(found["declined"]) == {"cudnn"}
        assert found["complaints"] == []
        assert 0 < found["contenders"]["triton"]["difference"] < 0.01
        assert found["contenders"]["flash"]["ms"]["median"] == pytest.approx(1e-6)
    # 4 · batch · heads · length² · head_dim in a nanosecond; half of it, 2.5 times.
    operations = 4 * 2 * 2 * 32 * 32 * 16
    assert forward["contenders"]["triton"]["tflops"] == pytest.approx(operations / 1e3, abs=0.01)
    assert causal_backward["contenders"]["triton"]["tflops"] == pytest.approx(1.25 * operations / 1e3, abs=0.01)
