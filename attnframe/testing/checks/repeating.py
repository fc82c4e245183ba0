"""Whether a call leaves no trace, and chance acts in training only."""

from __future__ import annotations

import copy

import torch

from attnframe.attention import Mask
from attnframe.testing.closeness import require_same
from attnframe.testing.subject import KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure, NotApplicable

_RATE = 0.3


def _deterministic(subject: Subject) -> str | None:
    module = subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    outputs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        outputs.append(module(query, context, context))
    require_same(outputs[1], outputs[0], "the same call twice in evaluation mode", tolerance=0.0)
    return None


def _stateless(subject: Subject) -> str | None:
    module, other = subject.build(), subject.build(seed=5)
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    state = copy.deepcopy(module.state_dict())
    first = module(query, context, context)
    x = 3.0 * subject.embeddings(11, batch=2, seed=7)
    module(x, x, x)
    again = module(query, context, context)
    require_same(again, first, "the same call before and after one with 11 other tokens", tolerance=0.0)
    other(x, x, x)
    words = "the same call before and after one of another module of this variant"
    require_same(module(query, context, context), first, words, tolerance=0.0)
    for name, tensor in module.state_dict().items():
        require_same(tensor, state[name], f"{name} before and after calls in evaluation mode", tolerance=0.0)
    return None


def _inputs_unchanged(subject: Subject) -> str | None:
    keep = kept(4, KEYS, 1, keys=KEYS)
    candidates = {
        "no mask": Mask(),
        "padding": Mask(key_keep=keep),
        "causal and padding": Mask(key_keep=keep, causal=True),
    }
    given = [subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2), subject.embeddings(KEYS, seed=3)]
    before = [tensor.clone() for tensor in given]
    keep_before = keep.clone()
    for training in (False, True):
        module = subject.build().train(training)
        with torch.no_grad():
            for name, _, _ in accepted(module, given[0], given[1], given[2], candidates):
                for what, tensor, earlier in zip(("query", "key", "value"), given, before, strict=True):
                    axes = ("batch", "token", "feature")
                    require_same(tensor, earlier, f"{name}: {what} after the call", tolerance=0.0, axes=axes)
                if not torch.equal(keep, keep_before):
                    raise Failure(f"{name}: key_keep is another one after the call")
    return None


def _dropout(subject: Subject) -> str | None:
    module, plain = subject.build(dropout=_RATE), subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    words = f"evaluation mode with dropout={_RATE} beside dropout=0"
    torch.manual_seed(0)
    require_same(module(query, context, context), plain(query, context, context), words)
    module.train()
    torch.manual_seed(0)
    one, other = module(query, context, context), module(query, context, context)
    if torch.equal(one, other):
        if not subject.calls_attend and "dropout" not in subject.variant.takes:
            raise NotApplicable("it drops nothing, and neither calls attend nor takes dropout")
        raise Failure(
            f"training mode with dropout={_RATE}: the same call twice gives the same output, nothing is dropped"
        )
    return None


CHECKS = (
    Check("deterministic", "in evaluation mode the same call gives the same output, bit for bit", _deterministic),
    Check("stateless", "a call has no effect on later ones, of this module or of others", _stateless),
    Check("inputs-unchanged", "embeddings and masks are read and not written to", _inputs_unchanged),
    Check("dropout", "dropout acts on the attention weights in training, and never in evaluation", _dropout),
)
