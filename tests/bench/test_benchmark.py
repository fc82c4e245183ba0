from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads
from attnframe.backends import Sdpa
from attnframe.bench import TIMED, Benchmark, Line, Row, memory

CPU = torch.device("cpu")


class ScriptedClock:
    """Really makes each call, and says that it took what the script says: of each width the first `warm_up` take 1 s,
    then what is listed, in seconds."""

    def __init__(self, script: dict[int, list[float]], warm_up: int = 2) -> None:
        self.script, self.warm_up = script, warm_up
        self.seen: dict[tuple[int, int], int] = defaultdict(int)
        self.order: list[int] = []

    def __call__(self, prepare: Callable[[], Any], call: Callable[[Any], Any], repeats: int) -> float:
        _, length, width = call(prepare())[0].shape
        number = self.seen[width, length]
        self.seen[width, length] += 1
        if number < self.warm_up:
            return 1.0
        self.order.append(width)
        return self.script[width][number - self.warm_up]


def measure(lines: list[Line], **settings: Any) -> list[Row]:
    run = Benchmark(lines, device=CPU, **settings)
    run.run()
    return run.rows()


def test_rounds_alternate_and_their_median_counts() -> None:
    clock = ScriptedClock({12: [5.0, 1.0, 3.0], 14: [2.0, 8.0, 4.0]})
    lines = [Line("multi_head", "eager", (7,), width, 2) for width in (12, 14)]
    narrow, wide = measure(lines, rounds=3, backward=False, clock=clock)
    assert clock.order == [12, 14, 14, 12, 12, 14]
    assert narrow.forward is not None
    assert wide.forward is not None
    assert (narrow.forward.seconds.median, wide.forward.seconds.median) == (3.0, 4.0)
    assert narrow.forward.rounds == 3
    # Four projections, and q·kᵀ and weights·v: a multiply-add is two.
    assert narrow.forward.flops == 4 * 2 * 7 * 12 * 12 + 2 * 2 * 7 * 7 * 12
    assert narrow.forward.tflops == pytest.approx(narrow.forward.flops / 3.0 / 1e12)


@pytest.mark.parametrize("causal", [False, True])
def test_attend_is_credited_with_its_two_products_alone(causal: bool) -> None:
    """low_rank_v's values are narrower than its keys."""
    line = Line("low_rank_v", "eager", (7,), 12, 2, timed="attend", options={"rank": 5}, causal=causal, batch=3)
    (row,) = measure([line], rounds=1)
    assert row.forward is not None
    assert row.backward is not None
    products = 3 * 2 * (2 * 7 * 7 * 6 + 2 * 7 * 7 * 5) / (2 if causal else 1)
    assert row.forward.flops == products
    assert row.backward.flops == 2.5 * products


def test_a_causal_module_is_credited_with_half_of_its_products_over_keys() -> None:
    (row,) = measure([Line("multi_head", "sdpa", (7,), 12, 2, causal=True, batch=3)], rounds=1)
    projections, products = 3 * 4 * 2 * 7 * 12 * 12, 3 * 2 * 7 * 7 * 12
    assert row.forward is not None
    assert row.backward is not None
    assert row.forward.flops == projections + products
    assert row.backward.flops == 2 * projections + 2.5 * products


def test_every_combination_has_a_row_with_the_operators_that_ran() -> None:
    lines = [
        Line("multi_head", backend, (5, 11), 12, 2, timed=timed, dtype=dtype)
        for timed in TIMED
        for dtype in ("float32", "bfloat16")
        for backend in ("eager", "sdpa")
    ]
    rows = measure(lines, rounds=2)
    found = [(row.line.timed, row.line.dtype, row.length, row.backend) for row in rows]
    assert found == [
        (timed, dtype, length, backend)
        for timed in TIMED
        for dtype in ("float32", "bfloat16")
        for length in (5, 11)
        for backend in ("eager", "sdpa")
    ]
    for row in rows:
        assert row.note == ""
        for name, made in (("", row.forward), ("_backward", row.backward)):
            assert made is not None
            assert 0 < made.seconds.lower <= made.seconds.median <= made.seconds.upper
            assert made.peak_bytes
            assert made.rounds == 2
            if row.backend == "sdpa":
                assert made.kernels[0] == f"aten::_scaled_dot_product_flash_attention_for_cpu{name}"
            else:
                assert "aten::bmm" in made.kernels
    assert torch.is_grad_enabled()


def test_what_a_backend_declines_is_a_row_with_its_reason() -> None:
    rows = measure([Line("multi_head", name, (5,), 12, 2) for name in ("triton", "eager", "flexx")], rounds=1)
    assert [row.backend for row in rows] == ["eager", "triton", "flexx"]
    assert "triton needs a GPU" in rows[1].note
    assert "did you mean 'flex'" in rows[2].note
    for row in rows[1:]:
        assert (row.length, row.forward, row.backward) == (None, None, None)


def test_what_cannot_train_is_timed_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Sdpa, "unsupported", lambda self, request: ["it has no backward pass"] if request.trains else []
    )
    (row,) = measure([Line("multi_head", "sdpa", (5,), 12, 2)], rounds=1)
    assert row.forward is not None
    assert row.backward is None
    assert row.note.startswith("backward: ")
    assert "it has no backward pass" in row.note


