"""Seconds of a translation with cached keys and values, as a ratio to recomputing the prefix at each step.

Run from the repository root: OMP_NUM_THREADS=1 python benchmarks/cached_decoding.py. Both ways take turns in one
process, and the median of the ratios is printed, with the seconds of the fastest of each. Random weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from attnframe.data.tokenizer import EOS
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice, beam_search, greedy

# d_model, heads, d_ff and layers of conf/model/tiny.yaml and small.yaml.
MODELS = {"tiny": (128, 4, 512, 2), "small": (256, 8, 1024, 4)}
VOCABULARY = 600
SENTENCES = 16
SOURCE_TOKENS = 32
STEPS = 40
REPEATS = 3


def main() -> None:
    torch.manual_seed(0)
    src = torch.randint(4, VOCABULARY, (SENTENCES, SOURCE_TOKENS))
    limits = [STEPS] * SENTENCES
    print("model\tsearch\tcached / recomputed\tcached (s)\trecomputed (s)")
    for name, sizes in MODELS.items():
        model = talkative(*sizes)
        searches: dict[str, Callable[[bool], object]] = {
            "greedy": lambda cache, model=model: greedy(model, src, None, max_lengths=limits, cache=cache),
            "beam 5": lambda cache, model=model: beam_search(
                model, src, None, beam_size=5, max_lengths=limits, cache=cache
            ),
        }
        for search, run in searches.items():
            run(True)
            pairs = [(seconds(run, True), seconds(run, False)) for _ in range(REPEATS)]
            ratio = statistics.median(cached / recomputed for cached, recomputed in pairs)
            cached, recomputed = (min(column) for column in zip(*pairs, strict=True))
            print(f"{name}\t{search}\t{ratio:.2f}\t{cached:.3f}\t{recomputed:.3f}", flush=True)


def seconds(run: Callable[[bool], object], cache: bool) -> float:
    start = time.perf_counter()
    run(cache)
    return time.perf_counter() - start


def talkative(d_model: int, num_heads: int, d_ff: int, num_layers: int) -> Seq2Seq:
    """A model of this size that never says EOS."""
    choices = {site: [VariantChoice("multi_head")] * num_layers for site in SITES}
    model = Seq2Seq(
        src_vocab_size=VOCABULARY,
        tgt_vocab_size=VOCABULARY,
        attention=AttentionFactory(choices, d_model, d_model, num_heads),
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        d_ff=d_ff,
        dropout=0.0,
    )
    with torch.no_grad():
        model.decoder_norm.bias[0] = 20.0
        model.tgt_embedding.token.weight[EOS] = 0.0
        model.tgt_embedding.token.weight[EOS, 0] = -1.0
    return model.eval()


if __name__ == "__main__":
    main()
