"""Measuring lines side by side, round by round."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from attnframe.attention import settle_backend
from attnframe.backends.resolution import AUTO
from attnframe.bench.cases import BACKWARD, FORWARD, Case, Pass, Track
from attnframe.bench.clocks import Clock, clock_of
from attnframe.bench.figures import Row
from attnframe.bench.flops import credited_flops
from attnframe.bench.lines import ATTEND, Line
from attnframe.bench.looking import kernels_of, peak_bytes
from attnframe.bench.memory import is_out_of_memory, too_large
from attnframe.bench.subjects import OWN, Subject, attend_calls, attend_subject, build, module_subject
from attnframe.errors import UserError

_LEAST_SECONDS: Final = 0.005
"""A sample is the mean of so many calls that it takes about that long."""

_MOST_REPEATS: Final = 50

_PREPARATION: Final = 4
"""Rounds that the first calls of a case take, for the progress."""


class Benchmark:
    """Measures `lines` on `device`, lengths from short to long.

    Of each length every line first runs a few times, in which whatever has to be compiled is. Then come `rounds`, and
    in each of them every line is timed once, forwards and backwards through the list by turns, so that what disturbs
    the machine disturbs all alike. `seed` is that of weights and embeddings. `clock` is one that fits the device unless
    given.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        *,
        device: torch.device,
        rounds: int = 10,
        warm_up: int = 2,
        backward: bool = True,
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.lines = tuple(lines)
        self.device = device
        self.rounds = rounds
        self._warm_up = warm_up
        self._passes = (FORWARD, BACKWARD) if backward else (FORWARD,)
        self._seed = seed
        self._clock = clock or clock_of(device)
        self._tracks: list[Track] = []
        self._cases: list[Case] = []

    def run(self, advance: Callable[[float, float], None] = lambda done, total: None) -> None:
        """Measure everything. `advance` is told how much of how much is done.

        It may be interrupted at any time: `rows` has what was measured until then.
        """
        is_cuda = self.device.type == "cuda"
        # Events are recorded on the device that is the current one.
        with torch.cuda.device(self.device) if is_cuda else contextlib.nullcontext():
            self._run(advance, [torch.cuda.current_device()] if is_cuda else [])

    def _run(self, advance: Callable[[float, float], None], gpus: list[int]) -> None:
        with torch.random.fork_rng(devices=gpus):
            for line in self.lines:
                self._add(line)
            done, total = 0.0, sum(_work(line, length) for line in self.lines for length in line.lengths)
            advance(done, total)
            for length in sorted({length for line in self.lines for length in line.lengths}):
                for share in self._measure_length(length):
                    done += share
                    advance(done, total)
                # What was left out is done too.
                done = sum(_work(line, n) for line in self.lines for n in line.lengths if n <= length)
                advance(done, total)

    def rows(self) -> list[Row]:
        """What there is so far: what is timed and dtype by length, lines side by side; lines that cannot run last."""
        order = {id(track): number for number, track in enumerate(self._tracks)}
        kinds = list(dict.fromkeys((track.line.timed, track.line.dtype) for track in self._tracks))
        cases = sorted(
            self._cases,
            key=lambda case: (
                kinds.index((case.track.line.timed, case.track.line.dtype)),
                case.length,
                order[id(case.track)],
            ),
        )
        rows = [row for case in cases if (row := case.row(self.device.type)) is not None]
        declined = [track for track in self._tracks if FORWARD in track.over and track.module is None]
        return rows + [
            Row(track.line, self.device.type, track.backend or track.line.backend, note=track.over[FORWARD])
            for track in declined
        ]

    def _add(self, line: Line) -> None:
        track = Track(line)
        # The same weights on every backend, and below the same embeddings.
        torch.manual_seed(self._seed)
        try:
            track.module, track.backend = build(line, self.device)
        except Exception as error:  # a variant's code is anybody's
            track.over[FORWARD] = _reason(error)
            self._tracks.append(track)
            return
        if track.backend == OWN:
            if any(line.is_as(other.line) for other in self._tracks if other.backend == OWN):
                # It is the same on every backend.
                return
            if line.timed == ATTEND:
                track.module = None
                track.over[FORWARD] = f"{line.variant} computes its attention itself and calls no attend"
        elif BACKWARD in self._passes:
            try:
                resolution = settle_backend(track.module, d_model=line.d_model, d_context=line.d_model, trains=True)
                track.backend = resolution.backend.name if resolution else track.backend
            except UserError as error:
                track.over[BACKWARD] = str(error)
        if line.backend == AUTO and track.backend != OWN:
            track.backend = f"{AUTO} ({track.backend})"
        self._tracks.append(track)

    def _measure_length(self, length: int) -> Iterator[float]:
        """Yields each share of the work that is done."""
        cases: list[Case] = []
        for track in self._tracks:
            if length in track.line.lengths and track.module is not None and track.over.get(FORWARD) is None:
                case = Case(track, length)
                self._cases.append(case)
                self._prepare(case)
                cases.append(case)
                yield _share(case, self.rounds) * _PREPARATION
        for number in range(self.rounds):
            for case in cases if number % 2 == 0 else reversed(cases):
                for name, made in list(case.passes.items()):
                    if name not in case.notes:
                        self._attempt(case, name, partial(_sample, made, case.calls[name]))
                yield _share(case, self.rounds)
        for case in cases:
            case.calls.clear()

    def _prepare(self, case: Case) -> None:
        """The first calls: what runs, how much memory it takes, and about how long."""
        track, line = case.track, case.track.line
        if refusal := too_large(track.peaks[FORWARD], case.length, self.device):
            self._end(case, FORWARD, refusal)
            return
        found: list[tuple[Subject, Subject, tuple[float | None, float | None]]] = []

        def begin() -> None:
            torch.manual_seed(self._seed)
            assert track.module is not None
            calls = attend_calls(track.module, line, case.length, self.device)
            attend = attend_subject(track.module, calls) if calls else None
            timed = None if line.timed == ATTEND else module_subject(track.module, line, case.length, self.device)
            subject = timed or attend
            assert subject is not None
            found.append((subject, attend or subject, credited_flops(line, case.length, calls)))

        self._attempt(case, FORWARD, begin)
        if not found:
            return
        subject, named, (forward_flops, backward_flops) = found[0]
        self._attempt(case, FORWARD, lambda: self._first_forward(case, subject, named, forward_flops))
        if BACKWARD not in self._passes or FORWARD in case.notes:
            return
        if reason := track.over.get(BACKWARD) or too_large(track.peaks[BACKWARD], case.length, self.device):
            case.notes[BACKWARD] = reason
            return
        self._attempt(case, BACKWARD, lambda: self._first_backward(case, subject, named, backward_flops))

    def _first_forward(self, case: Case, subject: Subject, named: Subject, flops: float | None) -> None:
        subject.module.eval()
        subject.evaluate()
        peak = peak_bytes(lambda: subject.evaluate(new_mask=True), self.device)
        kernels = kernels_of(named.evaluate, self.device)
        case.calls[FORWARD] = lambda repeats: self._clock(
            subject.module.eval, lambda module: subject.evaluate(), repeats
        )
        self._keep(case, FORWARD, Pass(flops, peak, kernels))

    def _first_backward(self, case: Case, subject: Subject, named: Subject, flops: float | None) -> None:
        def forward() -> tuple[tuple[Tensor, ...], list[Tensor]]:
            subject.module.train()
            return subject.forward()

        subject.backward(forward())
        peak = peak_bytes(lambda: subject.backward(subject.forward(new_mask=True)), self.device)
        made = named.forward()
        kernels = kernels_of(lambda: named.backward(made), self.device)
        case.calls[BACKWARD] = lambda repeats: self._clock(forward, subject.backward, repeats)
        self._keep(case, BACKWARD, Pass(flops, peak, kernels))

    def _keep(self, case: Case, name: str, made: Pass) -> None:
        """Remember it, and how many calls make a sample."""
        case.track.peaks[name].append((case.length, made.peak_bytes))
        for _ in range(max(1, self._warm_up)):
            seconds = case.calls[name](made.repeats)
            made.repeats = min(_MOST_REPEATS, max(1, math.ceil(_LEAST_SECONDS / max(seconds, 1e-9))))
        case.passes[name] = made

    def _attempt(self, case: Case, name: str, action: Callable[[], None]) -> None:
        """Do it; what fails is noted, and after a lack of memory nothing longer of this line is tried."""
        try:
            action()
        except Exception as error:  # a variant's code is anybody's
            if is_out_of_memory(error):
                self._end(case, name, "out of memory")
            else:
                case.notes[name] = _reason(error)
        if name in case.notes and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _end(self, case: Case, name: str, reason: str) -> None:
        longer = any(length > case.length for length in case.track.line.lengths)
        case.notes[name] = f"{reason}; longer ones are left out" if longer else reason
        case.track.over[name] = f"{reason} at length {case.length}"


def _sample(made: Pass, call: Callable[[int], float]) -> None:
    made.samples.append(call(made.repeats))


def _share(case: Case, rounds: int) -> float:
    """One round's of a case's work."""
    return _work(case.track.line, case.length) / (rounds + _PREPARATION)


def _work(line: Line, length: int) -> float:
    """About how long a case takes, against others."""
    return line.batch_of(length) * length * (length + 4 * line.d_model)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"it fails: {type(error).__name__}: {text if len(text) <= 200 else text[:200] + '…'}"
