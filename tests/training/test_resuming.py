"""A run that goes on ends as if it had never been stopped, to the last bit."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny_run import metric_rows, tiny_resume, tiny_run

from attnframe.training import checkpoints
from attnframe.training.checkpoints import Checkpoints
from attnframe.training.interruption import Interrupted
from attnframe.training.metrics_log import MetricsLog
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.run import RunFailed
from attnframe.training.task import TranslationTask

# As little as makes several epochs, each of four or five batches.
TINY = (
    "model.num_layers=1",
    "model.d_model=16",
    "data.val_size=5",
    "data.test_size=3",
    "data.held_out_size=3",
    "callbacks.patterns.sentences=1",
    "trainer.log_every_n_steps=5",
)
# The last step ends no epoch, is not validated within training and is not logged.
STEPS = ("trainer.max_steps=19", "trainer.val_check_interval=8", *TINY)
BY_EPOCHS = ("trainer.max_steps=-1", "trainer.max_epochs=3", "trainer.val_check_interval=1.0", *TINY)
ACCUMULATING = ("trainer.max_steps=9", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=5", *TINY)
STOPPING_EARLY = (
    "trainer.max_steps=40",
    "trainer.val_check_interval=3",
    "optimizer.lr=1e-30",  # nothing ever gets better
    "callbacks.early_stopping.patience=2",
    *TINY,
)
BY_EPOCHS_STOPPING_EARLY = (*STOPPING_EARLY, "trainer.max_steps=-1", "trainer.max_epochs=9", BY_EPOCHS[2])
LIMITED = (
    "trainer.max_steps=14",
    "trainer.limit_train_batches=3",
    "trainer.val_check_interval=2",
    "trainer.check_val_every_n_epoch=2",
    "trainer.num_sanity_val_steps=1",
    *TINY,
)
WATCHING = (*STEPS, "callbacks.max_score.threshold=0.7", "optimizer.entropy_weight=0.1", "optimizer.z_loss_weight=0.1")
KINDS = {
    "steps": STEPS,
    "epochs": BY_EPOCHS,
    "accumulating": ACCUMULATING,
    "early": STOPPING_EARLY,
    "early-epochs": BY_EPOCHS_STOPPING_EARLY,
    "limited": LIMITED,
    "watching": WATCHING,
    "early-later": (*STOPPING_EARLY, "trainer.min_steps=13"),
}

TIMED_COLUMNS = {"seconds", "train/tokens_per_second"}
# Times, rates and memory are never twice the same.
TIMED_RESULTS = {"train/seconds", "train/tokens_per_second", "train/peak_memory_bytes"}


def slow(*values: Any) -> Any:
    """Parameters of a case that `test_stopped_again_and_again` comes by, or one much like it."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs that were never stopped, by kind."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            path = tmp_path_factory.mktemp(kind) / "run"
            tiny_run(path, *KINDS[kind])
            made[kind] = path
        return made[kind]

    return get


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


@contextlib.contextmanager
def pressing(*calls: int, hook: str = "training_step", final: bool = False) -> Iterator[list[int]]:
    """Ctrl-C during these calls of `hook`, counted from 1; with `final`, of those after training. Yields what was."""
    original = getattr(TranslationTask, hook)
    count = 0
    pressed: list[int] = []

    def press(self: TranslationTask, *arguments: Any) -> Any:
        nonlocal count
        count += not final or self.trainer.state.fn != "fit"
        if count in calls and count not in pressed:
            pressed.append(count)
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TranslationTask, hook, press)
        yield pressed


@contextlib.contextmanager
def dying(owner: Any, method: str, call: int) -> Iterator[None]:
    """The process is gone at the end of this call of a method; nothing of ours runs after it but to leave the test."""
    original = getattr(owner, method)
    count = 0

    class Gone(BaseException):
        pass

    def die(*arguments: Any) -> None:
        nonlocal count
        count += 1
        original(*arguments)
        if count == call:
            raise Gone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, die)
        with pytest.raises(Gone):
            yield
    assert count == call


def checkpoint(path: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return loaded


def markers(path: Path) -> list[str]:
    return [name for name in ("DONE", "FAILED", "INTERRUPTED") if (path / name).exists()]


def untimed_rows(path: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in TIMED_COLUMNS} for row in metric_rows(path)]


