"""`patterns/heads.csv` says of every head what its patterns and its parameters say, computed anew."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import filled, metric_rows, tiny_data, tiny_resume, tiny_run

from attnframe import load_run, record_patterns
from attnframe.data.batching import Example, collate
from attnframe.model import SITES
from attnframe.patterns.statistics import head_statistics
from attnframe.training.head_log import COLUMNS, value_ranks
from attnframe.training.recorded_statistics import recorded_statistics

STATISTICS = COLUMNS[5:12]
STEPS = ("trainer.max_steps=12", "trainer.val_check_interval=5", "callbacks.patterns.sentences=0")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "patterns" / "heads.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heads") / "run"
    chosen = ("layers.cross=[self,{name:low_rank_v,rank:3}]", "callbacks.patterns.statistics=11", "logger=csv")
    tiny_run(path, *STEPS, *chosen, "data.eval_max_tokens=200", "trainer.limit_val_batches=1.0")
    return path


def test_a_row_for_each_head_at_each_validation(run: Path) -> None:
    rows = rows_of(run)
    assert tuple(rows[0]) == COLUMNS
    heads = {(site, layer): 2 for site in SITES for layer in range(2)} | {("cross", 0): 1}
    expected = [(site, layer, head) for (site, layer), count in sorted(heads.items()) for head in range(count)]
    for step in (5, 10, 12):
        of_step = [row for row in rows if row["step"] == str(step)]
        assert [(row["site"], int(row["layer"]), int(row["head"])) for row in of_step] == expected
    assert len(rows) == 3 * len(expected)


def test_the_statistics_are_those_of_the_model(run: Path) -> None:
    """From the weights of the last step, sentence by sentence without padding."""
    loaded = load_run(run, checkpoint="last")
    pairs = tiny_data().corpus.sets["val"][:11]
    sums: dict[tuple[str, int, int], dict[str, float]] = {}
    for pair in pairs:
        example = Example(0, loaded.src_tokenizer.encode(pair.source), loaded.tgt_tokenizer.encode(pair.target))
        batch = collate([example])
        with torch.no_grad(), record_patterns(loaded.model) as patterns:
            loaded.model(batch.src, None, batch.tgt_in)
        for row in head_statistics(patterns):
            of_head = sums.setdefault((row.site, row.layer, row.head), dict.fromkeys(("rows", *STATISTICS), 0.0))
            of_head["rows"] += row.rows
            for name in STATISTICS:
                of_head[name] += row.rows * getattr(row, name)
    found = {(row["site"], int(row["layer"]), int(row["head"])): row for row in rows_of(run) if row["step"] == "12"}
    assert found.keys() == sums.keys()
    for place, of_head in sums.items():
        for name in STATISTICS:
            # Its denominator is a mean over all sentences too, so it is no mean of theirs.
            if name != "diagonality":
                assert float(found[place][name]) == pytest.approx(of_head[name] / of_head["rows"], abs=2e-5)
        assert found[place]["kind"] == "probability"


def test_diagonality_is_that_of_the_padded_batch(run: Path) -> None:
    loaded = load_run(run, checkpoint="last")
    table, missing = recorded_statistics(loaded.model, tiny_data(), tiny_data().corpus.sets["val"][:11])
    assert missing == {}
    found = [float(row["diagonality"]) for row in rows_of(run) if row["step"] == "12"]
    assert found == pytest.approx([row.diagonality for row in table], abs=1e-5)


def test_value_rank_is_that_of_the_parameters(run: Path) -> None:
    """exp(entropy) of numpy's singular values of W_V·W_O, and of W_down·W_up of low_rank_v."""
    loaded = load_run(run, checkpoint="last")
    found = {
        (row["site"], int(row["layer"]), int(row["head"])): float(row["value_rank"])
        for row in rows_of(run)
        if row["step"] == "12"
    }

    def rank(matrix: np.ndarray) -> float:
        shares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
        shares = shares[shares > 1e-6 * shares.max()] / shares.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    for layer in range(2):
        attention = loaded.model.encoder[layer].self_attention
        values = attention.value_proj.weight.detach().numpy().T
        outputs = attention.output_proj.weight.detach().numpy().T
        for head in range(2):
            part = slice(16 * head, 16 * (head + 1))
            expected = rank(values[:, part] @ outputs[part])
            assert found["encoder_self", layer, head] == pytest.approx(expected, rel=1e-3)
    assert all(2 < found["cross", 1, head] <= 3 + 1e-3 for head in range(2))


def test_error_rates_are_of_the_cross_attention_on_the_whole_set(run: Path) -> None:
    best, best_norms = (filled(metric_rows(run), f"val/{name}") for name in ("aer", "aer_norms"))
    rows = rows_of(run)
    assert all((row["aer"] != "") is (row["aer_norms"] != "") is (row["site"] == "cross") for row in rows)
    for step in (5, 10, 12):
        cross = [row for row in rows if (row["step"], row["site"]) == (str(step), "cross")]
        assert min(float(row["aer"]) for row in cross) == best[step]
        assert min(float(row["aer_norms"]) for row in cross) == best_norms[step]


def test_loggers_get_the_means_of_a_site(run: Path) -> None:
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        logged = list(csv.DictReader(file))
    rows = [row for row in rows_of(run) if row["step"] == "12"]
    for site in SITES:
        for name in ("entropy", "diagonality"):
            values = [float(row[name]) for row in rows if row["site"] == site]
            (found,) = {row[f"patterns/{site}/{name}"] for row in logged if row["step"] == "12"} - {""}
            assert float(found) == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert not {name for name in logged[0] if name.startswith("patterns/")} - {
        f"patterns/{site}/{name}" for site in SITES for name in ("entropy", "diagonality")
    }


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run", "trainer.max_steps=1", *STEPS[2:], "callbacks.patterns.statistics=0")
    assert not (tmp_path / "run" / "patterns").exists()


def test_a_model_that_has_diverged_fails_nothing(tmp_path: Path, run: Path) -> None:
    path = tmp_path / "run"
    tiny_run(path, *STEPS, "optimizer.lr=1e30", "trainer.max_steps=5")
    (row,) = [row for row in rows_of(path) if (row["site"], row["layer"], row["head"]) == ("cross", "0", "0")]
    assert math.isnan(float(row["entropy"]))
    assert row["value_rank"] == ""


def test_heads_whose_values_are_no_map_have_no_rank(run: Path) -> None:
    model = load_run(run).model
    with torch.no_grad():
        model.decoder[0].cross_attention.value_proj.weight.fill_(float("inf"))
    ranks = value_ranks(model, lambda site: (32, 32))
    assert ("cross", 0, 0) not in ranks
    assert ("cross", 1, 0) in ranks


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "garbage", "cut"])
def test_a_run_goes_on_with_a_file_that_is_lost_or_damaged(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    tiny_run(path, "trainer.max_steps=2", "trainer.val_check_interval=1", STEPS[2])
    file = path / "patterns" / "heads.csv"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(b"\xff\x00" if damage == "garbage" else "".join(lines[:5]).encode())
    tiny_resume(path, max_steps=3)
    steps = [row["step"] for row in rows_of(path)]
    assert steps == [*(["1"] * 4 if damage == "cut" else []), *["3"] * 12]
