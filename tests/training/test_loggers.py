from __future__ import annotations

import csv
from pathlib import Path

import pytest
import wandb
from tiny_run import filled, metric_rows, tiny_run

from attnframe import UserError
from attnframe.runs.folder import RunFolder
from attnframe.training.loggers import LoggedRun, make_loggers, wandb_mode

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of someone who never heard of W&B."""
    for name in ("MODE", "API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_netrc(file: Path, host: str) -> None:
    file.write_text(f"machine {host}\n  login user\n  password {KEY}\n")
    file.chmod(0o600)


def test_without_anything_it_is_offline() -> None:
    assert wandb_mode() == "offline"


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_a_chosen_mode_is_kept(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode() == mode
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == mode


def test_online_without_a_key_would_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == "online"


def test_a_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == "online"


def test_a_key_in_netrc_is_enough_if_it_is_for_this_server(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netrc(nobody / ".netrc", "example.org")
    assert wandb_mode() == "offline"
    write_netrc(nobody / ".netrc", "api.wandb.ai")
    assert wandb_mode() == "online"
    cloud = wandb.Settings().base_url.removeprefix("https://")
    write_netrc(nobody / ".netrc", cloud)
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.our-institute.example:8443")
    assert wandb_mode() == "offline"
    write_netrc(nobody / "elsewhere", "wandb.our-institute.example:8443")
    monkeypatch.setenv("NETRC", str(nobody / "elsewhere"))
    assert wandb_mode() == "online"


def test_a_broken_netrc_is_no_key(nobody: Path) -> None:
    (nobody / ".netrc").write_text("machine api.wandb.ai\n  lgoin user\n")
    (nobody / ".netrc").chmod(0o600)
    assert wandb_mode() == "offline"


def test_an_unknown_logger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"logger=wandbb: .* did you mean 'wandb'\? \(known: csv, none, tensorboard"):
        make_loggers({"csv": {}, "wandbb": None}, LoggedRun(RunFolder(tmp_path), "x", {}))
    assert not list(tmp_path.iterdir())
    assert make_loggers({}, LoggedRun(RunFolder(tmp_path), "x", {})) == []


def test_tensorboard_and_csv_mirror_the_metrics(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = tmp_path / "run"
    results = tiny_run(path, "logger=[tensorboard,csv]", "callbacks.patterns.sentences=0")
    rows = metric_rows(path)
    with next((path / "csv").glob("metrics.csv")).open(newline="") as file:
        mirrored = list(csv.DictReader(file))
    events = accumulator.EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    for name in ("train/loss", "train/learning_rate", "val/loss", "val/aer"):
        expected = filled(rows, name)
        assert len(expected) >= 2
        assert {int(row["step"]): float(row[name]) for row in mirrored if row.get(name)} == pytest.approx(
            {**expected, **({20: results[name]} if name in results else {})}
        )
        logged: dict[int, float] = {event.step: event.value for event in events.Scalars(name)}
        assert logged == pytest.approx(expected, rel=1e-6)
    assert events.Scalars("test/loss")[0].value == pytest.approx(results["test/loss"])


def test_without_a_logger_only_the_run_folder_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run"
    tiny_run(path, "logger=none", "callbacks.patterns.sentences=0", "callbacks.patterns.statistics=0")
    assert {file.name for file in path.iterdir()} == {
        ".lock",
        "DONE",
        "checkpoints",
        "manifest.json",
        "metrics.csv",
        "predictions.tsv",
        "report.html",
        "results.json",
        "sentence_statistics.npz",
        "tokenizers.json",
    }
    assert {file.name for file in (path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
