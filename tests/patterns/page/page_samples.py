"""Runs to show, and their maps read back from the page's data."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, PageTable

STEPS = (100, 300, 500, 900, 1100)
SRC = ["the", "red", "dog", "sleeps", "<eos>"]
TGT = ["le", "chien", "rouge", "dort", "ici", ".", "<eos>"]


def labels(src: Sequence[str] = SRC, tgt: Sequence[str] = TGT) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    read = ["<bos>", *tgt[:-1]]
    return {"encoder_self": (src, src), "decoder_self": (read, read), "cross": (tgt, src)}


def pattern(
    queries: int,
    keys: int,
    *,
    times: int = len(STEPS),
    heads: int = 3,
    seed: int = 0,
    kind: PatternKind = PatternKind.PROBABILITY,
    contributions: bool = True,
) -> PagePattern:
    """Random maps; not of probabilities, they also go below 0 where they are signed, and beyond 1."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.full(keys, 0.4), size=(times, heads, queries))
    if kind is not PatternKind.PROBABILITY:
        weights = 2.7 * weights
    if kind is PatternKind.SIGNED:
        weights = weights * random.choice([-1, 1], size=weights.shape)
    norms = weights * random.lognormal(size=(1, heads, 1, keys)) if contributions else None
    return PagePattern(kind, weights.astype(np.float32), norms)


def sentence(
    source: str = "the red dog sleeps", target: str = "le chien rouge dort ici .", *, seed: int = 0, **options: Any
) -> PageSentence:
    """Two layers of 3 heads at every site, and gold links."""
    shown = labels()
    patterns = {
        (site, layer): pattern(len(queries), len(keys), seed=seed + 7 * place + layer, **options)
        for place, (site, (queries, keys)) in enumerate(shown.items())
        for layer in range(2)
    }
    return PageSentence(
        source, target, shown, patterns, Alignment(frozenset({(0, 0), (2, 1), (1, 2)}), frozenset({(3, 4)}))
    )


def run(name: str = "first", *, seed: int = 0, **changes: Any) -> PageRun:
    heads = [(site, layer, head) for site in labels() for layer in range(2) for head in range(3)]
    settings: dict[str, Any] = {
        "subtitle": "multi_head on grammar",
        "steps": STEPS,
        "sentences": [sentence(seed=seed), sentence("a second one", "une deuxième", seed=seed + 50)],
        "traces": {"val/loss": [3.2, 1.1, 0.5, 0.25, 0.125], "val/aer": [None, 0.6, 0.4, 0.2, 0.1]},
        "head_traces": {head: {"entropy": [2.0, 1.5, 1.0, 0.5, 0.25 + i]} for i, head in enumerate(heads)},
        "importance": {head: 0.125 * i for i, head in enumerate(heads)},
        "tables": [PageTable("Scores", ["set", "bleu", "sentences"], [["test", 99.81398, 2000], ["unseen", None, 7]])],
    }
    return PageRun(name, **settings | changes)


def decoded(data: Mapping[str, Any], record: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """The maps [time, heads, query, key] that a record of the data says, in float64."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(data["arrays"])), "<u2")
    codes = numbers[record["at"] :][: int(np.prod(shape))].reshape(shape).astype(np.float64)
    low, high = (
        np.broadcast_to(np.asarray(record[end], dtype=np.float64).reshape(-1, 1), (shape[0] * shape[1], 1)).reshape(
            *shape[:2], 1, 1
        )
        for end in ("low", "high")
    )
    along = codes / 65534
    return np.where(codes == 65535, np.nan, low * (1 - along) + high * along)
