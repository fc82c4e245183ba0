"""Whether a module can be stored, copied and sent to another process."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys

import torch
from torch import Tensor

from attnframe.attention import Attention
from attnframe.testing.closeness import require_same
from attnframe.testing.subject import KEYS, QUERIES, Subject
from attnframe.testing.verdicts import Check, Failure, NotApplicable, case


def _inputs(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    context = subject.embeddings(KEYS, seed=2)
    return subject.embeddings(QUERIES), context, context


def _parameters(subject: Subject) -> str | None:
    variant = subject.variant
    given = {
        "d_model": subject.d_model,
        "num_heads": subject.num_heads,
        "dropout": 0.0,
        "d_context": None,
        "bias": True,
    }
    # By its constructor: to build a variant is to call it once.
    module = variant.cls(**{name: given[name] for name in variant.takes}, **variant.arguments(subject.options))
    assert isinstance(module, Attention)
    before = dict(module.named_parameters())
    for length in (QUERIES, KEYS):
        x = subject.embeddings(length, dtype=torch.float32)
        module(x, x, x)
        after = dict(module.named_parameters())
        for name in before.keys() ^ after.keys():
            raise Failure(f"{name} is {'lost' if name in before else 'new'} after a call with {length} tokens")
        for name, parameter in before.items():
            if after[name] is not parameter:
                raise Failure(f"{name} is another parameter after a call with {length} tokens")
    return None


def _state_dict(subject: Subject) -> str | None:
    module, other = subject.build(), subject.build(seed=5)
    with case("the state of one module loaded into another"):
        other.load_state_dict(module.state_dict())
    words = "a module that has loaded the state of another, beside that one"
    require_same(other(*_inputs(subject)), module(*_inputs(subject)), words)
    return None


def _copies(subject: Subject) -> str | None:
    module = subject.build()
    output = module(*_inputs(subject))
    with case("copy.deepcopy of a module"):
        copied = copy.deepcopy(module)
    require_same(copied(*_inputs(subject)), output, "a deep copy beside the module", tolerance=0.0)
    if _is_local(subject):
        return "its class is defined inside a function, so it cannot be pickled"
    with case("pickle of a module"):
        unpickled = pickle.loads(pickle.dumps(module))
    require_same(unpickled(*_inputs(subject)), output, "an unpickled copy beside the module", tolerance=0.0)
    return None


def _fresh_process(subject: Subject) -> str | None:
    if _is_local(subject) or subject.variant.cls.__module__ == "__main__":
        raise NotApplicable("its class is not in a module that another process could import")
    module = subject.build()
    inputs = _inputs(subject)
    request = {
        "name": subject.variant.name,
        "file": inspect.getfile(subject.variant.cls),
        "module": subject.variant.cls.__module__,
        "pickled": pickle.dumps(module),
        "inputs": inputs,
    }
    done = subprocess.run(
        [sys.executable, "-m", "attnframe.testing.fresh_process"],
        input=pickle.dumps(request),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "random"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise Failure(f"a fresh Python cannot run it: {last}")
    words = "the output of the unpickled module in a fresh Python, beside that of this one"
    require_same(pickle.loads(done.stdout), module(*inputs).detach(), words)
    return None


def _is_local(subject: Subject) -> bool:
    return "<locals>" in subject.variant.cls.__qualname__


CHECKS = (
    Check(
        "parameters",
        "the constructor makes all parameters, so that an optimizer that is given them has all there are",
        _parameters,
        of_each_backend=False,
    ),
    Check(
        "state-dict",
        "state_dict holds all that the output depends on, so that a checkpoint gives the same model again",
        _state_dict,
        of_each_backend=False,
    ),
    Check("copies", "copy.deepcopy and pickle give a module with the same output", _copies, of_each_backend=False),
    Check(
        "fresh-process",
        "a new Python process finds the variant and computes the same, as the workers of a sweep have to",
        _fresh_process,
        of_each_backend=False,
        of_each_option=False,
    ),
)
