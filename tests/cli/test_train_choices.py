"""Whatever can be chosen composes, builds and runs."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning
import pytest
from command_fixtures import home, train  # noqa: F401
from command_line import SMALL, PreparedCommand, markers, run_folders

from attnframe import registry
from attnframe.cli import composition, settings
from attnframe.cli.train_schema import TrainerSchema
from attnframe.data.sources import load_corpus
from attnframe.model import AttentionFactory
from attnframe.runs import building

CONF = Path(__file__).parents[2] / "conf"
TRAINABLE = {"tiny", "small", "base"}


def names(group: str) -> list[str]:
    found = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    assert found
    return found


def composed(*overrides: str) -> dict[str, Any]:
    composition.prepare()
    return settings.plain(composition.compose_config(list(overrides)))


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def test_the_conf_folder_is_the_one_looked_at() -> None:
    assert composition.conf_folder() == CONF


GROUPS = [folder.name for folder in sorted(CONF.iterdir()) if folder.is_dir()]


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in GROUPS for name in names(group)])
def test_every_file_composes_and_builds(choice: str) -> None:
    chosen = composed(choice)
    factory = building.attention_factory(chosen)
    group, _, name = choice.partition("=")
    if group == "model":
        assert (chosen["model"]["kind"] == "seq2seq") is (name in TRAINABLE)
    if chosen["model"]["kind"] == "seq2seq":
        building.try_attention(factory, chosen["trainer"])
    if group == "scheduler":
        assert chosen["scheduler"]["name"] == name
    if group == "logger":
        assert set(chosen["logger"]) == ({name} - {"none"})


def test_the_defaults_are_those_promised() -> None:
    chosen = composed()
    assert chosen["name"] == "grammar-multi_head"
    assert (chosen["attention"]["name"], chosen["backend"]["name"], chosen["data"]["name"]) == (
        "multi_head",
        "auto",
        "grammar",
    )
    assert set(chosen["logger"]) == {"wandb"}
    assert chosen["model"]["attention_dropout"] == 0
    assert chosen["model"]["dropout"] > 0


def modules(*overrides: str) -> tuple[AttentionFactory, dict[str, list[Any]]]:
    factory = building.attention_factory(composed(*overrides))
    return factory, {
        site: [factory.build(site, layer) for layer in range(len(choices))] for site, choices in factory.choices.items()
    }


def class_of(name: str) -> type:
    return registry.variants()[name].cls


def rank(module: Any) -> int:
    """The rank of V in each head, read off the weights of low_rank_v."""
    return int(module.value_down.out_features // module.num_heads)


def test_each_layer_of_a_site_can_be_chosen() -> None:
    _, built = modules("layers.cross=[multi_head,{name: low_rank_v, rank: 3}]")
    assert [type(module) for module in built["cross"]] == [class_of("multi_head"), class_of("low_rank_v")]
    assert rank(built["cross"][1]) == 3
    assert {type(module) for site in ("encoder_self", "decoder_self") for module in built[site]} == {
        class_of("multi_head")
    }
    assert [module.layer for module in built["cross"]] == [0, 1]


def test_one_site_can_be_chosen() -> None:
    _, built = modules("attention=self", "attention@cross=low_rank_v", "cross.rank=2")
    assert [(type(module), rank(module)) for module in built["cross"]] == [(class_of("low_rank_v"), 2)] * 2
    assert {type(module) for module in built["encoder_self"]} == {class_of("self")}


def test_a_preset_is_its_variant_with_options() -> None:
    _, built = modules("attention=low_rank_v_r4")
    found = {(type(module), rank(module)) for site in built.values() for module in site}
    assert found == {(class_of("low_rank_v"), 4)}
    chosen = composed("attention=low_rank_v_r4")
    assert chosen["attention"]["name"] == "low_rank_v"
    assert composed("attention=low_rank_v_r4", "attention.rank=5")["attention"]["rank"] == 5


def test_the_layers_of_encoder_and_decoder_are_counted_apart() -> None:
    _, built = modules("model.num_layers=3", "model.encoder.num_layers=1", "layers.encoder_self=[uniform]")
    assert {site: len(layers) for site, layers in built.items()} == {"encoder_self": 1, "decoder_self": 3, "cross": 3}


def test_trainer_settings_are_arguments_of_lightnings_trainer() -> None:
    known = inspect.signature(lightning.Trainer.__init__).parameters
    for item in fields(TrainerSchema):
        assert item.name in known
    assert len(fields(TrainerSchema)) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={name}"
        for group in ("experiment", "debug", "scheduler", "logger", "model")
        for name in names(group)
        if group != "model" or name in TRAINABLE - {"base"}
    ],
)
def test_every_choice_runs_two_steps(train: PreparedCommand, tmp_path: Path, choice: str) -> None:  # noqa: F811
    sizes = SMALL[1:5] if choice.startswith("model=") else SMALL[1:]
    if composed(choice)["data"]["name"] != "grammar":
        pairs = load_corpus("grammar", train_size=90, val_size=1, test_size=1, held_out_size=1).sets["train"]
        lines = "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs)
        (tmp_path / "pairs.tsv").write_text(lines, encoding="utf-8")
        sizes = ("data.path=pairs.tsv", "data.val_size=5", "data.test_size=5", *SMALL[5:])
    chosen = ["debug=fast", *sizes, "trainer.max_steps=2", "callbacks.patterns.sentences=1", choice]
    finished = train("train", *chosen, cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["DONE"]


@pytest.mark.slow
def test_each_job_of_a_sweep_is_matched_by_itself(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    chosen = ["attention=uniform,multi_head", "match=params", "model.d_ff=131", "trainer.max_steps=2"]
    finished = train("train", "-m", *SMALL, *chosen, "callbacks.patterns.sentences=0", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    found = {run.name.partition("_")[0].removeprefix("attention-"): run for run in run_folders(tmp_path)}
    runs = [found["uniform"], next(run for name, run in found.items() if name != "uniform")]
    uniform, multi_head = (json.loads((run / "manifest.json").read_text()) for run in runs)
    assert multi_head["settings"]["attention"]["name"] == "multi_head"
    assert multi_head["matched"]["d_ff"] == 131
    assert uniform["settings"]["model"]["d_ff"] == uniform["matched"]["d_ff"] > 131
    assert uniform["parameters"] == pytest.approx(multi_head["parameters"], rel=0.01)
    said = f"d_ff 131 -> {uniform['matched']['d_ff']}: parameters within "
    assert said in (runs[0] / "train.log").read_text()
