"""What would make a claim unfair: a sentence for each thing that is not the same, with names and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.comparison.differences import Pair
from attnframe.comparison.grouping import Group
from attnframe.comparison.run_records import RunRecord

_TOLERANCE = 0.01
_MOST_OF_A_KIND = 5

_BUDGET = (
    *("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "trainer.min_steps", "trainer.min_epochs"),
    *("trainer.accumulate_grad_batches", "trainer.limit_train_batches", "data.max_tokens"),
    *("callbacks.early_stopping.patience", "callbacks.early_stopping.monitor"),
)
_EVALUATION = ("decoding", "decoding.beam_size", "decoding.length_penalty", "trainer.limit_test_batches")
_PLACE = ("device", "precision", "threads", "platform")
_VERSIONS = ("attnframe", "torch")
_ON_OTHER_MACHINES = "ran on different machines, so times say little"
_WITH_OTHER_VERSIONS = "ran with different versions"


@dataclass(frozen=True)
class Caveat:
    """One reason for care; `kind` names what it is about."""

    kind: str
    sentence: str


def caveats(groups: Sequence[Group], pairs: Sequence[Pair]) -> list[Caveat]:
    """Every caveat of the groups and of the pairs that are compared, the gravest first."""
    pairs = [(first, second) for first, second in pairs if first.runs and second.runs]
    found: list[Caveat] = []
    for kind, sentences in (
        ("data", _of_pairs(pairs, _data)),
        ("seeds", _single(groups)),
        ("budget", _of_pairs(pairs, _budget)),
        ("parameters", _of_pairs(pairs, _parameters)),
        ("tuning", _of_pairs(pairs, _tuning)),
        ("evaluation", _of_pairs(pairs, _evaluation)),
        ("number of seeds", _of_pairs(pairs, _counts)),
        ("unfinished", _unfinished(groups)),
        ("place", [*_of_pairs(pairs, _place), *_within(groups, _other_place, _ON_OTHER_MACHINES)]),
        ("versions", [*_of_pairs(pairs, _versions), *_within(groups, _other_versions, _WITH_OTHER_VERSIONS)]),
    ):
        listed = list(dict.fromkeys(sentences))
        found += [Caveat(kind, sentence) for sentence in listed[:_MOST_OF_A_KIND]]
        if len(listed) > _MOST_OF_A_KIND:
            more = len(listed) - _MOST_OF_A_KIND
            found.append(Caveat(kind, f"{more} more pairs or groups have the same fault ({kind})."))
    return found


def _of_pairs(pairs: Iterable[Pair], sentence: Callable[[Group, Group], str | None]) -> list[str]:
    return [text for first, second in pairs if (text := sentence(first, second)) is not None]


def _single(groups: Sequence[Group]) -> list[str]:
    return [
        f"{group.name} has one finished run: how much another seed would move its scores is not known, and nothing is "
        f"claimed of it."
        for group in groups
        if len(group.runs) == 1
    ]


def _data(first: Group, second: Group) -> str | None:
    if first.data_hash == second.data_hash:
        return None
    return (
        f"{first.name} and {second.name} have different data (hash {first.data_hash[:8]} and {second.data_hash[:8]}): "
        f"their scores are of different sentences, and no difference is drawn."
    )


def _budget(first: Group, second: Group) -> str | None:
    if told := _unequal(first.settings, second.settings, _BUDGET):
        return f"{first.name} and {second.name} were trained with different budgets: {told}."
    tokens = (_mean(group, "train/target_tokens") or _tokens_of_rate(group) for group in (first, second))
    apart = _apart(*tokens)
    return f"{first.name} and {second.name} were trained on different numbers of tokens: {apart}." if apart else None


def _parameters(first: Group, second: Group) -> str | None:
    told = _apart(*(_mean(group, "parameters") for group in (first, second)))
    if told is None:
        return None
    flops = [_mean(group, "train/flops_per_token") for group in (first, second)]
    if "flops" in (_matched_by(first), _matched_by(second)) and all(flops) and _apart(*flops) is None:
        return None
    return f"{first.name} and {second.name} differ in parameters: {told}; match=params makes them equal."


def _tuning(first: Group, second: Group) -> str | None:
    trials = [_trials(group) for group in (first, second)]
    if trials[0] == trials[1]:
        return None
    told = [
        f"{group.name} comes out of a search over {count} trials" if count else f"{group.name} was not searched for"
        for group, count in zip((first, second), trials, strict=True)
    ]
    return f"{told[0]} and {told[1]}: part of the difference may be the tuning's."


def _evaluation(first: Group, second: Group) -> str | None:
    told = _unequal(first.settings, second.settings, _EVALUATION)
    if not told:
        one, other = first.first.results, second.first.results
        keys = [key for key in one if key.startswith("signature/") or key.endswith("/sentences")]
        told = _unequal(one, other, [key for key in keys if key in other])
    return f"{first.name} and {second.name} were not scored alike: {told}." if told else None


def _counts(first: Group, second: Group) -> str | None:
    if len(first.runs) == len(second.runs):
        return None
    return f"{first.name} has {_runs(len(first.runs))} and {second.name} {_runs(len(second.runs))}."


def _unfinished(groups: Sequence[Group]) -> list[str]:
    told = []
    for group in groups:
        count = sum(bool(run.unfinished) for run, _ in group.left_out)
        if count:
            of = len(group.runs) + len(group.left_out)
            if not group.runs:
                which = "its only run did not finish" if of == 1 else f"none of its {of} runs finished"
                told.append(f"{group.name}: {which}, so it is in no table of scores.")
                continue
            told.append(
                f"{group.name}: {count} of {_runs(of)} did not finish and {'is' if count == 1 else 'are'} not counted; "
                f"if they failed because they were bad, the mean is too good."
            )
    return told


def _place(first: Group, second: Group) -> str | None:
    told = _other_place(first.first, second.first)
    return f"{first.name} and {second.name} {_ON_OTHER_MACHINES}: {told}." if told else None


def _other_place(one: RunRecord, other: RunRecord) -> str:
    return _unequal(one.manifest, other.manifest, _PLACE)


def _within(groups: Sequence[Group], unequal: Callable[[RunRecord, RunRecord], str], what: str) -> list[str]:
    """A sentence for each group whose runs are not all like the first."""
    told = []
    for group in groups:
        found = next((text for run in group.runs[1:] if (text := unequal(group.runs[0], run))), "")
        if found:
            told.append(f"The runs of {group.name} {what}: {found}.")
    return told


def _versions(first: Group, second: Group) -> str | None:
    told = _other_versions(first.first, second.first)
    return f"{first.name} and {second.name} {_WITH_OTHER_VERSIONS}: {told}." if told else None


def _other_versions(one: RunRecord, other: RunRecord) -> str:
    return _unequal(one.manifest.get("versions", {}), other.manifest.get("versions", {}), _VERSIONS)


def _unequal(first: Mapping[str, Any], second: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Those of `keys` that are not the same, each with both values."""
    return ", ".join(
        f"{key} {_text(first.get(key))} and {_text(second.get(key))}"
        for key in keys
        if json.dumps(first.get(key), default=str) != json.dumps(second.get(key), default=str)
    )


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _apart(*numbers: float | None) -> str | None:
    """Two numbers and by how many per cent of the smaller they differ; None where that is unknown or within 1 %."""
    first, second = numbers
    if not first or not second or abs(first - second) <= _TOLERANCE * min(first, second):
        return None
    return f"{first:,.0f} and {second:,.0f} ({100 * abs(first - second) / min(first, second):.1f} % apart)"


def _mean(group: Group, key: str) -> float | None:
    numbers = [number for number in group.numbers(key) if number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _tokens_of_rate(group: Group) -> float | None:
    """For runs of a version that did not write their tokens down."""
    rate, seconds = _mean(group, "train/tokens_per_second"), _mean(group, "train/seconds")
    return rate * seconds if rate and seconds else None


def _matched_by(group: Group) -> str | None:
    matched = group.first.settings.get("matched")
    return matched.get("by") if isinstance(matched, Mapping) else None


def _trials(group: Group) -> Any:
    """How many trials the search had that a run of the group comes from, None for none."""
    for run in group.runs:
        search = run.manifest.get("search")
        if isinstance(search, Mapping):
            return search.get("trials", "some")
    return None


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
