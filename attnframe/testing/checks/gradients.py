"""Whether a variant can be trained: its gradients are there, finite and right."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from attnframe.attention import Mask
from attnframe.testing.closeness import require_finite
from attnframe.testing.subject import KEYS, QUERIES, Subject, accepted, kept
from attnframe.testing.verdicts import Check, Failure, NotApplicable


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
    module = subject.build()
    inputs = [subject.embeddings(n, batch=2, seed=s).requires_grad_() for n, s in ((2, 1), (3, 2), (3, 3))]
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    parameters = [module.get_parameter(name).detach().clone().requires_grad_() for name in names]
    masks = {"2 queries, 3 keys, causal": Mask(causal=True, query_offset=1), "2 queries, 3 keys": Mask()}
    for words, mask, _ in accepted(module, *inputs, {"no mask": Mask(), **masks}):

        def run(query: Tensor, key: Tensor, value: Tensor, *weights: Tensor, mask: Mask = mask) -> Tensor:
            given: Mapping[str, Tensor] = dict(zip(names, weights, strict=True))
            return functional_call(module, given, (query, key, value, mask))

        torch.manual_seed(0)
        try:
            # With random directions in the place of every single number: a second instead of a minute.
            torch.autograd.gradcheck(run, (*inputs, *parameters), fast_mode=True, atol=1e-6, rtol=1e-5)
        except RuntimeError as error:
            raise Failure(f"{words}: {' '.join(str(error).split())[:300]}") from error
    return None


CHECKS = (
    Check("gradients", "every parameter gets a gradient, and each is finite, under every mask", _gradients),
    Check(
        "gradcheck",
        "gradients of embeddings and parameters are those of finite differences in float64 (torch.autograd.gradcheck), "
        "which also sees where something is computed with fewer digits",
        _gradcheck,
    ),
)
