"""What makes two jobs the same."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_runs import PLUGIN
from tiny_run import tiny_settings

from attnframe import UserError, discovery
from attnframe.cli import composition
from attnframe.cli import settings as cli_settings
from attnframe.runs import building
from attnframe.sweeps import worker
from attnframe.sweeps.identity import Identities, Identity
from attnframe.sweeps.sources import source_files
from attnframe.sweeps.sweep_folder import JobRecord


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin_folder: Path) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "0")
    (plugin_folder / "my_idea.py").write_text(PLUGIN, encoding="utf-8")
    return tiny_settings("attention=my_idea", "data.train_size=53", "data.held_out_size=3")


def identity(settings: dict[str, Any]) -> Identity:
    return Identities().of(settings, building.attention_factory(settings))


def changed(settings: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> Identity:
    other = copy.deepcopy(settings)
    change(other)
    return identity(other)


def test_where_results_go_and_how_they_are_shown_is_no_part_of_it(settings: dict[str, Any]) -> None:
    first = identity(settings)
    assert changed(settings, lambda s: s.update(name="other", logger={"csv": {}})).key == first.key
    assert changed(settings, lambda s: s["trainer"].update(enable_progress_bar=True)).key == first.key


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(seed=2),
        lambda s: s["optimizer"].update(lr=0.5),
        lambda s: s["attention"].update(rank=3),
        lambda s: s["trainer"].update(max_steps=21),
        lambda s: s["callbacks"]["patterns"].update(sentences=0),
    ],
)
def test_whatever_is_computed_otherwise_makes_another_job(
    settings: dict[str, Any], change: Callable[[dict[str, Any]], object]
) -> None:
    first, other = identity(settings), changed(settings, change)
    assert first.key != other.key
    assert first.config != other.config
    assert (first.data, first.sources) == (other.data, other.sources)


def test_other_data_under_the_same_name_makes_another_job(settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    lines = [f"word {number}\tmot {number}" for number in range(67)]
    file.write_text("\n".join(lines), encoding="utf-8")
    chosen = ["debug=fast", "data=parallel_file", f"data.path={file}", "attention=self"]
    own = cli_settings.plain(composition.compose_config(chosen))
    first = identity(own)
    assert identity(own).key == first.key
    file.write_text("\n".join([*lines, "one more\tun de plus"]), encoding="utf-8")
    second = identity(own)
    assert second.key != first.key
    assert second.config == first.config
    assert second.changed_since(first) == ["data"]


def test_an_edit_of_a_variant_makes_another_job_of_its_own_jobs_only(
    settings: dict[str, Any], plugin_folder: Path
) -> None:
    others = {**settings, "attention": {"name": "low_rank_v", "rank": 3}}
    first, first_other = identity(settings), identity(others)
    (plugin_folder / "my_idea.py").write_text(PLUGIN + "\n# as good as before\n", encoding="utf-8")
    second = identity(settings)
    assert second.key != first.key
    assert second.changed_since(first) == ["attnframe_plugins.my_idea"]
    assert identity(others).key == first_other.key


def test_a_worker_refuses_a_job_whose_variant_was_edited_before_it_began(
    settings: dict[str, Any], plugin_folder: Path, tmp_path: Path
) -> None:
    file, attention = plugin_folder / "my_idea.py", building.attention_factory(settings)
    JobRecord(identity(settings), ()).write(tmp_path / "job")
    worker._digest_when_loaded.cache_clear()
    worker.check_sources(tmp_path / "job", attention)
    file.write_text(PLUGIN + "\n# after it was loaded\n", encoding="utf-8")
    worker.check_sources(tmp_path / "job", attention)
    # As in a worker that begins now.
    worker._digest_when_loaded.cache_clear()
    with pytest.raises(UserError, match=r"attnframe_plugins\.my_idea changed since the sweep was planned"):
        worker.check_sources(tmp_path / "job", attention)


def test_of_two_files_with_one_name_each_counts_for_its_own_variant(
    settings: dict[str, Any], plugin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "more" / "my_idea.py"
    other.parent.mkdir()
    other.write_text(PLUGIN.replace('"my_idea"', '"my_other_idea"').replace("MyIdea", "MyOtherIdea"), encoding="utf-8")
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, f"{plugin_folder}{os.pathsep}{other.parent}")
    discovery.load_plugins()
    files = {
        name: list(source_files(building.attention_factory({**settings, "attention": {"name": name}})).values())
        for name in ("my_idea", "my_other_idea")
    }
    assert files == {"my_idea": [plugin_folder / "my_idea.py"], "my_other_idea": [other]}


def test_sources_are_the_files_of_the_variants_and_what_they_stand_on(
    settings: dict[str, Any], plugin_folder: Path
) -> None:
    (plugin_folder / "inner.py").write_text(
        '''from torch import nn

from attnframe import Attention, build_attention, register_attention


@register_attention("nested")
class Nested(Attention):
    """Another variant inside."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.inner = build_attention("my_idea", d_model=d_model, num_heads=num_heads)

    def forward(self, query, key, value, mask):
        return self.inner(query, key, value, mask)
