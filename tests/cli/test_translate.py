"""`attnframe translate` as a user calls it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_fixtures import home  # noqa: F401
from command_line import CONSOLE_SCRIPT, Finished, PreparedCommand, environment
from tiny_run import tiny_run

from attnframe import load_run
from attnframe.runs.decoding import Decoding
from attnframe.runs.loading import Run

SENTENCES = ["the woman is tired.", "he looked at the queen.", "the old woman is not happy."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "my run=1"
    tiny_run(path, "trainer.max_steps=60", "data.max_tokens=700")
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[PreparedCommand]:  # noqa: F811
    with PreparedCommand("attnframe.cli.translate,attnframe.runs.loading", home) as prepared:
        yield prepared


def piped(home: Path, cwd: Path, text: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:  # noqa: F811
    """`attnframe translate ARGUMENTS` with `text` on its standard input."""
    return subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, "translate", *arguments],
        input=text,
        capture_output=True,
        cwd=cwd,
        env=environment(home),
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("way", ["run=", "", "relative", "slash"])
def test_sentences_as_arguments(command: PreparedCommand, folder: Path, run: Run, way: str) -> None:
    place = {"run=": f"run={folder}", "": str(folder), "relative": folder.name, "slash": f"run={folder}/"}[way]
    if way == "relative":
        place = f"run={folder.name}"
    done = command("translate", place, *SENTENCES, cwd=folder.parent)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines() == run.translate(SENTENCES)


def test_nothing_heavy_is_loaded(command: PreparedCommand, folder: Path) -> None:
    done = command("translate", f"run={folder}", "the woman is tired.", cwd=folder)
    assert done.status == 0
    assert not {"lightning", "wandb", "sacrebleu"} & {name.partition(".")[0] for name in done.modules}


def test_sentences_through_standard_input(home: Path, folder: Path, run: Run) -> None:  # noqa: F811
    text = "\ufeffthe woman is tired.\r\n\nhe looked at the queen.\n  \nthe woman is tired.".encode()
    done = piped(home, folder, text, f"run={folder}")
    dog, cat = run.translate(["the woman is tired.", "he looked at the queen."])
    assert done.stderr == b""
    assert done.stdout.decode() == f"{dog}\n\n{cat}\n\n{dog}\n"


def test_many_sentences_keep_their_order_and_count(command: PreparedCommand, folder: Path, run: Run) -> None:
    nouns, verbs = ("woman", "sister", "aunt", "child", "king"), ("is tired", "looked at the queen", "is not happy")
    sentences = [f"the {nouns[i % 5]} {verbs[i % 3]}" + " and the man" * (i % 4) for i in range(1201)]
    (folder / "many.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    done = command("translate", f"run={folder}", "--input", "many.txt", cwd=folder)
    assert (done.status, done.stderr) == (0, "")
    assert len(set(sentences)) == 60
    expected = dict(zip(sentences[:60], run.translate(sentences[:60]), strict=True))
    assert len(set(expected.values())) > 3
    assert done.stdout.splitlines() == [expected[sentence] for sentence in sentences]


def test_several_translations_with_scores(command: PreparedCommand, folder: Path, run: Run) -> None:
    done = command("translate", f"run={folder}", "--n-best", "3", *SENTENCES, cwd=folder)
    assert (done.status, done.stderr) == (0, "")
    expected = [
        [str(number), str(rank), f"{candidate.score:.4f}", candidate.text]
        for number, sentence in enumerate(run.translations(SENTENCES, Decoding("beam", 5), n_best=3), start=1)
        for rank, candidate in enumerate(sentence.candidates, start=1)
    ]
    assert [line.split("\t") for line in done.stdout.splitlines()] == expected


def test_json_has_an_object_a_line(command: PreparedCommand, folder: Path, run: Run) -> None:
    chosen = ["decoding=beam", "decoding.beam_size=3", "decoding.length_penalty=0.5"]
    done = command(
        "translate", f"run={folder}", "--json", *chosen, "--n-best=2", "the quokka is tired.", "", cwd=folder
    )
    assert done.status == 0
    first, second = map(json.loads, done.stdout.splitlines())
    (translated,) = run.translations(["the quokka is tired."], Decoding("beam", 3, 0.5), n_best=2)
    assert first["source"] == "the quokka is tired."
    assert first["translation"] == translated.best
    assert first["unknown_words"] == ["quokka"]
    assert [found["translation"] for found in first["n_best"]] == [found.text for found in translated.candidates]
    assert first["n_best"][0]["score"] == pytest.approx(translated.candidates[0].score, abs=1e-4)
    assert (second["translation"], second["score"], second["n_best"]) == ("", None, [])
    assert done.stderr == "words that this run has never seen: quokka\n"


def test_after_two_dashes_everything_is_a_sentence(command: PreparedCommand, folder: Path, run: Run) -> None:
    odd = ["-h", "decoding=beam", "--json", "--"]
    done = command("translate", f"run={folder}", "--", *odd, cwd=folder)
    assert done.status == 0
    assert done.stdout.splitlines() == run.translate(odd)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which run? Give its folder: run="),
        (["run=nowhere", "hello"], "run=nowhere: there is no such folder"),
        (["RUN", "--n-bset", "3", "hello"], "--n-bset: there is no such flag; did you mean '--n-best'?"),
        (["RUN", "--n-best", "0", "hello"], "--n-best 0: '0' is no whole number from 1 on"),
        (["RUN", "hello", "--n-best"], "--n-best needs its N"),
        (["RUN", "--n-best", "3", "decoding=greedy", "hello"], "greedy finds one translation: for n_best=3 take"),
        (["RUN", "decoding=5", "hello"], "decoding=5: decoding is chosen by name"),
        (["RUN", "decoding=null", "hello"], "decoding=null: decoding is chosen by name"),
        (["RUN", "+decoding.foo=1", "hello"], "decoding.foo: decoding has no 'foo'"),
        (["RUN", "E=mc squared"], "is 'E=mc squared' a sentence? Put it after --"),
        (["RUN", "device=meta", "hello"], "device=meta: known: auto, cpu, cuda"),
        (["RUN", "\udcff abc"], "sentence 1 is not UTF-8"),
        (["RUN", "decoding=bea", "hello"], "decoding=bea: there is no decoding 'bea': did you mean 'beam'?"),
        (["RUN", "decoding=beam", "decoding.beam_size=0", "hello"], "beam_size=0"),
        (["RUN", "decoding=beam", "decoding.beam_size=many", "hello"], "decoding.beam_size=many"),
        (["RUN", "decoding.beam_size=3", "hello"], "decoding.beam_size: only beam has 'beam_size'; choose it"),
        (["RUN", "decodig=beam", "hello"], "decodig: the config has no 'decodig': did you mean 'decoding'?"),
        (["RUN", "+attention=self", "hello"], "attention"),
        (["RUN", "checkpoint=bset", "hello"], "checkpoint=bset: did you mean 'best'?"),
        (["RUN", "device=cudda", "hello"], "device=cudda: did you mean 'cuda'?"),
        (["RUN", "--input", "nofile.txt"], "--input nofile.txt: No such file or directory"),
        (["RUN", "--input", "."], "--input .: Is a directory"),
        (["RUN", "--input", "latin.txt"], "latin.txt, line 2 is not UTF-8"),
        (["RUN", "--input", "latin.txt", "hello"], "give a file or sentences, not both"),
        (["RUN", "word " * 1001], "sentence 1 has 1,001 tokens: a sentence may have 1,000"),
        (["RUN", "w" * 20001], "sentence 1 has 20,001 characters: a sentence may have 20,000"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    command: PreparedCommand, folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "latin.txt").write_bytes("the dog\nl'été\n".encode("latin-1"))
    done: Finished = command("translate", *(str(folder) if item == "RUN" else item for item in arguments), cwd=tmp_path)
    assert done.status == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("attnframe translate: ")
    assert says in sentence


def test_at_a_terminal_each_line_is_answered_at_once(home: Path, folder: Path, run: Run) -> None:  # noqa: F811
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, "translate", f"run={folder}"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(home),
        text=True,
    )
    os.close(follower)
    try:
        assert process.stdout is not None
        for sentence in SENTENCES:
            os.write(leader, f"{sentence}\n".encode())
            assert process.stdout.readline() == run.translate(sentence) + "\n"
        os.write(leader, b"\x04")
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 0
        assert printed == "a sentence on each line; Ctrl-D ends\n"
    finally:
        process.kill()
        os.close(leader)
