"""A run's folder, and the run again out of it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_run

from attnframe import UserError, load_run
from attnframe.model import SITES
from attnframe.runs import loading
from attnframe.runs.loading import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned a little, so that its sentences differ."""
    path = tmp_path_factory.mktemp("runs") / "run"
    tiny_run(path, "trainer.max_steps=60", "data.max_tokens=700")
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_loaded_run_translates_as_the_run_did(run: Run, folder: Path) -> None:
    rows = predictions(folder)
    assert len({row["hypothesis"] for row in rows}) > 3, "else this test sees nothing"
    assert run.translate([row["source"] for row in rows]) == [row["hypothesis"] for row in rows]


def test_a_sentence_alone_is_translated_as_among_others(run: Run, folder: Path) -> None:
    sources = [row["source"] for row in predictions(folder)][::3]
    assert [run.translate(source) for source in sources] == run.translate(sources)


def test_the_weights_are_those_of_the_checkpoint(run: Run, folder: Path) -> None:
    assert not run.model.training
    for name in ("best", "last"):
        stored = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        loaded = load_run(folder, checkpoint=name)
        assert loaded.step == stored["global_step"]
        for key, value in loaded.model.state_dict().items():
            assert torch.equal(value, stored["state_dict"][f"model.{key}"])


def test_an_empty_sentence_stays_empty_and_keeps_its_place(run: Run) -> None:
    filled = run.translate(["the woman is tired.", "he looked at the queen."])
    assert run.translate(["", "the woman is tired.", "   ", "he looked at the queen."]) == [
        "",
        filled[0],
        "",
        filled[1],
    ]
    assert run.translate([]) == []
    assert run.translate("") == ""


def test_several_translations_come_best_first(run: Run) -> None:
    from attnframe.runs.decoding import Decoding

    (translated,) = run.translations(["the woman is tired."], Decoding("beam", beam_size=4), n_best=3)
    scores = [candidate.score for candidate in translated.candidates]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(candidate.log_probability <= 0 for candidate in translated.candidates)
    assert translated.best == translated.candidates[0].text == run.translate("the woman is tired.", beam_size=4)


def test_words_that_the_run_does_not_know_are_named(run: Run) -> None:
    (translated,) = run.translations(["the zyzzyva sees the quokka and the zyzzyva"])
    assert translated.unknown_words == ("zyzzyva", "quokka", "zyzzyva")


def test_patterns_are_those_of_a_teacher_forced_pass(run: Run) -> None:
    source, target = "the dog sees the cat", "le chien voit le chat"
    patterns = run.patterns(source, target)
    assert {site for site, _ in patterns} == set(SITES)
    queries, keys = patterns.labels["cross"]
    assert keys == ["the", "dog", "sees", "the", "cat", "<eos>"]
    assert queries == ["le", "chien", "voit", "le", "chat", "<eos>"], "what each row says"
    assert patterns.labels["decoder_self"] == (["<bos>", *queries[:-1]],) * 2, "what the decoder reads"
    for place, pattern in patterns.items():
        queries, keys = patterns.labels[place[0]]
        assert pattern.weights.shape[1:] == (len(queries), len(keys))
        torch.testing.assert_close(pattern.weights.sum(-1), torch.ones(pattern.weights.shape[:2]))
    # By hand: the first layer's encoder pattern out of its own projections.
    src = torch.tensor([[*run.src_tokenizer.encode(source), 2]])
    layer = run.model.encoder[0]
    e = layer.self_norm(run.model.src_embedding(src))
    heads = patterns["encoder_self", 0].weights.shape[0]
    q, k = (
        projection(e).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection in (layer.self_attention.query_proj, layer.self_attention.key_proj)
    )
    expected = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)[0]
    torch.testing.assert_close(patterns["encoder_self", 0].weights, expected)


def test_patterns_of_the_runs_own_translation(run: Run) -> None:
    patterns = run.patterns("the dog sees the cat")
    assert patterns.target == run.translate("the dog sees the cat")

    assert patterns.labels["decoder_self"][0][0] == "<bos>"


def test_loading_needs_neither_lightning_nor_hydra_nor_wandb(folder: Path) -> None:
    program = (
        "import sys\nfrom attnframe import load_run\n"
        f"load_run({str(folder)!r}).translate('the woman is tired.')\n"
        "print(*({'lightning', 'hydra', 'omegaconf', 'wandb'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_no_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run=.*/rum: there is no such folder: did you mean 'run'"):
        load_run(folder.parent / "rum")
    with pytest.raises(UserError, match=r"holds no run \(no manifest.json\); it holds runs, the latest is .*/run"):
        load_run(folder.parent)
    with pytest.raises(UserError, match=r"checkpoint=bset: did you mean 'best'"):
        load_run(folder, checkpoint="bset")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("manifest.json", b"", "does not say what ran"),
        ("manifest.json", b"[1]", "does not say what ran"),
        ("manifest.json", b'{"settings": {', "does not say what ran"),
        ("tokenizers.json", b"{}", "tokenizers.json cannot be read"),
        ("tokenizers.json", None, "tokenizers.json cannot be read"),
        ("checkpoints/best.ckpt", b"nothing", "best.ckpt cannot be read"),
        ("checkpoints/best.ckpt", b"", "best.ckpt cannot be read"),
        ("checkpoints/best.ckpt", None, "best.ckpt is missing"),
    ],
)
def test_a_damaged_run_is_refused(folder: Path, tmp_path: Path, file: str, content: bytes | None, says: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        load_run(copy)
    assert "\n" not in str(caught.value)


def test_a_variant_that_is_gone_or_has_changed_is_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["settings"]["attention"]["name"] = "my_lost_idea"
    manifest["plugins"] = ["/somewhere/plugins/my_lost_idea.py"]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"my_lost_idea.*trained with the plugins /somewhere/plugins/my_lost_idea.py"):
        load_run(copy)
    manifest["settings"]["attention"]["name"] = "low_rank_v"
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"best.ckpt do not fit the variants as they are now"):
        load_run(copy)


def test_a_variant_that_raises_in_being_built_again_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*given: object, **named: object) -> None:
        raise TypeError("no such\nsize")

    monkeypatch.setattr(loading, "build_model", build)
    with pytest.raises(
        UserError, match=r"cannot be built again: TypeError: no such size \(.*test_loading\.py, line \d+\)"
    ):
        load_run(folder)
