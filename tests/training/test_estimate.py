from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from tiny_run import surroundings, tiny_settings

from attnframe.data.tokenizer import EOS, PAD
from attnframe.model import IncrementalDecoder
from attnframe.runs import building
from attnframe.runs.decoding import Decoding
from attnframe.training import estimate
from attnframe.training.data_module import TranslationData
from attnframe.training.estimate import estimate_seconds

STEPS = ("trainer.max_steps=20", "trainer.val_check_interval=10", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with surroundings(tmp_path_factory.mktemp("estimate")):
        return tiny_settings(*STEPS)


@pytest.fixture(scope="module")
def data(settings: dict[str, Any]) -> TranslationData:
    return TranslationData(settings["data"], seed=settings["seed"])


class Clock:
    """Each look at it is `tick` seconds after the one before."""

    def __init__(self, tick: float = 1.0) -> None:
        self.tick, self.looks = tick, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks * self.tick


Estimated = Callable[..., float | None]


@pytest.fixture
def estimated(settings: dict[str, Any], data: TranslationData) -> Estimated:
    """The estimate for the tiny run with other values under some keys of its settings."""

    def estimated(
        clock: Callable[[], float], *, data: TranslationData | None = data, **changes: dict[str, Any]
    ) -> float | None:
        chosen = {key: {**value, **changes.pop(key)} if key in changes else value for key, value in settings.items()}
        assert not changes
        return estimate_seconds(chosen, building.attention_factory(chosen), data, clock=clock)

    return estimated


@pytest.mark.slow
def test_a_second_for_everything(variant_name: str, estimated: Estimated) -> None:
    # 20 steps, validations after 10 and 20 and of the best state, and four test sets; debug=fast takes a batch of each.
    assert estimated(Clock(), attention={"name": variant_name}) == 20 + 3 + 4


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"trainer": {"max_time": "00:00:00:10"}}, 10 + 1 + 4),
        ({"trainer": {"max_steps": -1}}, None),
        ({"trainer": {"accumulate_grad_batches": 2}}, 20 + 5 + 4),
        ({"trainer": {"limit_val_batches": None, "limit_test_batches": 0.0}}, 20 + 3),
        ({"trainer": {"precision": "bf16-mixed"}, "decoding": {"name": "beam", "beam_size": 3}}, 20 + 3 + 4),
        ({"trainer": {"precision": "bf16-true"}, "layers": {"cross": ["uniform", "low_rank_v"]}}, 20 + 3 + 4),
    ],
)
def test_what_a_run_is_asked_to_do(estimated: Estimated, changes: dict[str, Any], seconds: float | None) -> None:
    assert estimated(Clock(), **changes) == seconds


@pytest.mark.parametrize(("tick", "steps"), [(1.0, 2), (0.25, 6)])
def test_steps_are_timed_for_a_second_or_two_and_two_at_least(estimated: Estimated, tick: float, steps: int) -> None:
    clock = Clock(tick)
    assert estimated(clock) == (20 + 3 + 4) * tick
    assert clock.looks == 2 * (steps + 1 + 4)


def test_the_middle_of_uneven_steps_counts(estimated: Estimated) -> None:
    # Three steps of 1, 0.1 and 0.5 seconds, then five evaluations that take none.
    times = iter([0.0, 1.0, 1.0, 1.1, 1.1, 1.6, *[2.0] * 10])
    assert estimated(lambda: next(times)) == pytest.approx(20 * 0.5)
    assert next(times, None) is None


def state() -> tuple[Any, ...]:
    return (
        random.getstate(),
        numpy.random.get_state()[1].tolist(),  # type: ignore[index]
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


def test_everything_is_as_it_was(estimated: Estimated, data: TranslationData) -> None:
    order = [batch.indices.tolist() for batch in data.train_dataloader()]
    before = state()
    # Data that are not given are read.
    with torch.no_grad():
        assert estimated(Clock(), data=None, model={"attention_dropout": 0.1}) == 27
    assert estimated(Clock()) == 27
    assert state() == before
    assert [batch.indices.tolist() for batch in data.train_dataloader()] == order


def test_it_can_be_interrupted(estimated: Estimated) -> None:
    def interrupt() -> float:
        random.random()
        raise KeyboardInterrupt

    before = state()
    with pytest.raises(KeyboardInterrupt):
        estimated(interrupt)
    assert state() == before


@pytest.mark.parametrize("beam_size", [1, 3])
def test_decoding_goes_as_far_as_the_references(
    settings: dict[str, Any], data: TranslationData, monkeypatch: pytest.MonkeyPatch, beam_size: int
) -> None:
    rows: list[int] = []

    class Counting(IncrementalDecoder):
        def log_probabilities(self) -> torch.Tensor:
            rows.append(len(self.prefix))
            return super().log_probabilities()

    monkeypatch.setattr(estimate, "IncrementalDecoder", Counting)
    sizes = {"src_vocab_size": len(data.src_tokenizer), "tgt_vocab_size": len(data.tgt_tokenizer)}
    model = building.build_model(settings, building.attention_factory(settings), **sizes).eval()
    batch = data.batch(data.corpus.sets["longer"])
    decoding = Decoding("beam", beam_size) if beam_size > 1 else Decoding()
    search = estimate._ToTheReferences(batch, decoding)
    with torch.no_grad():
        found = search(model, batch.src, batch.src_keep)
    references = [[token for token in row if token not in (PAD, EOS)] for row in batch.tgt_out.tolist()]
    assert [list(hypothesis.ids) for (hypothesis,) in found] == references
    lengths = [len(reference) + 1 for reference in references]
    assert len(set(lengths)) > 1
    live = [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert rows == [live[0], *(beam_size * number for number in live[1:])]
