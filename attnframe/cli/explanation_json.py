"""An explanation as plain data for programs; docs/explain.schema.json says what each property means."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from attnframe.runs.explained import AttentionExplanation, Explanation, HeadExplanation
    from attnframe.runs.loading import Run


def as_json(run: Run, explanation: Explanation) -> dict[str, Any]:
    """Everything, for all sites, layers and heads. NaN and infinity, which JSON lacks, are None."""
    plain = {
        "run": {"folder": str(run.folder.path), "checkpoint": run.checkpoint, "step": run.step},
        "source": explanation.source,
        "target": explanation.target,
        "is_own_translation": explanation.is_own_translation,
        "unknown_in_source": explanation.unknown_in_source,
        "unknown_in_target": explanation.unknown_in_target,
        "attention": [_attention(part) for part in explanation.values()],
    }
    return {key: _finite(value) for key, value in plain.items()}


def _attention(part: AttentionExplanation) -> dict[str, Any]:
    return {
        "site": part.site,
        "layer": part.layer,
        "variant": part.variant,
        "options": dict(part.options),
        "formula": part.formula,
        "backend": part.backend,
        "kind": part.kind and str(part.kind),
        "d_model": part.d_model,
        "calls": [dataclasses.asdict(call) for call in part.calls],
        "query_labels": part.query_labels,
        "key_labels": part.key_labels,
        "query_tokens": [dataclasses.asdict(row) for row in part.rows],
        "key_tokens": part.key_tokens,
        "no_pattern_because": part.no_pattern_because or None,
        "no_heads_because": part.no_heads_because or None,
        "heads": None
        if part.weights is None
        else [
            _head(index, head, part.weights[index], None if part.contributions is None else part.contributions[index])
            for index, head in enumerate(part.heads)
        ],
    }


def _head(index: int, head: HeadExplanation, weights: Tensor, contributions: Tensor | None) -> dict[str, Any]:
    return {
        "head": index,
        "weights": weights.tolist(),
        "contributions": None if contributions is None else contributions.tolist(),
        "delta_norms": None if head.delta_norms is None else head.delta_norms.tolist(),
        "delta_rank": head.delta_rank,
        "value_rank": head.value_rank,
        "cell": None if head.cell is None else dataclasses.asdict(head.cell),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
