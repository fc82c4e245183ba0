from __future__ import annotations

import numpy as np
import pytest

from attnframe.bench import Line, Measured, Row, Spread, growths
from attnframe.bench.growth import exponent
from attnframe.bench.memory import expected_bytes, is_out_of_memory


@pytest.mark.parametrize("samples", [[3.0], [3.0, 1.0], [7.0, 1.0, 2.0, 11.0, 3.0], [5.0, 1.0, 4.0, 2.0, 13.0, 3.0]])
def test_quartiles_are_those_of_numpy(samples: list[float]) -> None:
    spread = Spread.of(samples)
    expected = np.percentile(samples, [50, 25, 75])
    assert (spread.median, spread.lower, spread.upper) == pytest.approx(tuple(expected), rel=1e-12)


def measured(seconds: float, flops: float | None = None, peak: int | None = None) -> Measured:
    return Measured(Spread(seconds, seconds, seconds), flops, peak, ("kernel",), 1)


def test_tflops_are_credited_work_over_the_median() -> None:
    samples = [0.5, 0.25, 4.0]
    assert Measured(Spread.of(samples), 3e12, None, (), 3).tflops == pytest.approx(6.0)
    assert measured(0.5).tflops is None
    assert measured(0.0, 1e12).tflops is None


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_a_power_law_gives_its_exponent(power: float) -> None:
    lengths = [128, 256, 640, 1024, 2048, 4096]
    assert exponent(lengths, [3e-5 * n**power for n in lengths]) == pytest.approx(power, abs=1e-12)


def test_short_lengths_do_not_count_and_noise_is_fitted_as_numpy_does() -> None:
    lengths = [16, 32, 64, 128, 256, 512]
    seconds = [9.0, 9.0, 9.0, 1.1, 3.7, 17.0]
    fitted = np.polyfit(np.log(lengths[3:]), np.log(seconds[3:]), 1)[0]
    assert exponent(lengths, seconds) == pytest.approx(fitted, rel=1e-9)
    # Whatever order they come in.
    assert exponent(lengths[::-1], seconds[::-1]) == pytest.approx(fitted, rel=1e-9)


def test_of_few_lengths_up_to_three_count() -> None:
    assert exponent([2, 4, 8], [1.0, 1.0, 8.0]) == pytest.approx(np.polyfit(np.log([2, 4, 8]), np.log([1, 1, 8]), 1)[0])
    assert exponent([2, 4], [1.0, 8.0]) == pytest.approx(3.0)
    assert exponent([2], [1.0]) is None
    assert exponent([2, 4], [0.0, 8.0]) is None


def test_growth_is_of_one_sequence() -> None:
    line = Line("multi_head", "eager", (8, 16, 32), 12, 2, tokens=64)
    rows = [
        Row(
            line,
            "cpu",
            "eager",
            n,
            64 // n,
            measured(64 // n * n**2.0, peak=64 * n**3),
            None if n == 8 else measured(n),
        )
        for n in line.lengths
    ]
    (growth,) = growths(rows)
    assert (growth.line, growth.backend, growth.shortest, growth.longest) == (line, "eager", 8, 32)
    assert growth.forward_seconds == pytest.approx(2.0)
    assert growth.forward_bytes == pytest.approx(4.0)
    # 16 takes 16 for 4 sequences, 32 takes 32 for 2.
    assert growth.backward_seconds == pytest.approx(2.0)
    assert growth.backward_bytes is None


def test_a_line_at_one_length_does_not_grow() -> None:
    line = Line("multi_head", "eager", (8, 16), 12, 2)
    measured_once = [Row(line, "cpu", "eager", 8, 1, measured(1.0)), Row(line, "cpu", "eager", 16, 1, note="it fails")]
    assert growths(measured_once) == []


def test_memory_is_expected_to_go_on_as_it_did() -> None:
    assert expected_bytes([(10, 700)], 30) == pytest.approx(6300)
    assert expected_bytes([(5, 350), (10, 700)], 40) == pytest.approx(2800)
    assert expected_bytes([(5, 1), (10, 700)], 20) == pytest.approx(2800), "never more than with the square"
    assert expected_bytes([(5, 700), (10, 700)], 20) == pytest.approx(2800)


def test_a_lack_of_memory_is_told_from_other_errors() -> None:
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError(said))
