from __future__ import annotations

from typing import Any

import pytest
import sacrebleu
from sacrebleu.metrics.chrf import CHRF

from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.tokenizer import fit_tokenizer
from attnframe.training.text_scores import Translation, exact_match, length_class, signatures, split_scores, text_scores

REFERENCES = [
    "L'homme n'a pas vu le vieux chien aujourd'hui.",
    "Les petites filles lisent un livre dans la maison.",
    "Ma voisine est-elle plus grande que le médecin ?",
    "Nous avons parlé au roi.",
]
HYPOTHESES = [
    "L'homme n'a pas vu le chien.",
    "Les petites filles lisent un livre dans la maison.",
    "Ma voisine est plus petite que le médecin ?",
    "Nous avons vu la reine hier.",
]


def translations(
    references: list[str] = REFERENCES,
    hypotheses: list[str] = HYPOTHESES,
    *,
    further: tuple[tuple[str, ...], ...] = ((),) * 4,
    **form: Any,
) -> list[Translation]:
    """Judged by a tokenizer with the options `form`."""
    tokenizer = fit_tokenizer("word", [], **form)
    return [
        Translation.judged(SentencePair(str(i), "a source.", reference, references=more), hypothesis, tokenizer)
        for i, (reference, hypothesis, more) in enumerate(zip(references, hypotheses, further, strict=True))
    ]


def test_the_scores_are_those_of_sacrebleu() -> None:
    scores = text_scores(translations(), lowercase=False)
    assert scores == {
        "bleu": sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score,
        "chrf": sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score,
        "exact_match": 0.25,
    }
    assert 5 < scores["bleu"] < 95


def test_case_does_not_count_where_the_tokenizer_lower_cases() -> None:
    lowered = [hypothesis.lower() for hypothesis in HYPOTHESES]
    scores = text_scores(translations(hypotheses=lowered, lowercase=True), lowercase=True)
    assert scores == {
        "bleu": sacrebleu.corpus_bleu(lowered, [REFERENCES], lowercase=True).score,
        "chrf": CHRF(lowercase=True).corpus_score(lowered, [REFERENCES]).score,
        "exact_match": 0.25,
    }
    assert scores == text_scores(translations(), lowercase=True)
    cased = text_scores(translations(hypotheses=lowered), lowercase=False)
    assert cased["bleu"] < scores["bleu"] - 1
    assert cased["chrf"] < scores["chrf"] - 0.5
    assert cased["exact_match"] == 0


def test_every_further_reference_counts() -> None:
    further = ((HYPOTHESES[0], "L'homme ne voit rien."), (), (), ("Nous avons vu une reine hier.",))
    scores = text_scores(translations(further=further), lowercase=False)
    streams = [REFERENCES, [HYPOTHESES[0], None, None, further[3][0]], [further[0][1], None, None, None]]
    assert scores == {
        "bleu": sacrebleu.corpus_bleu(HYPOTHESES, streams).score,  # type: ignore[arg-type]
        "chrf": sacrebleu.corpus_chrf(HYPOTHESES, streams).score,  # type: ignore[arg-type]
        "exact_match": 0.5,
    }
    alone = text_scores(translations(), lowercase=False)
    assert scores["bleu"] > alone["bleu"] + 5
    assert scores["chrf"] > alone["chrf"] + 5


def test_a_pair_without_further_references_is_no_worse_off() -> None:
    """What is missing is left out: an empty reference would be the nearest in length to a short hypothesis."""
    hypotheses = ["Il dort dans la.", "Non, pas du tout."]
    references = ["Il dort dans la grande maison de mon vieux voisin.", "Non, mon ami."]
    tokenizer = fit_tokenizer("word", [])
    pairs = [SentencePair("a", "s", references[0]), SentencePair("b", "s", references[1], references=("Pas du tout.",))]
    made = [Translation.judged(pair, text, tokenizer) for pair, text in zip(pairs, hypotheses, strict=True)]
    scores = text_scores(made, lowercase=False)
    repeated = [references, [references[0], "Pas du tout."]]
    emptied = [references, ["", "Pas du tout."]]
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, repeated).score
    assert scores["bleu"] < sacrebleu.corpus_bleu(hypotheses, emptied).score


def test_references_belong_to_their_hypotheses() -> None:
    straight = text_scores(translations(), lowercase=False)
    turned = text_scores(translations([*REFERENCES[1:], REFERENCES[0]]), lowercase=False)
    assert turned["bleu"] < straight["bleu"] - 5
    assert turned["chrf"] < straight["chrf"] - 5
    assert turned["exact_match"] == 0


