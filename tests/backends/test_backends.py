"""Every backend against the formula written as loops, in float64."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask
from attnframe.backends import BackendError, MaskMod, Normaliser, ScoreMod, backends

BATCH, QUERIES, KEYS, HEAD_DIM = 2, 5, 7, 11

# Relative Frobenius error against float64 on the same rounded inputs.
OUTPUT_LIMITS = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1.5e-3, torch.bfloat16: 8e-3}
GRADIENT_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}
# As many times eager's own error in that type, and as many units in the last place on top.
AGAINST_EAGER = {torch.float32: (3, 0), torch.float16: (2, 2), torch.bfloat16: (2, 2)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of `attend`: its mask as structure, and what may be attended to as a plain predicate."""

    heads: int = 3
    key_heads: int = 3
    queries: int = QUERIES
    keys: int = KEYS
    value_dim: int = HEAD_DIM
    causal: bool = False
    window: int | None = None
    query_offset: int = 0
    lengths: tuple[int, int] | None = None
    mask_mod: MaskMod | None = None
    score_mod: ScoreMod | None = None
    scale: float | None = None
    normaliser: Normaliser | None = None

    def mask(self, device: torch.device) -> Mask:
        keep = None
        if self.lengths is not None:
            keep = torch.tensor([[j < length for j in range(self.keys)] for length in self.lengths], device=device)
        return Mask(key_keep=keep, causal=self.causal, window=self.window, query_offset=self.query_offset)

    def may_attend(self, batch: int, head: int, i: int, j: int) -> bool:
        position = i + self.query_offset
        return (
            (not self.causal or j <= position)
            and (self.window is None or -self.window <= j - position <= self.window)
            and (self.lengths is None or j < self.lengths[batch])
            and (self.mask_mod is None or bool(self.mask_mod(batch, head, position, j)))  # type: ignore[arg-type]
        )


