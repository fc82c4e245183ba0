"""A watch on the greatest score of each head: what grows without bound before a training breaks down."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from attnframe.attention import RecordedRows
from attnframe.model import SITES
from attnframe.training.attention_losses import counted_rows
from attnframe.training.world import ALONE, World

COLUMNS = (*(f"train/max_score/{site}" for site in SITES), "train/heads_above_threshold")

_log = logging.getLogger(__name__)

_Call = tuple[str, int, int]


class MaxScores:
    """The greatest score of each head over the training batches since it was last asked.

    That is max_ij of the scaled and modified score, which QK-clip (Kimi Team 2025, section 2.1,
    https://arxiv.org/abs/2507.20534) compares with its threshold; here nothing is clipped. Padding is left out. A
    variant that calls `attend` more than once has as many heads more. In a `world` of several processes each calls
    everything at the same place, and all know the same.
    """

    def __init__(self, threshold: float, world: World = ALONE) -> None:
        self._threshold = threshold
        self._world = world
        self._greatest: dict[_Call, Tensor] = {}
        self._told: set[tuple[_Call, int]] = set()

    def add(self, rows: RecordedRows, real: Mapping[str, Bool[Tensor, "batch query"]]) -> None:
        """Take in the `rows` of a batch, of which `real` says by site which count."""
        found = {
            call: statistics.max_score.masked_fill(~counted, -torch.inf).amax(dim=(0, 2))
            for call, statistics, counted in counted_rows(rows, real)
        }
        everywhere = self._world.greatest(torch.cat(list(found.values())))
        heads = [len(of_heads) for of_heads in found.values()]
        for call, greatest in zip(found, everywhere.split(heads), strict=True):
            before = self._greatest.get(call)
            self._greatest[call] = greatest if before is None else torch.maximum(before.to(greatest), greatest)

    def scores(self) -> dict[str, float]:
        """The greatest score of each site, and how many heads are above the threshold; from here on it begins anew.

        Heads that are above it for the first time are named in the log.
        """
        heads = {
            (call, head): score
            for call, of_heads in self._greatest.items()
            for head, score in enumerate(of_heads.tolist())
        }
        self._greatest = {}
        above = {place: score for place, score in heads.items() if score > self._threshold}
        if self._world.is_first:
            self._tell({place: score for place, score in above.items() if place not in self._told})
        self._told |= above.keys()
        sites = dict.fromkeys(site for (site, _, _), _ in heads)
        greatest = {site: max(score for ((of, _, _), _), score in heads.items() if of == site) for site in sites}
        return {
            **{f"train/max_score/{site}": score for site, score in greatest.items()},
            "train/heads_above_threshold": float(len(above)),
        }

    def _tell(self, above: Mapping[tuple[_Call, int], float]) -> None:
        if above:
            named = ", ".join(
                f"{site} layer {layer + 1} head {head + 1} ({score:.4g})"
                for ((site, layer, _), head), score in above.items()
            )
            counted = "layers and heads counted from 1"
            _log.warning("scores above callbacks.max_score.threshold=%g (%s): %s", self._threshold, counted, named)

    def state_dict(self) -> dict[str, list[float]]:
        """What is known of the batches since it was last asked."""
        return {f"{site} {layer} {number}": of.tolist() for (site, layer, number), of in self._greatest.items()}

    def load_state_dict(self, state_dict: Mapping[str, list[float]]) -> None:
        """Go on from there."""
        self._greatest = {}
        for name, of_heads in state_dict.items():
            site, layer, number = name.split()
            self._greatest[site, int(layer), int(number)] = torch.tensor(of_heads)
