"""Whether a variant runs at all sizes, and each axis stays what it is."""

from __future__ import annotations

from typing import Any

import torch

from attnframe.attention import Mask
from attnframe.testing.closeness import EXACT, largest, moved, require_finite
from attnframe.testing.subject import BATCH, D_CONTEXT, KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure, case


def _shape(subject: Subject) -> str | None:
    widths: list[tuple[int, dict[str, Any]]] = [(subject.d_model, {})]
    if "d_context" in subject.variant.takes:
        widths.append((D_CONTEXT, {"d_context": D_CONTEXT}))
    for width, arguments in widths:
        module = subject.build(**arguments)
        for batch, queries, keys in ((1, 1, 1), (1, 2, 1), (BATCH, QUERIES, KEYS), (2, KEYS, QUERIES), (1, 31, 29)):
            words = f"batch {batch}, {queries} queries, {keys} keys of width {width}, d_model {subject.d_model}"
            with case(words):
                query = subject.embeddings(queries, batch=batch)
                context = subject.embeddings(keys, batch=batch, seed=2, width=width)
                output = module(query, context, context)
                if output.shape != query.shape:
                    raise Failure(f"{words}: the output is {list(output.shape)}")
                require_finite(output, words)
    return None


def _dtype(subject: Subject) -> str | None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        words = f"embeddings and weights in {dtype}"
        with case(words):
            module = subject.build(dtype=dtype)
            query, context = subject.embeddings(QUERIES, dtype=dtype), subject.embeddings(KEYS, seed=2, dtype=dtype)
            candidates = {
                "no mask": Mask(),
                "causal": Mask(causal=True),
                "padding": Mask(key_keep=kept(4, KEYS, 1, keys=KEYS)),
            }
            for name, _, output in accepted(module, query, context, context, candidates):
                if output.dtype != dtype:
                    raise Failure(f"{words}, {name}: the output is in {output.dtype}")
    return None


def _axes(subject: Subject) -> str | None:
    module = subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    output = module(query, context, context)
    limit = EXACT * max(1.0, largest(output))
    alone = True
    for b in range(BATCH):
        for i in range(QUERIES):
            changed = query.clone()
            changed[b, i] += 1.0
            off = moved(module(changed, context, context), output).amax(-1)
            others = off.clone()
            others[b] = 0.0
            if (others > limit).any():
                raise Failure(f"query {i} of batch row {b} moves another batch row by {others.max():.3g}")
            off[b, i] = 0.0
            if (off > limit).any():
                alone = False
                if module.cacheable:
                    other = int(off[b].argmax())
                    raise Failure(f"query {i} of batch row {b} moves query {other} by {off.max():.3g}")
    return None if alone else "a query moves the output of others, which it may, for the variant is not cacheable"


CHECKS = (
    Check(
        "shape",
        "the output has the shape of the query embeddings, whatever the numbers of queries, keys and sequences; here "
        "no two sizes are alike, so that a swapped axis does not fit",
        _shape,
    ),
    Check("dtype", "the output has the dtype of the embeddings: nothing in the module has one of its own", _dtype),
    Check(
        "axes",
        "an embedding has effect in its own batch row only, and, in a cacheable variant, on the output of its own "
        "query only: heads and tokens are not mixed up",
        _axes,
    ),
)
