"""Every planted fault is caught by the check that names it, in words that say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnframe import discovery, registry
from attnframe.testing import CHECKS, Outcome, check_variant

FOLDER = Path(__file__).parent / "faulty"
FILES = sorted(FOLDER.glob("*.py"))

# A planted fault, the check that names it, and a word of what that says.
CAUGHT_BY = {
    "fixed_width": ("build", "d_model=22, num_heads=2: raises RuntimeError"),
    "output_of_the_keys": ("shape", "batch 3, 5 queries, 7 keys"),
    "double_buffer": ("dtype", "embeddings and weights in torch.float32, no mask: the output is in torch.float64"),
    "heads_and_tokens_mixed": ("axes", "of batch row 0 moves query"),
    "ignored_padding": ("masked-keys", "padding, 5 queries and 7 keys: key 0 changed by 10,000"),
    "ignored_window": ("masked-keys", "a window of 1, 5 queries and 7 keys: key 0 changed by 10,000"),
    "soft_masking": ("masked-keys", "causal, 5 queries and 7 keys: key"),
    "nan_rows": ("blind-rows", "not finite, the first is nan"),
    "uniform_rows": ("blind-rows", "are not alike, whatever the embeddings"),
    "value_bias_in_blind_rows": ("blind-rows", "bias=False: the rows that may attend to nothing are not zero"),
    "rolled_keys": ("causal", "causal, 7 tokens: other tokens from 1 on move the output at token 0"),
    "future_by_gradient": ("causal", "the output at token 0 has a gradient of"),
    "mean_over_padding": ("padding", "a sequence of 4 tokens, padded to 7"),
    "length_of_padding": ("padding", "a sequence of 4 tokens, padded to 7"),
    "shared_mean": ("batch", "in evaluation: batch row 0 of 3"),
    "batch_norm": ("batch", "in training: batch row 0 of 3"),
    "first_key_twice": ("key-order", "something beside it depends on the order"),
    "detached_keys": ("gradients", "key_proj.weight [22, 22] gets no gradient"),
    "infinite_gradient": ("gradients", "the gradient of gate: 22 of 22 numbers are not finite"),
    "half_gradient": ("gradcheck", "along a random direction of query the gradient says"),
    "single_precision": ("gradcheck", "and a finite difference"),
    "unscaled_in_half": ("precision", "in torch.float16"),
    "random_features": ("deterministic", "the same call twice in evaluation mode"),
    "remembers": ("stateless", "before and after one with 11 other tokens"),
    "shares": ("stateless", "the same call before and after"),
    "written_inputs": ("inputs-unchanged", "value after the call"),
    "dropout_in_evaluation": ("dropout", "evaluation mode with dropout=0.3"),
    "no_dropout": ("dropout", "nothing is dropped"),
    "late_parameter": ("parameters", "gain is new after a call"),
    "unsaved_weight": ("state-dict", "a module that has loaded the state of another"),
    "holds_a_lambda": ("copies", "pickle of a module: raises"),
    "hash_of_a_word": ("fresh-process", "in a fresh Python"),
    "lying_cache": ("cached-decoding", "in chunks of (1, 1, 3, 2) with a cache"),
    "positions_from_zero": ("cached-decoding", "in chunks of (1, 1, 3, 2) with a cache"),
    "other_mass": ("pattern", "reports a pattern with a row that sums to 0.5"),
    "narrow_mass": ("pattern", "in bfloat16, no mask, 5 queries and 7 keys, recorded: raises PatternError"),
    "negative_weights": ("pattern", "reports a probability of -"),
    "weights_on_hidden_keys": ("pattern", "a key that may not be attended to has weight 0.143"),
    "other_pattern": ("pattern-output", "is not what the pattern says"),
    "only_eager": ("backends", "backend=sdpa beside eager"),
    "breaks_the_graph": ("compile", "torch.compile with aot_eager: raises"),
    "growing_default": ("schema", "option sizes: the default is"),
    "looks_at_numbers": ("costs", "cannot be counted without weights"),
    "free_on_meta": ("costs", "FLOPs of 11 tokens: attnframe describe counts 0"),
}
# These start a Python, or the compiler.
SLOW = {"hash_of_a_word", "breaks_the_graph"}


@pytest.fixture
def _loaded() -> None:
    for file in FILES:
        discovery.load_plugin_file(file)


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CAUGHT_BY]
)
def test_a_planted_fault_is_caught_by_its_check(name: str) -> None:
    check, says = CAUGHT_BY[name]
    (verdict,) = [verdict for verdict in check_variant(name, only=[check]) if verdict.check.name == check]
    assert verdict.outcome is Outcome.FAILED, verdict.sentence
    assert says in verdict.detail
    assert verdict.detail.startswith("backend=") or check == "build"
    assert "\n" not in verdict.sentence


@pytest.mark.usefixtures("_loaded")
def test_every_fault_is_in_the_table_and_every_check_catches_one() -> None:
    faults = {name for name, variant in registry.variants().items() if Path(variant.file).parent == FOLDER}
    assert faults == set(CAUGHT_BY)
    assert {check for check, _ in CAUGHT_BY.values()} == set(CHECKS)
    assert all(variant.cls.__doc__ for name, variant in registry.variants().items() if name in faults)
