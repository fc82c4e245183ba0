"""Which runs are seeds of one thing, and how groups are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_runs import make_run

from attnframe.comparison.grouping import Group, differing_settings, find_group, group_runs
from attnframe.comparison.run_records import read_runs
from attnframe.comparison.tables import settings_table
from attnframe.errors import UserError


def grouped(folder: Path) -> list[Group]:
    return group_runs(read_runs([folder]))


def names(folder: Path) -> list[str]:
    return [group.name for group in grouped(folder)]


def test_runs_that_differ_in_seed_name_logger_and_display_are_one_group(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1)
    make_run(tmp_path / "b", seed=2, changes={"logger": {"wandb": {"project": "x"}}})
    make_run(tmp_path / "c", seed=3, changes={"trainer.enable_progress_bar": False, "callbacks.patterns.sentences": 0})
    make_run(tmp_path / "d", seed=4, changes={"match": None, "match_to": "multi_head", "match_length": 128})
    (group,) = grouped(tmp_path)
    assert [run.seed for run in group.runs] == [1, 2, 3, 4]
    assert group.name == "multi_head"


def test_a_group_is_called_by_what_it_does_not_share(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", changes={"attention": {"name": "low_rank_v", "rank": 3, "full_rank": False}})
    make_run(tmp_path / "c", changes={"attention": {"name": "low_rank_v", "rank": 5, "full_rank": False}})
    # `full_rank=false` is what low_rank_v has anyway.
    assert names(tmp_path) == [
        "attention=multi_head",
        "attention=low_rank_v attention.rank=3",
        "attention=low_rank_v attention.rank=5",
    ]
    assert differing_settings(grouped(tmp_path)) == ["attention", "attention.rank", "attention.full_rank"]


def test_an_option_at_its_default_goes_unsaid_also_where_it_is_an_enum_or_one_of_every_variant(tmp_path: Path) -> None:
    nothing = {"rope": False, "rope_base": 10000.0, "qk_norm": False, "softcap": None}
    make_run(tmp_path / "old", seed=1, changes={"attention": {"name": "linear", "feature_map": "elu"}})
    make_run(tmp_path / "new", seed=2, changes={"attention": {"name": "linear", "feature_map": "elu", **nothing}})
    make_run(tmp_path / "other", seed=1, changes={"attention": {"name": "multi_head", **nothing}})
    make_run(tmp_path / "turned", seed=1, changes={"attention": {"name": "multi_head", **nothing, "rope": True}})
    groups = grouped(tmp_path)
    assert {group.name: len(group.runs) for group in groups} == {
        "attention=linear": 2,
        "attention=multi_head": 1,
        "attention=multi_head attention.rope=true": 1,
    }


def test_variants_alone_are_called_by_their_names(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", variant="uniform")
    make_run(tmp_path / "c", variant="from_a_plugin_that_is_not_here")
    assert names(tmp_path) == ["multi_head", "uniform", "from_a_plugin_that_is_not_here"]


def test_a_site_and_a_list_are_written_as_overrides(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", changes={"cross": {"name": "uniform"}})
    make_run(tmp_path / "c", changes={"layers.cross": ["multi_head", "uniform"]})
    assert names(tmp_path) == [
        "attention=multi_head",
        "attention@cross=uniform",
        "layers.cross=[multi_head,uniform]",
    ]


def test_a_group_that_only_lacks_what_others_have_is_called_by_that(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", changes={"trainer.max_time": "00:00:10:00"})
    assert names(tmp_path) == ["trainer.max_time=null", "trainer.max_time=00:00:10:00"]


def test_other_data_and_other_sources_make_other_groups(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", manifest={"data": {"hash": "e" * 64}})
    for name, digest in (("c", "1" * 64), ("d", "2" * 64), ("e", "2" * 64)):
        folder = make_run(tmp_path / name, seed=5 if name == "e" else 1)
        job = {"config": "same", "sources": {f"/somewhere/{name}/my_idea.py": digest}}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    groups = grouped(tmp_path)
    assert [len(group.runs) for group in groups] == [1, 1, 1, 2]
    assert [group.name for group in groups[:2]] == ["data hash dddddddd", "data hash eeeeeeee"]
    assert all("code " in group.name for group in groups[2:])
    assert len({group.name for group in groups}) == 4


def test_code_is_in_a_name_only_where_nothing_else_tells_groups_apart(tmp_path: Path) -> None:
    for name, variant, digest in (("a", "multi_head", "1"), ("b", "my_idea", "2"), ("c", "my_idea", "3")):
        folder = make_run(tmp_path / name, variant=variant)
        job = {"sources": {f"{variant}.py": digest * 64}}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    plain, *edited = names(tmp_path)
    assert plain == "multi_head"
    assert all(name.startswith("my_idea code ") for name in edited)
    assert len(set(edited)) == 2
    assert find_group(grouped(tmp_path), edited[1]).first.path.name == "c"
    assert "code" in differing_settings(grouped(tmp_path))


def test_a_width_that_was_matched_is_no_difference_of_its_own(tmp_path: Path) -> None:
    for variant, width in (("multi_head", 64), ("uniform", 91)):
        matched = {"by": "params", "d_ff_before": 64, "d_ff": width}
        changes = {"match": "params", "model.d_ff": width, "matched": matched}
        make_run(tmp_path / variant, variant=variant, changes=changes)
    assert names(tmp_path) == ["multi_head", "uniform"]
    rows = settings_table(grouped(tmp_path)).rows
    assert rows == [
        ["attention", "multi_head", "uniform"],
        ["d_ff as matched", "64 -> 64 by params", "64 -> 91 by params"],
    ]


def test_of_two_runs_of_one_seed_the_last_that_is_done_counts(tmp_path: Path) -> None:
    make_run(tmp_path / "1")
    make_run(tmp_path / "2")
    make_run(tmp_path / "3", marker="FAILED")
    (group,) = grouped(tmp_path)
    assert [run.path.name for run in group.runs] == ["2"]
    assert {run.path.name: why for run, why in group.left_out} == {
        "1": "another run has the same settings and seed 1: 2",
        "3": "the run failed",
    }


def test_a_reference_is_found_by_name_by_variant_and_by_default(tmp_path: Path) -> None:
    make_run(tmp_path / "a", variant="uniform")
    make_run(tmp_path / "b", changes={"attention": {"name": "low_rank_v", "rank": 3}})
    make_run(tmp_path / "c")
    groups = grouped(tmp_path)
    assert find_group(groups, None).settings["attention"] == "multi_head"
    assert find_group(groups, "low_rank_v").settings["attention.rank"] == 3
    assert find_group(groups, "attention=uniform") is groups[0]
    with pytest.raises(UserError, match=r"--reference unifrom: did you mean 'attention=uniform'|--reference unifrom"):
        find_group(groups, "unifrom")
    assert find_group(groups[:2], None) is groups[0]


def test_a_variant_of_several_groups_is_no_name(tmp_path: Path) -> None:
    make_run(tmp_path / "a", changes={"attention": {"name": "low_rank_v", "rank": 3}})
    make_run(tmp_path / "b", changes={"attention": {"name": "low_rank_v", "rank": 5}})
    with pytest.raises(UserError, match=r"this can be any of attention.rank=3 \| attention.rank=5"):
        find_group(grouped(tmp_path), "low_rank_v")
