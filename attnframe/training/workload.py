"""How much a run has to do, counted from its settings as Lightning counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Workload:
    """The steps of a run, and the batches of its evaluations.

    - `steps`: of the optimizer; infinite for a run that is limited by time alone, or by nothing
    - `batches_a_step`: of training
    - `validations`: while it trains, the one after the last step among them; infinite where `steps` is
    - `val_batches`, `test_batches`: in one validation, and in the test of each test set
    - `max_seconds`: the limit on training and its validations, infinite where there is none
    """

    steps: float
    batches_a_step: int
    validations: float
    val_batches: int
    test_batches: tuple[int, ...]
    max_seconds: float

    @classmethod
    def of(cls, trainer: Mapping[str, Any], *, train: int, val: int, tests: Sequence[int]) -> Workload:
        """From the settings under `trainer` and the batches in an epoch, in the validation set and each test set."""
        epoch = max(1, limited(train, trainer["limit_train_batches"]))
        accumulated = trainer["accumulate_grad_batches"]
        max_steps, max_epochs = (
            math.inf if limit in (None, -1) else limit for limit in (trainer["max_steps"], trainer["max_epochs"])
        )
        steps = min(max_steps, max_epochs * math.ceil(epoch / accumulated))
        batches = min(steps * accumulated, max_epochs * epoch)
        return cls(
            steps=steps,
            batches_a_step=accumulated,
            validations=math.inf if math.isinf(batches) else _validations(trainer, int(batches), epoch),
            val_batches=limited(val, trainer["limit_val_batches"]),
            test_batches=tuple(limited(batches, trainer["limit_test_batches"]) for batches in tests),
            max_seconds=_seconds(trainer["max_time"]),
        )

    def seconds(self, *, step: float, val_batch: float, test_batches: Sequence[float]) -> float | None:
        """What the run takes if a step, a batch of validation, and one of each test set take so many seconds.

        None for a run that sets itself no end.
        """
        validation = self.val_batches * val_batch
        training = self.max_seconds
        if not math.isinf(self.steps):
            training = min(training, self.steps * step + self.validations * validation)
        if math.isinf(training):
            return None
        tests = sum(number * batch for number, batch in zip(self.test_batches, test_batches, strict=True))
        # In the end the best state is validated once more.
        return training + validation + tests


def limited(batches: int, limit: Any) -> int:
    """What a limit leaves of so many batches: it is a number of them, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _validations(trainer: Mapping[str, Any], batches: int, epoch: int) -> int:
    """In training on `batches` batches, `epoch` of them in an epoch; after the last there always is one."""
    interval, every = trainer["val_check_interval"], trainer["check_val_every_n_epoch"]
    if isinstance(interval, int) and every is None:
        # Counted over epochs.
        return math.ceil(batches / interval)
    within = interval if isinstance(interval, int) else max(1, int((1.0 if interval is None else interval) * epoch))
    count, ends_with_one = 0, False
    for number in range(1, math.ceil(batches / epoch) + 1):
        done = min(epoch, batches - (number - 1) * epoch)
        validates = number % (every or 1) == 0
        count += done // within if validates else 0
        ends_with_one = validates and done % within == 0
    return count + (not ends_with_one)


def _seconds(max_time: str | None) -> float:
    """Of DD:HH:MM:SS."""
    if max_time is None:
        return math.inf
    days, hours, minutes, seconds = map(int, max_time.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
