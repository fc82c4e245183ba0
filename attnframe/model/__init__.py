"""The encoder-decoder Transformer around the attention. It takes any variant at any site and names none."""

from attnframe.model.decoding import Hypothesis, beam_search, check_search, greedy
from attnframe.model.incremental import IncrementalDecoder
from attnframe.model.seq2seq import Seq2Seq
from attnframe.model.sites import SITES, AttentionFactory, VariantChoice

__all__ = [
    "SITES",
    "AttentionFactory",
    "Hypothesis",
    "IncrementalDecoder",
    "Seq2Seq",
    "VariantChoice",
    "beam_search",
    "check_search",
    "greedy",
]
