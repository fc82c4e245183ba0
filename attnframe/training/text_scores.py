"""Scores of translated text against references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.tokenizer import Tokenizer
from attnframe.data.words import split_words

# Upper bounds, in source words, of the length classes that scores are split by.
_LENGTH_BOUNDS = (5, 7, 10, 15, 25)


@dataclass(frozen=True)
class Translation:
    """A pair, what the model made of its source, and whether that is exactly one of its references."""

    pair: SentencePair
    hypothesis: str
    exact: bool

    @classmethod
    def judged(cls, pair: SentencePair, hypothesis: str, tokenizer: Tokenizer) -> Translation:
        """With `exact` found out: every character counts, of references as the target `tokenizer` sees them."""
        exact = any(hypothesis == tokenizer.normalize(reference) for reference in (pair.target, *pair.references))
        return cls(pair, hypothesis, exact)


def text_scores(translations: Sequence[Translation], *, lowercase: bool) -> dict[str, float]:
    """`bleu` and `chrf` (0 to 100, sacreBLEU's defaults on detokenised text) and `exact_match` (0 to 1).

    References are those of the corpus as they are, all that a pair has; with `lowercase` case does not count.
    """
    hypotheses = [translation.hypothesis for translation in translations]
    references = _reference_streams([translation.pair for translation in translations])
    return {
        "bleu": BLEU(lowercase=lowercase).corpus_score(hypotheses, references).score,
        "chrf": CHRF(lowercase=lowercase).corpus_score(hypotheses, references).score,
        "exact_match": exact_match(translations),
    }


def signatures(corpus: Corpus, *, lowercase: bool) -> dict[str, str]:
    """sacreBLEU's signatures: without them a score cannot be compared (Post 2018, https://arxiv.org/abs/1804.08771).

    `bleu` and `chrf` are those of the set `test`; `val/bleu`, `<set>/bleu` and so on those of others that differ, as
    they do where sets have different numbers of references.
    """
    found = _signatures_of(corpus.sets["test"], lowercase)
    for name in ("val", *corpus.test_sets[1:]):
        others = _signatures_of(corpus.sets[name], lowercase) if corpus.sets[name] else {}
        found |= {f"{name}/{metric}": text for metric, text in others.items() if text != found[metric]}
    return found


def _signatures_of(pairs: Iterable[SentencePair], lowercase: bool) -> dict[str, str]:
    # A metric knows its signature once it has counted references: one pair for each number of them will do.
    examples = list({len(pair.references): pair for pair in pairs}.values())
    metrics = {"bleu": BLEU(lowercase=lowercase), "chrf": CHRF(lowercase=lowercase)}
    for metric in metrics.values():
        metric.corpus_score([""] * len(examples), _reference_streams(examples))
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def _reference_streams(pairs: Sequence[SentencePair]) -> list[tuple[str, ...]]:
    """The first reference of every pair, then the second, and so on, as sacreBLEU takes them.

    None stands where a pair has no more: sacreBLEU leaves it out, while an empty string would be a reference.
    """
    return list(zip_longest(*((pair.target, *pair.references) for pair in pairs)))


def exact_match(translations: Iterable[Translation]) -> float:
    """Share of hypotheses that equal one of their references."""
    hits = [translation.exact for translation in translations]
    return sum(hits) / len(hits)


def split_scores(translations: Iterable[Translation]) -> dict[str, float]:
    """Exact match by source length (`length/6-7/exact_match`, in words) and by tag (`phenomenon/past/exact_match`)."""
    classes: dict[str, list[Translation]] = defaultdict(list)
    for translation in translations:
        classes[f"length/{length_class(len(split_words(translation.pair.source)))}"].append(translation)
        for tag in translation.pair.tags:
            classes[f"phenomenon/{tag}"].append(translation)
    return {f"{name}/exact_match": exact_match(members) for name, members in sorted(classes.items())}


def length_class(words: int) -> str:
    """The class of a source length: "1-5", "6-7", ..., "26-"."""
    lowest = 1
    for bound in _LENGTH_BOUNDS:
        if words <= bound:
            return f"{lowest}-{bound}"
        lowest = bound + 1
    return f"{lowest}-"
