"""Whether a variant computes the same on every backend, and compiled."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from attnframe.attention import Attention, Mask
from attnframe.backends import BackendError, backends
from attnframe.testing.closeness import require_same
from attnframe.testing.subject import KEYS, QUERIES, Subject, accepted, kept, masks
from attnframe.testing.verdicts import Check, Failure, NotApplicable, raised


def _backends(subject: Subject) -> str | None:
    if not subject.calls_attend:
        raise NotApplicable("it computes its attention itself, whatever the backend")
    reference = subject.with_backend("eager").build()
    compared, declined = [], []
    for name in backends():
        if name == "eager":
            continue
        try:
            module = subject.with_backend(name).build()
        except BackendError as error:
            declined.append(str(error))
            continue
        compared.append(name)
        query, key, value = (
            subject.embeddings(n, seed=s).requires_grad_() for n, s in ((QUERIES, 1), (KEYS, 2), (KEYS, 3))
        )
        for mask_name, mask, output in accepted(module, query, key, value, masks()):
            words = f"backend={name} beside eager, {mask_name}, {QUERIES} queries and {KEYS} keys"
            expected = reference(query, key, value, mask)
            require_same(output, expected, words)
            _require_same_gradients(module, output, reference, expected, [query, key, value], words)
    if not compared:
        raise NotApplicable("; ".join(declined))
    return f"eager, {', '.join(compared)}"


def _require_same_gradients(
    module: Attention, output: Tensor, reference: Attention, expected: Tensor, inputs: list[Tensor], words: str
) -> None:
    if not expected.requires_grad or not output.requires_grad:
        return
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(5), dtype=output.dtype)
    names = ["query", "key", "value", *(name for name, _ in module.named_parameters())]
    found = [
        torch.autograd.grad(result, [*inputs, *of.parameters()], cotangent, allow_unused=True, materialize_grads=True)
        for of, result in ((module, output), (reference, expected))
    ]
    for name, one, other in zip(names, *found, strict=True):
        axes = [f"axis {axis}, index" for axis in range(one.dim())]
        require_same(one, other, f"{words}: the gradient of {name}", axes=axes)


def _compiled_by(engine: str, subject: Subject) -> None:
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    candidates = {"no mask": Mask(), "causal and padding": Mask(key_keep=kept(4, KEYS, 0, keys=KEYS), causal=True)}
    module = subject.build()
    for name, mask, expected in accepted(module, query, context, context, candidates):
        torch.compiler.reset()
        words = f"{name}, {QUERIES} queries and {KEYS} keys, torch.compile with {engine}"
        gradients = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compiled = torch.compile(module, backend=engine, fullgraph=True, dynamic=False)
                output = compiled(query, context, context, mask)
                for result in (output, expected):
                    module.zero_grad()
                    if result.requires_grad:
                        result.pow(2).sum().backward()
                    gradients.append([parameter.grad for parameter in module.parameters()])
        except Exception as error:  # a compiler fails in many ways
            raise Failure(f"{words}: {raised(error)}") from error
        finally:
            torch.compiler.reset()
        require_same(output, expected, f"{words}, beside the same uncompiled")
        for (parameter, _), one, other in zip(module.named_parameters(), *gradients, strict=True):
            if one is not None and other is not None:
                require_same(one, other, f"{words}: the gradient of {parameter}", axes=("row", "column"))


def _compile(subject: Subject) -> str | None:
    try:
        _compiled_by("aot_eager", subject)
    except Failure as failure:
        # aot_eager takes the strides of some backward passes (elu's, for one) for others than they are; the same graph
        # in smaller operations, which is what Inductor is given, has none of these.
        try:
            _compiled_by("aot_eager_decomp_partition", subject)
        except Failure:
            raise failure from None
        return f"as aot_eager_decomp_partition; {failure}"
    return None


def _inductor(subject: Subject) -> str | None:
    _compiled_by("inductor", subject)
    return None


CHECKS = (
    Check(
        "backends",
        "every backend that says it can run the variant gives the output and the gradients of eager",
        _backends,
        of_each_backend=False,
    ),
    Check(
        "compile",
        "torch.compile (aot_eager) makes one graph of it, without a break, and that computes the same",
        _compile,
        of_each_option=False,
    ),
)

SLOW_CHECKS = (
    Check(
        "inductor",
        "torch.compile makes one kernel graph of it with Inductor, and that computes the same",
        _inductor,
        of_each_option=False,
    ),
)
