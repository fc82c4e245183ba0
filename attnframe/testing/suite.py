"""The conformance suite: every check, and running them over a variant."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Iterator, Sequence

import torch

from attnframe import discovery
from attnframe.attention import Attention
from attnframe.backends import BackendError, backends
from attnframe.errors import UserError, did_you_mean
from attnframe.registry import Variant
from attnframe.testing.checks import (
    caching,
    configs,
    engines,
    gradients,
    keeping,
    masking,
    order,
    patterns,
    precision,
    repeating,
    shapes,
)
from attnframe.testing.option_sets import option_sets
from attnframe.testing.subject import SIZES, Subject
from attnframe.testing.verdicts import Check, Failure, NotApplicable, Outcome, Verdict, raised

BUILD = Check(
    "build",
    "the constructor takes a width and a number of heads, and makes a subclass of attnframe.Attention that runs once",
    lambda subject: None,
)

_MODULES = (
    shapes,
    masking,
    order,
    gradients,
    precision,
    repeating,
    keeping,
    caching,
    patterns,
    engines,
    configs,
)

CHECKS: dict[str, Check] = {
    check.name: check for check in (BUILD, *(check for module in _MODULES for check in module.CHECKS))
}
"""Every check by its name, in the order in which they are run."""

SLOW_CHECKS: dict[str, Check] = {check.name: check for check in engines.SLOW_CHECKS}
"""Those that take longer than all others together."""


def check_variant(
    variant: str | Variant, *, backend: str | None = None, only: Collection[str] | None = None, slow: bool = False
) -> Iterator[Verdict]:
    """One verdict for each check of `variant`, as they come.

    Without `backend` it is checked on every backend that can run it. `only` limits the checks by name; `slow` adds
    `SLOW_CHECKS`. Raises `UserError` for an unknown variant, backend or check.
    """
    found = discovery.find_variant(variant) if isinstance(variant, str) else variant
    checks = _chosen(only, slow)
    if backend is not None and backend not in backends():
        raise UserError(f"there is no backend {backend!r}: {did_you_mean(backend, backends())}")
    try:
        subjects = _subjects(found, backend)
    except BackendError as error:
        yield from (Verdict(found.name, check, Outcome.NOT_APPLICABLE, str(error)) for check in checks)
        return
    except Failure as failure:
        yield Verdict(found.name, BUILD, Outcome.FAILED, str(failure))
        others = (check for check in checks if check is not BUILD)
        yield from (Verdict(found.name, check, Outcome.NOT_APPLICABLE, "it cannot be built") for check in others)
        return
    for check in checks:
        yield _verdict(check, subjects)


def attnframe_contract(
    variant: str | Variant, *, backend: str | None = None, only: Collection[str] | None = None, slow: bool = False
) -> None:
    """Hold `variant` to the contract. Raises AssertionError with every failing case; the arguments are those of
    `check_variant`."""
    failures = [
        verdict.sentence for verdict in check_variant(variant, backend=backend, only=only, slow=slow) if verdict.failed
    ]
    if failures:
        raise AssertionError("\n".join(failures))


def _chosen(only: Collection[str] | None, slow: bool) -> list[Check]:
    known = CHECKS | SLOW_CHECKS
    for name in only or ():
        if name not in known:
            raise UserError(f"there is no check {name!r}: {did_you_mean(name, known)}")
    if only:
        return [check for name, check in known.items() if name in only]
    return list((known if slow else CHECKS).values())


def _subjects(variant: Variant, backend: str | None) -> list[Subject]:
    """The variant with its defaults first, on each backend, and then with each option changed.

    Raises `Failure` when it can be built in none of the sizes, `BackendError` when `backend` cannot run it.
    """
    base = _in_a_size_that_fits(variant)
    own = not base.calls_attend
    names = [backend] if backend else ["eager", *(name for name in backends() if name != "eager" and not own)]
    found: list[Subject] = []
    refusal: BackendError | None = None
    for options in option_sets(base):
        for name in names:
            subject = dataclasses.replace(base, backend=name, options=options)
            try:
                subject.build()
            except BackendError as error:
                refusal = refusal or error
                continue
            found.append(subject)
    if not found:
        assert refusal is not None, "eager runs everything"
        raise refusal
    return found


def _in_a_size_that_fits(variant: Variant) -> Subject:
    causes = []
    for d_model, num_heads in SIZES:
        subject = Subject(variant, d_model=d_model, num_heads=num_heads)
        try:
            module = subject.build()
        except Exception as error:  # a variant's code is anybody's
            causes.append(f"d_model={d_model}, num_heads={num_heads}: {raised(error)}")
            continue
        assert isinstance(module, Attention)
        return subject
    raise Failure(f"{causes[0]} (and at {len(causes) - 1} other sizes)")


def _verdict(check: Check, subjects: Sequence[Subject]) -> Verdict:
    """The first failure over all subjects; else passed, if it was applicable to one of them."""
    remark, reason, passed = "", "", False
    name = subjects[0].variant.name
    for subject in subjects:
        if not check.of_each_backend and subject.backend != subjects[0].backend:
            continue
        if not check.of_each_option and subject.options:
            continue
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                said = check.run(subject)
        except Failure as failure:
            return Verdict(name, check, Outcome.FAILED, f"{subject.words}: {failure}")
        except NotApplicable as why:
            reason = reason or str(why)
        except Exception as error:  # a variant's code is anybody's
            return Verdict(name, check, Outcome.FAILED, f"{subject.words}: {raised(error)}")
        else:
            passed = True
            remark = remark or said or ""
    if passed:
        return Verdict(name, check, Outcome.PASSED, remark)
    return Verdict(name, check, Outcome.NOT_APPLICABLE, reason)