''',
        encoding="utf-8",
    )
    discovery.load_plugins()
    mixed = {**settings, "attention": {"name": "self"}, "cross": {"name": "nested"}}
    found = source_files(building.attention_factory(mixed))
    assert {name: file.name for name, file in found.items()} == {
        "attnframe.attention.self": "self.py",
        "attnframe_plugins.inner": "inner.py",
        "attnframe_plugins.my_idea": "my_idea.py",
    }


def test_globals_that_cannot_be_looked_at_are_passed_over(settings: dict[str, Any], plugin_folder: Path) -> None:
    (plugin_folder / "lazy.py").write_text(
        PLUGIN.replace("my_idea", "lazy").replace("MyIdea", "Lazy")
        + """

class _Proxy:
    def __getattr__(self, name):
        raise ImportError(f"{name} needs a package that is not there")


class _Module(type(nn)):
    def __getattribute__(self, name):
        raise RuntimeError(name)


proxy, module = _Proxy(), _Module("absent")
""",
        encoding="utf-8",
    )
    discovery.load_plugins()
    found = source_files(building.attention_factory({**settings, "attention": {"name": "lazy"}}))
    assert set(found) == {"attnframe_plugins.lazy"}


def test_a_module_that_only_numbers_are_taken_from_counts(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "numbered_ideas"
    package.mkdir()
    (package / "__init__.py").write_text("from numbered_ideas import other\n")
    (package / "constants.py").write_text("from .deeper import OTHER as WIDTH\n")
    (package / "deeper.py").write_text("OTHER = 5\n")
    (package / "other.py").write_text("")
    (package / "tools.py").write_text("def twice(x):\n    return 2 * x\n")
    (package / "variant.py").write_text(
        PLUGIN.replace("my_idea", "numbered").replace(
            "from torch import nn",
            "from torch import nn\n\nfrom .constants import WIDTH\nfrom numbered_ideas.tools import twice",
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import numbered_ideas.variant  # type: ignore[import-not-found]  # noqa: F401

    found = source_files(building.attention_factory({**settings, "attention": {"name": "numbered"}}))
    names = ("variant", "constants", "deeper", "tools")
    assert set(found) == {f"numbered_ideas.{name}" for name in names}


def test_a_package_of_variants_counts_with_the_modules_that_a_variant_uses(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packed_ideas"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text(
        "from packed_ideas.deep import double\n\n\ndef twice(x):\n    return double(x)\n"
    )
    (package / "deep.py").write_text("def double(x):\n    return 2 * x\n")
    (package / "unused.py").write_text("")
    (package / "variant.py").write_text(
        PLUGIN.replace("my_idea", "packed").replace(
            "from torch import nn", "from torch import nn\n\nfrom packed_ideas.helper import twice"
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import packed_ideas.unused  # type: ignore[import-not-found]
    import packed_ideas.variant  # type: ignore[import-not-found]  # noqa: F401

    found = source_files(building.attention_factory({**settings, "attention": {"name": "packed"}}))
    assert set(found) == {"packed_ideas.variant", "packed_ideas.helper", "packed_ideas.deep"}