def _every_third(batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return (2 * batch + head + q_idx + kv_idx) % 3 != 0


def _all_indices(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    # Whole numbers beside the score, so that its type is that of the result.
    return (score * (4 + batch) - head * q_idx + 2 * kv_idx) * 0.25


def _squared(scores: Tensor, keep: Tensor) -> Tensor:
    """s² over all of s². What is not kept weighs as well here, which no backend may let through."""
    squares = scores.masked_fill(scores == -torch.inf, 2.0) ** 2
    return squares / (squares * keep).sum(-1, keepdim=True).clamp(min=1e-30)


CASES = {
    "plain": Case(),
    "scale": Case(scale=0.7),
    "value_dim": Case(value_dim=13),
    "causal_square": Case(queries=KEYS, causal=True),
    "causal_fewer_queries": Case(queries=3, causal=True),
    "causal_more_queries": Case(queries=11, causal=True),
    "causal_decoding": Case(queries=2, causal=True, query_offset=KEYS - 2),
    "causal_square_offset": Case(queries=KEYS, causal=True, query_offset=2),
    "window": Case(window=1),
    "window_zero": Case(queries=KEYS, window=0),
    "window_causal": Case(causal=True, window=2),
    "window_causal_offset": Case(causal=True, window=2, query_offset=3),
    "window_out_of_sight": Case(causal=True, window=2, query_offset=6),
    "padding": Case(lengths=(4, KEYS)),
    "padding_whole_row": Case(lengths=(3, 0)),
    "padding_causal": Case(lengths=(2, 6), causal=True, queries=KEYS),
    "grouped": Case(heads=6, key_heads=2),
    "grouped_all": Case(heads=7, key_heads=1, value_dim=3, causal=True, query_offset=1, lengths=(5, 3)),
    "mask_mod": Case(mask_mod=_every_third),
    "mask_mod_causal_offset": Case(mask_mod=_every_third, causal=True, query_offset=2, lengths=(5, 7)),
    "score_mod": Case(score_mod=_all_indices),
    "score_mod_offset": Case(score_mod=_all_indices, query_offset=3, causal=True, lengths=(1, 5)),
    "score_and_mask_mod": Case(score_mod=_all_indices, mask_mod=_every_third, heads=6, key_heads=2),
    "normaliser": Case(normaliser=_squared, causal=True, lengths=(3, 0)),
    "normaliser_and_mods": Case(normaliser=_squared, score_mod=_all_indices, mask_mod=_every_third, key_heads=1),
    "no_keys": Case(keys=0),
    "no_keys_causal": Case(keys=0, causal=True),
    "one_query": Case(queries=1, keys=1),
    "great_scores": Case(scale=2000.0, causal=True),
}

# Of a backend that is compiled each case is another kernel; these are those in half precision, of every kind one.
COMPILED_IN_HALF = {"padding_causal", "grouped_all", "score_mod_offset", "score_and_mask_mod", "great_scores"}


class Bare(Attention):
    """Nothing but `attend`, for tests that bring q, k and v themselves."""


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(17)
    shapes = [
        (BATCH, case.heads, case.queries, HEAD_DIM),
        (BATCH, case.key_heads, case.keys, HEAD_DIM),
        (BATCH, case.key_heads, case.keys, case.value_dim),
    ]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()
        for shape in shapes
    ]


def reference(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula for one query after the other, in float64, on the CPU."""
    q, k, v = (x.to("cpu", torch.float64) for x in (q, k, v))
    scale = HEAD_DIM**-0.5 if case.scale is None else case.scale
    rows = []
    for b in range(BATCH):
        for h in range(case.heads):
            shared = h * case.key_heads // case.heads
            for i in range(case.queries):
                row = torch.zeros(case.value_dim, dtype=torch.float64)
                seen = [j for j in range(case.keys) if case.may_attend(b, h, i, j)]
                scores = []
                for j in seen:
                    score = (q[b, h, i] * k[b, shared, j]).sum() * scale
                    if case.score_mod is not None:
                        score = case.score_mod(score, b, h, i + case.query_offset, j)  # type: ignore[arg-type]
                    scores.append(score)
                if case.normaliser is None:
                    highest = max((score.item() for score in scores), default=0.0)
                    powers = [(score - highest).exp() for score in scores]
                else:
                    powers = [score**2 for score in scores]
                for j, power in zip(seen, powers, strict=True):
                    row = row + power / sum(powers) * v[b, shared, j]
                rows.append(row)
    return torch.stack(rows).reshape(BATCH, case.heads, case.queries, case.value_dim)


def run(name: str, case: Case, tensors: list[Tensor]) -> Tensor:
    module = Bare().eval()
    module.backend = name
    device = tensors[0].device
    return module.attend(
        *tensors,
        case.mask(device).bind(BATCH, case.queries, case.keys, device),
        scale=case.scale,
        score_mod=case.score_mod,
        mask_mod=case.mask_mod,
        normaliser=case.normaliser,
    )


def relative_error(actual: Tensor, expected: Tensor) -> float:
    difference = (actual.detach().to("cpu", torch.float64) - expected.detach()).norm()
    return (difference / expected.norm()).item() if expected.norm() > 0 else difference.item()


def computed_or_declared(name: str, compute: Callable[[str], None]) -> None:
    """No third outcome: `compute` holds on the backend, or the backend says why not and names one on which it holds."""
    try:
        compute(name)
        return
    except BackendError as error:
        refusal = str(error)
    found = re.fullmatch(rf"backend={name} cannot run this: .+; backend=(\w+) can", refusal)
    assert found, refusal
    assert name != "eager"
    compute(found[1])


@pytest.mark.parametrize("dtype", OUTPUT_LIMITS, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_is_the_formula_or_declared(
    backend_name: str, case: Case, dtype: torch.dtype, device: torch.device
) -> None:
    is_half = dtype in (torch.float16, torch.bfloat16)
    if is_half and backend_name == "flex" and case not in [CASES[name] for name in COMPILED_IN_HALF]:
        pytest.skip("in half precision only some cases are compiled")
    tensors = inputs(case, dtype, device)
    expected = reference(case, *tensors)

    def compute(name: str) -> None:
        with torch.no_grad():
            output = run(name, case, tensors)
        assert output.dtype == dtype
        assert output.shape == expected.shape
        assert relative_error(output, expected) <= OUTPUT_LIMITS[dtype]
        if dtype in AGAINST_EAGER:
            times, ulps = AGAINST_EAGER[dtype]
            with torch.no_grad():
                own = relative_error(run("eager", case, tensors), expected)
            assert relative_error(output, expected) <= times * own + ulps * torch.finfo(dtype).eps

    computed_or_declared(backend_name, compute)


@pytest.mark.parametrize("dtype", GRADIENT_LIMITS, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_the_formula_or_declared(
    backend_name: str, case: Case, dtype: torch.dtype, device: torch.device
) -> None:
    tensors = inputs(case, dtype, device)
    expected_output = reference(case, *tensors)
    cotangent = torch.randn(expected_output.shape, generator=torch.Generator().manual_seed(5), dtype=dtype)
    objective = (expected_output * cotangent.double()).sum()
    if objective.requires_grad:
        expected = torch.autograd.grad(objective, tensors, materialize_grads=True)
    else:  # not one query may attend to anything
        expected = tuple(torch.zeros_like(tensor) for tensor in tensors)

    def compute(name: str) -> None:
        output = run(name, case, tensors)
        actual = torch.autograd.grad(output, tensors, cotangent.to(device))
        for of, one, other in zip("qkv", actual, expected, strict=True):
            assert one.isfinite().all(), of
            # Scores in the thousands leave gradients of q and k that are all rounding.
            if case is not CASES["great_scores"] or of == "v":
                assert relative_error(one, other.to("cpu", torch.float64)) <= GRADIENT_LIMITS[dtype], of

    computed_or_declared(backend_name, compute)


@pytest.mark.parametrize("case", ["padding_whole_row", "window_out_of_sight", "no_keys", "no_keys_causal"])
def test_a_query_that_sees_nothing_gets_exact_zeros(backend_name: str, case: str, device: torch.device) -> None:
    tensors = inputs(CASES[case], torch.float32, device)
    output = run(backend_name, CASES[case], tensors)
    blind = [
        (b, h, i)
        for b in range(BATCH)
        for h in range(CASES[case].heads)
        for i in range(CASES[case].queries)
        if not any(CASES[case].may_attend(b, h, i, j) for j in range(CASES[case].keys))
    ]
    assert blind
    for b, h, i in blind:
        assert_close(output[b, h, i], torch.zeros_like(output[b, h, i]), rtol=0, atol=0)
    (gradient_q,) = torch.autograd.grad(output.sum(), tensors[:1])
    for b, h, i in blind:
        assert_close(gradient_q[b, h, i], torch.zeros_like(gradient_q[b, h, i]), rtol=0, atol=0)


def test_two_tokens_by_hand(backend_name: str, device: torch.device) -> None:
    q = torch.tensor([[[[1.0], [0.0]]]], dtype=torch.float64, device=device)
    k = torch.tensor([[[[math.log(3.0)], [0.0]]]], dtype=torch.float64, device=device)
    v = torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]], dtype=torch.float64, device=device)
    module = Bare().eval()
    module.backend = backend_name
    output = module.attend(q, k, v, Mask().bind(1, 2, 2, device))
    # Weights e^{ln 3} : e^0 = 3/4 : 1/4 for the first query, 1/2 : 1/2 for the second.
    expected = torch.tensor([[[[3.0, 2.0], [2.0, 4.0]]]], dtype=torch.float64, device=device)
    assert_close(output, expected, rtol=0, atol=1e-12)


def test_gradcheck(backend_name: str, device: torch.device) -> None:
    case = Case(queries=2, keys=3, heads=2, key_heads=1, value_dim=2, causal=True, lengths=(0, 3), query_offset=1)
    tensors = inputs(case, torch.float64, device)
    torch.autograd.gradcheck(lambda *qkv: run(backend_name, case, list(qkv)), tensors, atol=1e-6, rtol=1e-6)


def test_score_mod_may_compute_in_a_wider_type(backend_name: str, device: torch.device) -> None:
    slopes = torch.tensor([0.5, 0.25, 0.125], device=device)

    def nearer(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score - slopes[head] * abs(q_idx - kv_idx)

    case = Case(score_mod=nearer)
    tensors = inputs(case, torch.bfloat16, device)
    output = run(backend_name, case, tensors)
    assert output.dtype == torch.bfloat16
    assert relative_error(output, reference(case, *tensors)) <= OUTPUT_LIMITS[torch.bfloat16]


def test_dropout_drops_weights_and_scales_up_the_others(backend_name: str, device: torch.device) -> None:
    torch.manual_seed(3)
    rate, samples = 0.3, 4001
    module = Bare()
    module.backend = backend_name
    q = torch.randn(1, 2, QUERIES, HEAD_DIM, device=device)
    k = torch.randn(1, 2, KEYS, HEAD_DIM, device=device)
    v = torch.eye(KEYS, device=device).expand(samples, 2, KEYS, KEYS)  # then the output is the weights
    q, k = q.expand(samples, -1, -1, -1), k.expand(samples, -1, -1, -1)
    mask = Mask(causal=True).bind(samples, QUERIES, KEYS, device)
    module.eval()
    module.attention_dropout = rate
    weights = module.attend(q, k, v, mask)
    assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-5)
    module.train()
    dropped = module.attend(q, k, v, mask)
    allowed = weights[:1] > 0
    zero = (dropped == 0) & allowed
    survivors = (dropped - weights / (1 - rate)).masked_fill(zero, 0.0)
    assert_close(survivors, torch.zeros_like(survivors), rtol=0, atol=1e-5)
    share = zero.sum(0)[allowed[0]] / samples
    # Four standard deviations of a share over this many samples; with some 50 places that is a test of the rate.
    assert_close(share, torch.full_like(share, rate), rtol=0, atol=4 * math.sqrt(rate * (1 - rate) / samples))


def test_the_definition_of_correct_runs_everything(device: torch.device) -> None:
    for case in CASES.values():
        run("eager", case, inputs(case, torch.float64, device))


def test_every_backend_bears_its_own_name() -> None:
    assert backends()
    for name, backend in backends().items():
        assert backend.name == name


def _over_all_keys(scores: Tensor, keep: Tensor) -> Tensor:
    return scores.square().softmax(dim=-1)


def test_a_normaliser_cannot_pass_on_what_a_hidden_key_holds(backend_name: str, device: torch.device) -> None:
    case = Case(normaliser=_over_all_keys, lengths=(3, 5))

    def compute(name: str) -> None:
        q, k, v = inputs(case, torch.float64, device)
        far = k.detach().clone()
        far[0, :, 3:] += 1e4
        far[1, :, 5:] -= 1e4
        assert_close(run(name, case, [q, far, v]), run(name, case, [q, k, v]), rtol=0, atol=0)

    computed_or_declared(backend_name, compute)


def test_a_hidden_score_that_overflows_makes_no_gradient_nan(backend_name: str, device: torch.device) -> None:
    case = Case(normaliser=_squared, lengths=(3, 5))

    def compute(name: str) -> None:
        q, k, v = (x.detach() for x in inputs(case, torch.float16, device))
        k[0, :, 3:], k[1, :, 5:] = 3e4, -3e4
        tensors = [x.requires_grad_() for x in (q * 100, k, v)]
        run(name, case, tensors).float().sum().backward()
        for x in tensors:
            assert x.grad is not None
            assert x.grad.isfinite().all()

    computed_or_declared(backend_name, compute)
