"""Scores of a finished run without a part of its attention, against runs that are changed by hand."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_run import surroundings, tiny_run
from torch.nn import functional as F
from unsaid_runs import MEAN_POOL, unsaid_run

from attnframe import Attention, UserError, discovery, load_run
from attnframe.attention import uniform_heads
from attnframe.data.sources import corpus_of
from attnframe.data.tokenizer import BOS, EOS
from attnframe.model import SITES
from attnframe.model.parts import Part
from attnframe.runs.decoding import GREEDY
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import Run
from attnframe.training.ablation import Ablation, AblationStudy, ablate
from attnframe.training.ablation_files import COLUMNS, write_study
from attnframe.training.rescoring import rescore

VAL = 13
PLUGIN = '''
import torch
from torch import Tensor, nn
from attnframe import Attention, Mask, merge_heads, register_attention, split_heads


@register_attention("averaging")
class Averaging(Attention):
    """The mean of the values, without attend."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.value_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        keep = mask.dense().squeeze(1).to(value.dtype)
        weights = keep / keep.sum(-1, keepdim=True).clamp(min=1)
        self.report_pattern(lambda: weights[:, None], "probability")
        return weights @ self.value_proj(value)


@register_attention("unsaid")
class Unsaid(Attention):
    """The sum of two calls, which is no pattern of its own."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(self.proj(x), 2) for x in (query, key, value))
        return merge_heads(self.attend(q, k, v, mask) + self.attend(-q, k, v, mask))


@register_attention("of_length_one")
class OfLengthOne(Attention):
    """What the heads say, scaled to length 1: 0/0 where they say nothing."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(self.proj(x), 1) for x in (query, key, value))
        said = merge_heads(self.attend(q, k, v, mask))
        return said / said.norm(dim=-1, keepdim=True)
