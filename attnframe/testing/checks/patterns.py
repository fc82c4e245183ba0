"""Whether the pattern that is recorded is the one that is used."""

from __future__ import annotations

import torch
from torch import Tensor

from attnframe.attention import Attention, Mask, PatternKind
from attnframe.patterns.pattern import Pattern
from attnframe.patterns.recording import record_patterns
from attnframe.testing.closeness import require_same
from attnframe.testing.subject import BATCH, KEYS, QUERIES, Subject, accepted, masks
from attnframe.testing.verdicts import Check, Failure, NotApplicable, case

_MANY_KEYS = 13
_STEP = 1e-3
_LIMIT = 1e-4


def _pattern(subject: Subject) -> str | None:
    module = subject.build()
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS, seed=2)
    for name, mask, output in accepted(module, query, context, context, masks()):
        with case(f"{name}, {QUERIES} queries and {KEYS} keys, recorded"):
            pattern, while_recorded = _record(module, query, context, context, mask)
        require_same(while_recorded, output, f"{name}: the output with and without a recording", tolerance=0.0)
        shape = list(pattern.weights.shape)
        if (shape[0], *shape[2:]) != (BATCH, QUERIES, KEYS):
            raise Failure(f"{name}: the pattern is {shape}, not [{BATCH}, heads, {QUERIES}, {KEYS}]")
        hidden = ~mask.bind(BATCH, QUERIES, KEYS).dense().expand(shape)
        if pattern.weights[hidden].any():
            raise Failure(
                f"{name}: a key that may not be attended to has weight {pattern.weights[hidden].abs().max():.3g}"
            )
        if pattern.kind is not PatternKind.SIGNED and (pattern.weights < 0).any():
            raise Failure(f"{name}: a weight is {pattern.weights.min():.3g}, and the pattern is {pattern.kind}")
    _pattern_in_half_precision(subject)
    return None


def _pattern_in_half_precision(subject: Subject) -> None:
    """What is reported has to be computed as widely as what is recorded: a mass summed in bfloat16 is another."""
    module = subject.build(dtype=torch.bfloat16)
    query, context = (subject.embeddings(n, seed=s, dtype=torch.bfloat16) for n, s in ((QUERIES, 1), (KEYS, 2)))
    with case(f"in bfloat16, no mask, {QUERIES} queries and {KEYS} keys, recorded"):
        with torch.no_grad():
            output = module(query, context, context)
        _, while_recorded = _record(module, query, context, context, Mask())
    require_same(while_recorded, output, "in bfloat16, no mask: the output with and without a recording", tolerance=0.0)


def _pattern_output(subject: Subject) -> str | None:
    """Each query's output is a function of Σ_j P_hij·u_h over the heads h, where u_h is the value of a key.

    With the same value at every key, a step of one key's value moves that sum by P_hij times what is the same for each
    key j. So the moves of a query's output by each of 13 keys lie in the span of its row of P in each head, whatever is
    done to the sum afterwards.
    """
    module = subject.build()
    query, key = subject.embeddings(QUERIES), subject.embeddings(_MANY_KEYS, seed=2)
    value = subject.embeddings(1, seed=3).expand(-1, _MANY_KEYS, -1)
    with case(f"no mask, {QUERIES} queries and {_MANY_KEYS} keys, recorded"):
        pattern, _ = _record(module, query, key, value, Mask())
    if pattern.weights.shape[1] > _MANY_KEYS - 2:
        raise NotApplicable(f"a pattern of {pattern.weights.shape[1]} heads cannot be told apart by {_MANY_KEYS} keys")
    for call in subject.attend_calls(module, query, key, value):
        if call.v.shape[2] == _MANY_KEYS and not torch.allclose(call.v, call.v[:, :, :1], rtol=0, atol=1e-9):
            raise NotApplicable("its values differ where the embeddings do not, by position or by key")
    moves = _moves(module, query, key, value, subject.embeddings(1, seed=4))
    if moves.norm() < 1e-9:
        raise NotApplicable("its values do not come from the value embeddings alone")
    rows = pattern.weights.permute(0, 2, 3, 1)  # [batch, query, key, heads]
    unexplained = moves - rows @ (torch.linalg.pinv(rows) @ moves)
    share = unexplained.norm(dim=(-2, -1)) / moves.norm(dim=(-2, -1)).clamp(min=1e-9)
    if not bool((share <= _LIMIT).all()):
        worst = int(torch.where(share.isnan(), torch.inf, share).argmax())
        raise Failure(
            f"no mask, {_MANY_KEYS} keys: of what the values add to query {worst % QUERIES} of batch row "
            f"{worst // QUERIES}, {share.flatten()[worst]:.1%} is not what the pattern says"
        )
    return None


def _moves(module: Attention, query: Tensor, key: Tensor, value: Tensor, direction: Tensor) -> Tensor:
    """What a step of each key's value moves the output by: [batch, query, key, d_model]."""
    moves = []
    for j in range(_MANY_KEYS):
        step = torch.zeros_like(value)
        step[:, j] = _STEP * direction[:, 0]
        moves.append((module(query, key, value + step) - module(query, key, value - step)) / (2 * _STEP))
    return torch.stack(moves, dim=2).detach()


@torch.no_grad()
def _record(module: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> tuple[Pattern, Tensor]:
    """The pattern and the output of a call. Raises `NotApplicable` where the variant does not say its pattern."""
    with record_patterns(module, sites=[module.site]) as patterns:
        output = module(query, key, value, mask)
    place = (module.site, module.layer)
    if place in patterns.missing:
        raise NotApplicable(patterns.missing[place])
    return patterns[place], output


CHECKS = (
    Check(
        "pattern",
        "recording changes no output; rows sum to what the variant says, 1 for probabilities; hidden keys have weight "
        "0; and the weights of each attend times its values are its output",
        _pattern,
    ),
    Check(
        "pattern-output",
        "the pattern that is reported is the one that weighs the values: each value moves the output by its weight",
        _pattern_output,
    ),
)
