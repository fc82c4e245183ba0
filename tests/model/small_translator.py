"""A model of a few thousand weights whose sentences differ, and sources of different lengths for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from attnframe import UserError
from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice

SRC_VOCAB, D_MODEL, HEADS, LAYERS = 17, 12, 2, 2
LENGTHS = (7, 5, 3, 1, 6, 2, 4)


def make_model(
    variants: str | Mapping[str, Sequence[str]],
    *,
    backend: str = "auto",
    device: torch.device | None = None,
    seed: int = 0,
    vocab: int = 13,
) -> Seq2Seq:
    """One variant everywhere, or for each site a variant for each layer; in float64, in evaluation.

    Raises `BackendError` where `backend` cannot run it.
    """
    if isinstance(variants, str):
        variants = dict.fromkeys(SITES, (variants,) * LAYERS)
    choices = {site: tuple(map(VariantChoice, variants[site])) for site in SITES}
    torch.manual_seed(seed)
    with torch.device(device or "cpu"):
        try:
            model = Seq2Seq(
                src_vocab_size=SRC_VOCAB,
                tgt_vocab_size=vocab,
                attention=AttentionFactory(choices, D_MODEL, D_MODEL, HEADS, backend=backend),
                num_encoder_layers=len(choices["encoder_self"]),
                num_decoder_layers=len(choices["cross"]),
                d_ff=7,
                dropout=0.1,
            )
        except UserError as error:  # the backend's refusal behind the site's name
            raise error.__cause__ or error from None
        # Loud enough that sentences differ in their words and, by an EOS that is louder still, in their lengths.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.8)
                elif not name.endswith("norm.weight"):
                    parameter.normal_(std=0.3)
            model.tgt_embedding.token.weight[EOS] *= 2.0
    return model.double().eval()


def sources(device: torch.device, lengths: Sequence[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Padded ids and where they are real."""
    torch.manual_seed(3)
    longest = max(lengths)
    src = torch.randint(4, SRC_VOCAB, (len(lengths), longest), device=device)
    keep = torch.tensor([[j < n for j in range(longest)] for n in lengths], device=device)
    return src.masked_fill(~keep, PAD), keep


@torch.no_grad()
def next_log_probabilities(model: Seq2Seq, source: Tensor, ids: Sequence[int]) -> Tensor:
    """Of the token after `ids`, teacher-forced, for one unpadded source on its own; -inf for what is never said."""
    prefix = torch.tensor([[BOS, *ids]], device=source.device)
    row = model(source[None], None, prefix)[0, -1].log_softmax(-1)
    row[[BOS, PAD]] = -torch.inf
    return row


def log_probability(model: Seq2Seq, source: Tensor, ids: Sequence[int], *, ended: bool) -> float:
    """Of the whole translation, with EOS where it `ended` with it."""
    said = [*ids, *([EOS] if ended else [])]
    return sum(float(next_log_probabilities(model, source, said[:i])[said[i]]) for i in range(len(said)))
