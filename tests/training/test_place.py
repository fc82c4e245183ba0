from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from attnframe.training.place import random_state, set_random_state


def draw() -> tuple[float, ...]:
    return (
        *torch.rand(3).tolist(),
        *torch.randn(2).tolist(),
        *np.random.normal(size=3),
        random.random(),
        random.gauss(),
    )


def test_random_numbers_go_on_from_a_file(tmp_path: Path) -> None:
    """An odd number of normal draws leaves half a pair in numpy's and Python's generators: it counts too."""
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    draw()
    torch.save(random_state(), tmp_path / "state")
    expected = draw()
    for other in (torch.manual_seed, np.random.seed, random.seed):
        other(0)
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draw() == expected
    assert draw() != expected
