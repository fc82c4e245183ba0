"""`attnframe check`: does a variant keep the contract?"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnframe import discovery, registry
from attnframe.cli import kept_verdicts
from attnframe.cli.output import print_json, print_table, wants_help
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.testing import Verdict

USAGE = """attnframe check NAME|FILE|all ... [--backend BACKEND] [--only CHECK] [--slow] [--json]
        does a variant keep the contract? Masks, gradients, decoding, patterns, backends, copies, ...

  attnframe check my_variant                    a variant by its name
  attnframe check plugins/forgetting.py         every variant of a file, wherever that is
  attnframe check all                           every registered variant
  attnframe check low_rank_v --backend sdpa     on this backend; else on each that can run it
  attnframe check low_rank_v --only causal --only padding
  attnframe check low_rank_v --slow             torch.compile with Inductor too, which needs a C++ compiler
  attnframe check all --json

Each variant is tried with its defaults and with each int, float, bool and enum option at another value. What fails is
shown with its smallest failing case and with what should hold. Exit code 1 if anything fails. docs/checking.md says
what each check means, and how to use them in tests of your own. What a full run finds, without --backend and --only,
`attnframe list attention` shows until the code is changed.
"""

_FLAGS = ("--backend", "--only", "--slow", "--json", "-h")
_EVERY = "all"


@dataclass
class _Asked:
    targets: list[str] = field(default_factory=list)
    backend: str | None = None
    only: list[str] = field(default_factory=list)
    slow: bool = False
    as_json: bool = False


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 when a check fails. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    asked = _parse(arguments)
    importlib.import_module("attnframe.attention")
    discovery.load_plugins()
    variants = {variant.name: variant for target in asked.targets for variant in _variants(target)}

    # Here and not above: -h and a mistyped name need not wait for it.
    from attnframe.testing import check_variant

    # Of the code as it was loaded: a file may be edited while it is checked.
    keys = (
        {}
        if asked.backend or asked.only
        else {name: kept_verdicts.verdict_key(each) for name, each in variants.items()}
    )
    verdicts: list[Verdict] = []
    for name, variant in variants.items():
        found = list(check_variant(variant, backend=asked.backend, only=asked.only, slow=asked.slow))
        verdicts += found
        if key := keys.get(name):
            _keep(variant, key, found)
    if asked.as_json:
        print_json([_as_json(verdict) for verdict in verdicts])
    else:
        rows = [[v.variant, v.check.name, str(v.outcome), _found(v)] for v in verdicts]
        print_table(["variant", "check", "verdict", "found"], rows)
    failed = [verdict for verdict in verdicts if verdict.failed]
    variant_word = "variant" if len(variants) == 1 else "variants"
    _say(f"{len(variants)} {variant_word}, {len(verdicts)} checks, {len(failed)} failed")
    return 1 if failed else 0


def _keep(variant: registry.Variant, key: str, verdicts: Sequence[Verdict]) -> None:
    """For `attnframe list attention`; a verdict that cannot be kept is one all the same."""
    try:
        kept_verdicts.keep(variant, key, verdicts)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        _say(f"`attnframe list attention` will not know of the verdict on {variant.name}: {reason or error}")


def _variants(target: str) -> list[registry.Variant]:
    if target == _EVERY:
        return list(registry.variants().values())
    if target in registry.variants() or not _is_file(target):
        return [discovery.find_variant(target)]
    return discovery.load_plugin_file(Path(target).expanduser())


def _is_file(target: str) -> bool:
    return target.endswith(".py") or Path(target).name != target or Path(target).is_file()


def _parse(arguments: Sequence[str]) -> _Asked:
    asked, left = _Asked(), list(arguments)
    while left:
        item = left.pop(0)
        flag, is_joined, value = item.partition("=")
        if item == "--slow":
            asked.slow = True
        elif item == "--json":
            asked.as_json = True
        elif flag in ("--backend", "--only"):
            value = value if is_joined else left.pop(0) if left else ""
            if not value:
                raise UserError(f"{flag} needs a name: {flag} NAME")
            if flag == "--only":
                asked.only += value.split(",")
            else:
                asked.backend = value
        elif item.startswith("-"):
            raise UserError(f"{item}: there is no such flag; {did_you_mean(item, _FLAGS)}")
        else:
            asked.targets.append(item)
    if not asked.targets:
        raise UserError("which variant? attnframe check NAME, a FILE of variants, or all")
    return asked


def _found(verdict: Verdict) -> str:
    return f"{verdict.detail}. What should hold: {verdict.check.meaning}" if verdict.failed else verdict.detail


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "variant": verdict.variant,
        "check": verdict.check.name,
        "verdict": str(verdict.outcome),
        "found": verdict.detail,
        "meaning": verdict.check.meaning,
    }


def _say(sentence: str) -> None:
    print(f"attnframe check: {sentence}", file=sys.stderr)
