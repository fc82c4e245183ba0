"""The table of translations that a run leaves: predictions.tsv."""

from __future__ import annotations

import json
from collections.abc import Iterable

from attnframe.training.text_scores import Translation

_COLUMNS = ("id", "set", "source", "reference", "hypothesis", "tags")


def prediction_table(translations: Iterable[tuple[str, Translation]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows for translations with the names of their sets.

    References stand in the case and Unicode form of the corpus, hypotheses in those of the tokenizer. Where any pair
    has further references, a last column `references` holds them as a JSON list.

    The rows of one set give the scores of results.json on sacreBLEU's command line, each column a file of its own:
    `sacrebleu reference -i hypothesis -m bleu chrf`, with `-lc --chrf-lowercase` where the tokenizer lower-cases.
    Further references are further files after `reference`. Where a sentence has fewer than others, its `reference`
    must be repeated, which changes no score: an empty line would be a reference of no words, the nearest in length to
    a short hypothesis.
    """
    translations = list(translations)
    further = any(translation.pair.references for _, translation in translations)
    columns = (*_COLUMNS, "references") if further else _COLUMNS
    rows: list[tuple[str, ...]] = []
    for name, translation in translations:
        pair = translation.pair
        row = (pair.id, name, pair.source, pair.target, translation.hypothesis, ",".join(pair.tags))
        rows.append((*row, json.dumps(pair.references, ensure_ascii=False)) if further else row)
    return columns, rows
