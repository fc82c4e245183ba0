"""A comparison as a whole: tables, differences, and what is said of them."""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import draw_hits, make_run

from attnframe import UserError
from attnframe.comparison.comparing import Comparison, compare
from attnframe.comparison.differences import BETTER, NONE_SHOWN, NOT_TESTED, WORSE
from attnframe.comparison.page import comparison_html
from attnframe.comparison.page_content import page_content
from attnframe.comparison.rendering import csv_text, latex, markdown
from attnframe.comparison.run_records import read_runs

SENTENCES = 211


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants of three seeds: multi_head, a much worse one, and one that is hardly worse; two test sets."""
    folder = tmp_path_factory.mktemp("compared")
    random = np.random.default_rng(4)
    for variant, mean in (("multi_head", 0.8), ("uniform", 0.2), ("low_rank_v", 0.79)):
        for seed in (1, 2, 3):
            exact = {
                "test": draw_hits(random, mean + random.normal(0, 0.01), SENTENCES),
                "longer": draw_hits(random, mean / 2, 97),
            }
            results = {"test/loss": 1 - mean, "test/length/1-5/exact_match": mean, "test/length/10-12/exact_match": 0.5}
            make_run(folder / f"{variant}_{seed}", seed=seed, variant=variant, exact=exact, results=results)
    return folder


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return compare(read_runs([folder]))


def test_every_group_is_compared_with_multi_head(comparison: Comparison) -> None:
    assert comparison.reference.name == "multi_head"
    pairs = {(one.first, one.second) for one in comparison.differences}
    assert pairs == {("uniform", "multi_head"), ("low_rank_v", "multi_head")}


def test_a_large_difference_is_called_and_a_small_one_is_not(comparison: Comparison) -> None:
    verdicts = {(one.first, one.set): one.verdict for one in comparison.differences}
    assert verdicts["uniform", "test"] == WORSE
    assert verdicts["low_rank_v", "test"] == NONE_SHOWN


def test_a_difference_is_that_of_the_means_of_the_table(comparison: Comparison) -> None:
    means = {(n.group, n.set, n.measure): n.estimate.mean for n in comparison.numbers}
    for one in comparison.differences:
        expected = means[one.first, one.set, one.measure] - means[one.second, one.set, one.measure]
        assert one.found.difference == pytest.approx(expected, abs=1e-9)
        assert one.found.low < one.found.difference < one.found.high


def test_p_values_are_corrected_over_all_that_is_shown(comparison: Comparison) -> None:
    by_p = sorted(comparison.differences, key=lambda one: one.found.p or 0)
    smallest = by_p[0]
    assert smallest.found.p is not None
    assert smallest.p_holm == pytest.approx(len(by_p) * smallest.found.p)


def test_all_pairs(folder: Path) -> None:
    found = compare(read_runs([folder]), all_pairs=True, sets=["test"], measures=["exact_match"])
    assert len({frozenset((one.first, one.second)) for one in found.differences}) == 3
    assert {(one.measure, one.set) for one in found.differences} == {("exact_match", "test")}


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    from attnframe.comparison.bootstrap import Difference
    from attnframe.comparison.differences import GroupDifference

    found = Difference(-0.2, -0.3, -0.1, 0.001)
    assert GroupDifference("a", "b", "loss", "test", found, 0.002).verdict == BETTER
    assert GroupDifference("a", "b", "bleu", "test", found, 0.002).verdict == WORSE
    assert GroupDifference("a", "b", "bleu", "test", found, None).verdict == NOT_TESTED


def test_one_run_against_one_claims_nothing(folder: Path, tmp_path: Path) -> None:
    for name in ("multi_head_1", "uniform_1"):
        shutil.copytree(folder / name, tmp_path / name)
    found = compare(read_runs([tmp_path]))
    assert found.differences
    assert all(one.p_holm is None and one.verdict == NOT_TESTED for one in found.differences)
    assert all(math.isfinite(one.found.low) for one in found.differences)


def test_runs_are_paired_by_the_ids_of_their_sentences(folder: Path, tmp_path: Path) -> None:
    from attnframe.runs.sentence_statistics import SentenceStatistics, read_sentence_statistics
    from attnframe.runs.sentence_statistics import write_sentence_statistics as write

    shutil.copytree(folder, tmp_path / "shuffled")
    order = np.random.default_rng(1).permutation(SENTENCES)
    run = tmp_path / "shuffled" / "uniform_2"
    sets = read_sentence_statistics(run, ["exact_match"], ["test", "longer"])
    whole = sets["test"]
    shuffled = SentenceStatistics(
        tuple(whole.ids[place] for place in order), {"exact_match": whole.counts["exact_match"][order]}
    )
    write(run, {**sets, "test": shuffled})
    assert compare(read_runs([tmp_path])).differences == compare(read_runs([folder])).differences


def test_the_table_has_students_intervals(folder: Path, comparison: Comparison) -> None:
    values = [run.results["test/exact_match"] for run in read_runs([folder]) if "uniform" in run.path.name]
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    (row,) = [row for row in comparison.scores[0].rows if row[0] == "uniform"]
    assert row[:3] == ["uniform", 3, f"{np.mean(values):.3f} ± {half:.3f}"]
    assert [row[0] for row in comparison.scores[1].rows] == ["longer"] * 3


def test_classes_of_length_come_in_the_order_of_numbers(comparison: Comparison) -> None:
    (table,) = [table for table in comparison.further if "length" in table.title]
    assert [row[0] for row in table.rows] == ["1-5", "10-12"]
    assert table.columns == ["length", "low_rank_v", "multi_head", "uniform"]


def test_a_number_that_some_runs_lack_says_how_many_have_it(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1, results={"train/steps_to_95": 40})
    make_run(tmp_path / "b", seed=2)
    found = compare(read_runs([tmp_path]))
    column = list(found.cost.columns).index("steps to 0.95")
    assert found.cost.rows[0][column] == "40 (1 of 2)"


def test_csv_holds_every_number_unrounded(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(comparison))))
    assert len(rows) == len(comparison.numbers)
    for row, number in zip(rows, comparison.numbers, strict=True):
        assert float(row["mean"]) == number.estimate.mean
        assert row["set"] == number.set
    assert {row["measure"] for row in rows if not row["set"]} > {"parameters", "seconds", "peak MiB"}


def test_markdown_has_a_row_for_each_group_and_every_warning(comparison: Comparison) -> None:
    text = markdown(comparison, "Title")
    assert text.startswith("# Title\n\n9 runs in 3 groups, compared with multi_head.\n")
    lines = text.splitlines()
    heading = lines.index("## Scores on test") + 2
    assert [cell.strip() for cell in lines[heading].split("|")[1:3]] == ["group", "runs"]
    table = lines[heading : lines.index("", heading)]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {table[0].count("|")}


def test_latex_is_balanced_and_escaped(comparison: Comparison) -> None:
    text = latex(comparison)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    assert r"low\_rank\_v" in text
    assert r"$\pm$" in text
    below = [one for one in comparison.differences if one.found.difference < -0.1]
    assert text.count(" & $-$") >= len(below) > 0
    assert " & -" not in text
    for table in text.split(r"\begin{tabular}")[1:]:
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1


def test_signs_of_tables_are_escaped_in_names(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", changes={"data.path": "x|y & 50%_#.tsv"})
    found = compare(read_runs([tmp_path]))
    assert r"x\|y & 50%_#.tsv" in markdown(found, "t")
    assert r"x|y \& 50\%\_\#.tsv" in latex(found)


def test_a_line_break_in_a_name_ends_no_line(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", changes={"data.path": "x\n# y"})
    found = compare(read_runs([tmp_path]))
    assert not [line for line in markdown(found, "one\n# two").splitlines()[1:] if line.startswith("# ")]
    # Behind a % there is the rest of a line.
    assert not [line for line in latex(found).splitlines() if line.startswith(r"\#") or line.startswith("#")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"measures": ["bleau"]}, "--metric bleau: no run has it; did you mean 'bleu'"),
        ({"sets": ["longr"]}, "--set longr: no run has it; did you mean 'longer'"),
        ({"reference": "multihead"}, "--reference multihead: did you mean 'multi_head'"),
    ],
)
def test_what_no_run_has_is_refused(options: dict[str, object], says: str, folder: Path) -> None:
    with pytest.raises(UserError, match=says):
        compare(read_runs([folder]), **options)  # type: ignore[arg-type]


def test_runs_none_of_which_is_done_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", marker="INTERRUPTED")
    with pytest.raises(UserError, match=r"none of the 1 runs is done, so there is nothing to compare; .*stopped"):
        compare(read_runs([tmp_path]))


def test_a_run_whose_statistics_are_damaged_is_left_out_of_the_differences_and_named(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "uniform_2" / "sentence_statistics.npz").write_bytes(b"PK")
    found = compare(read_runs([tmp_path]))
    assert any(sentence.startswith("uniform_2 is left out of the differences") for sentence in found.warnings)
    assert any(one.first == "uniform" for one in found.differences)


def test_the_page_is_given_everything(comparison: Comparison) -> None:
    page = page_content(comparison, "Title")
    assert (page.title, page.subtitle) == ("Title", "9 runs in 3 groups, compared with multi_head.")
    assert page.tables[0].title == "Scores on test"
    assert len(page.differences) == len(comparison.differences)
    assert {curve.group for curve in page.curves} == {"multi_head", "uniform", "low_rank_v"}
    assert page.patterns == []
    # Which refuses what it cannot show.
    assert "Title" in comparison_html(page)
