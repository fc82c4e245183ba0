"""Where what a variant raises came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnframe import build_attention, discovery
from attnframe.attention.raising import name_of, place, plugin_that_raised

PLUGIN = """from torch import nn
from attnframe import Attention, register_attention


@register_attention("refuses_padding")
class NoPadding(Attention):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask):
        return self.proj(query).view(3, 5)
"""


def test_the_module_and_the_line_of_a_plugin_are_found_beneath_torch(tmp_path: Path) -> None:
    file = tmp_path / "refuses_padding.py"
    file.write_text(PLUGIN, encoding="utf-8")
    discovery.load_plugin_file(file)
    x = torch.zeros(1, 2, 11)
    cls = discovery.find_variant("refuses_padding").cls
    module = cls(11)
    with pytest.raises(RuntimeError) as caught:
        module(x, x, x)
    assert plugin_that_raised(caught.value) is module
    assert name_of(module) == "refuses_padding"
    assert place(caught.value) == f"{file.resolve()}, line 12"
    with pytest.raises(RuntimeError) as of_core:
        build_attention("multi_head", d_model=8, num_heads=2)(x, x, x)
    assert plugin_that_raised(of_core.value) is None
