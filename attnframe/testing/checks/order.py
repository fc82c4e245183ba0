"""Whether sequences of a batch, and tokens of a sequence, are treated alike."""

from __future__ import annotations

import torch

from attnframe.attention import AttendCall, Attention, Mask
from attnframe.testing.closeness import EXACT, largest, moved, require_same
from attnframe.testing.subject import BATCH, KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure


def _batch(subject: Subject) -> str | None:
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    keep = kept(4, KEYS, 2, keys=KEYS)
    candidates = {"no mask": Mask(), "causal": Mask(causal=True), "padding": Mask(key_keep=keep)}
    for training in (False, True):
        module = subject.build().train(training)
        mode = "training" if training else "evaluation"
        for name, mask, output in accepted(module, query, context, context, candidates):
            for b in range(BATCH):
                one = slice(b, b + 1)
                own = Mask(key_keep=None if mask.key_keep is None else keep[one], causal=mask.causal)
                alone = module(query[one], context[one], context[one], own)
                require_same(output[one], alone, f"{name}, in {mode}: batch row {b} of {BATCH} beside the same alone")
    return None


def _key_order(subject: Subject) -> str | None:
    module = subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    output = module(query, context, context)
    order = torch.randperm(KEYS, generator=torch.Generator().manual_seed(3))
    off = moved(module(query, context[:, order], context[:, order]), output).max().item()
    if off <= EXACT * max(1.0, largest(output)):
        return "the order of the keys does not matter"
    if _knows_no_position(subject, module):
        raise Failure(
            f"{KEYS} keys in the order {order.tolist()}: the output moves by {off:.3g}, but what attend is given is "
            f"the same at every position, so something beside it depends on the order"
        )
    return "it depends on positions"


def _knows_no_position(subject: Subject, module: Attention) -> bool:
    """Whether `attend` is called, and with nothing from which it could know where a key stands."""
    query, alike = subject.embeddings(QUERIES), subject.embeddings(1, seed=2).expand(-1, KEYS, -1)
    calls = subject.attend_calls(module, query, alike, alike)
    return bool(calls) and all(map(_is_without_position, calls))


def _is_without_position(call: AttendCall) -> bool:
    return (
        call.score_mod is None
        and call.mask_mod is None
        and call.normaliser is None
        and bool(call.mask.dense().all())
        and all(bool((moved(x, x[:, :, :1].expand_as(x)) <= EXACT).all()) for x in (call.k, call.v))
    )


CHECKS = (
    Check("batch", "what else is in the batch changes nothing, in training neither", _batch),
    Check(
        "key-order",
        "keys that change places together with their values change nothing, unless what attend is given depends on "
        "positions; whether it does is a remark",
        _key_order,
    ),
)
