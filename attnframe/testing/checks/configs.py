"""Whether configs can describe a variant, and `describe` count it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attnframe.attention import Attention, KeyValueCache, Mask
from attnframe.errors import UserError
from attnframe.model.accounting import count_attention
from attnframe.model.sites import AttentionFactory, VariantChoice
from attnframe.registry import Variant
from attnframe.testing.subject import Subject
from attnframe.testing.verdicts import Check, Failure, case

_LENGTH = 11


def _schema(subject: Subject) -> str | None:
    variant = subject.variant
    defaults = _defaults(variant)
    config = {**defaults, **subject.options}
    with case(f"the options {config}"):
        variant.check(config)
        module = subject.build(**variant.arguments(config))
    shapes = [{name: x.shape for name, x in built.state_dict().items()} for built in (module, subject.build())]
    if shapes[0] != shapes[1]:
        raise Failure(f"built with {config}, and with the defaults among these left out, it has other parameters")
    for name, value in _defaults(variant).items():
        if value != defaults[name]:
            raise Failure(
                f"option {name}: the default is {defaults[name]!r} before a module is built and {value!r} after that"
            )
    return None


def _defaults(variant: Variant) -> dict[str, Any]:
    """Every option with its default, as a config holds it."""
    config = dataclasses.asdict(variant.schema()())
    if config.pop("name") != variant.name:
        raise Failure(f"the config of {variant.name} bears another name")
    return config


def _costs(subject: Subject) -> str | None:
    module = subject.with_backend("eager").build(dtype=torch.float32)
    x = subject.embeddings(_LENGTH, batch=1, dtype=torch.float32)
    site, mask = ("decoder_self", Mask(causal=True)) if _takes_causal(module, x) else ("encoder_self", Mask())
    factory = AttentionFactory(
        choices={site: (VariantChoice(subject.variant.name, dict(subject.options)),)},
        d_model=subject.d_model,
        encoder_d_model=subject.d_model,
        num_heads=subject.num_heads,
    )
    with case(f"counted without weights, {_LENGTH} tokens"):
        (counted,) = count_attention(factory, length=_LENGTH).sites
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        module(x, x, x, mask)
    found = {
        "parameters": (counted.layer_parameters, sum(parameter.numel() for parameter in module.parameters())),
        f"FLOPs of {_LENGTH} tokens": (counted.layer_flops, int(flops.get_total_flops())),
    }
    if module.can_be_cached and mask.causal:
        cache = KeyValueCache([module])
        with torch.no_grad():
            for step in range(_LENGTH):
                new = x[:, step : step + 1]
                with cache.attached():
                    module(new, new, new, Mask(causal=True, query_offset=step, key_offset=step))
        kept = None if counted.layer_cache is None else counted.layer_cache * _LENGTH
        found[f"kept numbers after {_LENGTH} tokens"] = (kept or 0, cache.elements)
    for what, (said, real) in found.items():
        if said != real:
            raise Failure(f"{what}: attnframe describe counts {said:,}, a module that is run has {real:,}")
    return None


def _takes_causal(module: Attention, x: Tensor) -> bool:
    """Whether it can stand at decoder_self: a mask may be refused."""
    try:
        module(x, x, x, Mask(causal=True))
    except UserError:
        return False
    return True


CHECKS = (
    Check(
        "schema",
        "the config that is read off the constructor builds the module that the constructor builds, each time anew",
        _schema,
        of_each_backend=False,
    ),
    Check(
        "costs",
        "parameters, FLOPs and cache, which attnframe describe counts without weights, are those of a module that runs",
        _costs,
        of_each_backend=False,
    ),
)
