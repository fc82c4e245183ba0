"""Whether a variant can be trained: its gradients are there, finite and right."""

from __future__ import annotations

import torch

from attnframe.attention import Mask
from attnframe.testing.closeness import require_finite
from attnframe.testing.subject import KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure, NotApplicable

_STEP = 1e-6
# A finite difference of float64 is good for about nine digits at this step; one of float32 for one.
_LIMIT = 1e-6


def _gradients(subject: Subject) -> str | None:
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    candidates = {
        "no mask": Mask(),
        "causal": Mask(causal=True),
        "padding": Mask(key_keep=kept(4, KEYS, 1, keys=KEYS)),
    }
    module = subject.build().train()
    for name, _, output in accepted(module, query, context, context, candidates):
        module.zero_grad()
        if not output.requires_grad:
            raise _nothing_to_train(module)
        (output * subject.embeddings(QUERIES, seed=4)).sum().backward()
        for parameter_name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                raise Failure(f"{name}: {parameter_name} {list(parameter.shape)} gets no gradient")
            require_finite(parameter.grad, f"{name}: the gradient of {parameter_name}")
    return None


def _nothing_to_train(module: torch.nn.Module) -> Exception:
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    if names:
        return Failure(f"no mask: none of {', '.join(names)} gets a gradient")
    return NotApplicable("it has no parameters")


def _gradcheck(subject: Subject) -> str | None:
    """Along a random direction of each tensor: torch.autograd.gradcheck's fast mode, with a name for what is wrong."""
    module = subject.build()
    tensors = {
        what: subject.embeddings(n, batch=2, seed=s).requires_grad_()
        for what, n, s in (("query", 2, 1), ("key", 3, 2), ("value", 3, 3))
    } | {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    query, key, value = (tensors[what] for what in ("query", "key", "value"))
    cotangent = subject.embeddings(2, batch=2, seed=4)
    candidates = {"no mask": Mask(), "causal from position 1": Mask(causal=True, query_offset=1)}
    for name, mask, output in accepted(module, query, key, value, candidates):
        if not output.requires_grad:
            raise _nothing_to_train(module)
        found = torch.autograd.grad(
            (output * cotangent).sum(), list(tensors.values()), allow_unused=True, materialize_grads=True
        )
        for (what, tensor), gradient in zip(tensors.items(), found, strict=True):
            direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5), dtype=tensor.dtype)
            slope = (gradient * direction).sum().item()
            with torch.no_grad():
                start, ends = tensor.clone(), []
                for step in (_STEP, -_STEP):
                    tensor.copy_(start + step * direction)
                    ends.append((module(query, key, value, mask) * cotangent).sum().item())
                tensor.copy_(start)
            difference = (ends[0] - ends[1]) / (2 * _STEP)
            if not abs(slope - difference) <= _LIMIT * max(1.0, abs(difference)):
                raise Failure(
                    f"{name}, 2 queries and 3 keys: along a random direction of {what} the gradient says {slope:.6g} "
                    f"and a finite difference {difference:.6g}"
                )
    return None


CHECKS = (
    Check("gradients", "every parameter gets a gradient, and each is finite, under every mask", _gradients),
    Check(
        "gradcheck",
        "gradients of embeddings and parameters are those of finite differences in float64, which also sees where "
        "something is computed with fewer digits",
        _gradcheck,
    ),
)
