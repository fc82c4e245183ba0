"""Which process of a run this is, as torchrun and Slurm say it."""

from __future__ import annotations

import pytest

from attnframe import UserError
from attnframe.cli import processes
from attnframe.training.meeting import given_place, new_meeting_point

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "6", "SLURM_NTASKS": "6"}
BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "6"}
TWO_MACHINES = {"strategy": "ddp", "devices": 2, "num_nodes": 2}


@pytest.mark.parametrize(
    ("variables", "place"),
    [({}, (0, 1)), (TORCHRUN, (3, 4)), (SRUN, (1, 6)), (BATCH_SCRIPT, (0, 1)), ({**SRUN, **TORCHRUN}, (3, 4))],
)
def test_the_place_that_was_given(
    variables: dict[str, str], place: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(variables, monkeypatch)
    assert given_place() == place


@pytest.mark.parametrize(
    ("variables", "trainer", "another"),
    [
        ({}, {"strategy": "auto", "devices": 1, "num_nodes": 1}, False),
        # Independent runs that happen to be started together.
        (TORCHRUN, {"strategy": "auto", "devices": 1, "num_nodes": 1}, False),
        ({}, {"strategy": "ddp", "devices": 3, "num_nodes": 1}, False),
        (TORCHRUN, TWO_MACHINES, True),
        (TORCHRUN, {"strategy": "fsdp", "devices": [0, 1, 4, 5], "num_nodes": 1}, True),
        ({**TORCHRUN, "RANK": "0"}, TWO_MACHINES, False),
        (SRUN, {"strategy": "ddp", "devices": 3, "num_nodes": 2}, True),
    ],
)
def test_one_process_leads_and_the_others_take_part(
    variables: dict[str, str], trainer: dict[str, object], another: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(variables, monkeypatch)
    assert processes.is_another(trainer) is another


@pytest.mark.parametrize(
    ("variables", "said"), [(SRUN, "4 processes, but 6"), ({}, "trainer.num_nodes=2: on several machines")]
)
def test_another_number_than_asked_for_is_refused(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(variables, monkeypatch)
    with pytest.raises(UserError, match=said):
        processes.is_another(TWO_MACHINES)


def test_a_sweep_that_was_started_several_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(TORCHRUN, monkeypatch)
    with pytest.raises(UserError, match="4 were started"):
        processes.check_job(TWO_MACHINES)
    processes.check_job({"strategy": "auto", "devices": 1, "num_nodes": 1})


def test_what_one_puts_down_at_the_meeting_point_others_find() -> None:
    store, port = new_meeting_point()
    assert port > 0
    assert not store.check(["job"])
    store.set("job", "to do")
    assert store.get("job") == b"to do"


def _set(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*TORCHRUN, *SRUN}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