def same(a: Any, b: Any) -> bool:
    """Whether two nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_same_end(path: Path, whole: Path) -> None:
    """Everything that a run leaves, but for what tells the time."""
    assert markers(path) == ["DONE"]
    assert not (path / "error.txt").exists()
    assert untimed_rows(path) == untimed_rows(whole)
    for name in ("last", "best"):
        ours, theirs = checkpoint(path, name), checkpoint(whole, name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
            assert same(ours[key], theirs[key]), (name, key)
        counters = [state["loops"]["fit_loop"]["epoch_loop.state_dict"] for state in (ours, theirs)]
        assert counters[0] == counters[1]
        for callback in ("Place", "Checkpoints", "PatternSnapshots", "HeadLog"):
            assert same(ours["callbacks"][callback], theirs["callbacks"][callback]), (name, callback)
    assert (path / "predictions.tsv").read_bytes() == (whole / "predictions.tsv").read_bytes()
    results, expected = (json.loads((run / "results.json").read_text(encoding="utf-8")) for run in (path, whole))
    assert all(results[key] > 0 for key in TIMED_RESULTS)
    assert {k: v for k, v in results.items() if k not in TIMED_RESULTS} == {
        k: v for k, v in expected.items() if k not in TIMED_RESULTS
    }
    assert (path / "patterns" / "heads.csv").read_bytes() == (whole / "patterns" / "heads.csv").read_bytes()
    assert (path / "report.html").exists()
    pictures = {file.relative_to(whole): file.read_bytes() for file in whole.rglob("patterns/*/*.png")}
    assert {file.relative_to(path): file.read_bytes() for file in path.rglob("patterns/*/*.png")} == pictures
    assert {file.name for file in (path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def assert_whole_until(path: Path, whole: Path, step: int) -> None:
    """A stopped run has written what the whole one had at that step, and nothing else."""
    assert markers(path) == ["INTERRUPTED"]
    assert checkpoint(path, "last")["global_step"] == step
    rows = untimed_rows(path)
    assert rows == untimed_rows(whole)[: len(rows)]
    assert all(int(row["step"]) <= step for row in rows)
    assert not (path / "results.json").exists()
    assert (path / "report.html").exists()


def test_two_runs_that_are_not_stopped_are_the_same(whole: Callable[[str], Path], path: Path) -> None:
    tiny_run(path, *STEPS)
    assert_same_end(path, whole("steps"))


@pytest.mark.parametrize(
    ("kind", "batch", "step"),
    [
        ("steps", 1, 1),
        slow("steps", 4, 4),  # the last batch of an epoch
        slow("steps", 5, 5),  # a logged step
        slow("steps", 7, 7),  # in the middle of everything
        ("steps", 8, 8),  # a validated step
        slow("steps", 19, 19),  # the last step
        slow("watching", 7, 7),  # between two rows, of which the second tells of all steps since the first
        slow("epochs", 3, 3),
        slow("limited", 3, 3),  # the last batch of an epoch that has more, which is not validated
        slow("early-later", 11, 11),  # between the validation that would end it and the step that may
        slow("epochs", 4, 4),  # the last batch of an epoch, which is validated
        slow("accumulating", 1, 1),  # in the middle of a step, which is then finished
        slow("accumulating", 2, 1),
        ("accumulating", 5, 3),  # validated in the middle of a step
        slow("early", 4, 4),
        slow("early", 9, 9),  # the validation that ends it
        slow("early-epochs", 8, 8),  # the last batch of an epoch, whose validation changes the patience
    ],
)
def test_stopped_in_training(whole: Callable[[str], Path], path: Path, kind: str, batch: int, step: int) -> None:
    with pressing(batch) as pressed, pytest.raises(Interrupted, match=f"^stopped after step {step}$"):
        tiny_run(path, *KINDS[kind])
    assert pressed == [batch]
    assert_whole_until(path, whole(kind), step)
    tiny_resume(path)
    assert_same_end(path, whole(kind))


@pytest.mark.parametrize(
    ("kind", "hook", "final", "step"),
    [
        ("steps", "validation_step", False, 8),
        slow("accumulating", "validation_step", False, 3),
        slow("early-epochs", "validation_step", False, 4),
        slow("steps", "validation_step", True, 19),
        slow("steps", "test_step", True, 19),
        slow("epochs", "test_step", True, 12),
        slow("early", "test_step", True, 9),
        slow("accumulating", "test_step", True, 9),
    ],
)
def test_stopped_in_an_evaluation(
    whole: Callable[[str], Path], path: Path, kind: str, hook: str, final: bool, step: int
) -> None:
    with pressing(1, hook=hook, final=final) as pressed, pytest.raises(Interrupted, match="stopped after step"):
        tiny_run(path, *KINDS[kind])
    assert pressed
    assert_whole_until(path, whole(kind), step)
    tiny_resume(path)
    assert_same_end(path, whole(kind))


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "steps" else pytest.mark.slow) for kind in KINDS]
)
def test_stopped_again_and_again(whole: Callable[[str], Path], path: Path, kind: str) -> None:
    """After every few batches, and in each of the evaluations at the end."""
    with pressing(2), pytest.raises(Interrupted):
        tiny_run(path, *KINDS[kind])
    stops, scored = 1, []
    while not scored:
        with (
            pressing(3),
            pressing(1, hook="validation_step", final=True) as scored,
            pytest.raises(Interrupted),
        ):
            tiny_resume(path)
        stops += 1
    with pressing(1, hook="test_step", final=True), pytest.raises(Interrupted):
        tiny_resume(path)
    assert stops > 3
    tiny_resume(path)
    assert_same_end(path, whole(kind))
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert len(manifest["resumed"]) == stops + 1


def test_stopped_before_the_first_step(
    whole: Callable[[str], Path], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept, so everything is done anew, in the same folder."""
    with monkeypatch.context() as patch:
        start = TranslationTask.on_train_start
        patch.setattr(TranslationTask, "on_train_start", lambda task: (signal.raise_signal(signal.SIGINT), start(task)))
        with pytest.raises(Interrupted, match="stopped after step 0"):
            tiny_run(path, *STEPS)
    assert markers(path) == ["INTERRUPTED"]
    assert not list((path / "checkpoints").iterdir())
    tiny_resume(path)
    assert_same_end(path, whole("steps"))


