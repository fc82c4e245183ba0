"""The encoder-decoder Transformer around the attention. It takes any variant at any site and names none."""

from attnframe.model.decoding import greedy
from attnframe.model.seq2seq import Seq2Seq
from attnframe.model.sites import SITES, AttentionFactory, VariantChoice

__all__ = ["SITES", "AttentionFactory", "Seq2Seq", "VariantChoice", "greedy"]