'''


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ablation") / "run"
    tiny_run(path, "trainer.max_steps=60", "data.max_tokens=700", "layers.cross=[self,multi_head]")
    return path


@pytest.fixture(scope="module")
def study(folder: Path) -> AblationStudy:
    with surroundings(folder):
        return ablate(load_run(folder))


@pytest.fixture
def run(folder: Path) -> Run:
    return load_run(folder)


def of(study: AblationStudy, part: Part, mode: str) -> Ablation:
    (found,) = [one for one in study.ablations if (one.part, one.mode) == (part, mode)]
    return found


def evaluated(run: Run, tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "scored"
    folder.mkdir()
    return rescore(run, RunFolder(folder), data=None, decoding=GREEDY)


def measures(results: dict[str, Any], prefix: str) -> dict[str, float]:
    return {name: results[f"{prefix}/{name}"] for name in ("loss", "bleu", "exact_match", "aer")}


@pytest.mark.parametrize(
    ("set_name", "prefix"), [("val", "val"), pytest.param("longer", "test/longer", marks=pytest.mark.slow)]
)
def test_untouched_it_is_what_eval_says(run: Run, tmp_path: Path, set_name: str, prefix: str) -> None:
    study = ablate(run, set_name=set_name, modes=["zero"])
    expected = measures(evaluated(run, tmp_path), prefix)
    assert dict(study.untouched) == pytest.approx(expected, rel=1e-5)
    assert study.description["sentences"] == {"val": VAL, "longer": 7}[set_name]


@pytest.mark.parametrize("site", SITES)
def test_without_a_site_its_modules_give_their_bias(run: Run, study: AblationStudy, tmp_path: Path, site: str) -> None:
    for module in run.model.modules():
        if isinstance(module, Attention) and module.site == site:
            module.register_forward_hook(lambda module, args, output: module.output_proj.bias.expand_as(output))
    found = of(study, Part(site), "zero")
    expected = measures(evaluated(run, tmp_path), "val")
    # The AER is that of the head chosen on the untouched model.
    expected["aer"] = found.scores["aer"]
    assert dict(found.scores) == pytest.approx(expected, rel=1e-5)
    assert found.changes["loss"] == pytest.approx(expected["loss"] - study.untouched["loss"], abs=1e-5)
    assert abs(found.changes["loss"]) > 1e-4


@torch.no_grad()
def test_one_head_and_the_first_sentences_alone(run: Run) -> None:
    """Loss of three sentences one by one, without padding, with head 1 cut out of W_O."""
    study = ablate(run, sentences=3, modes=["zero"])
    model = copy.deepcopy(run.model)
    model.decoder[1].cross_attention.output_proj.weight.view(32, 2, 16)[:, 1] = 0
    nll, tokens = 0.0, 0
    for pair in corpus_of(run.settings["data"]).sets["val"][:3]:
        src = torch.tensor([[*run.src_tokenizer.encode(pair.source), EOS]])
        ids = run.tgt_tokenizer.encode(pair.target)
        logits = model(src, None, torch.tensor([[BOS, *ids]]))
        nll += F.cross_entropy(logits[0], torch.tensor([*ids, EOS]), reduction="sum").item()
        tokens += len(ids) + 1
    assert of(study, Part("cross", 1, 1), "zero").scores["loss"] == pytest.approx(nll / tokens, rel=1e-5)
    assert study.description["sentences"] == 3


def test_uniform_is_another_matter_than_zero(run: Run, study: AblationStudy, tmp_path: Path) -> None:
    with run.model.decoder[0].self_attention.changed_by(uniform_heads([0])):
        expected = evaluated(run, tmp_path)
    found = of(study, Part("decoder_self", 0, 0), "uniform")
    assert found.scores["loss"] == pytest.approx(expected["val/loss"], rel=1e-5)
    assert found.scores["loss"] != of(study, Part("decoder_self", 0, 0), "zero").scores["loss"]


def test_every_part_is_there_once_and_ranked(study: AblationStudy) -> None:
    rises = [ablation.changes["loss"] for ablation in study.ablations]
    assert rises == sorted(rises, reverse=True)
    found = [(ablation.mode, ablation.part) for ablation in study.ablations]
    heads = {"encoder_self": (2, 2), "decoder_self": (2, 2), "cross": (1, 2)}
    expected = [
        (mode, part)
        for mode in ("zero", "uniform")
        for site in SITES
        for part in (
            Part(site),
            *(Part(site, layer) for layer in (0, 1)),
            *(Part(site, layer, head) for layer in (0, 1) for head in range(heads[site][layer])),
        )
    ]
    assert len(found) == len(expected)
    assert set(found) == set(expected)
    for ablation in study.ablations:
        for name, value in ablation.scores.items():
            assert value - ablation.changes[name] == pytest.approx(study.untouched[name], abs=1e-9)


def test_the_aer_is_that_of_one_head_by_its_own_weights(study: AblationStudy) -> None:
    head = study.description["aer"]
    assert set(head) == {"layer", "head", "reading"}
    # Heads of its own layer and of later ones come too late to change its weights.
    for layer in range(head["layer"], 2):
        for mode in ("zero", "uniform"):
            assert of(study, Part("cross", layer), mode).changes["aer"] == 0
    assert any(ablation.changes["aer"] for ablation in study.ablations)


def test_the_run_is_as_it_was(run: Run) -> None:
    before = copy.deepcopy(run.model.state_dict())
    ids = torch.tensor([[5, 6, 7, EOS]]), None, torch.tensor([[BOS, 4, 5]])
    said = run.model(*ids)
    told: list[tuple[int, int]] = []
    ablate(run, sentences=2, modes=["zero"], advance=lambda done, total: told.append((done, total)))
    assert told == [(done, 21) for done in range(1, 22)]
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())
    assert torch.equal(run.model(*ids), said)


def test_the_files_say_what_was_found(study: AblationStudy, tmp_path: Path) -> None:
    write_study(study, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ablation.csv", "ablation.json", "ablation.png"]
    with (tmp_path / "ablation.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert set(COLUMNS) >= {"what", "site", "layer", "head", "mode", "loss", "loss_change", "aer_change"}
    for row, ablation in zip(rows, study.ablations, strict=True):
        part = ablation.part
        levels = ["" if level is None else str(level) for level in (part.layer, part.head)]
        assert [row["layer"], row["head"]] == levels
        assert (row["what"], row["site"], row["mode"]) == (part.what, part.site, ablation.mode)
        assert (row["what"] == "head") is (row["head"] != "")
        assert float(row["loss_change"]) == ablation.changes["loss"]
        assert float(row["bleu"]) == ablation.scores["bleu"]
    told = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))
    assert told["untouched"] == dict(study.untouched)
    assert (told["set"], told["sentences"], told["checkpoint"], told["step"]) == ("val", VAL, "best", 60)
    assert told["modes"] == ["zero", "uniform"]
    with Image.open(tmp_path / "ablation.png") as image:
        assert min(image.size) > 200


def test_a_model_that_has_diverged(run: Run) -> None:
    with torch.no_grad():
        run.model.decoder[0].feed_forward[0].weight.fill_(math.nan)
    with pytest.raises(UserError, match=r"checkpoint=best \(step 60\) has a loss of nan on set=val: .* diverged"):
        ablate(run, sentences=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"set_name": "tset"}, "set=tset: data=grammar has no such set to score: did you mean 'test'?"),
        ({"set_name": "train"}, "set=train: .*known: composition, longer, test, unseen_pairs, val"),
        ({"max_tokens": 3}, "max_tokens is 3, but the longest"),
    ],
)
def test_what_cannot_be_scored(run: Run, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ablate(run, **arguments)


def other_data(run: Run, tmp_path: Path, lines: list[str]) -> dict[str, Any]:
    (tmp_path / "mine.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    none = dict.fromkeys(("source_path", "target_path", "alignment_path", "val_size", "test_size", "max_length"))
    kept = {key: run.settings["data"][key] for key in ("tokenizer", "lowercase", "normalization", "min_count")}
    own = {"vocab_size": None, "max_tokens": 500, "eval_max_tokens": 500, "bad_lines": "error", "use": "test"}
    return {
        "name": "parallel_file",
        "path": str(tmp_path / "mine.tsv"),
        "languages": ["en", "fr"],
        **none,
        **kept,
        **own,
    }


def test_other_data_without_gold_links_has_no_aer(run: Run, tmp_path: Path) -> None:
    lines = ["the old man is tired.\tle vieil homme est fatigué.", "she sleeps.\telle dort."]
    study = ablate(run, data=other_data(run, tmp_path, lines), modes=["uniform"])
    assert (study.description["set"], study.description["sentences"]) == ("test", 2)
    assert set(study.untouched) == {"loss", "bleu", "exact_match"}
    assert study.description["aer"] is None
    write_study(study, tmp_path)
    with (tmp_path / "ablation.csv").open(encoding="utf-8", newline="") as file:
        assert {(row["aer"], row["aer_change"]) for row in csv.DictReader(file)} == {("", "")}


def test_the_head_of_the_training_is_kept_for_a_test_set(
    run: Run, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    head = {key: own[f"test/aer/{key}"] for key in ("layer", "head", "reading")}
    study = ablate(run, set_name="test", sentences=3, modes=["zero"])
    assert study.description["aer"] == head
    assert caplog.text == ""
    # A run that was stopped has chosen none.
    stopped = dataclasses.replace(run, folder=RunFolder(tmp_path))
    found = ablate(stopped, set_name="test", sentences=3, modes=["zero"])
    assert "the AER is that of the best head on set=test" in caplog.text
    assert found.untouched["aer"] <= study.untouched["aer"]


class _Replaced:
    """A run with other modules at some places."""

    def __init__(self, run: Run, plugin_folder: Path) -> None:
        (plugin_folder / "odd.py").write_text(PLUGIN, encoding="utf-8")
        self._run = run

    def __call__(self, name: str, *sites: str) -> Run:
        variant = discovery.find_variant(name)
        torch.manual_seed(0)
        for layer in (*self._run.model.encoder, *self._run.model.decoder):
            for child, module in list(layer.named_children()):
                if isinstance(module, Attention) and module.site in sites:
                    other = variant.cls(32)
                    other.site, other.layer = module.site, module.layer
                    setattr(layer, child, other)
        self._run.model.eval()
        return self._run


@pytest.fixture
def replaced(run: Run, plugin_folder: Path) -> _Replaced:
    return _Replaced(run, plugin_folder)


def test_modules_that_never_attend(replaced: _Replaced, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = ablate(replaced("averaging", "cross"), sentences=2)
    assert caplog.text.count("Averaging never calls attend") == 2
    assert "cross, layer 2: Averaging" in caplog.text
    cross = [(one.part, one.mode) for one in study.ablations if one.part.site == "cross"]
    assert sorted(cross, key=str) == sorted([(Part("cross", layer), "zero") for layer in (None, 0, 1)], key=str)
    write_study(study, tmp_path)


def of_loss(study: AblationStudy) -> dict[tuple[Part, str], float]:
    return {(one.part, one.mode): one.scores["loss"] for one in study.ablations}


@pytest.mark.parametrize(("kind", "missing"), [("at_cross", [1, 2]), ("first_cross_layer", [1])])
def test_modules_that_do_not_say_their_pattern(
    kind: str,
    missing: list[int],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = unsaid_run(tmp_path_factory, kind)
    caplog.clear()
    study = ablate(load_run(path), sentences=5)
    layers = f"layer{'s' if len(missing) > 1 else ''} {' and '.join(map(str, missing))}"
    assert f"no patterns at cross {layers}: {MEAN_POOL}" in [record.getMessage() for record in caplog.records]
    has_aer = len(missing) == 1
    assert [("aer" in scores) for scores in (study.untouched, study.ablations[0].scores)] == [has_aer] * 2
    if has_aer:
        assert study.description["aer"]["layer"] == 1
    else:
        assert study.description["aer"] is None
    assert all(math.isfinite(loss) for loss in of_loss(study).values())
    write_study(study, tmp_path)
    with (tmp_path / "ablation.csv").open(encoding="utf-8", newline="") as file:
        assert {row["aer"] != "" for row in csv.DictReader(file)} == {has_aer}


def test_two_calls_without_a_word_of_a_pattern(replaced: _Replaced, caplog: pytest.LogCaptureFixture) -> None:
    """Its heads can be taken away all the same."""
    study = ablate(replaced("unsaid", "cross"), sentences=2, modes=["zero"])
    assert "no patterns at cross layers 1 and 2: Unsaid calls attend 2 times" in caplog.text
    assert {one.part for one in study.ablations if one.part.what == "head"} >= {
        Part("cross", layer, head) for layer in (0, 1) for head in (0, 1)
    }
    assert "aer" not in study.untouched


def test_the_head_of_the_training_may_have_no_pattern_now(replaced: _Replaced) -> None:
    """Of another version of its variant."""
    study = ablate(replaced("unsaid", "cross"), set_name="test", sentences=2, modes=["zero"])
    assert "aer" not in study.untouched
    assert study.description["aer"] is None


def test_nothing_can_be_uniform_where_nothing_attends(replaced: _Replaced) -> None:
    with pytest.raises(UserError, match="ever calls attend: only mode=zero"):
        ablate(replaced("averaging", *SITES), sentences=2, modes=["uniform"])


def test_what_breaks_the_model_ranks_first(replaced: _Replaced, tmp_path: Path) -> None:
    study = ablate(replaced("of_length_one", "encoder_self"), sentences=2, modes=["zero"])
    broken = [ablation.part.site for ablation in study.ablations if math.isnan(ablation.changes["loss"])]
    # The site, its two layers, and the only head of each.
    assert broken == ["encoder_self"] * 5
    assert [ablation.part.site for ablation in study.ablations[:5]] == broken
    write_study(study, tmp_path)


@pytest.mark.slow
def test_without_cross_attention_a_trained_model_is_lost(tmp_path: Path) -> None:
    """It still writes French, but not the French of this source."""
    sizes = ("data.train_size=8000", "data.val_size=200", "model.d_model=96", "model.num_heads=3", "model.d_ff=200")
    limits = ("trainer.max_steps=300", "trainer.val_check_interval=150", "data.max_tokens=3072", "optimizer.lr=3e-3")
    tiny_run(tmp_path / "run", *sizes, *limits)
    with surroundings(tmp_path / "run"):
        study = ablate(load_run(tmp_path / "run"))
    assert study.untouched["bleu"] > 50
    assert of(study, Part("cross"), "zero").scores["bleu"] < 5
    assert study.ablations[0].part == Part("cross")