@pytest.mark.parametrize("call", [10, slow(8), slow(18)])
def test_stopped_at_once(whole: Callable[[str], Path], path: Path, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C waits for nothing. What the last checkpoint has not seen is forgotten and done again."""
    step = TranslationTask.training_step
    calls = 0

    def press_twice(self: TranslationTask, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TranslationTask, "training_step", press_twice)
        with pytest.raises(Interrupted, match="stopped at once"):
            tiny_run(path, *STEPS)
    assert markers(path) == ["INTERRUPTED"]
    assert (path / "checkpoints" / "last.ckpt").exists() == (call > 8)
    tiny_resume(path)
    assert_same_end(path, whole("steps"))


@pytest.mark.parametrize(
    ("kind", "owner", "method", "call"),
    [
        ("steps", MetricsLog, "_write", 5),  # rows that no checkpoint has seen
        slow("steps", TranslationTask, "on_validation_epoch_end", 1),
        slow("steps", checkpoints, "_write", 1),  # a best state, and nothing that knows of it
        ("steps", checkpoints, "_write", 4),  # a second best state of which last.ckpt knows already
        slow("accumulating", checkpoints, "_write", 3),
        slow("steps", checkpoints, "_write", 6),  # the best state of the final validation
        slow("steps", checkpoints, "_write", 7),
        slow("steps", L.Trainer, "save_checkpoint", 4),  # a file that is not yet in its place
        slow("early", Checkpoints, "on_train_end", 1),
    ],
)
def test_killed(whole: Callable[[str], Path], path: Path, kind: str, owner: Any, method: str, call: int) -> None:
    with dying(owner, method, call):
        tiny_run(path, *KINDS[kind])
    # What a process leaves that was killed: no marker, whatever came after.
    assert not markers(path)
    if (path / "checkpoints" / "last.ckpt").exists():
        best = [checkpoint(path, file.stem)["global_step"] for file in (path / "checkpoints").glob("*best.ckpt")]
        assert {-1, *best} >= {checkpoint(path, "last")["callbacks"]["Checkpoints"]["best_step"]}
    tiny_resume(path)
    assert_same_end(path, whole(kind))


def test_a_run_that_failed_may_go_on(whole: Callable[[str], Path], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = PatternSnapshots.take

    def full(self: PatternSnapshots, trainer: L.Trainer, task: TranslationTask) -> None:
        if trainer.global_step == 16:
            raise OSError(28, "No space left on device")
        take(self, trainer, task)

    with monkeypatch.context() as patch:
        patch.setattr(PatternSnapshots, "take", full)
        with pytest.raises(RunFailed):
            tiny_run(path, *STEPS)
    assert markers(path) == ["FAILED"]
    assert (path / "error.txt").exists()
    tiny_resume(path)
    assert_same_end(path, whole("steps"))
