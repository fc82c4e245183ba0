"""What the kernels are tried on: one table for the interpreter, and for a GPU where there is one."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor

DTYPES = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Case:
    """One call, as plain data. `key_keep` is "lengths" (a prefix of the keys), "holes" (any of them) or None;
    `score` is about the greatest score; of two sequences under a key_keep the second keeps nothing. `slopes` is whether
    scores fall with the distance; `key_bias` is "finite", or "holes" where some of it is -inf, that of key 0 too."""

    queries: int = 37
    keys: int = 53
    batch: int = 1
    heads: int = 1
    key_heads: int = 1
    head_dim: int = 32
    value_dim: int = 32
    causal: bool = False
    window: int | None = None
    query_offset: int = 0
    key_keep: str | None = None
    score: float | None = None
    layout: str = "heads first"
    statistics: bool = True
    scale: float | None = None
    softcap: float | None = None
    slopes: bool = False
    key_bias: str | None = None
    fast: bool = False

    @property
    def changes_scores(self) -> bool:
        """Whether softcap, slopes or biases do."""
        return self.softcap is not None or self.slopes or self.key_bias is not None


# The pairs that FlashAttention is tried on: https://github.com/Dao-AILab/flash-attention, tests/test_flash_attn.py.
FLASH_ATTENTION_LENGTHS = [
    (113, 203), (128, 217), (113, 211), (108, 256), (256, 512), (512, 256), (1024, 1024), (1023, 1024), (1024, 1023),
]  # fmt: skip
WIDTHS = [(40, 40), (80, 80), (96, 96), (64, 64), (128, 128), (16, 48), (24, 8), (3, 5), (128, 17)]
TAILS = [1, 15, 16, 17, 31, 32, 33, 47, 64, 65]

CASES: dict[str, Case] = {
    "plain": Case(fast=True),
    "without statistics": Case(statistics=False),
    "heads and batch": Case(batch=2, heads=3, key_heads=3, fast=True),
    "grouped": Case(heads=6, key_heads=2, head_dim=16, value_dim=16, causal=True),
    "one key head": Case(heads=3, key_heads=1, value_dim=24, batch=2, fast=True),
    "rows first": Case(layout="rows first", heads=2, key_heads=2, batch=2),
    "rows first, grouped": Case(layout="rows first", heads=4, key_heads=2, batch=2),
    "rows apart": Case(layout="rows apart", heads=2, key_heads=1),
    "columns apart": Case(layout="columns apart"),
    "causal square": Case(queries=61, keys=61, causal=True),
    "causal decoding": Case(queries=1, keys=71, causal=True, query_offset=70),
    "causal at the end": Case(queries=23, keys=67, causal=True, query_offset=44, fast=True),
    "causal at the end, more queries": Case(queries=67, keys=23, causal=True, query_offset=-44),
    "causal, more queries": Case(queries=67, keys=23, causal=True),
    "lengths": Case(batch=2, key_keep="lengths", fast=True),
    "lengths, causal": Case(batch=2, key_keep="lengths", causal=True, heads=2, key_heads=1),
    "holes": Case(batch=2, key_keep="holes", causal=True, query_offset=16, fast=True),
    "holes, window": Case(batch=2, key_keep="holes", window=9),
    # More than the kernels look at in one go to find what is kept.
    "lengths of thousands": Case(queries=17, keys=3101, key_keep="lengths"),
    "window": Case(queries=83, keys=89, window=7, fast=True),
    "window of itself": Case(queries=41, keys=41, window=0),
    "wide window": Case(queries=83, keys=89, window=40),
    "window wider than all": Case(window=2**31 - 1),
    "window, causal": Case(queries=89, keys=83, window=11, causal=True, query_offset=5),
    "window, causal, grouped": Case(queries=71, keys=71, window=17, causal=True, heads=4, key_heads=2),
    "window out of sight": Case(queries=37, keys=19, window=3, causal=True, query_offset=11, fast=True),
    "window wholly out of sight": Case(queries=37, keys=19, window=3, causal=True, query_offset=40),
    "no keys": Case(keys=0, fast=True),
    "no keys, causal": Case(keys=0, causal=True, heads=2, key_heads=1),
    "one key": Case(keys=1),
    "one query and key": Case(queries=1, keys=1, causal=True),
    "scores of 60": Case(score=60.0),
    "scores of 1e4": Case(score=1e4, fast=True),
    "scores of 1e4, causal": Case(score=1e4, causal=True, queries=67, keys=67),
    "all scores alike": Case(scale=0.0),
    "negative scale": Case(scale=-0.5),
    "softcap": Case(softcap=1.3, fast=True),
    "softcap that is out of reach": Case(softcap=50.0),
    "softcap, scores of 60": Case(score=60.0, softcap=20.0),
    "softcap, scores of 1e4": Case(score=1e4, softcap=30.0),
    "softcap, negative scale": Case(scale=-0.5, softcap=2.0, causal=True),
    "softcap, grouped, causal": Case(queries=61, keys=61, heads=2, key_heads=1, softcap=2.0, causal=True),
    "softcap, lengths, window": Case(batch=2, key_keep="lengths", window=9, softcap=2.0),
    "softcap, wide heads": Case(head_dim=80, value_dim=40, softcap=5.0, causal=True),
    "slopes": Case(heads=2, key_heads=2, slopes=True),
    "slopes, grouped, causal at the end": Case(
        queries=23, keys=67, heads=4, key_heads=2, causal=True, query_offset=44, slopes=True, fast=True
    ),
    "slopes, window": Case(queries=83, keys=89, heads=2, key_heads=1, window=7, query_offset=3, slopes=True),
    "slopes, holes": Case(batch=2, heads=2, key_heads=2, key_keep="holes", causal=True, query_offset=-5, slopes=True),
    "slopes, decoding": Case(queries=1, keys=71, heads=2, key_heads=1, causal=True, query_offset=70, slopes=True),
    "slopes, no keys": Case(keys=0, heads=2, key_heads=2, slopes=True, softcap=2.0),
    "softcap and slopes": Case(batch=2, heads=2, key_heads=1, key_keep="lengths", softcap=1.5, slopes=True, fast=True),
    "softcap and slopes, tails": Case(queries=65, keys=33, heads=2, key_heads=2, softcap=3.0, slopes=True, causal=True),
    "softcap and slopes, without statistics": Case(statistics=False, softcap=3.0, slopes=True),
    "key bias": Case(batch=2, heads=2, key_heads=2, key_bias="finite"),
    "key bias with holes, causal": Case(batch=2, heads=2, key_heads=1, key_bias="holes", causal=True, fast=True),
    "key bias, lengths": Case(batch=2, key_keep="lengths", key_bias="finite", statistics=False),
    "softcap, slopes and key bias": Case(
        61, 47, heads=4, key_heads=2, softcap=2.0, slopes=True, key_bias="holes", causal=True, query_offset=-7
    ),
    **{
        f"{queries} queries, {keys} keys, causal": Case(queries, keys, head_dim=64, value_dim=64, causal=True)
        for queries, keys in FLASH_ATTENTION_LENGTHS
    },
    **{f"widths {d} and {d_v}": Case(head_dim=d, value_dim=d_v, causal=True) for d, d_v in WIDTHS},
    **{f"tails of {n} keys": Case(keys=n, queries=n + 2, causal=n % 2 == 0) for n in TAILS},
}

POINTS = list(itertools.product(CASES, DTYPES))

LONGER = 7


def _longer(case: Case) -> Case:
    window = case.window if case.window is None or case.window > case.keys else case.window * LONGER
    return dataclasses.replace(
        case,
        queries=case.queries * LONGER,
        keys=case.keys * LONGER,
        query_offset=case.query_offset * LONGER,
        window=window,
    )


# For a GPU, where a tile holds the whole of most cases.
LONG_CASES: dict[str, Case] = {
    f"{name}, {LONGER} times as long": _longer(case)
    for name, case in CASES.items()
    if 0 < case.keys < 100 and case.queries < 100
}


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v, leaves that need a gradient, rounded to `dtype` and laid out as the case says."""
    generator = torch.Generator().manual_seed(29)
    found = []
    for heads, rows, width in (
        (case.heads, case.queries, case.head_dim),
        (case.key_heads, case.keys, case.head_dim),
        (case.key_heads, case.keys, case.value_dim),
    ):
        x = torch.randn(case.batch, heads, rows, width, generator=generator, dtype=torch.float64).to(device, dtype)
        if case.layout == "rows first":
            x = x.transpose(1, 2).contiguous().transpose(1, 2)
        elif case.layout == "rows apart":
            x = torch.cat([x, torch.full_like(x, torch.nan)], dim=-1)[..., :width]
        elif case.layout == "columns apart":
            x = x.transpose(2, 3).contiguous().transpose(2, 3)
        found.append(x.detach().requires_grad_())
    return found[0], found[1], found[2]


