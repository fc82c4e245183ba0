"""Scores of translated text against references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from attnframe.data.schema import SentencePair
from attnframe.data.words import split_words

# Upper bounds, in source words, of the length classes that scores are split by.
_LENGTH_BOUNDS = (5, 7, 10, 15, 25)


@dataclass(frozen=True)
class Translation:
    """A pair and what the model made of its source."""

    pair: SentencePair
    hypothesis: str

    @property
    def exact(self) -> bool:
        """Whether the hypothesis is the reference, character by character."""
        return self.hypothesis == self.pair.target


def text_scores(translations: Sequence[Translation]) -> dict[str, float]:
    """`bleu` and `chrf` (0 to 100, sacreBLEU's defaults on detokenised text) and `exact_match` (0 to 1)."""
    hypotheses = [translation.hypothesis for translation in translations]
    references = [[translation.pair.target for translation in translations]]
    return {
        "bleu": BLEU().corpus_score(hypotheses, references).score,
        "chrf": CHRF().corpus_score(hypotheses, references).score,
        "exact_match": exact_match(translations),
    }


def signatures() -> dict[str, str]:
    """sacreBLEU's signatures: without them a score cannot be compared (Post 2018)."""
    bleu, chrf = BLEU(), CHRF()
    bleu.corpus_score(["a"], [["a"]])
    chrf.corpus_score(["a"], [["a"]])
    return {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}


def exact_match(translations: Iterable[Translation]) -> float:
    """Share of hypotheses that equal their reference."""
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
