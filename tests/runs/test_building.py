"""What a run is built from."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, discovery, register_attention
from attnframe.errors import VariantFailed
from attnframe.model import SITES, AttentionFactory, VariantChoice
from attnframe.runs.building import try_attention


def test_a_mask_that_a_variant_refuses_at_its_site_is_found_before_anything_is_read() -> None:
    @register_attention("looks_ahead")
    class LooksAhead(Attention):
        """Mixes all keys."""

        def __init__(self, d_model: int, d_context: int | None = None) -> None:
            super().__init__()
            self.value_proj = nn.Linear(d_context or d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            if mask.causal:
                raise UserError("looks_ahead cannot keep to a causal mask")
            return query + self.value_proj(value).mean(dim=1, keepdim=True)

    def factory(**sites: str) -> AttentionFactory:
        names = dict.fromkeys(SITES, "multi_head") | sites
        choices = {site: (VariantChoice("multi_head"), VariantChoice(name)) for site, name in names.items()}
        return AttentionFactory(choices, d_model=8, encoder_d_model=8, num_heads=2)

    trainer = {"accelerator": "cpu", "precision": "32-true"}
    try_attention(factory(encoder_self="looks_ahead", cross="looks_ahead"), trainer)
    with pytest.raises(UserError, match=r"^decoder_self: looks_ahead cannot keep to a causal mask$"):
        try_attention(factory(decoder_self="looks_ahead"), trainer)


PLUGIN = """from torch import nn
from attnframe import Attention, register_attention


@register_attention("my_idea")
class MyIdea(Attention):
    def __init__(self, d_model: int, *, rank: int = 8, calls: str = "") -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, rank)
        self.calls = calls

    def forward(self, query, key, value, mask):
        return getattr(mask, self.calls)() if self.calls else 1 / query * missing
"""


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"rank": -3}, UserError, r"^cross: my_idea\(rank=-3\) raises \w+: .*negative.*my_idea.py, line 9\)$"),
        ({"rank": 8, "calls": "no_such"}, UserError, r"my_idea\(calls=no_such\) raises AttributeError: .* line 13\)$"),
        ({"rank": 8}, VariantFailed, r"^cross: my_idea raises NameError: .*line 13\); `attnframe check my_idea` shows"),
    ],
)
def test_what_the_code_of_a_variant_raises_names_site_options_and_line(
    options: dict[str, int], kind: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / "my_idea.py").write_text(PLUGIN, encoding="utf-8")
    discovery.load_plugin_file(tmp_path / "my_idea.py")
    choices = {"encoder_self": (VariantChoice("multi_head"),), "cross": (VariantChoice("my_idea", options),)}
    attention = AttentionFactory(choices, d_model=8, encoder_d_model=8, num_heads=2)
    with pytest.raises(kind, match=said) as caught:
        try_attention(attention, {"accelerator": "cpu", "precision": "32-true"})
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value.__cause__, UserError | VariantFailed)