def test_a_variant_that_calls_no_attend_is_measured_once_and_has_none_to_time() -> None:
    rows = measure(
        [Line("linear", name, (5,), 12, 2, timed=timed) for timed in TIMED for name in ("eager", "sdpa")], rounds=1
    )
    assert [(row.line.timed, row.backend, row.forward is None) for row in rows] == [
        ("module", "own", False),
        ("attend", "own", True),
    ]
    assert "calls no attend" in rows[1].note


def test_two_calls_of_attend_are_one() -> None:
    """`differential` subtracts one pattern from another."""
    (row,) = measure([Line("differential", "eager", (5,), 12, 2, timed="attend")], rounds=1)
    assert row.forward is not None
    module = measure([Line("differential", "eager", (5,), 12, 2)], rounds=1)[0].forward
    assert module is not None
    assert row.forward.flops is not None
    assert module.flops is not None
    assert 0 < row.forward.flops < module.flops


def test_auto_says_what_it_chose() -> None:
    (row,) = measure([Line("multi_head", "auto", (5,), 12, 2)], rounds=1)
    assert row.backend == "auto (sdpa)"


def test_a_batch_is_so_many_tokens() -> None:
    rows = measure([Line("multi_head", "sdpa", (5, 40), 12, 2, tokens=23)], rounds=1, backward=False)
    assert [row.batch for row in rows] == [4, 1]


@pytest.fixture
def hungry() -> str:
    @register_attention("hungry")
    class Hungry(Attention):
        """softmax(QKᵀ/√d_k)V, as far as memory goes."""

        def __init__(self, d_model: int, num_heads: int, *, trains: bool = False) -> None:
            super().__init__()
            self.num_heads, self.trains = num_heads, trains
            self.proj = torch.nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            if query.shape[1] > 7 and torch.is_grad_enabled() >= self.trains:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            q = split_heads(self.proj(query), self.num_heads)
            return merge_heads(self.attend(q, q, q, mask))

    return "hungry"


def test_after_a_lack_of_memory_longer_ones_are_left_out(hungry: str) -> None:
    rows = measure([Line(name, "eager", (5, 11, 13), 12, 2) for name in (hungry, "multi_head")], rounds=1)
    of_hungry = [row for row in rows if row.line.variant == hungry]
    assert [(row.length, row.note) for row in of_hungry] == [
        (5, ""),
        (11, "out of memory; longer ones are left out"),
    ]
    assert of_hungry[1].forward is None
    assert [row.length for row in rows if row.line.variant == "multi_head"] == [5, 11, 13]


def test_a_lack_of_memory_for_gradients_leaves_the_forward_pass(hungry: str) -> None:
    rows = measure([Line(hungry, "eager", (5, 11, 13), 12, 2, options={"trains": True})], rounds=1)
    assert [row.note for row in rows] == [
        "",
        "backward: out of memory; longer ones are left out",
        "backward: out of memory at length 11",
    ]
    assert all(row.forward is not None for row in rows)
    assert [row.backward is None for row in rows] == [False, True, True]


def test_what_would_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    rows = measure([Line("multi_head", "eager", (5, 4001), 12, 2)], rounds=1)
    assert rows[0].note == ""
    assert rows[1].forward is None
    assert rows[1].note.startswith("out of memory: not tried, for it may need ")
    assert rows[1].note.endswith("1.00 MiB are free")


def test_a_variant_that_breaks_is_a_row_and_the_others_go_on() -> None:
    @register_attention("breaks")
    class Breaks(Attention):
        """Nothing, for more than 7 tokens."""

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.proj = torch.nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            if query.shape[1] > 7:
                raise ValueError("it broke\nin two lines")
            return self.proj(query)

    rows = measure([Line(name, "eager", (5, 11), 12, 2) for name in ("breaks", "multi_head")], rounds=1)
    notes = {(row.line.variant, row.length): row.note for row in rows}
    assert notes.pop(("breaks", 11)) == "it fails: ValueError: it broke in two lines"
    assert set(notes.values()) == {""}


def test_what_was_measured_stays_when_it_is_interrupted() -> None:
    class Interrupted(ScriptedClock):
        def __call__(self, prepare: Callable[[], Any], call: Callable[[Any], Any], repeats: int) -> float:
            if len(self.order) == 5:
                raise KeyboardInterrupt
            return super().__call__(prepare, call, repeats)

    clock = Interrupted({12: [5.0, 1.0, 3.0]})
    run = Benchmark([Line("multi_head", "eager", (7, 11), 12, 2)], device=CPU, rounds=3, backward=False, clock=clock)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [(row.length, row.forward and row.forward.rounds) for row in run.rows()] == [(7, 3), (11, 2)]


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[tuple[float, float]] = []
    lines = [Line("multi_head", name, (5, 11), 12, 2) for name in ("eager", "triton")]
    Benchmark(lines, device=CPU, rounds=2, backward=False).run(lambda done, total: told.append((done, total)))
    shares = [done / total for done, total in told]
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(1)
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"timed": "modul"}, "did you mean 'module'"),
        ({"dtype": "float23"}, "did you mean 'float32'"),
        ({"lengths": ()}, "bench.lengths is empty"),
        ({"lengths": (5, 0)}, r"bench.lengths=\[5, 0\]: at least 1"),
        ({"batch": 0}, "bench.batch=0: at least 1"),
        ({"tokens": -2}, "bench.tokens=-2: at least 1"),
    ],
)
def test_what_can_never_be_measured_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Line(**{"variant": "multi_head", "backend": "eager", "lengths": (5,), "d_model": 12, "num_heads": 2, **wrong})
