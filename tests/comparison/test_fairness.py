"""Each unfair comparison, planted, is flagged; a fair one is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from attnframe.comparison.comparing import Comparison, compare
from attnframe.comparison.run_records import read_runs


def compared(folder: Path) -> Comparison:
    return compare(read_runs([folder]))


def flagged(folder: Path) -> dict[str, str]:
    return {caveat.kind: caveat.sentence for caveat in compared(folder).caveats}


def make_groups(folder: Path, seeds: tuple[int, ...] = (1, 2), **second: Any) -> None:
    """Multi-head attention and `second`, which `make_run` is given, with two seeds each."""
    for seed in (1, 2):
        make_run(folder / f"first_{seed}", seed=seed)
    for seed in seeds:
        make_run(folder / f"second_{seed}", seed=seed, variant="uniform", **second)


def test_a_fair_comparison_is_not_flagged(tmp_path: Path) -> None:
    make_groups(tmp_path, results={"parameters": 67000, "train/target_tokens": 20100})
    assert flagged(tmp_path) == {}


UNFAIR: list[tuple[str, Mapping[str, Any], tuple[str, ...]]] = [
    ("data", {"manifest": {"data": {"hash": "e" * 64}}}, ("different data", "dddddddd", "eeeeeeee", "no difference")),
    ("seeds", {"seeds": (1,)}, ("uniform has one finished run",)),
    ("number of seeds", {"seeds": (1, 2, 3)}, ("uniform has 3 runs and multi_head 2 runs",)),
    ("parameters", {"results": {"parameters": 60768}}, ("60,768 and 66,816", "10.0 % apart")),
    ("budget", {"changes": {"trainer.max_steps": 200}}, ("trainer.max_steps 200 and 100",)),
    ("budget", {"changes": {"trainer.max_time": "00:00:10:00"}}, ("trainer.max_time 00:00:10:00 and none",)),
    ("budget", {"changes": {"data.max_tokens": 4096}}, ("data.max_tokens 4096 and 3072",)),
    ("budget", {"changes": {"callbacks.early_stopping.patience": 3}}, ("patience 3 and none",)),
    ("budget", {"results": {"train/target_tokens": 24000}}, ("24,000 and 20,000", "20.0 % apart")),
    ("tuning", {"manifest": {"search": {"study": "s", "trial": 3, "trials": 30}}}, ("30 trials", "not searched for")),
    ("evaluation", {"changes": {"decoding": {"name": "beam"}}}, ("decoding beam and greedy",)),
    ("evaluation", {"results": {"signature/bleu": "nrefs:1|case:lc"}}, ("case:lc", "case:mixed")),
    ("evaluation", {"exact": [True, False]}, ("test/sentences 2 and 4",)),
    ("place", {"manifest": {"device": "cuda:0"}}, ("device cuda:0 and cpu", "times say little")),
    ("place", {"manifest": {"precision": "bf16-mixed"}}, ("precision bf16-mixed and 32-true",)),
    ("place", {"manifest": {"threads": 4}}, ("threads 4 and 1",)),
    ("versions", {"manifest": {"versions": {"attnframe": "0.2.0", "torch": "2.13.0"}}}, ("attnframe 0.2.0 and 0.1.0",)),
]


@pytest.mark.parametrize(("kind", "second", "says"), UNFAIR)
def test_what_is_unfair_is_flagged_with_names_and_figures(
    kind: str, second: Mapping[str, Any], says: tuple[str, ...], tmp_path: Path
) -> None:
    make_groups(tmp_path, **second)
    found = flagged(tmp_path)
    assert kind in found
    for words in ("uniform", *says):
        assert words in found[kind]


def test_groups_with_different_data_are_not_differenced(tmp_path: Path) -> None:
    make_groups(tmp_path, manifest={"data": {"hash": "e" * 64}})
    assert compared(tmp_path).differences == ()


def test_unfinished_runs_of_a_group_are_flagged_and_listed(tmp_path: Path) -> None:
    make_groups(tmp_path)
    failed = make_run(tmp_path / "second_9", seed=9, variant="uniform", marker="FAILED")
    (failed / "error.txt").write_text("ValueError: no memory\n", encoding="utf-8")
    (tmp_path / "second_8").mkdir()
    (tmp_path / "second_8" / "manifest.json").touch()
    assert "uniform: 1 of 3 runs did not finish" in flagged(tmp_path)["unfinished"]
    make_run(tmp_path / "third", variant="self", marker="FAILED")
    sentences = compared(tmp_path).warnings
    assert "self: its only run did not finish, so it is in no table of scores." in sentences
    table = compared(tmp_path).left_out
    assert table is not None
    told = {Path(str(row[0])).name: row[1:] for row in table.rows}
    assert told["second_9"] == ["uniform", "the run failed: ValueError: no memory"]
    assert told["second_8"][0] is None


def test_runs_of_one_group_on_different_machines_are_flagged(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1)
    make_run(tmp_path / "b", seed=2, manifest={"threads": 8})
    assert "The runs of multi_head ran on different machines" in flagged(tmp_path)["place"]


def test_runs_of_one_group_of_different_versions_are_flagged(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1)
    make_run(tmp_path / "b", seed=2, manifest={"versions": {"attnframe": "0.1.0", "torch": "2.11.0"}})
    assert (
        flagged(tmp_path)["versions"] == "The runs of multi_head ran with different versions: torch 2.13.0 and 2.11.0."
    )


def test_models_matched_in_flops_may_differ_in_parameters(tmp_path: Path) -> None:
    matched = {"by": "flops", "d_ff_before": 64, "d_ff": 71}
    make_groups(
        tmp_path,
        changes={"match": "flops", "matched": matched, "model.d_ff": 71},
        results={"parameters": 80000, "train/flops_per_token": 3010.0},
    )
    assert "parameters" not in flagged(tmp_path)


def test_tokens_of_older_runs_are_those_of_rate_and_time(tmp_path: Path) -> None:
    make_groups(tmp_path, results={"train/target_tokens": None, "train/seconds": 12.0})
    assert "24,000 and 20,000" in flagged(tmp_path)["budget"]


def test_many_faults_of_a_kind_are_counted(tmp_path: Path) -> None:
    make_run(tmp_path / "reference")
    for number in range(8):
        make_run(tmp_path / str(number), changes={"trainer.max_steps": 200 + number})
    found = [caveat.sentence for caveat in compared(tmp_path).caveats if caveat.kind == "budget"]
    assert len(found) == 6
    assert found[-1] == "3 more pairs or groups have the same fault (budget)."
