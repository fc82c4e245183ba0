from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from attnframe.data.schema import SentencePair
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


def translations(references: list[str] = REFERENCES, hypotheses: list[str] = HYPOTHESES) -> list[Translation]:
    pairs = [SentencePair(str(i), "a source.", reference) for i, reference in enumerate(references)]
    return [Translation(pair, hypothesis) for pair, hypothesis in zip(pairs, hypotheses, strict=True)]


def test_the_scores_are_those_of_sacrebleu() -> None:
    scores = text_scores(translations())
    assert scores == {
        "bleu": sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score,
        "chrf": sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score,
        "exact_match": 0.25,
    }
    assert 5 < scores["bleu"] < 95


def test_the_command_line_of_sacrebleu_agrees(tmp_path: Path) -> None:
    files = tmp_path / "references", tmp_path / "hypotheses"
    for file, lines in zip(files, (REFERENCES, HYPOTHESES), strict=True):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    printed = subprocess.run(
        [sys.executable, "-m", "sacrebleu", files[0], "-i", files[1], "-m", "bleu", "chrf", "-b", "-w", "9"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    # sacreBLEU prints a JSON list of scores for several metrics with -b.
    bleu, chrf = (float(part.strip(' "[],')) for part in printed.split() if part.strip(' "[],'))
    scores = text_scores(translations())
    assert (scores["bleu"], scores["chrf"]) == pytest.approx((bleu, chrf), abs=1e-8)


def test_references_belong_to_their_hypotheses() -> None:
    straight, turned = text_scores(translations()), text_scores(translations([*REFERENCES[1:], REFERENCES[0]]))
    assert turned["bleu"] < straight["bleu"] - 5
    assert turned["chrf"] < straight["chrf"] - 5
    assert turned["exact_match"] == 0


def test_equal_text_scores_the_most() -> None:
    assert text_scores(translations(REFERENCES, REFERENCES)) == pytest.approx(
        {"bleu": 100.0, "chrf": 100.0, "exact_match": 1.0}
    )


def test_exact_means_every_character() -> None:
    assert exact_match(translations(["Il dort."] * 4, ["Il dort.", "il dort.", "Il dort", "Il dort. "])) == 0.25


def test_signatures_name_version_and_tokenizer() -> None:
    found = signatures()
    assert set(found) == {"bleu", "chrf"}
    assert f"version:{sacrebleu.__version__}" in found["bleu"]
    assert f"version:{sacrebleu.__version__}" in found["chrf"]
    assert "tok:13a" in found["bleu"]
    assert "nrefs:1" in found["bleu"]


def test_scores_split_by_length_and_tag() -> None:
    def made(source: str, tags: tuple[str, ...], hit: bool) -> Translation:
        return Translation(SentencePair("x", source, "oui", tags=tags), "oui" if hit else "non")

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
