"""What a model costs: parameters, FLOPs and cache, counted on torch's meta device, where tensors have no memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnframe import discovery
from attnframe.attention import Attention, KeyValueCache, Mask
from attnframe.errors import UserError
from attnframe.model.layers import Embedding, FeedForward
from attnframe.model.seq2seq import Seq2Seq
from attnframe.model.sites import AttentionFactory, VariantChoice

DEFAULT_LENGTH = 128
"""Tokens in a sequence where nobody says otherwise."""

FP32_BYTES = 4


@dataclass(frozen=True)
class SiteCount:
    """The layers of one site that have the same variant with the same options.

    - `heads`: the model's heads, or 1 for a variant that does not take `num_heads`
    - `layer_parameters`: numbers that are trained, in one layer
    - `length`: tokens in the sequence, and in the other one for cross-attention
    - `layer_flops`: of one layer's forward pass over one sequence. A multiply-add is two; matrix products only, on
      the eager backend, so that causality saves none
    - `layer_cache`: elements that a cached decoder keeps of one token, in one layer: keys and values of every
      `attend`, or what the variant keeps in their place. Tokens are the target's for `decoder_self` and the source's
      for `cross`; `encoder_self` keeps 0, for an encoder runs once. None for a variant that cannot be cached: its
      prefix is recomputed
    """

    site: str
    variant: str
    options: Mapping[str, Any]
    layers: int
    heads: int
    length: int
    layer_parameters: int
    layer_flops: int
    layer_cache: int | None

    @property
    def head_parameters(self) -> int | float:
        """Parameters of one layer for each of its heads."""
        return _quotient(self.layer_parameters, self.heads)

    @property
    def parameters(self) -> int:
        """Parameters of all layers."""
        return self.layers * self.layer_parameters

    @property
    def flops_per_token(self) -> int | float:
        """FLOPs of all layers' forward pass for each token of a sequence of `length`."""
        return _quotient(self.layers * self.layer_flops, self.length)

    @property
    def cache_per_token(self) -> int | None:
        """Elements that all layers keep of one token, None if recomputed."""
        return None if self.layer_cache is None else self.layers * self.layer_cache

    @property
    def cache_bytes_per_token(self) -> int | None:
        """The same in bytes, at four an element (fp32)."""
        return None if self.cache_per_token is None else FP32_BYTES * self.cache_per_token


@dataclass(frozen=True)
class PartCount:
    """One kind of module beside the attention, over the whole model; FLOPs as in `SiteCount`, of source and target
    together."""

    name: str
    parameters: int
    flops_per_token: int | float


@dataclass(frozen=True)
class ModelCount:
    """A whole model. `parts` is empty where only the attention is counted.

    `embedding_widths` are the parameters of one word of the source and of the target where the vocabulary is open;
    the embeddings are then no part, and neither are the logits.
    """

    length: int
    sites: tuple[SiteCount, ...]
    parts: tuple[PartCount, ...] = ()
    embedding_widths: tuple[int, int] | None = None

    @property
    def attention_parameters(self) -> int:
        """Parameters of every site."""
        return sum(site.parameters for site in self.sites)

    @property
    def attention_flops_per_token(self) -> int | float:
        """FLOPs of every site for each token, of `length` source and `length` target tokens."""
        return sum(site.flops_per_token for site in self.sites)

    @property
    def attention_cache_per_token(self) -> int | None:
        """Elements kept of a source and a target token together, None when a site of the decoder is recomputed."""
        total = 0
        for site in self.sites:
            if site.cache_per_token is None:
                return None
            total += site.cache_per_token
        return total

    @property
    def parameters(self) -> int:
        """Attention and parts."""
        return self.attention_parameters + sum(part.parameters for part in self.parts)

    @property
    def flops_per_token(self) -> int | float:
        """Attention and parts."""
        return self.attention_flops_per_token + sum(part.flops_per_token for part in self.parts)


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
        length=length,
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
    length: int = DEFAULT_LENGTH,
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
    flops = sum(_flops(module, _zeros(length, _width(module))) for module in feed_forward)
    parts = [
        PartCount("feed-forward", _parameters(*feed_forward), _quotient(flops, length)),
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


def _quotient(total: int, count: int) -> int | float:
    return total // count if total % count == 0 else total / count
