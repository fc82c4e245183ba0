"""What attention and a whole model cost: parameters, FLOPs and cache, of a head, a layer, a site and in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def _quotient(total: int, count: int) -> int | float:
    return total // count if total % count == 0 else total / count
