"""From pieces to words: patterns between the words of a sentence, whatever a tokenizer cuts them into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnframe.patterns.pattern import Pattern, Patterns


def over_words(weights: Tensor, query_words: Sequence[int], key_words: Sequence[int]) -> Tensor:
    """Attention between words out of attention between pieces: [..., query, key] -> [..., query_words, key_words].

    `query_words` and `key_words` give the word, counted from 0, of each row and column. Attention to a word is the sum
    over its pieces, attention from a word the mean over its pieces, so that rows keep their sum (Clark et al. 2019,
    section 4.1, https://arxiv.org/abs/1906.04341). With one piece a word nothing changes, to the last bit. Sums are
    in float32 or better. Raises ValueError where `weights` has not a row and a column for each piece.
    """
    if weights.shape[-2:] != (len(query_words), len(key_words)):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} are not [..., {len(query_words)} query pieces, "
            f"{len(key_words)} key pieces]"
        )
    # Half precision would round a sum over pieces enough to change which word wins.
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    rows = torch.tensor(query_words, dtype=torch.long, device=weights.device)
    columns = torch.tensor(key_words, dtype=torch.long, device=weights.device)
    num_rows, num_columns = (words[-1] + 1 if words else 0 for words in (query_words, key_words))
    attended = weights.new_zeros(*weights.shape[:-1], num_columns).index_add(-1, columns, weights)
    summed = weights.new_zeros(*weights.shape[:-2], num_rows, num_columns).index_add(-2, rows, attended)
    return summed / torch.bincount(rows, minlength=num_rows)[:, None]


def word_patterns(patterns: Patterns, src_word_ids: Sequence[int], tgt_word_ids: Sequence[int]) -> Patterns:
    """The patterns of one sentence between its words; BOS and EOS are words of their own.

    `src_word_ids` and `tgt_word_ids` give the word of each piece (`Tokenizer.word_ids`). Keys of `encoder_self` and
    `cross` and queries of `encoder_self` are the source words, then EOS. Keys and queries of `decoder_self` are what
    the decoder reads: BOS, then the target words. Queries of `cross` are grouped by what a step is to say: row j has
    the steps that say the pieces of target word j, of which the first has read no more than word j - 1, and the last
    row the step that says EOS. So a gold link (i, j) is the cell in row j and column i, as where every word is one
    piece, and row j is what `Reading.PREDICTS` reads; `Reading.NEXT_STEP` takes the steps that read the pieces of word
    j, and they are row j + 1 only where words j and j + 1 are one piece each.

    Contributions are merged like weights. Between words of several pieces they are an upper bound, by the triangle
    inequality: the sum and the mean of norms are no less than the norm of the sum and of the mean. What is missing
    stays so.
    """
    source = [*src_word_ids, _number_of_words(src_word_ids)]
    read = [0, *(word + 1 for word in tgt_word_ids)]
    said = [*tgt_word_ids, _number_of_words(tgt_word_ids)]
    sides = {"encoder_self": (source, source), "decoder_self": (read, read), "cross": (said, source)}
    between_words = Patterns()
    for (site, layer), pattern in patterns.items():
        norms = pattern.contributions
        merged = None if norms is None else over_words(norms, *sides[site])
        between_words.add((site, layer), Pattern(over_words(pattern.weights, *sides[site]), pattern.kind, merged))
    for place, reason in patterns.missing.items():
        between_words.leave_out(place, reason)
    return between_words


def _number_of_words(word_ids: Sequence[int]) -> int:
    return word_ids[-1] + 1 if word_ids else 0
