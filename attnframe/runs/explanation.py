"""What attention does to one sentence, in full: patterns, ΔE by head and token, and what each embedding is near to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnframe import discovery
from attnframe.attention import undisturbed
from attnframe.data.batching import Example, collate
from attnframe.data.tokenizer import BOS, EOS, SPECIAL_TOKENS, UNK, Tokenizer, unknown_words
from attnframe.data.words import without_marker
from attnframe.errors import UserError
from attnframe.model import SITES, VariantChoice
from attnframe.model.residuals import Residual, record_residuals
from attnframe.patterns import Pattern, record_patterns
from attnframe.patterns.anatomy import Anatomy, matrix_rank, record_anatomy
from attnframe.runs.building import attention_factory
from attnframe.runs.explained import AttentionExplanation, CallShape, Explanation, HeadExplanation, TokenRow
from attnframe.runs.neighbours import nearest_tokens

if TYPE_CHECKING:
    from attnframe.runs.loading import Run

MAX_TOKENS = 250
"""Longest sentence that is explained: every head has a number for each pair of its tokens."""


@dataclass(frozen=True)
class _Positions:
    """The queries and keys of a site: what the model reads and is to say there, and the word that each query is in."""

    reads: Sequence[str]
    says: Sequence[str | None]
    words: Sequence[int]
    keys: Sequence[str]


@torch.no_grad()
def explain(run: Run, source: str, target: str | None = None, *, neighbours: int = 3) -> Explanation:
    """What every head of `run` does while it reads `source` and says `target` (by default the run's translation).

    `neighbours` is how many tokens are named for each embedding. Raises `UserError` for a sentence without a word and
    for one of more than `MAX_TOKENS` tokens.
    """
    _check(run.src_tokenizer, source, "the sentence")
    if target is not None:
        _check(run.tgt_tokenizer, target, "the target")
    between_words = run.patterns(source, target)
    said = between_words.target
    example = Example(0, run.src_tokenizer.encode(source), run.tgt_tokenizer.encode(said))
    batch = collate([example]).to(next(run.model.parameters()).device)
    with (
        undisturbed(run.model),
        record_patterns(run.model, sites=SITES, contributions=True) as between_tokens,
        record_residuals(run.model) as residuals,
        record_anatomy(run.model) as anatomies,
    ):
        run.model(batch.src, None, batch.tgt_in)
    positions = _positions(run, source, said)
    choices = attention_factory(run.settings).choices
    places = {}
    for site, layer in sorted(residuals, key=lambda place: (SITES.index(place[0]), place[1])):
        place = site, layer
        variant = choices[site][layer].name
        anatomy, pattern = anatomies[place], between_words.get(place)
        unsaid = between_words.missing.get(place, "")
        heads, reason = ((), unsaid) if unsaid else _heads(anatomy, between_tokens[place], variant)
        norms = None if pattern is None or reason else pattern.contributions
        queries, keys = between_words.labels[site]
        places[place] = AttentionExplanation(
            site=site,
            layer=layer,
            variant=variant,
            options=_changed_options(choices[site][layer]),
            formula=discovery.find_variant(variant).summary,
            backend=", ".join(sorted(anatomy.module.backends_used())),
            kind=None if pattern is None else pattern.kind,
            query_labels=tuple(queries),
            key_labels=tuple(keys),
            weights=None if pattern is None else pattern.weights.cpu(),
            contributions=None if norms is None else norms.cpu(),
            calls=tuple(CallShape(_shape(c.q), _shape(c.k), _shape(c.v), c.scale) for c in anatomy.calls),
            d_model=anatomy.d_model,
            rows=_rows(run, site, residuals[place], positions[site], neighbours),
            key_tokens=tuple(positions[site].keys),
            heads=heads,
            no_pattern_because=unsaid,
            no_heads_because=reason,
        )
    return Explanation(
        source=source,
        target=said,
        is_own_translation=target is None,
        unknown_in_source=tuple(unknown_words(run.src_tokenizer, source)),
        unknown_in_target=tuple(unknown_words(run.tgt_tokenizer, said)),
        places=places,
    )


def _changed_options(choice: VariantChoice) -> dict[str, Any]:
    defaults = {option.name: option.default for option in discovery.find_variant(choice.name).all_options}
    given = discovery.find_variant(choice.name).arguments(choice.options)
    return {name: choice.options[name] for name, value in given.items() if value != defaults[name]}


def _check(tokenizer: Tokenizer, text: str, what: str) -> None:
    # Characters first: cutting a huge word into pieces takes long itself.
    if len(text) > MAX_TOKENS * 20:
        raise UserError(f"{what} has {len(text):,} characters: explain takes {MAX_TOKENS * 20:,}")
    tokens = len(tokenizer.encode(text))
    if not tokens:
        raise UserError(f"{what} {text!r} holds no word to explain")
    if tokens > MAX_TOKENS:
        raise UserError(f"{what} has {tokens:,} tokens: explain takes {MAX_TOKENS}")


def _positions(run: Run, source: str, target: str) -> dict[str, _Positions]:
    """By site. Words count as in `patterns.words.word_patterns`."""
    src_words, tgt_words = run.src_tokenizer.word_ids(source), run.tgt_tokenizer.word_ids(target)
    src_end, tgt_end = (words[-1] + 1 if words else 0 for words in (src_words, tgt_words))
    src = [*_labels(run.src_tokenizer, source), SPECIAL_TOKENS[EOS]]
    tgt = _labels(run.tgt_tokenizer, target)
    reads, says = [SPECIAL_TOKENS[BOS], *tgt], [*tgt, SPECIAL_TOKENS[EOS]]
    return {
        "encoder_self": _Positions(src, [None] * len(src), [*src_words, src_end], src),
        "decoder_self": _Positions(reads, says, [0, *(word + 1 for word in tgt_words)], reads),
        "cross": _Positions(reads, says, [*tgt_words, tgt_end], src),
    }


def _labels(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of `text` for people to read; unknown ones as they stand there."""
    pairs = zip(tokenizer.encode(text), tokenizer.pieces(text), strict=True)
    return [without_marker(piece) if index == UNK else tokenizer.label(index) for index, piece in pairs]


def _rows(run: Run, site: str, residual: Residual, positions: _Positions, neighbours: int) -> tuple[TokenRow, ...]:
    if site == "encoder_self":
        embedding, tokenizer = run.model.src_embedding, run.src_tokenizer
    else:
        embedding, tokenizer = run.model.tgt_embedding, run.tgt_tokenizer
    before, delta, after = residual.before[0], residual.delta[0], residual.after[0]
    columns = zip(
        positions.reads,
        positions.says,
        positions.words,
        before.norm(dim=-1).tolist(),
        delta.norm(dim=-1).tolist(),
        F.cosine_similarity(before, after, dim=-1).tolist(),
        nearest_tokens(before, embedding.token.weight, tokenizer, neighbours),
        nearest_tokens(after, embedding.token.weight, tokenizer, neighbours),
        strict=True,
    )
    return tuple(TokenRow(*row) for row in columns)


def _heads(anatomy: Anatomy, pattern: Pattern, variant: str) -> tuple[tuple[HeadExplanation, ...], str]:
    """Each head, and why nothing is known of what it adds, if so. `pattern` is between tokens."""
    # Contributions are there where the heads' ΔE add up to what the module returned. A variant may report a pattern of
    # other heads than those that call attend.
    norms = pattern.contributions
    deltas = anatomy.head_deltas() if norms is not None and norms.shape == pattern.weights.shape else None
    ranks = None if deltas is None else anatomy.value_ranks()
    heads = []
    for head, weights in enumerate(pattern.weights[0]):
        delta = None if deltas is None else deltas[0, head]
        # A weight of 1 or 0 would show little of a softmax.
        middling = divmod(int((weights - 0.5).abs().argmin()), weights.shape[-1])
        heads.append(
            HeadExplanation(
                delta_norms=None if delta is None else delta.norm(dim=-1).cpu(),
                delta_rank=None if delta is None else matrix_rank(delta),
                value_rank=None if ranks is None else ranks[head],
                cell=anatomy.worked_cell(head, *middling) if anatomy.is_plain else None,
            )
        )
    if deltas is not None:
        return tuple(heads), ""
    if not anatomy.calls:
        return tuple(heads), f"{variant} never calls attend, so that its heads cannot be told apart"
    return tuple(heads), f"what {variant} makes of its heads is no linear map that is the same for every query"


def _shape(x: Tensor) -> tuple[int, int, int]:
    """Of the one sentence in the batch."""
    return x.shape[1], x.shape[2], x.shape[3]
