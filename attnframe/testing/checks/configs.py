"""Whether configs can describe a variant, and `describe` count it."""

from __future__ import annotations

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode

from attnframe.attention import KeyValueCache, Mask
from attnframe.model.accounting import count_attention
from attnframe.model.sites import AttentionFactory, VariantChoice
from attnframe.testing.subject import Subject
from attnframe.testing.verdicts import Check, Failure, case

_LENGTH = 11


def _schema(subject: Subject) -> str | None:
    variant = subject.variant
    config = dataclasses.asdict(variant.schema()())
    if config.pop("name") != variant.name:
        raise Failure(f"the config of {variant.name} bears another name")
    config |= subject.options
    with case(f"the options {config}"):
        variant.check(config)
        arguments = variant.arguments(config)
        shapes = {name: tensor.shape for name, tensor in subject.build(**arguments).state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in subject.build().state_dict().items()}:
        raise Failure(f"built with {config} and with the defaults left out it has other parameters")
    again = dataclasses.asdict(variant.schema()())
    again.pop("name")
    for option in variant.options:
        before = config[option.name] if option.name not in subject.options else again[option.name]
        if again[option.name] != before or option.default != before:
            raise Failure(f"option {option.name}: the default is {before!r} before a module is built, {again[option.name]!r} after")
    return None


def _costs(subject: Subject) -> str | None:
    factory = AttentionFactory(
        choices={"decoder_self": (VariantChoice(subject.variant.name, dict(subject.options)),)},
        d_model=subject.d_model,
        encoder_d_model=subject.d_model,
        num_heads=subject.num_heads,
    )
    with case(f"counted without weights, {_LENGTH} tokens"):
        (counted,) = count_attention(factory, length=_LENGTH).sites
    module = subject.with_backend("eager").build(dtype=torch.float32)
    x = subject.embeddings(_LENGTH, batch=1, dtype=torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        module(x, x, x, Mask(causal=True))
    found = {
        "parameters": (counted.layer_parameters, sum(parameter.numel() for parameter in module.parameters())),
        f"FLOPs of {_LENGTH} tokens": (counted.layer_flops, int(flops.get_total_flops())),
    }
    if module.can_be_cached:
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
