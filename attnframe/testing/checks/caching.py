"""Whether decoding with a cache gives what decoding without one gives."""

from __future__ import annotations

import torch
from torch import Tensor

from attnframe.attention import Attention, KeyValueCache, Mask
from attnframe.testing.closeness import require_same
from attnframe.testing.subject import BATCH, QUERIES, Subject, kept
from attnframe.testing.verdicts import Check, NotApplicable, case

_CHUNKS = (1, 1, 3, 2)  # tokens that come at once
_TOKENS = sum(_CHUNKS)
_ROWS = torch.tensor([2, 0, 1])  # what becomes of the rows after each chunk, as in a beam


def _cached_decoding(subject: Subject) -> str | None:
    module = subject.build()
    if not module.can_be_cached:
        raise NotApplicable("it does not say cacheable = True, so that the prefix is recomputed")
    x, context = subject.embeddings(_TOKENS), subject.embeddings(QUERIES, seed=2)
    full = module(x, x, x, Mask(causal=True))
    for step in range(_TOKENS):
        seen = x[:, : step + 1]
        one = module(x[:, step : step + 1], seen, seen, Mask(causal=True, query_offset=step))
        words = f"the query at position {step} alone, all keys given, beside the whole sequence"
        require_same(one, full[:, step : step + 1], words)
    with case(f"{_TOKENS} tokens in chunks of {_CHUNKS}, with a cache"):
        output = _onto_a_growing_sequence(module, x)
    require_same(output, full, f"causal, {_TOKENS} tokens in chunks of {_CHUNKS} with a cache, beside all at once")
    for name, keep in (("no padding", None), ("padding", kept(3, QUERIES, 1, keys=QUERIES))):
        words = f"{name}, {_TOKENS} queries in chunks of {_CHUNKS} onto {QUERIES} cached keys"
        with case(words):
            output = _onto_a_fixed_sequence(module, x, context, keep)
        require_same(output, module(x, context, context, Mask(key_keep=keep)), f"{words}, beside all at once")
    return None


def _onto_a_growing_sequence(module: Attention, x: Tensor) -> Tensor:
    cache = KeyValueCache([module])
    place, outputs, start = torch.arange(BATCH), [], 0
    for chunk in _CHUNKS:
        new = x[place, start : start + chunk]
        with cache.attached():
            output = module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
        outputs.append(output[place.argsort()])
        cache.select(_ROWS)
        place = place[_ROWS]
        start += chunk
    return torch.cat(outputs, dim=1)


def _onto_a_fixed_sequence(module: Attention, x: Tensor, context: Tensor, keep: Tensor | None) -> Tensor:
    cache = KeyValueCache([], [module])
    place, outputs, start = torch.arange(BATCH), [], 0
    for chunk in _CHUNKS:
        keys = context[:, :0] if start else context
        mask = Mask(
            key_keep=None if keep is None else keep[place],
            query_offset=start,
            key_offset=context.shape[1] if start else 0,
        )
        with cache.attached():
            output = module(x[place, start : start + chunk], keys, keys, mask)
        outputs.append(output[place.argsort()])
        cache.select(_ROWS)
        place = place[_ROWS]
        start += chunk
    return torch.cat(outputs, dim=1)


CHECKS = (
    Check(
        "cached-decoding",
        "what says cacheable = True gives with kept keys and values, token by token, what it gives for the whole "
        "sequence at once",
        _cached_decoding,
    ),
)