def scale_of(case: Case) -> float:
    """The factor of the scores."""
    if case.scale is not None:
        return case.scale
    # Of some thousand scores that are normal with variance head_dim the greatest is some 3.5 deviations out.
    return (1.0 if case.score is None else case.score / 3.5) / case.head_dim**0.5


def key_keep_of(case: Case, device: torch.device) -> Tensor | None:
    """Bool[batch, key], True for a key that counts."""
    if case.key_keep is None:
        return None
    at = torch.arange(case.keys, device=device)
    first = at < case.keys * 2 // 3 if case.key_keep == "lengths" else (at * 7 + 3) % 5 < 3
    return torch.stack([first, *[torch.zeros_like(first)] * (case.batch - 1)])


def slopes_of(case: Case, device: torch.device) -> Tensor | None:
    """What each head takes off for a token between query and key."""
    return 2.0 ** -torch.arange(1.0, case.heads + 1, device=device) if case.slopes else None


def key_bias_of(case: Case, device: torch.device) -> Tensor | None:
    """[batch, key] in float32, a leaf that needs a gradient."""
    if case.key_bias is None:
        return None
    bias = torch.randn(case.batch, case.keys, generator=torch.Generator().manual_seed(37)).to(device)
    if case.key_bias == "holes":
        bias[torch.arange(case.keys, device=device).expand_as(bias) % 5 == 0] = -torch.inf
    return bias.requires_grad_()
