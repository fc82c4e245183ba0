"""Whether what is hidden stays hidden."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from attnframe.attention import Attention, Mask
from attnframe.testing.closeness import EXACT, largest, moved, require_finite, require_same
from attnframe.testing.subject import BATCH, KEYS, QUERIES, Subject, accepted, kept, masks
from attnframe.testing.verdicts import Check, Failure, NotApplicable

_GREAT = 1e4


def _masked_keys(subject: Subject) -> str | None:
    module = subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    noise = _GREAT * subject.embeddings(KEYS, seed=3)
    for name, mask, output in accepted(module, query, context, context, masks()):
        hidden = ~mask.bind(BATCH, QUERIES, KEYS).dense()[:, 0]
        limit = EXACT * max(1.0, largest(output))
        for j in range(KEYS):
            changed = context.clone()
            changed[:, j] += noise[:, j]
            off = moved(module(query, changed, changed, mask), output).amax(-1)
            wrong = ~(off <= limit) & hidden[:, :, j]
            if wrong.any():
                b, i = (int(index) for index in wrong.nonzero()[0])
                raise Failure(
                    f"{name}, {QUERIES} queries and {KEYS} keys: key {j} changed by {_GREAT:,.0f} moves query {i} of "
                    f"batch row {b}, which may not attend to it, by {off[b, i]:.3g}"
                )
    return None


def _blind_masks() -> dict[str, Mask]:
    return {
        "padding of a whole sequence": Mask(key_keep=kept(4, KEYS, 0, keys=KEYS)),
        "causal, the first keys padded": Mask(key_keep=torch.arange(KEYS).expand(BATCH, KEYS) > 1, causal=True),
        "a window that lies behind the last key": Mask(window=1, query_offset=KEYS - 1),
    }


def _blind_rows(subject: Subject) -> str | None:
    module = subject.build()
    draws = [(subject.embeddings(QUERIES, seed=s), subject.embeddings(KEYS, seed=s + 1)) for s in (1, 5)]
    query, context = draws[0]
    constant: Tensor | None = None
    for name, mask, _ in accepted(module, query, context, context, _blind_masks()):
        blind = ~mask.bind(BATCH, QUERIES, KEYS).dense()[:, 0].any(-1)
        for draw, (some_query, some_context) in enumerate(draws):
            rows = module(some_query, some_context, some_context, mask)[blind]
            require_finite(rows, f"{name}: the rows that may attend to nothing")
            constant = rows[0].detach() if constant is None else constant
            words = f"{name}: the rows that may attend to nothing are not alike, whatever the embeddings (draw {draw})"
            require_same(rows, constant.expand_as(rows), words, axes=("row", "feature"))
        _blind_gradients(subject, name, mask)
        if "bias" in subject.variant.takes:
            rows = subject.build(bias=False)(query, context, context, mask)[blind]
            words = f"{name}, bias=False: the rows that may attend to nothing are not zero"
            require_same(rows, torch.zeros_like(rows), words, axes=("row", "feature"))
    return None


def _blind_gradients(subject: Subject, name: str, mask: Mask) -> None:
    module = subject.build().train()
    query, key, value = (
        subject.embeddings(n, seed=s).requires_grad_() for n, s in ((QUERIES, 1), (KEYS, 2), (KEYS, 3))
    )
    output = module(query, key, value, mask)
    (output * subject.embeddings(QUERIES, seed=4)).sum().backward()
    for what, tensor in [("query", query), ("key", key), ("value", value), *module.named_parameters()]:
        if tensor.grad is not None:
            require_finite(tensor.grad, f"{name}, some rows may attend to nothing: the gradient of {what}")


def _causal(subject: Subject) -> str | None:
    module, x = subject.build(), subject.embeddings(KEYS)
    candidates = {
        "causal": Mask(causal=True),
        "causal and padding": Mask(key_keep=kept(4, KEYS, 1, keys=KEYS), causal=True),
    }
    for name, mask, output in accepted(module, x, x, x, candidates):
        limit = EXACT * max(1.0, largest(output))
        for j in range(1, KEYS):
            changed = x.clone()
            changed[:, j:] += subject.embeddings(KEYS, seed=3)[:, j:]
            off = moved(module(changed, changed, changed, mask), output).amax((0, 2))[:j]
            if not bool((off <= limit).all()):
                i = int((~(off <= limit)).nonzero()[0])
                raise Failure(
                    f"{name}, {KEYS} tokens: other tokens from {j} on move the output at token {i} by {off[i]:.3g}"
                )
        _causal_gradient(module, x, name, mask)
    return None


def _causal_gradient(module: Attention, x: Tensor, name: str, mask: Mask) -> None:
    x = x.clone().requires_grad_()
    output = module(x, x, x, mask)
    if not output.requires_grad:
        raise NotApplicable("its output has no gradient")
    for i in range(KEYS - 1):
        (gradient,) = torch.autograd.grad(output[:, i].sum(), x, retain_graph=True)
        leak = gradient[:, i + 1 :].abs().amax((0, 2))
        if not bool((leak <= EXACT).all()):
            j = i + 1 + int((~(leak <= EXACT)).nonzero()[0])
            raise Failure(
                f"{name}, {KEYS} tokens: the output at token {i} has a gradient of {leak.max():.3g} at token {j}"
            )


def _padding(subject: Subject) -> str | None:
    module = subject.build()
    lengths = (4, KEYS, 2)
    x = subject.embeddings(KEYS)
    keep = kept(*lengths, keys=KEYS)
    candidates = {"padding": Mask(key_keep=keep), "causal and padding": Mask(key_keep=keep, causal=True)}
    for name, mask, output in accepted(module, x, x, x, candidates):
        for b, length in enumerate(lengths):
            real = x[b : b + 1, :length]
            alone = module(real, real, real, Mask(causal=mask.causal))
            words = f"{name}: a sequence of {length} tokens, padded to {KEYS}, beside the same without padding"
            require_same(output[b : b + 1, :length], alone, words)
        longer = torch.cat([x, subject.embeddings(4, seed=6)], dim=1)
        wide = dataclasses.replace(mask, key_keep=kept(*lengths, keys=KEYS + 4))
        words = f"{name}: padded to {KEYS + 4} tokens beside padded to {KEYS}"
        real_rows = keep[..., None]
        further = module(longer, longer, longer, wide)[:, :KEYS]
        require_same(further.masked_fill(~real_rows, 0.0), output.masked_fill(~real_rows, 0.0), words)
    return None


CHECKS = (
    Check(
        "masked-keys",
        "a key that a query may not attend to has no influence on its output, however large it is",
        _masked_keys,
    ),
    Check(
        "blind-rows",
        "a query that may attend to nothing gets zeros out of attention, so the output bias alone comes out, whatever "
        "the embeddings hold, and gradients are finite",
        _blind_rows,
    ),
    Check(
        "causal",
        "under a causal mask no output knows a later token, neither by what it is nor by its gradient",
        _causal,
    ),
    Check("padding", "padding changes nothing for the tokens that are real, however much of it there is", _padding),
)
