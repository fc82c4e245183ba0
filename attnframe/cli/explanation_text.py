"""One head of an explanation as blocks of text, for a person to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnframe.cli.blocks import Block
from attnframe.options import override_value
from attnframe.patterns.kinds import KIND_MEANINGS

if TYPE_CHECKING:
    from torch import Tensor

    from attnframe.attention import PatternKind
    from attnframe.patterns.anatomy import WorkedCell
    from attnframe.runs.explained import AttentionExplanation, CallShape, Explanation, TokenRow
    from attnframe.runs.neighbours import Neighbour

# By site: what looks at what, and the heading of the rows of its pattern.
SITES = {
    "encoder_self": ("source words look at source words", "word"),
    "decoder_self": ("each row is the word just read, looking back", "reads"),
    "cross": ("each row says its word, looking at the source", "says"),
}


# What one key adds to one query through a head, as a length.
CONTRIBUTION = "‖P_ij·V_j·W_O‖"


def blocks(explanation: Explanation, site: str, layer: int, head: int) -> list[Block]:
    """What is shown of one head of a module with a pattern. `layer` and `head` count from 0, and from 1 in the text."""
    part = explanation[site, layer]
    assert part.kind is not None
    assert part.weights is not None
    layers = [explanation[place] for place in explanation if place[0] == site]
    return [
        _what(explanation, part, len(layers), head, part.kind),
        _formula(part, head),
        _pattern(part, head, part.weights[head]),
        _delta(part, head),
        _contributions(part, head),
        _neighbours(layers),
    ]


def _what(explanation: Explanation, part: AttentionExplanation, layers: int, head: int, kind: PatternKind) -> Block:
    rows = [
        ("source", explanation.source),
        ("translation" if explanation.is_own_translation else "target", explanation.target or "(nothing)"),
        ("site", f"{part.site}: {SITES[part.site][0]}"),
        ("layer", f"{part.layer + 1} of {layers}"),
        ("head", f"{head + 1} of {len(part.heads)}"),
        ("variant", part.variant),
        *_options(part),
        ("backend", part.backend),
        ("pattern", KIND_MEANINGS[kind]),
    ]
    if len(part.rows) != len(part.query_labels) or len(part.key_tokens) != len(part.key_labels):
        rows.append(("tokens", "parts of words (@@: the word goes on): grids are between words, all else is of tokens"))
    return Block("", (), rows)


def _options(part: AttentionExplanation) -> list[tuple[str, str]]:
    """What of the variant is not as its formula has it, perhaps."""
    options = ", ".join(f"{name}={override_value(value)}" for name, value in part.options.items())
    return [("options", options)] if options else []


def _formula(part: AttentionExplanation, head: int) -> Block:
    rows: list[tuple[str, str]] = []
    for number, call in enumerate(part.calls, start=1):
        which = f" of call {number}" if len(part.calls) > 1 else ""
        rows += [(f"{name}{which}", text) for name, text in _shapes(call)]
    if not part.calls:
        rows.append(("Q, K, V", f"{part.variant} never calls attend: the pattern is the one that it reports"))
    rows.append(("ΔE", f"{[len(part.rows), part.d_model]} queries, d_model"))
    cell = part.heads[head].cell
    if cell is not None:
        rows.append(("one weight", _worked(part, cell)))
    return Block(f"formula: {part.formula.replace('`', '')}", (), rows)


def _shapes(call: CallShape) -> list[tuple[str, str]]:
    """Name and shape in one head of everything in softmax(QKᵀ/√d_k)V."""
    (heads, queries, head_dim), (key_heads, keys, _) = call.q, call.k
    shared = f"; {heads // key_heads} heads share one" if key_heads != heads else ""
    return [
        ("Q", f"{[queries, head_dim]} queries, d_k"),
        ("K", f"{[keys, head_dim]} keys, d_k{shared}"),
        ("√d_k", f"√{head_dim} = {_number(math.sqrt(head_dim))}")
        if _is_usual(call)
        else ("scale", f"{call.scale:.4g}, what q·k is multiplied by"),
        ("weights", f"{[queries, keys]} queries, keys"),
        ("V", f"{list(call.v[1:])} keys, d_v{shared}"),
    ]


def _is_usual(call: CallShape) -> bool:
    """Whether scores are q·k/√d_k."""
    return math.isclose(call.scale, 1 / math.sqrt(call.q[2]))


def _worked(part: AttentionExplanation, cell: WorkedCell) -> str:
    call = part.calls[0]
    by = f"/ {_number(math.sqrt(call.q[2]))}" if _is_usual(call) else f"· {call.scale:.4g}"
    score = _number(cell.score)
    tokens = f"{_token(part.rows[cell.query])} → {part.key_tokens[cell.key]}"
    text = f"{tokens}: q·k = {_number(cell.product)}; {_number(cell.product)} {by} = {score}"
    # What a float cannot hold is not written out.
    if cell.normaliser < 1e9 and cell.score > -20:
        parts = _number(math.exp(cell.score)), _number(cell.normaliser)
        text += f"; e^{score} / Σ_j e^(q·k_j {by}) = {parts[0]} / {parts[1]}"
    else:
        text += f"; softmax over {call.k[1]} keys"
    return f"{text} = {_number(cell.weight)}"


def _pattern(part: AttentionExplanation, head: int, weights: Tensor) -> Block:
    return Block(
        f"weights of head {head + 1}: rows attend to columns",
        (SITES[part.site][1], *part.key_labels, "sum"),
        [
            (label, *map(_number, row), _number(sum(row)))
            for label, row in zip(part.query_labels, weights.tolist(), strict=True)
        ],
        shades=_shades(weights, max(1.0, weights.nan_to_num().abs().max().item()) if (weights < 0).any() else 1.0),
    )


def _delta(part: AttentionExplanation, head: int) -> Block:
    norms = part.heads[head].delta_norms
    names = ("reads", "says") if part.rows[0].says is not None else ("token",)
    columns = [*names, "‖E‖", f"‖ΔE‖ of head {head + 1}", "‖ΔE‖ of all heads and bias", "cos(E, E + ΔE)"]
    rows = []
    for index, row in enumerate(part.rows):
        own = "" if norms is None else _number(norms[index].item())
        rows.append((*_tokens(row), _number(row.norm), own, _number(row.delta_norm), _number(row.cosine)))
    reason = f"; of one head nothing is known: {part.no_heads_because}" if norms is None else ""
    return Block(f"ΔE: what attention adds to each embedding{reason}", columns, rows, words=len(names))


def _contributions(part: AttentionExplanation, head: int) -> Block:
    title = f"contributions of head {head + 1}: {CONTRIBUTION}, the length of what each key adds to ΔE"
    if part.contributions is None:
        return Block(f"{title}; there are none: {part.no_heads_because}", (), [])
    norms = part.contributions[head]
    return Block(
        title,
        (SITES[part.site][1], *part.key_labels),
        [(label, *map(_number, row)) for label, row in zip(part.query_labels, norms.tolist(), strict=True)],
        shades=_shades(norms, norms.nan_to_num().max().item()),
    )


def _neighbours(layers: Sequence[AttentionExplanation]) -> Block:
    names = ("reads", "says") if layers[0].rows[0].says is not None else ("token",)
    rows = [
        (str(part.layer + 1), *_tokens(row), _near(row.neighbours_before), _near(row.neighbours_after))
        for part in layers
        for row in part.rows
    ]
    side = "source" if layers[0].site == "encoder_self" else "target"
    return Block(
        f"nearest {side} token embeddings, by cosine, before and after attention at {layers[0].site}",
        ("layer", *names, "E", "E + ΔE"),
        rows,
        words=len(rows[0]),
    )


def _near(neighbours: Sequence[Neighbour]) -> str:
    return ", ".join(f"{neighbour.label} {neighbour.cosine:.2f}" for neighbour in neighbours)


def _tokens(row: TokenRow) -> tuple[str, ...]:
    return (row.reads,) if row.says is None else (row.reads, row.says)


def _token(row: TokenRow) -> str:
    return row.reads if row.says is None else f"{row.reads} (says {row.says})"


def _shades(values: Tensor, full: float) -> list[list[float]]:
    return (values / (full or 1.0)).nan_to_num().clamp(-1, 1).tolist()


def _number(value: float) -> str:
    text = f"{value:.3f}" if abs(value) < 1e5 or not math.isfinite(value) else f"{value:.4g}"
    return "0.000" if text == "-0.000" else text
