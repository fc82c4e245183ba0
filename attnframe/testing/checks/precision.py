"""Whether a variant stands few digits."""

from __future__ import annotations

import copy

import torch

from attnframe.attention import Mask
from attnframe.testing.closeness import relative_error, require_finite
from attnframe.testing.subject import KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure, case

# Relative to float64 with the same rounded weights and embeddings. Four times what attention alone may be off by
# (2e-6, 1.5e-3, 8e-3): four projections are rounded beside it.
LIMITS = {torch.float32: 8e-6, torch.float16: 6e-3, torch.bfloat16: 3.2e-2}


def _precision(subject: Subject) -> str | None:
    for dtype, limit in LIMITS.items():
        module = subject.build(dtype=dtype)
        exact = copy.deepcopy(module).double()
        query, context = subject.embeddings(QUERIES, dtype=dtype), subject.embeddings(KEYS, seed=2, dtype=dtype)
        candidates = {
            "no mask": Mask(),
            "causal": Mask(causal=True),
            "padding": Mask(key_keep=kept(4, KEYS, 0, keys=KEYS)),
        }
        with case(f"in {dtype}"):
            for name, mask, output in accepted(module, query, context, context, candidates):
                require_finite(output, f"{name}, in {dtype}: the output")
                expected = exact(query.double(), context.double(), context.double(), mask)
                error = relative_error(output, expected)
                if error > limit:
                    raise Failure(
                        f"{name}, {QUERIES} queries and {KEYS} keys in {dtype}: relative error {error:.2g} against "
                        f"float64, where {limit:.2g} is allowed"
                    )
    return None


CHECKS = (
    Check(
        "precision",
        "in fp32, fp16 and bf16 the output is that of float64 but for rounding (relative error at most 8e-6, 6e-3 and "
        "3.2e-2)",
        _precision,
    ),
)
