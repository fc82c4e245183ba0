"""One sentence that every variant attends to, with weights that are random and for all of them the same."""

from __future__ import annotations

import math
import warnings
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from attnframe.attention import Attention, Mask, build_attention, undisturbed
from attnframe.catalogue.content import Maps
from attnframe.errors import UserError
from attnframe.patterns import record_patterns

_WORDS: Final = "the cat saw the dog because the dog was near the old white house"
SENTENCE: Final = tuple(_WORDS.split())
"""Words come again, so that one sees whether a variant tells them apart: embeddings have no positions in them."""

D_MODEL: Final = 128
NUM_HEADS: Final = 4

MASKS: Final = {"unmasked": Mask(), "causal": Mask(causal=True)}
"""What an encoder and what a decoder sees."""

# With it the scores of plain attention have a deviation of 1.5: patterns are neither flat nor all or nothing.
_GAIN: Final = math.sqrt(1.5)


def maps_on_sentence(name: str) -> dict[str, Maps | str]:
    """By the names of `MASKS` the pattern of the variant `name` on `SENTENCE`, or why there is none, in a sentence.

    Every variant gets the same embeddings, one for each different word, and weights of the same name have the same
    numbers in each: two maps differ by what the variants do, not by what was drawn. Matrices are drawn anew with
    deviation √(1.5 / inputs); what has one axis, such as a norm's gain, stays as the variant sets it. It is built
    without the biases that it can do without.
    """
    return {mask_name: _maps(name, mask) for mask_name, mask in MASKS.items()}


def sentence_embeddings() -> Tensor:
    """[1, words, d_model], standard normal; equal words have equal embeddings."""
    rows = [_generator("embedding", word).standard_normal(D_MODEL) for word in SENTENCE]
    return torch.tensor(np.stack(rows), dtype=torch.float32)[None]


def built_for_sentence(name: str) -> Attention:
    """The module that `maps_on_sentence` looks at. Raises what the variant raises."""
    torch.manual_seed(0)
    module = build_attention(name, d_model=D_MODEL, num_heads=NUM_HEADS, bias=False, backend="eager")
    _draw_matrices(module)
    return module


def _maps(name: str, mask: Mask) -> Maps | str:
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            module = built_for_sentence(name)
            x = sentence_embeddings()
            with undisturbed(module), record_patterns(module) as patterns:
                torch.manual_seed(0)
                module(x, x, x, mask)
    except Exception as error:  # a variant's code is anybody's
        words = str(error).partition("\n")[0]
        return words if isinstance(error, UserError) else f"{type(error).__name__}: {words}"
    here = (module.site, module.layer)
    if here in patterns.missing:
        return patterns.missing[here]
    pattern = patterns[here]
    if not pattern.weights.numel():
        return (
            f"{type(module).__name__} reports a pattern of shape {list(pattern.weights.shape)}, which holds no weight"
        )
    return Maps(pattern.weights[0].double().numpy(), str(pattern.kind))


@torch.no_grad()
def _draw_matrices(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            continue
        inputs = math.prod(parameter.shape[1:])
        # Row by row from a generator of its own: a smaller matrix of this name is the beginning of a larger one.
        drawn = _generator("weight", name).standard_normal(tuple(parameter.shape)) * _GAIN / math.sqrt(inputs)
        parameter.copy_(torch.as_tensor(drawn, dtype=parameter.dtype))


def _generator(*names: str) -> np.random.Generator:
    return np.random.default_rng(list("/".join(names).encode()))
