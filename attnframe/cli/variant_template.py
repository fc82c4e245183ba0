"""The file that a new variant starts from: it runs as it is, and the comments say what to fill in."""

from __future__ import annotations

import keyword

_TEMPLATE = '''"""{name}: say in a line what it does differently."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads


@register_attention("{name}")
class {cls}(Attention):
    """softmax(QKᵀ/(temperature·√d_k))V: the formula of the variant, on this one line.

    Reference: authors, year, section, URL. Our `temperature` is the paper's symbol for it.
    """

    # Decoding then gives `forward` new tokens alone: right while each key and value comes from its own token.
    cacheable = True

    def __init__(self, d_model: int, num_heads: int, bias: bool = True, *, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"temperature={{temperature}} must be above 0")
        self.num_heads = num_heads
        self.temperature = temperature
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_model, d_model, bias=bias)
        self.value_proj = nn.Linear(d_model, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        # `attend` brings mask, backend, dropout and recording along; `mask` says what each query may attend to.
        return self.output_proj(merge_heads(self.attend(q / self.temperature, k, v, mask)))
'''

# What the file imports: a class of the same name would hide it.
_IMPORTED = ("Attention", "Mask", "Tensor", "UserError")


def variant_source(name: str) -> str:
    """The text of a file that registers a working variant called `name`."""
    return _TEMPLATE.format(name=name, cls=class_name(name))


def class_name(name: str) -> str:
    """`name` as a class is called: ``my_idea`` gives ``MyIdea``."""
    cls = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return f"{cls}Variant" if cls in _IMPORTED or keyword.iskeyword(cls) else cls
