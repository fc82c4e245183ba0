"""`attnframe explain` as a user calls it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from by_hand import HandModel
from command_fixtures import home  # noqa: F401
from command_line import CONSOLE_SCRIPT, PreparedCommand, environment
from explained_runs import made_run, register_odd, with_attention
from tiny_run import surroundings
from unsaid_runs import MEAN_POOL, unsaid_run

from attnframe import UserError, load_run, registry
from attnframe.cli import explanation_text
from attnframe.cli.explain import _chosen, main
from attnframe.cli.explanation_figure import draw as draw_figure
from attnframe.cli.explanation_json import as_json
from attnframe.data.tokenizer import BOS, EOS
from attnframe.model import SITES
from attnframe.runs.loading import Run

SENTENCE = "the old woman is not happy."
WORDS = ["the", "old", "woman", "is", "not", "happy", ".", "<eos>"]
SCHEMA = Path(__file__).parents[2] / "docs" / "explain.schema.json"

# The largest difference from a number printed with three decimals, computed in float32.
PRINTED = 6e-4

Block = list[list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory, "multi_head")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[PreparedCommand]:  # noqa: F811
    with PreparedCommand("attnframe.cli.explain,attnframe.runs.loading", home) as prepared:
        yield prepared


@pytest.fixture(scope="module")
def draw(home: Path) -> Iterator[PreparedCommand]:  # noqa: F811
    """The same with matplotlib imported."""
    with PreparedCommand("attnframe.cli.explanation_figure,attnframe.runs.loading", home) as prepared:
        yield prepared


def blocks(printed: str) -> list[Block]:
    """Of the text in a pipe, for each block its lines as cells; the first line of all but the first is the title."""
    return [[line.split("\t") for line in block.splitlines()] for block in printed.split("\n\n")]


def numbers(block: Block, words: int = 1) -> np.ndarray:
    """The cells behind the words of each row."""
    return np.array([[float(cell) for cell in row[words:]] for row in block[2:]])


@pytest.mark.parametrize("place", [("encoder_self", 0, 0), ("decoder_self", 1, 1), ("cross", 1, 0)])
def test_what_is_printed_is_the_model_by_hand(
    command: PreparedCommand, folder: Path, run: Run, place: tuple[str, int, int]
) -> None:
    site, layer, head = place
    chosen = ["--site", site, "--layer", str(layer + 1), f"--head={head + 1}"]
    done = command("explain", str(folder), SENTENCE, *chosen, cwd=folder)
    assert (done.status, done.stderr) == (0, "")
    what, formula, weights, delta, contributions, neighbours = blocks(done.stdout)
    target = run.translate(SENTENCE)
    said = run.tgt_tokenizer.encode(target)
    hand = HandModel(run.model.state_dict(), num_heads=2)([*run.src_tokenizer.encode(SENTENCE), EOS], [BOS, *said])
    expected = hand[site, layer]

    about = dict(what)
    assert about["source"] == SENTENCE
    assert about["translation"] == target
    assert about["site"].startswith(site)
    assert (about["layer"], about["head"]) == (f"{layer + 1} of 2", f"{head + 1} of 2")
    assert (about["variant"], about["backend"]) == ("multi_head", "sdpa")
    assert about["pattern"].startswith("probability: each row sums to 1")

    queries, keys = expected.weights[head].shape
    assert formula[0][0].startswith("# formula: Concat_h(softmax(Q_h·K_hᵀ/√d_k)·V_h)·W_O")
    shapes = dict(formula[1:])
    assert shapes["Q"] == f"[{queries}, 16] queries, d_k"
    assert (shapes["K"], shapes["V"]) == (f"[{keys}, 16] keys, d_k", f"[{keys}, 16] keys, d_v")
    assert (shapes["weights"], shapes["√d_k"]) == (f"[{queries}, {keys}] queries, keys", "√16 = 4.000")
    assert shapes["ΔE"] == f"[{queries}, 32] queries, d_model"
    weight = float(shapes["one weight"].rpartition(" = ")[2])
    assert abs(weight - 0.5) == pytest.approx(np.abs(expected.weights[head] - 0.5).min(), abs=PRINTED)

    grid = numbers(weights)
    assert grid[:, :-1] == pytest.approx(expected.weights[head], abs=PRINTED)
    assert weights[1][-1] == "sum"
    assert (grid[:, -1] == 1.0).all()
    assert grid[:, :-1].sum(1) == pytest.approx(np.ones(queries), abs=5e-4 * keys)

    words = 1 if site == "encoder_self" else 2
    columns = numbers(delta, words).T
    norms = [np.linalg.norm(x, axis=-1) for x in (expected.before, expected.head_deltas[head], expected.delta)]
    for found, norm in zip(columns[:3], norms, strict=True):
        assert found == pytest.approx(norm, abs=PRINTED)
    after = expected.before + expected.delta
    cosine = (expected.before * after).sum(-1) / norms[0] / np.linalg.norm(after, axis=-1)
    assert columns[3] == pytest.approx(cosine, abs=PRINTED)

    assert numbers(contributions) == pytest.approx(expected.contributions[head], abs=PRINTED)
    assert len(neighbours) == 2 + 2 * queries
    if site == "encoder_self":
        assert weights[1] == ["word", *WORDS, "sum"]
        assert [row[0] for row in weights[2:]] == [row[0] for row in delta[2:]] == WORDS
        assert [row[:2] for row in neighbours[2:]] == [[number, word] for number in "12" for word in WORDS]


def test_the_worked_cell_reads_as_arithmetic(command: PreparedCommand, folder: Path) -> None:
    done = command("explain", str(folder), SENTENCE, cwd=folder)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("one weight\t")]
    number = r"(-?[\d.]+)"
    found = re.fullmatch(
        rf"one weight\t(\S+) → (\S+): q·k = {number}; {number} / 4\.000 = {number}; "
        rf"e\^{number} / Σ_j e\^\(q·k_j / 4\.000\) = {number} / {number} = {number}",
        line,
    )
    assert found is not None
    product, again, score, exponent, share, whole, weight = map(float, found.groups()[2:])
    assert product == again
    assert product / 4 == pytest.approx(score, abs=PRINTED)
    assert exponent == score
    assert np.exp(score) == pytest.approx(share, rel=1e-3)
    assert share / whole == pytest.approx(weight, abs=PRINTED)
    row = next(row for row in blocks(done.stdout)[2] if row[0] == found[1])
    assert row[1 + WORDS.index(found[2])] == found.groups()[-1]


def test_json_has_everything_and_keeps_to_its_schema(command: PreparedCommand, folder: Path, run: Run) -> None:
    done = command(
        "explain", "--json", f"run={folder}", SENTENCE, "--target", "la femme.", "checkpoint=last", cwd=folder
    )
    assert (done.status, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    jsonschema.validate(found, json.loads(SCHEMA.read_text("utf-8")), cls=jsonschema.Draft202012Validator)
    last = load_run(folder, checkpoint="last")
    explanation, patterns = last.explain(SENTENCE, "la femme."), last.patterns(SENTENCE, "la femme.")
    assert found["run"] == {"folder": str(folder), "checkpoint": "last", "step": 60}
    assert (found["source"], found["target"], found["is_own_translation"]) == (SENTENCE, "la femme.", False)
    assert [(part["site"], part["layer"]) for part in found["attention"]] == [
        (site, layer) for site in SITES for layer in range(2)
    ]
    for part in found["attention"]:
        place = part["site"], part["layer"]
        assert [part["query_labels"], part["key_labels"]] == list(patterns.labels[place[0]])
        assert [head["head"] for head in part["heads"]] == [0, 1]
        for name in ("weights", "contributions"):
            values = torch.tensor([head[name] for head in part["heads"]])
            assert torch.equal(values, getattr(patterns[place], name))
        for index, head in enumerate(part["heads"]):
            expected = explanation[place].heads[index]
            assert head["delta_norms"] == expected.delta_norms.tolist()
            assert (head["delta_rank"], head["value_rank"]) == (expected.delta_rank, expected.value_rank)
            assert head["cell"]["weight"] == expected.cell.weight
        for row, expected_row in zip(part["query_tokens"], explanation[place].rows, strict=True):
            assert (row["reads"], row["says"], row["norm"]) == (
                expected_row.reads,
                expected_row.says,
                expected_row.norm,
            )
            assert [near["label"] for near in row["neighbours_after"]] == [
                near.label for near in expected_row.neighbours_after
            ]


def test_the_schema_describes_every_property() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(node, dict):
            for name, part in node.get("properties", {}).items():
                yield name, part
            if "properties" in node:
                assert node["additionalProperties"] is False
                assert sorted(node["required"]) == sorted(node["properties"])
            for part in node.values():
                yield from walk(part)
        elif isinstance(node, list):
            for part in node:
                yield from walk(part)

    properties = list(walk(schema))
    assert len(properties) > 40
    for name, part in properties:
        assert part.get("description", "").endswith("."), name
    for name in ("layer", "head", "word", "query", "key", "id"):
        assert all("from 0" in part["description"] for other, part in properties if other == name), name


def test_the_schema_refuses_what_it_does_not_describe(run: Run) -> None:
    sound = json.loads(json.dumps(as_json(run, run.explain("the dog"))))
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    assert validator.is_valid(sound)
    for path, value in (
        (("heads", 0, "surprise"), 1),
        (("query_tokens", 1, "norm"), "much"),
        (("query_tokens", 1), {}),
        (("layer",), -1),
        (("kind",), "probable"),
        (("heads", 0, "weights", 0, 0), "0.5"),
        (("heads", 0, "weights"), None),
    ):
        changed = copy.deepcopy(sound)
        place = changed["attention"][0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert not validator.is_valid(changed), path


def test_a_diverged_model_gives_null_and_nan(draw: PreparedCommand, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "diverged"
    (broken / "checkpoints").mkdir(parents=True)
    for name in ("manifest.json", "tokenizers.json"):
        (broken / name).write_bytes((folder / name).read_bytes())
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    for parameter in state["state_dict"].values():
        parameter.fill_(float("nan"))
    torch.save(state, broken / "checkpoints" / "best.ckpt")
    done = draw("explain", str(broken), SENTENCE, "--json", "--target", "la femme.", cwd=tmp_path)
    assert (done.status, done.stderr) == (0, "")
    found = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.validate(found, json.loads(SCHEMA.read_text("utf-8")))
    assert found["attention"][0]["heads"][0]["weights"][0][0] is None
    assert found["attention"][0]["query_tokens"][0]["neighbours_before"] == []
    done = draw("explain", str(broken), SENTENCE, "--target", "la femme.", cwd=tmp_path)
    assert done.status == 0
    assert "\tnan\t" in done.stdout
    done = draw("explain", str(broken), SENTENCE, "--target", "la femme.", "--figure", "a.png", cwd=tmp_path)
    assert done.status == 2
    assert done.stderr.endswith("numbers to draw that are not finite: the model has diverged\n")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "panels"),
    [
        (["--head", "2"], ["layer 1, head 2"]),
        (["--layer", "2", "--head", "all", "--site", "cross"], ["layer 2, head 1", "layer 2, head 2"]),
        (["--layer", "all", "--contributions"], ["layer 1, head 1", "layer 2, head 1"]),
        (
            ["--layer", "all", "--head", "all"],
            ["layer 1, head 1", "layer 1, head 2", "layer 2, head 1", "layer 2, head 2"],
        ),
    ],
)
def test_a_figure_shows_the_heads_that_were_asked_for(
    draw: PreparedCommand, folder: Path, tmp_path: Path, arguments: list[str], panels: list[str]
) -> None:
    (tmp_path / "heads.svg").write_text("before", encoding="utf-8")
    done = draw("explain", str(folder), SENTENCE, "--figure", "heads.svg", *arguments, cwd=tmp_path)
    assert (done.status, done.stdout, done.stderr) == (0, "heads.svg\n", "")
    text = (tmp_path / "heads.svg").read_text(encoding="utf-8")
    assert re.findall(r"layer \d, head \d", re.sub(r"<!--.*?-->", "", text)) == panels
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    is_of_weights = "--contributions" not in arguments
    assert ("The weights are of kind probability: each row sums to 1" in words) == is_of_weights
    assert words.count("‖P_ij·V_j·W_O‖") == (0 if is_of_weights else 2), "in the note and at the bar"
    assert [path.name for path in tmp_path.iterdir()] == ["heads.svg"]


@pytest.mark.parametrize("contributions", [[], ["--contributions"]])
def test_a_figure_without_its_note(
    draw: PreparedCommand, folder: Path, tmp_path: Path, contributions: list[str]
) -> None:
    for name, flags in (("with.svg", []), ("without.svg", ["--no-note"])):
        done = draw("explain", str(folder), SENTENCE, "--figure", name, *flags, *contributions, cwd=tmp_path)
        assert (done.status, done.stdout) == (0, f"{name}\n")
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert ("Rows attend to columns." in text) == (not flags)
        assert "layer 1, head 1" in text


def test_json_may_be_asked_for_all(command: PreparedCommand, folder: Path) -> None:
    every = command("explain", str(folder), SENTENCE, "--json", "--layer", "all", "--head=all", cwd=folder)
    assert every.status == 0
    assert every.stdout == command("explain", str(folder), SENTENCE, "--json", cwd=folder).stdout


def test_a_figure_and_json_go_together(draw: PreparedCommand, folder: Path, tmp_path: Path) -> None:
    done = draw("explain", str(folder), SENTENCE, "--figure", "a.pdf", "--json", "--head", "all", cwd=tmp_path)
    assert done.status == 0
    assert json.loads(done.stdout)["source"] == SENTENCE
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def shown(run: Run, site: str = "cross") -> dict[str, Block]:
    """The blocks of layer 1, head 1, by the first word of their titles."""
    found = explanation_text.blocks(run.explain(SENTENCE), site, 0, 0)
    return {
        block.title.partition(" ")[0]: [[block.title], list(block.columns), *map(list, block.rows)] for block in found
    }


def test_what_there_is_not_is_said(run: Run, tmp_path: Path) -> None:
    register_odd()
    own = with_attention(run, "own_way")
    text = shown(own)
    reason = "own_way never calls attend, so that its heads cannot be told apart"
    assert dict(text[""][2:])["pattern"].startswith("implicit: the module never forms such weights")
    assert dict(text["formula:"][2:])["Q, K, V"] == "own_way never calls attend: the pattern is the one that it reports"
    assert "one weight" not in dict(text["formula:"][2:])
    assert text["ΔE:"][0][0].endswith(reason)
    assert all(row[3] == "" and float(row[4]) > 0 for row in text["ΔE:"][2:])
    assert text["contributions"][0][0].endswith(f"there are none: {reason}")
    assert len(text["contributions"]) == 2
    assert numbers(text["weights"])[:, -1] == pytest.approx(1.0)
    with pytest.raises(UserError, match=f"--contributions: cross layer 1 has none: {reason}"):
        draw_figure(own.explain(SENTENCE), "cross", [0], [0], tmp_path / "a.svg", contributions=True)


def asked(path: Path, here: Path, *arguments: str) -> int:
    """`main` in this process, where the variants without patterns are registered."""
    with surroundings(here):
        return main([str(path), SENTENCE, "--target", "la femme.", *arguments])


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("everywhere", [], f"no patterns at encoder_self layer 1: {MEAN_POOL}; --json gives what else there is"),
        (
            "everywhere",
            ["--site", "cross", "--layer", "all", "--figure", "a.png"],
            f"no patterns at cross layers 1 and 2: {MEAN_POOL}; --json gives what else there is",
        ),
        (
            "first_cross_layer",
            ["--site", "cross"],
            f"no patterns at cross layer 1: {MEAN_POOL}; there are patterns at cross layer 2, decoder_self layers 1 "
            f"and 2, encoder_self layers 1 and 2, and --json gives what else there is",
        ),
        ("first_cross_layer", ["--site", "cross", "--figure", "a.png", "--json"], "no patterns at cross layer 1: "),
    ],
)
def test_without_a_pattern_it_is_one_sentence(
    kind: str, arguments: list[str], says: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = unsaid_run(tmp_path_factory, kind)
    with pytest.raises(UserError) as caught:
        asked(path, tmp_path / "here", *arguments)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_has_a_pattern_is_shown_beside_what_has_none(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unsaid_run(tmp_path_factory, "first_cross_layer")
    capsys.readouterr()
    assert asked(path, tmp_path / "here", "--site", "cross", "--layer", "2") == 0
    printed = blocks(capsys.readouterr().out)
    assert dict(printed[0])["layer"] == "2 of 2"
    assert {row[0] for row in printed[-1][2:]} == {"1", "2"}, "neighbours are known of both layers"
    assert asked(path, tmp_path / "here", "--site", "cross", "--layer=all", "--head=all", "--figure", "a.svg") == 0
    done = capsys.readouterr()
    assert (done.out, done.err) == ("a.svg\n", f"no patterns at cross layer 1: {MEAN_POOL}\n")
    drawn = re.sub(r"<!--.*?-->", "", (tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert re.findall(r"layer \d, head \d", drawn) == ["layer 2, head 1", "layer 2, head 2"]
    assert "The weights are of kind probability" in " ".join(re.sub(r"<[^>]+>", " ", drawn).split())


@pytest.mark.parametrize(("kind", "missing"), [("everywhere", 6), ("first_cross_layer", 1)])
def test_json_has_null_and_the_reason_where_there_is_no_pattern(
    kind: str,
    missing: int,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = unsaid_run(tmp_path_factory, kind)
    capsys.readouterr()
    assert asked(path, tmp_path / "here", "--json", "--site", "cross") == 0
    done = capsys.readouterr()
    assert done.err == ""
    found = json.loads(done.out)
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    without = [part for part in found["attention"] if part["no_pattern_because"] is not None]
    assert len(without) == missing
    for part in without:
        assert (part["variant"], part["no_pattern_because"], part["no_heads_because"]) == (
            "mean_pool",
            *[MEAN_POOL] * 2,
        )
        assert (part["kind"], part["heads"], part["calls"], part["backend"]) == (None, None, [], "own")
        assert all(row["delta_norm"] > 0 for row in part["query_tokens"])
    for part in found["attention"]:
        if part not in without:
            assert part["kind"] == "probability"
            assert len(part["heads"]) == 2


def test_each_call_of_attend_has_its_shapes(run: Run, tmp_path: Path) -> None:
    register_odd()
    both = with_attention(run, "difference")
    text = shown(both, "encoder_self")
    assert [row[0] for row in text["formula:"][2:]] == [
        *(f"{name} of call {call}" for call in (1, 2) for name in ("Q", "K", "√d_k", "weights", "V")),
        "ΔE",
    ]
    grid = numbers(text["weights"])
    assert grid[:, :-1].min() < 0
    assert grid[:, -1] == pytest.approx(0.5)
    assert numbers(text["contributions"]).min() >= 0
    draw_figure(both.explain(SENTENCE), "cross", [0, 1], [0, 1], tmp_path / "a.svg", contributions=False)
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "The weights are of kind signed: weights may be negative." in drawn
    texts = re.findall(r">([^<>]+)</text>", drawn)
    assert [text for text in texts if f"-{text}" in texts], "the bar has two sides"


def test_options_that_are_not_the_default_are_named(run: Run) -> None:
    plain = with_attention(run, "low_rank_v").explain(SENTENCE)
    assert all(part.options == {} for part in plain.values())
    assert "options" not in dict(explanation_text.blocks(plain, "cross", 0, 0)[0].rows)
    full = with_attention(run, "low_rank_v", options={"full_rank": True, "rank": None}).explain(SENTENCE)
    rows = [row[:2] for row in explanation_text.blocks(full, "cross", 0, 0)[0].rows]
    assert rows[rows.index(("variant", "low_rank_v")) + 1] == ("options", "full_rank=true")
    assert as_json(run, full)["attention"][0]["options"] == {"full_rank": True}


@pytest.mark.parametrize("name", list(registry.variants()))
def test_a_formula_is_printed_without_markup(run: Run, name: str) -> None:
    part = next(iter(run.explain("the dog").values()))
    formula = explanation_text._formula(dataclasses.replace(part, formula=registry.variants()[name].summary), 0)
    assert "`" not in formula.title


def test_shades_of_signed_weights_have_two_sides(run: Run) -> None:
    register_odd()
    explanation = with_attention(run, "difference").explain(SENTENCE)
    weights = explanation["cross", 0].weights
    assert weights is not None
    grid = explanation_text.blocks(explanation, "cross", 0, 0)[2]
    assert np.array(grid.shades) == pytest.approx(weights[0].numpy() / max(1.0, weights[0].abs().max()), abs=1e-6)
    assert np.array(grid.shades).min() < 0


def test_grids_are_between_words_and_the_rest_between_pieces(tmp_path_factory: pytest.TempPathFactory) -> None:
    text = shown(load_run(made_run(tmp_path_factory, "pieces")), "encoder_self")
    assert dict(text[""][2:])["tokens"].startswith("parts of words")
    assert text["weights"][1] == ["word", *WORDS, "sum"]
    tokens = [row[0] for row in text["ΔE:"][2:]]
    assert len(tokens) > len(WORDS)
    assert " ".join(tokens).replace("@@ ", "").replace("␣", "").split() == WORDS


def test_what_it_loads(command: PreparedCommand, folder: Path) -> None:
    done = command("explain", str(folder), SENTENCE, cwd=folder)
    assert not {"lightning", "wandb", "sacrebleu", "matplotlib"} & {name.partition(".")[0] for name in done.modules}


def test_unknown_words_are_named(command: PreparedCommand, folder: Path) -> None:
    done = command("explain", str(folder), "the quokka is\x1b[31m happy.", "--target", "la zzz.", cwd=folder)
    assert done.status == 0
    assert done.stderr.splitlines() == [
        r"words that this run has never seen: quokka, \u001b, [, 31m",
        "words of the target that this run has never seen: zzz",
    ]
    assert "\x1b" not in done.stdout
    assert blocks(done.stdout)[2][1][2] == "quokka"


def test_after_two_dashes_comes_a_sentence(command: PreparedCommand, folder: Path, run: Run) -> None:
    done = command("explain", str(folder), "--", "--json", cwd=folder)
    assert done.status == 0
    assert blocks(done.stdout)[0][0] == ["source", "--json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which run? Give its folder: run="),
        (["RUN"], 'which sentence? attnframe explain RUN "the big red dog"'),
        (["run=nowhere", "hello"], "run=nowhere: there is no such folder"),
        (
            ["RUN", "the", "big", "dog"],
            'takes one sentence, and there are 3; are they one? Put it in quotes: "the big dog"',
        ),
        (["RUN", ""], "the sentence '' holds no word to explain"),
        (["RUN", "  "], "the sentence '' holds no word to explain"),
        (["RUN", "word " * 1000], "the sentence has 1,000 tokens: explain takes 250"),
        (["RUN", "w" * 20000], "the sentence has 20,000 characters: explain takes 5,000"),
        (["RUN", "hello", "--target", ""], "the target '' holds no word to explain"),
        (["RUN", "hello", "--target"], "--target needs its TEXT: --target TEXT"),
        (["RUN", "\udcff abc"], "the sentence is not UTF-8"),
        (["RUN", "hello", "--target", "\udcff abc"], "--target is not UTF-8"),
        (["RUN", "hello", "--site", "crosss"], "--site crosss: did you mean 'cross'? (known: cross, decoder_self, enc"),
        (["the big red dog"], "which run? There is no folder 'the big red dog': give run=outputs/<name>/<time>"),
        (["x y " * 2000], "which run? There is no folder 'x y x y"),
        (["nowhere"], "which run? There is no folder 'nowhere': give run=outputs/<name>/<time>"),
        (["nowhere", "hello"], "run=nowhere: there is no such folder"),
        (["RUN", "hello", "--layer", "3"], "--layer: encoder_self has layers 1 to 2, not 3"),
        (["RUN", "hello", "--layer", "0"], "--layer: encoder_self has layers 1 to 2, not 0"),
        (["RUN", "hello", "--layer", ""], "--layer: encoder_self has layers 1 to 2, not ''"),
        (["RUN", "hello", "--layer", "9" * 5000], "--layer: encoder_self has layers 1 to 2, not '99999"),
        (["RUN", "hello", "--head", "99"], "--head: encoder_self, layer 1 has heads 1 to 2, not 99"),
        (["RUN", "hello", "--head", "one", "--site=cross"], "--head: cross, layer 1 has heads 1 to 2, not 'one'"),
        (["RUN", "hello", "--head", "²"], "--head: encoder_self, layer 1 has heads 1 to 2, not '²'"),
        (["RUN", "hello", "--head", "9", "--figure", "a.png"], "has heads 1 to 2, or all, not 9"),
        (
            ["RUN", "hello", "--head", "9", "--layer", "all", "--figure", "a.png"],
            "--head: layers of encoder_self have heads 1 to 2, or all, not 9",
        ),
        (["RUN", "hello", "--head", "all"], "--head all: all of them are in a figure only: add --figure FILE, or take"),
        (["RUN", "hello", "--contributions"], "--contributions: this chooses what a figure shows: add --figure FILE"),
        (["RUN", "hello", "--neighbours", "0"], "--neighbours: '0' is no whole number from 1 to 1,000,000"),
        (["RUN", "hello", "--neighbours", "9" * 5000], "…' is no whole number from 1 to 1,000,000"),
        (["RUN", "hello", "--json=1"], "--json=1: --json takes no value"),
        (["RUN", "hello", "--no-note"], "--no-note: this leaves something out of a figure: add --figure FILE"),
        (["RUN", "hello", "--figure", ""], "--figure needs its FILE: --figure FILE"),
        (["RUN", "hello", "--figur", "a.png"], "--figur: there is no such flag; did you mean '--figure'?"),
        (["RUN", "hello", "--figure", "a.gif"], "--figure a.gif: its end says the format, known: pdf, png, svg"),
        (["RUN", "hello", "--figure", "nowhere/a.png"], "--figure nowhere/a.png: there is no folder nowhere"),
        (["RUN", "checkpoint=bset", "hello"], "checkpoint=bset: did you mean 'best'?"),
        (["RUN", "device=cudda", "hello"], "device=cudda: did you mean 'cuda'?"),
        (["RUN", "decoding=beam", "hello"], "decoding"),
        (["RUN", "E=mc squared"], "is 'E=mc squared' a sentence? Put it after --"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    with surroundings(tmp_path / "here"), pytest.raises(UserError) as caught:
        main([str(folder) if item == "RUN" else item for item in arguments])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    assert says.replace("RUN", str(folder)) in sentence
    assert list(tmp_path.iterdir()) == []


def test_one_head_is_one_head(run: Run) -> None:
    explanation = with_attention(run, "self").explain(SENTENCE)
    with pytest.raises(UserError, match=r"^--head: cross, layer 2 has one head, not 2$"):
        _chosen(explanation, {"--site": "cross", "--layer": "2", "--head": "2"})
    assert _chosen(explanation, {"--head": "0001"}) == ("encoder_self", [0], [0])


def test_a_refusal_leaves_with_2(command: PreparedCommand, folder: Path) -> None:
    done = command("explain", str(folder), "the", "big", "dog", cwd=folder)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("attnframe explain: explain takes one sentence")


def test_help_has_examples_and_needs_no_run(command: PreparedCommand, tmp_path: Path) -> None:
    done = command("explain", "-h", cwd=tmp_path)
    assert done.status == 0
    assert done.stdout.count('attnframe explain run=DIR "the big red dog"') >= 3


def test_on_a_terminal_the_grid_is_shaded_and_folded(home: Path, folder: Path) -> None:  # noqa: F811
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, "explain", str(folder), "the old woman is not happy and tired."],
        stdout=follower,
        cwd=folder,
        env=environment(home, TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="50"),
    )
    os.close(follower)
    printed = b""
    try:
        while part := os.read(leader, 65536):
            printed += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
    assert process.wait(timeout=60) == 0
    text = printed.decode()
    assert len(re.findall(r"\x1b\[[\d;]*48;2;\d+;\d+;\d+m", text)) >= 2 * 100, "each weight and each contribution"
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("weights of head 1"))
    end = next(number for number, line in enumerate(lines) if line.startswith("ΔE: what"))
    grid = [line.split() for line in lines[start + 1 : end] if line]
    headings = [row for row in grid if row[0] == "word"]
    assert len(headings) > 1
    words = " ".join(word for row in headings for word in row[1:])
    assert words == "the old woman is not happy and tired . <eos> sum"
    sums = grid[grid.index(headings[-1]) + 1 :]
    assert len(sums) == 10
    assert {row[-1] for row in sums} == {"1.000"}