def test_equal_text_scores_the_most() -> None:
    assert text_scores(translations(REFERENCES, REFERENCES), lowercase=False) == pytest.approx(
        {"bleu": 100.0, "chrf": 100.0, "exact_match": 1.0}
    )


def test_exact_means_every_character() -> None:
    assert exact_match(translations(["Il dort."] * 4, ["Il dort.", "il dort.", "Il dort", "Il dort. "])) == 0.25


def test_exact_is_as_the_tokenizer_sees_a_reference() -> None:
    spaced = "Où\u202f? \u00c9t\u0065\u0301 ﬁn"
    assert [entry.exact for entry in translations([spaced] * 4, ["Où ? Éte\u0301 ﬁn", "Où ? Été ﬁn", spaced, ""])] == [
        True,
        False,
        False,
        False,
    ]
    forms = {"NFC": "où ? été ﬁn", "NFKC": "où ? été fin"}
    for form, hypothesis in forms.items():
        made = translations([spaced] * 2, [hypothesis, "x"], further=((), ()), lowercase=True, normalization=form)
        assert [entry.exact for entry in made] == [True, False]


def corpus(**sets: list[int]) -> Corpus:
    """Sets of pairs with so many references."""
    return Corpus(
        {
            name: tuple(
                SentencePair(f"{name}-{i}", "s", "t", references=("u",) * (n - 1)) for i, n in enumerate(counts)
            )
            for name, counts in sets.items()
        }
    )


def test_signatures_name_version_and_tokenizer() -> None:
    found = signatures(corpus(train=[1], val=[1, 1], test=[1, 1, 1], longer=[1]), lowercase=False)
    assert set(found) == {"bleu", "chrf"}
    assert f"version:{sacrebleu.__version__}" in found["bleu"]
    assert f"version:{sacrebleu.__version__}" in found["chrf"]
    assert "tok:13a" in found["bleu"]
    assert all({"nrefs:1", "case:mixed"} <= set(signature.split("|")) for signature in found.values())


def test_signatures_are_those_of_the_scores() -> None:
    """With lower case and sets of one, of two, and of now one and now three references."""
    the_corpus = corpus(train=[1, 2], val=[2, 2], test=[1, 3, 1], longer=[1], other=[3, 1], none=[])
    found = signatures(the_corpus, lowercase=True)
    expected = {}
    for name, prefix in (("test", ""), ("val", "val/"), ("longer", "longer/")):
        pairs = the_corpus.sets[name]
        streams = [[([p.target, *p.references][i : i + 1] or [None])[0] for p in pairs] for i in range(3)]
        for metric, scorer in (("bleu", sacrebleu.BLEU(lowercase=True)), ("chrf", CHRF(lowercase=True))):
            scorer.corpus_score(["x"] * len(pairs), streams)
            expected[prefix + metric] = str(scorer.get_signature())
    assert found == expected
    assert [found[key].partition("|")[0] for key in ("bleu", "val/chrf", "longer/bleu")] == [
        "nrefs:var",
        "nrefs:2",
        "nrefs:1",
    ]
    assert all("case:lc" in signature.split("|") for signature in found.values())


def test_scores_split_by_length_and_tag() -> None:
    def made(source: str, tags: tuple[str, ...], hit: bool) -> Translation:
        return Translation(SentencePair("x", source, "oui", tags=tags), "oui" if hit else "non", hit)

    rows = [
        made("he sleeps.", ("past",), True),  # 3 words
        made("he does not sleep.", ("negation", "past"), False),  # 5
        made("the old men sleep now.", (), True),  # 6
        made("one two three four five six seven eight nine ten eleven.", ("past",), False),  # 12
    ]
    assert split_scores(rows) == {
        "length/1-5/exact_match": 0.5,
        "length/6-7/exact_match": 1.0,
        "length/11-15/exact_match": 0.0,
        "phenomenon/negation/exact_match": 0.0,
        "phenomenon/past/exact_match": pytest.approx(1 / 3),
    }
    assert split_scores([]) == {}


def test_length_classes_leave_no_gap() -> None:
    classes: dict[str, list[int]] = {}
    for words in range(1, 60):
        classes.setdefault(length_class(words), []).append(words)
    names = list(classes)
    for name, members in classes.items():
        lowest, _, highest = name.partition("-")
        assert members[0] == int(lowest)
        assert members == list(range(members[0], members[-1] + 1))
        assert (members[-1] == int(highest)) if highest else (name == names[-1] and members[-1] == 59)
    assert len(names) == 6
