"""A run that trains on the kernels. Run by test_operator.py in a process of its own, where they are interpreted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_run import filled, metric_rows, tiny_run

from attnframe.backends import Request, Triton

STEPS = 200


def test_the_loss_falls_as_it_does_on_eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    declines = Triton.unsupported

    def as_on_a_gpu(backend: Triton, request: Request) -> list[str]:
        return declines(backend, dataclasses.replace(request, device="cuda"))

    monkeypatch.setattr(Triton, "unsupported", as_on_a_gpu)
    losses = {}
    for backend in ("triton", "eager"):
        tiny_run(
            tmp_path / backend,
            f"backend={backend}",
            "model.dropout=0",
            "model.attention_dropout=0",
            "model.num_layers=1",
            "model.num_heads=1",
            "data.max_tokens=50",
            "data.val_size=2",
            "data.test_size=2",
            "data.held_out_size=2",
            "callbacks.patterns.sentences=0",
            "callbacks.patterns.statistics=0",
            f"trainer.max_steps={STEPS}",
            f"trainer.val_check_interval={STEPS}",
            "trainer.log_every_n_steps=4",
        )
        losses[backend] = filled(metric_rows(tmp_path / backend), "train/loss")
    found, expected = losses["triton"], losses["eager"]
    assert list(found) == list(expected) == list(range(4, STEPS + 1, 4))
    assert expected[STEPS] < expected[4] - 0.3, "then it has learnt something"
    differences = {step: abs(found[step] - loss) for step, loss in expected.items()}
    assert max(differences.values()) <= 1e-3, differences
    assert max(differences.values()) > 0, "then both ran the same arithmetic"
