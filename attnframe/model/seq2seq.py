"""Encoder-decoder Transformer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnframe.attention import KeyValueCache, Mask
from attnframe.model.layers import DecoderLayer, Embedding, EncoderLayer
from attnframe.model.sites import AttentionFactory


class Seq2Seq(nn.Module):
    """Source ids and target ids in, target logits out (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    Pre-norm, sinusoidal positions, target embeddings tied to the output (Press & Wolf 2017). The encoder's width may
    differ from the decoder's.
    """

    def __init__(
        self,
        *,
        src_vocab_size: int,
        tgt_vocab_size: int,
        attention: AttentionFactory,
        num_encoder_layers: int,
        num_decoder_layers: int,
        d_ff: int,
        dropout: float,
    ) -> None:
        super().__init__()
        d_model, encoder_d_model = attention.d_model, attention.encoder_d_model
        self.src_embedding = Embedding(src_vocab_size, encoder_d_model, dropout)
        self.tgt_embedding = Embedding(tgt_vocab_size, d_model, dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(attention.build("encoder_self", layer), encoder_d_model, d_ff, dropout)
            for layer in range(num_encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(encoder_d_model)
        self.decoder = nn.ModuleList(
            DecoderLayer(
                attention.build("decoder_self", layer), attention.build("cross", layer), d_model, d_ff, dropout
            )
            for layer in range(num_decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(d_model)

    def encode(
        self, src: Int[Tensor, "batch source"], src_keep: Bool[Tensor, "batch source"] | None
    ) -> Float[Tensor, "batch source d_context"]:
        """The memory. `src_keep` is True for real tokens; None says that there is no padding."""
        x = self.src_embedding(src)
        mask = Mask(key_keep=src_keep).bind(src.shape[0], src.shape[1], src.shape[1], src.device)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)

    def new_cache(self) -> KeyValueCache | None:
        """An empty cache for `decode`; None where an attention module of the decoder cannot be cached, or is shared."""
        layers = [cast("DecoderLayer", layer) for layer in self.decoder]
        growing = [layer.self_attention for layer in layers]
        fixed = [layer.cross_attention for layer in layers]
        modules = growing + fixed
        able = len(set(modules)) == len(modules) and all(module.can_be_cached for module in modules)
        return KeyValueCache(growing, fixed) if able else None

    def decode(
        self,
        tgt_in: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_context"],
        src_keep: Bool[Tensor, "batch source"] | None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each position of `tgt_in`, which begins with BOS.

        Padding at the end of a target needs no mask of its own: no real position comes after it. With a `cache`,
        `tgt_in` holds only the tokens that come after those it has seen, with the same `memory` and `src_keep`.
        """
        batch, length = tgt_in.shape
        seen = 0 if cache is None else cache.length
        source = memory.shape[1]
        x = self.tgt_embedding(tgt_in, seen)
        self_mask = Mask(causal=True, query_offset=seen, key_offset=seen)
        self_mask = self_mask.bind(batch, length, seen + length, tgt_in.device)
        cross_mask = Mask(key_keep=src_keep, query_offset=seen, key_offset=source if seen else 0)
        cross_mask = cross_mask.bind(batch, length, source, tgt_in.device)
        with nullcontext() if cache is None else cache.attached():
            for layer in self.decoder:
                x = layer(x, memory[:, :0] if seen else memory, self_mask, cross_mask)
        if cache is not None:
            cache.length += length
        return self.decoder_norm(x) @ self.tgt_embedding.token.weight.T

    def forward(
        self,
        src: Int[Tensor, "batch source"],
        src_keep: Bool[Tensor, "batch source"] | None,
        tgt_in: Int[Tensor, "batch target"],
    ) -> Float[Tensor, "batch target vocab"]:
        """Teacher-forced logits."""
        return self.decode(tgt_in, self.encode(src, src_keep), src_keep)
