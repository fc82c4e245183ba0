"""A run trains on every backend as it does on `eager`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_run import filled, metric_rows, tiny_run

STEPS = 200


@pytest.mark.slow
def test_the_loss_falls_as_it_does_on_eager(backend_name: str, device: torch.device, tmp_path: Path) -> None:
    if backend_name == "eager":
        pytest.skip("eager is what the others are compared with")
    losses = {}
    for backend in (backend_name, "eager"):
        tiny_run(
            tmp_path / backend,
            f"backend={backend}",
            "model.dropout=0",
            "model.attention_dropout=0",
            "callbacks.patterns.sentences=0",
            "callbacks.patterns.statistics=0",
            f"trainer.max_steps={STEPS}",
            "trainer.val_check_interval=100",
            "trainer.log_every_n_steps=4",
            f"trainer.accelerator={'gpu' if device.type == 'cuda' else device.type}",
        )
        losses[backend] = filled(metric_rows(tmp_path / backend), "train/loss")
    found, expected = losses[backend_name], losses["eager"]
    assert list(found) == list(expected) == list(range(4, STEPS + 1, 4))
    assert expected[STEPS] < expected[4] - 0.3, "then it has learnt something"
    for step, loss in expected.items():
        assert abs(found[step] - loss) <= 1e-3, f"step {step}: {found[step]} and eager {loss}"
