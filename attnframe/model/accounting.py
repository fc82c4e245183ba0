"""Counting what a model costs on torch's meta device, where tensors have no memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnframe import discovery
from attnframe.attention import Attention, KeyValueCache, Mask
from attnframe.errors import UserError
from attnframe.model.counts import ModelCount, PartCount, SiteCount
from attnframe.model.layers import Embedding, FeedForward
from attnframe.model.seq2seq import Seq2Seq
from attnframe.model.sites import AttentionFactory, VariantChoice

DEFAULT_LENGTH = 128
"""Tokens in a sequence where nobody says otherwise."""


def count_attention(factory: AttentionFactory, *, length: int = DEFAULT_LENGTH) -> ModelCount:
    """The attention of every site that `factory` builds, in sequences of `length` tokens.

    Raises `UserError` for sizes that a variant cannot have, and for a variant that cannot run on the meta device.
    """
    _check_length(length)
    sites = []
    for site, choices in factory.choices.items():
        for choice, layers in _distinct(choices):
            sites.append(_count_site(factory, site, choices.index(choice), layers, length))
    return ModelCount(length, tuple(sites))


def count_seq2seq(
    factory: AttentionFactory,
    *,
    num_encoder_layers: int,
    num_decoder_layers: int,
    d_ff: int,
    vocabulary: tuple[int, int] | None = None,
    length: int = DEFAULT_LENGTH,
) -> ModelCount:
    """A `Seq2Seq` in full, for `length` source and `length` target tokens. Raises `UserError` as `count_attention`.

    `vocabulary` is the number of source and of target words; without it the count stops at the embeddings.
    """
    parts = count_parts(
        factory,
        num_encoder_layers=num_encoder_layers,
        num_decoder_layers=num_decoder_layers,
        d_ff=d_ff,
        vocabulary=vocabulary,
    )
    return dataclasses.replace(
        count_attention(factory, length=length),
        parts=parts,
        embedding_widths=None if vocabulary is not None else (factory.encoder_d_model, factory.d_model),
    )


def count_parts(
    factory: AttentionFactory,
    *,
    num_encoder_layers: int,
    num_decoder_layers: int,
    d_ff: int,
    vocabulary: tuple[int, int] | None = None,
) -> tuple[PartCount, ...]:
    """What a `Seq2Seq` has beside its attention, counted as `count_seq2seq` does. No variant is built."""
    src_words, tgt_words = vocabulary or (1, 1)
    with torch.device("meta"):
        model = Seq2Seq(
            src_vocab_size=src_words,
            tgt_vocab_size=tgt_words,
            attention=_NoAttention(**vars(factory)),
            num_encoder_layers=num_encoder_layers,
            num_decoder_layers=num_decoder_layers,
            d_ff=d_ff,
            dropout=0.0,
        )
    modules = list(_outside_attention(model))
    feed_forward = [module for module in modules if isinstance(module, FeedForward)]
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    # Each token goes through these alone, so one says what it costs in a sequence of any length.
    flops = sum(_flops(module, _zeros(1, _width(module))) for module in feed_forward)
    parts = [
        PartCount("feed-forward", _parameters(*feed_forward), flops),
        PartCount("norms", _parameters(*norms), 0),
    ]
    if vocabulary is not None:
        embeddings = [module for module in modules if isinstance(module, Embedding)]
        # Looking a word up is no product; the logits, with the tied target embeddings, are.
        parts.append(PartCount("embeddings", _parameters(*embeddings), 2 * tgt_words * factory.d_model))
    return tuple(parts)


class _NoAttention(AttentionFactory):
    """The sizes of a model whose attention is counted elsewhere."""

    def build(self, site: str, layer: int) -> Attention:
        return Attention()


def _count_site(factory: AttentionFactory, site: str, layer: int, layers: int, length: int) -> SiteCount:
    choice = factory.choices[site][layer]
    d_model, d_context = factory.widths(site)
    try:
        with torch.device("meta"):
            module = _weightless(factory).build(site, layer)
            module.eval()
            kept = 0 if site == "encoder_self" else _kept_per_token(module, d_model, d_context)
            query = _zeros(length, d_model)
            context = query if d_context == d_model else _zeros(length, d_context)
            mask = Mask(causal=site == "decoder_self")
            flops = _flops(module, query, context, context, mask)
    except UserError:
        raise
    except Exception as error:  # a variant's code is anybody's
        raise UserError(
            f"{site}: {choice.name} cannot be counted without weights, on torch's meta device: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    return SiteCount(
        site=site,
        variant=choice.name,
        options=dict(choice.options),
        layers=layers,
        heads=factory.num_heads if "num_heads" in discovery.find_variant(choice.name).takes else 1,
        length=length,
        layer_parameters=_parameters(module),
        layer_flops=flops,
        layer_cache=kept,
    )


def _kept_per_token(module: Attention, d_model: int, d_context: int) -> int | None:
    """Elements that a cache holds of each of two tokens that come one after the other, None if `module` cannot."""
    if not module.can_be_cached:
        return None
    cache = KeyValueCache([module])
    with torch.no_grad(), cache.attached():
        for step in range(2):
            query = _zeros(1, d_model)
            context = query if d_context == d_model else _zeros(1, d_context)
            module(query, context, context, Mask(causal=True, query_offset=step, key_offset=step))
    return cache.elements // 2


def _distinct(choices: Sequence[VariantChoice]) -> list[tuple[VariantChoice, int]]:
    """Each choice once, in the order of the layers, with the number of layers that have it."""
    # Options may be lists, so choices have no hash to count by.
    found: list[VariantChoice] = []
    for choice in choices:
        if choice not in found:
            found.append(choice)
    return [(choice, sum(other == choice for other in choices)) for choice in found]


def _weightless(factory: AttentionFactory) -> AttentionFactory:
    """The same mathematics on the one backend that runs everything, also on the meta device."""
    return dataclasses.replace(factory, backend="eager")


def _outside_attention(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if not isinstance(child, Attention):
            yield child
            yield from _outside_attention(child)


def _parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _flops(module: nn.Module, *inputs: Tensor | Mask) -> int:
    """FLOPs of one forward pass, two for each multiply-add of a matrix product."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops())


def _width(feed_forward: FeedForward) -> int:
    first = feed_forward[0]
    assert isinstance(first, nn.Linear)
    return first.in_features


def _zeros(length: int, width: int) -> Tensor:
    return torch.zeros(1, length, width, device="meta")


def _check_length(length: int) -> None:
    if length < 1:
        raise UserError(f"length={length} must be at least 1 token")
