"""What `check` leaves for `list attention`, and what makes it stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

import attnframe.testing
from attnframe import registry
from attnframe.cli import check as check_command
from attnframe.cli import kept_verdicts
from attnframe.cli import list as list_command
from attnframe.cli.kept_verdicts import kept_folder, verdict_key
from attnframe.registry import Variant
from attnframe.testing import CHECKS, Outcome, Verdict

PLUGIN = '''
from attnframe import Attention, register_attention

@register_attention("mine")
class Mine(Attention):
    """The values as they are."""

    def forward(self, query, key, value, mask):
        return {returned}
'''

Suite = Callable[[Collection[str]], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, in a folder without a conf/; nothing that was read of attnframe's code is remembered."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept_verdicts._house.cache_clear()
    yield tmp_path / "cache"
    kept_verdicts._house.cache_clear()


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suite:
    """`suite({"causal"})`: from then on every variant fails these checks and passes the others, at once."""

    def finds(failed: Collection[str]) -> None:
        def check_variant(variant: Variant, *, only: Collection[str], **_: object) -> Iterator[Verdict]:
            for name, check in CHECKS.items():
                if not only or name in only:
                    yield Verdict(variant.name, check, Outcome.FAILED if name in failed else Outcome.PASSED)

        monkeypatch.setattr(attnframe.testing, "check_variant", check_variant)

    return finds


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert list_command.main(["attention", "--json"]) == 0
    found = {entry["name"]: entry["conformance"] for entry in json.loads(capsys.readouterr().out)}
    assert list_command.main(["attention"]) == 0
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    place = header.index("conformance")
    assert {line[0]: line[place] for line in lines} == {name: status or "" for name, status in found.items()}
    return found


def test_what_a_full_run_finds_is_listed(capsys: pytest.CaptureFixture[str], suite: Suite) -> None:
    assert {status for name, status in listed(capsys).items() if name in registry.variants()} == {"not checked"}
    suite([])
    assert check_command.main(["multi_head"]) == 0
    suite({"causal", "padding"})
    assert check_command.main(["uniform"]) == 1
    found = listed(capsys)
    assert (found["multi_head"], found["uniform"]) == ("passed", "failed: causal, padding")
    assert found["self"] == "not checked"
    # The last full run is what counts.
    suite([])
    assert check_command.main(["uniform"]) == 0
    assert listed(capsys)["uniform"] == "passed"


def test_a_preset_has_no_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys)["low_rank_v_r4"] is None


@pytest.mark.parametrize("part", [["--only", "causal"], ["--backend", "eager"], ["--backend=sdpa"]])
def test_part_of_a_run_leaves_nothing(part: list[str], suite: Suite, cache: Path) -> None:
    suite([])
    check_command.main(["multi_head", *part])
    assert not cache.exists()


def test_an_edit_of_the_file_makes_it_not_checked_and_back_again(
    capsys: pytest.CaptureFixture[str], suite: Suite, plugin_folder: Path
) -> None:
    file = plugin_folder / "mine.py"
    file.write_text(PLUGIN.format(returned="value"))
    suite([])
    assert check_command.main(["mine"]) == 0
    assert listed(capsys)["mine"] == "passed"
    file.write_text(PLUGIN.format(returned="2 * value"))
    assert listed(capsys)["mine"] == "not checked"
    file.write_text(PLUGIN.format(returned="value"))
    assert listed(capsys)["mine"] == "passed"
    file.unlink()
    assert listed(capsys)["mine"] == "not checked"


def test_an_edit_while_it_is_checked_does_not_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, plugin_folder: Path
) -> None:
    file = plugin_folder / "mine.py"
    file.write_text(PLUGIN.format(returned="value"))

    def check_variant(variant: Variant, **_: object) -> Iterator[Verdict]:
        file.write_text(PLUGIN.format(returned="2 * value"))
        yield from (Verdict(variant.name, check, Outcome.PASSED) for check in CHECKS.values())

    monkeypatch.setattr(attnframe.testing, "check_variant", check_variant)
    assert check_command.main(["mine"]) == 0
    assert listed(capsys)["mine"] == "not checked"


@pytest.mark.parametrize(
    ("edited", "stale"),
    [
        ("attention/base.py", {"multi_head", "uniform"}),
        ("backends/eager.py", {"multi_head", "uniform"}),
        ("testing/checks/masking.py", {"multi_head", "uniform"}),
        ("registry.py", {"multi_head", "uniform"}),
        ("attention/uniform.py", {"uniform"}),
        ("training/run.py", set()),
        ("cli/list.py", set()),
    ],
)
def test_what_a_verdict_depends_on(edited: str, stale: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("multi_head", "uniform")
    before = {name: verdict_key(registry.variants()[name]) for name in names}
    real = kept_verdicts.source_digest
    seen = []

    def digest(file: Path) -> str:
        seen.append(file.as_posix())
        return "other" if file.as_posix().endswith(f"attnframe/{edited}") else real(file)

    monkeypatch.setattr(kept_verdicts, "source_digest", digest)
    kept_verdicts._house.cache_clear()
    after = {name: verdict_key(registry.variants()[name]) for name in names}
    assert {name for name in names if after[name] != before[name]} == stale
    assert any(name.endswith(f"attnframe/{edited}") for name in seen) == bool(stale)


@pytest.mark.parametrize("distribution", ["torch", "attnframe"])
def test_another_version_makes_it_stale(distribution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = registry.variants()["multi_head"]
    before = verdict_key(variant)
    real = kept_verdicts.metadata.version
    monkeypatch.setattr(kept_verdicts.metadata, "version", lambda name: "9.9" if name == distribution else real(name))
    assert verdict_key(variant) != before


def test_a_cache_that_cannot_be_written_fails_no_check(
    capsys: pytest.CaptureFixture[str], suite: Suite, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite([])
    cache.write_text("a file where a folder should be")
    assert check_command.main(["multi_head"]) == 0
    assert "`attnframe list attention` will not know of the verdict on multi_head: " in capsys.readouterr().err
    assert listed(capsys)["multi_head"] == "not checked"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(kept_verdicts, "cache_folder", no_home)
    assert check_command.main(["multi_head"]) == 0
    assert "Could not determine home directory." in capsys.readouterr().err
    assert listed(capsys)["multi_head"] == "not checked"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"failed": 1}', "\udcff"])
def test_a_damaged_file_says_nothing(damage: str, capsys: pytest.CaptureFixture[str], suite: Suite) -> None:
    suite([])
    check_command.main(["multi_head"])
    (file,) = kept_folder().iterdir()
    file.write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert listed(capsys)["multi_head"] == "not checked"


@pytest.mark.slow
def test_the_suite_itself_leaves_its_verdict(capsys: pytest.CaptureFixture[str], plugin_folder: Path) -> None:
    # The mean is over all keys, whatever the mask.
    (plugin_folder / "mine.py").write_text(PLUGIN.format(returned="query + value.mean(1, keepdim=True)"))
    assert check_command.main(["uniform", "mine"]) == 1
    found = listed(capsys)
    assert found["uniform"] == "passed"
    assert found["mine"].startswith("failed: ")
    assert {"causal", "padding"} <= set(found["mine"].removeprefix("failed: ").split(", "))
