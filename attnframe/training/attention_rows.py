"""What the settings of a run ask of the rows of attention while it trains, and which variants can give it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from attnframe.attention import RecordedRows, record_row_statistics, why_without_statistics
from attnframe.data.batching import Batch
from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.training import max_scores
from attnframe.training.attention_losses import real_rows, row_losses
from attnframe.training.max_scores import MaxScores
from attnframe.training.world import ALONE, World

_ENTROPY, _Z_LOSS = "train/attention_entropy", "train/attention_z_loss"

COLUMNS = (_ENTROPY, _Z_LOSS, *max_scores.COLUMNS)


class AttentionRows:
    """Losses on the rows of attention, and a watch on their greatest scores.

    `entropy_weight` times the mean entropy and `z_loss_weight` times the mean LSE² (`attention_losses.RowLosses`) are
    added to the loss: a positive `entropy_weight` sharpens attention, a negative one spreads it; a weight of 0 asks for
    nothing. `threshold` is that of `MaxScores`, None for no watch. Raises `UserError` for what these cannot be.
    """

    def __init__(
        self,
        *,
        entropy_weight: float = 0.0,
        z_loss_weight: float = 0.0,
        threshold: float | None = None,
        world: World = ALONE,
    ) -> None:
        if not math.isfinite(entropy_weight):
            raise UserError(
                f"optimizer.entropy_weight={entropy_weight:g} must be a number: above 0 to sharpen attention, below 0 "
                f"to spread it, 0 for neither"
            )
        if not 0 <= z_loss_weight < math.inf:
            raise UserError(
                f"optimizer.z_loss_weight={z_loss_weight:g} must be 0 or a number above it: below 0 it would reward "
                f"scores that grow without bound"
            )
        if threshold is not None and not 0 < threshold < math.inf:
            raise UserError(
                f"callbacks.max_score.threshold={threshold:g} must be a number above 0, or null to watch nothing"
            )
        weights = {_ENTROPY: entropy_weight, _Z_LOSS: z_loss_weight}
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._world = world
        self.max_scores = None if threshold is None else MaxScores(threshold, world)
        self.asked = [
            *([f"optimizer.entropy_weight={entropy_weight:g}"] if entropy_weight else []),
            *([f"optimizer.z_loss_weight={z_loss_weight:g}"] if z_loss_weight else []),
            *([] if threshold is None else [f"callbacks.max_score.threshold={threshold:g}"]),
        ]
        """The settings that ask for anything, as they are typed."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], world: World = ALONE) -> AttentionRows:
        """What the settings of a run ask for; nothing where they are of a version without."""
        optimizer, watch = settings["optimizer"], settings["callbacks"].get("max_score", {})
        return cls(
            entropy_weight=optimizer.get("entropy_weight", 0.0),
            z_loss_weight=optimizer.get("z_loss_weight", 0.0),
            threshold=watch.get("threshold"),
            world=world,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that there are."""
        return (*self._weights, *(max_scores.COLUMNS if self.max_scores is not None else ()))

    def check(self, attention: AttentionFactory) -> None:
        """Raise `UserError` where something is asked for, and the variant of a site has no softmax to give it."""
        if not self.asked:
            return
        for site, choices in attention.choices.items():
            d_model, d_context = attention.widths(site)
            for layer, choice in enumerate(choices):
                if choice in choices[:layer]:
                    continue
                why = why_without_statistics(attention.build(site, layer), d_model=d_model, d_context=d_context)
                if why:
                    raise UserError(
                        f"{site}: {choice.name} {why}: {self.asked[0]} needs a variant with a softmax over the keys in "
                        f"every layer of every site"
                    )

    @contextlib.contextmanager
    def recording(self, model: nn.Module) -> Iterator[RecordedRows | None]:
        """Within this context the rows of `model` are recorded, where anything is asked of them."""
        if not self.asked:
            yield None
            return
        with record_row_statistics(model, differentiable=bool(self._weights)) as rows:
            yield rows

    def losses(self, rows: RecordedRows | None, batch: Batch) -> tuple[Tensor | float, dict[str, Tensor]]:
        """(what is added to the loss of `batch`, the losses without their weights by metric) of its `rows`."""
        if rows is None:
            return 0.0, {}
        real = real_rows(batch)
        if self.max_scores is not None:
            self.max_scores.add(rows, real)
        if not self._weights:
            return 0.0, {}
        found = row_losses(rows, real, self._world)
        values = {_ENTROPY: found.entropy, _Z_LOSS: found.z_loss}
        added = sum(weight * values[name] for name, weight in self._weights.items())
        return added, {name: values[name].detach() for name in self._weights}
