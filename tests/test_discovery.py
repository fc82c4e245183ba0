"""Plugins: found everywhere, named when broken, never half-loaded."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from attnframe import UserError, build_attention, discovery, registry
from attnframe.discovery import PluginWarning, find_variant, load_plugins
from attnframe.registry import DuplicateNameError

SOURCE = '''
from attnframe import Attention, register_attention


@register_attention("{name}")
class {cls}(Attention):
    """Nothing but the query."""

    def __init__(self, *, rank: int = 3) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, query, key, value, mask):
        return query
'''


def write(folder: Path, name: str, after: str = "", cls: str = "Mine") -> Path:
    file = folder / f"{name}.py"
    file.write_text(SOURCE.format(name=name, cls=cls) + after, encoding="utf-8")
    return file.resolve()


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A cold Python in `folder`."""
    full = {key: value for key, value in os.environ.items() if key != discovery.FOLDERS_VARIABLE} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, check=False)


def test_a_file_is_enough(plugin_folder: Path) -> None:
    file = write(plugin_folder, "mine")
    module = build_attention("mine", d_model=6, num_heads=2, rank=5)
    assert module.rank == 5
    assert registry.variants()["mine"].file == str(file)
    assert discovery.loaded_plugins() == [str(file)]


def test_a_module_of_a_plugin_file_can_be_pickled(plugin_folder: Path) -> None:
    write(plugin_folder, "mine")
    module = build_attention("mine", d_model=6, num_heads=2, rank=5)
    assert pickle.loads(pickle.dumps(module)).rank == 5


def test_a_file_outside_the_folders_is_loaded_by_its_path(tmp_path: Path) -> None:
    file = write(tmp_path, "mine")
    (variant,) = discovery.load_plugin_file(tmp_path / "mine.py")
    assert (variant.name, variant.file) == ("mine", str(file))
    assert discovery.load_plugin_file(file) == [variant]
    assert build_attention("mine", d_model=6, num_heads=2, rank=5).rank == 5
    core = registry.variants()["multi_head"]
    assert discovery.load_plugin_file(Path(core.file)) == [core]
    write(tmp_path, "broken", after="raise RuntimeError('half-way')\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"broken\.py failed to import: RuntimeError: half-way"):
            discovery.load_plugin_file(tmp_path / "broken.py")
    assert "broken" not in registry.variants()
    with pytest.raises(UserError, match=r"nothing\.py: there is no such file"):
        discovery.load_plugin_file(tmp_path / "nothing.py")


def test_asking_for_a_core_variant_loads_none(plugin_folder: Path) -> None:
    write(plugin_folder, "mine", after="raise RuntimeError('loaded')\n")
    assert build_attention("multi_head", d_model=6, num_heads=2).training
    assert discovery.broken_plugins() == []


def test_several_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("one", "other", "third")]
    files = []
    for folder in folders[:2]:
        folder.mkdir()
        files.append(str(write(folder, f"from_{folder.name}")))
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, os.pathsep.join(map(str, folders)))  # the third does not exist
    assert discovery.plugin_folders() == folders[:2]
    load_plugins()
    assert discovery.loaded_plugins() == files
    assert {"from_one", "from_other"} <= set(registry.variants())


def test_two_files_of_one_name_in_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(SOURCE.format(name=f"from_{name}", cls="Mine"))
    setting = os.pathsep.join(str(tmp_path / name) for name in ("one", "other"))
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, setting)
    load_plugins()
    for name in ("one", "other"):
        assert registry.variants()[f"from_{name}"].file == str((tmp_path / name / "same.py").resolve())


def test_an_empty_variable_turns_loose_files_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins").mkdir()
    write(tmp_path / "plugins", "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, "")
    assert discovery.plugin_folders() == []
    load_plugins()
    assert discovery.loaded_plugins() == []
    with pytest.raises(UserError, match=r"there is no attention variant 'mine'.*; \$ATTNFRAME_PLUGINS is empty"):
        find_variant("mine")


def test_by_default_plugins_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins").mkdir()
    file = write(tmp_path / "plugins", "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(discovery.FOLDERS_VARIABLE)
    assert find_variant("mine").file == str(file)


def test_a_plugin_is_imported_once(plugin_folder: Path) -> None:
    write(plugin_folder, "mine", after=f"\nimport pathlib\npathlib.Path({str(plugin_folder / 'once')!r}).mkdir()\n")
    for _ in range(3):
        load_plugins()
    assert (plugin_folder / "once").is_dir()
    assert discovery.broken_plugins() == []


def test_a_plugin_that_comes_later_is_found_too(plugin_folder: Path) -> None:
    write(plugin_folder, "first")
    load_plugins()
    write(plugin_folder, "second")
    assert find_variant("second").name == "second"


def test_a_link_to_a_file_of_another_name_is_a_plugin(plugin_folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "mine").rename(tmp_path / "stored-in-a-vault")
    (plugin_folder / "mine.py").symlink_to(tmp_path / "stored-in-a-vault")
    assert find_variant("mine").file == str(tmp_path / "stored-in-a-vault")


def test_private_and_hidden_files_are_no_plugins(plugin_folder: Path) -> None:
    for name in ("_helper", ".hidden", "__init__"):
        (plugin_folder / f"{name}.py").write_text("raise RuntimeError('loaded')\n")
    (plugin_folder / ".#mine.py").symlink_to("someone@somewhere.1234")  # the lock of an editor
    (plugin_folder / "notes.txt").write_text("no Python")
    load_plugins()
    assert discovery.loaded_plugins() == discovery.broken_plugins() == []


BROKEN: dict[str, tuple[bytes, str]] = {
    "crash": (b"1 / 0\n", "ZeroDivisionError: division by zero"),
    "syntax": (b"def f(:\n", "SyntaxError: invalid syntax"),
    "exits": (b"import sys\nsys.exit(3)\n", "SystemExit: 3"),
    "exits_quietly": (b"raise SystemExit\n", "SystemExit: "),
    "no_module": (b"import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
    "not_utf8": (b"word = 'caf\xe9'\n", "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xe9"),
    "zero_bytes": (b"\0\0", "SyntaxError: source code string cannot contain null bytes"),
    "many_lines": (b"raise ValueError('one\\ntwo')\n", "ValueError: one"),
    "bad_schema": (
        b"from attnframe import register_attention\n@register_attention('bad_schema')\nclass Bad:\n"
        b"    def __init__(self, *, rank=3): ...\n",
        "UserError: bad_schema: Bad.__init__: option 'rank' needs a type",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_one_warning_and_the_others_load(plugin_folder: Path, name: str) -> None:
    content, cause = BROKEN[name]
    file = plugin_folder / f"{name}.py"
    file.write_bytes(content)
    write(plugin_folder, "aaa")
    write(plugin_folder, "zzz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_plugins()
        load_plugins()
    assert [warning.category for warning in caught] == [PluginWarning]
    message = str(caught[0].message)
    assert message.startswith(f"plugin {file.resolve()} was left out, it failed to import: {cause}")
    assert "\n" not in message
    assert {"aaa", "zzz"} <= set(registry.variants())
    assert f"attnframe_plugins.{name}" not in sys.modules
    (broken,) = discovery.broken_plugins()
    assert broken.file == str(file.resolve())
    with pytest.raises(UserError) as refusal:
        find_variant(name)
    assert str(refusal.value) == (
        f"the variant {name!r} is not available: {file.resolve()} failed to import: {broken.cause}"
    )
    assert broken.cause.startswith(cause)


def test_one_broken_file_among_two_hundred_is_one_warning(plugin_folder: Path) -> None:
    names = [f"variant_{number:03}" for number in range(200)]
    broken = names.pop(97)
    for name in names:
        write(plugin_folder, name)
    (plugin_folder / f"{broken}.py").write_text("1 / 0\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_plugins()
    (warning,) = caught
    file = (plugin_folder / f"{broken}.py").resolve()
    assert str(warning.message) == (
        f"plugin {file} was left out, it failed to import: ZeroDivisionError: division by zero"
    )
    assert set(names) <= set(registry.variants())
    assert broken not in registry.variants()


def test_the_warning_points_at_who_asked(plugin_folder: Path) -> None:
    (plugin_folder / "crash.py").write_text("1 / 0\n")
    with pytest.warns(PluginWarning) as caught:
        load_plugins()
    assert caught[0].filename == __file__


def test_a_dangling_link_and_a_folder_are_broken_plugins(plugin_folder: Path) -> None:
    (plugin_folder / "gone.py").symlink_to(plugin_folder / "nowhere")
    (plugin_folder / "package.py").mkdir()
    with pytest.warns(PluginWarning) as caught:
        load_plugins()
    assert len(caught) == 2
    assert "FileNotFoundError" in str(caught[0].message)
    assert "IsADirectoryError" in str(caught[1].message) or "PermissionError" in str(caught[1].message)


def test_a_file_that_registers_and_then_crashes_leaves_nothing(plugin_folder: Path) -> None:
    before = set(registry.variants())
    write(plugin_folder, "half", after="\n1 / 0\n")
    other = (SOURCE.format(name="of_another_name", cls="Mine") + "\n1 / 0\n").encode()
    (plugin_folder / "file.py").write_bytes(other)
    with pytest.warns(PluginWarning) as caught:
        load_plugins()
    assert len(caught) == 2
    assert set(registry.variants()) == before
    for name in ("half", "of_another_name"):
        with pytest.raises(UserError, match=rf"'{name}' is not available: .* ZeroDivisionError: division by zero"):
            find_variant(name)


def test_a_name_that_no_plugin_would_define_shows_the_nearest(plugin_folder: Path) -> None:
    write(plugin_folder, "mine")
    with pytest.raises(UserError, match=r"no attention variant 'minee': did you mean 'mine'\?"):
        find_variant("minee")


def test_two_plugins_with_one_name_are_both_named_every_time(plugin_folder: Path) -> None:
    first = write(plugin_folder, "aaa")
    second = plugin_folder / "bbb.py"
    second.write_text(SOURCE.format(name="aaa", cls="Other"))
    for _ in range(2):
        with pytest.raises(DuplicateNameError) as refusal:
            load_plugins()
        assert str(first) in str(refusal.value)
        assert str(second.resolve()) in str(refusal.value)
    assert registry.variants()["aaa"].file == str(first)


def test_a_plugin_may_not_take_a_core_name(plugin_folder: Path) -> None:
    core = registry.variants()["multi_head"]
    file = plugin_folder / "mine.py"
    file.write_text(SOURCE.format(name="extra", cls="Extra") + SOURCE.format(name="multi_head", cls="Mine"))
    with pytest.raises(DuplicateNameError, match="multi_head") as refusal:
        load_plugins()
    assert str(file.resolve()) in str(refusal.value)
    assert core.file in str(refusal.value)
    assert registry.variants()["multi_head"] is core
    assert "extra" not in registry.variants()


def test_a_plugin_may_ask_for_the_variant_of_another(plugin_folder: Path) -> None:
    # The name sorts first: "zzz" is not loaded yet when it is asked for.
    base = "\nfrom attnframe.discovery import find_variant\nBASE = find_variant('zzz').cls\n"
    write(plugin_folder, "aaa", after=base)
    write(plugin_folder, "zzz")
    load_plugins()
    assert [Path(file).stem for file in discovery.loaded_plugins()] == ["aaa", "zzz"]
    assert {"aaa", "zzz"} <= set(registry.variants())


def test_two_plugins_that_ask_for_each_other_end(plugin_folder: Path) -> None:
    for name, other in (("aaa", "zzz"), ("zzz", "aaa")):
        text = f"from attnframe.discovery import find_variant\nfind_variant({other!r})\n"
        (plugin_folder / f"{name}.py").write_text(text + SOURCE.format(name=name, cls="Mine"))
    with pytest.warns(PluginWarning) as caught:
        load_plugins()
    assert sorted(Path(broken.file).stem for broken in discovery.broken_plugins()) == ["aaa", "zzz"]
    assert len(caught) == 2


def test_a_dataclass_in_a_plugin_works(plugin_folder: Path) -> None:
    after = "\nimport dataclasses\n\n@dataclasses.dataclass\nclass Box:\n    size: 'int' = 3\n"
    write(plugin_folder, "mine", after=after)
    load_plugins()
    assert discovery.broken_plugins() == []


COLD = """
import warnings
warnings.simplefilter("error")
from attnframe import build_attention
print(build_attention("mine", d_model=6, num_heads=2, rank=5).rank)
"""


def test_a_cold_worker_finds_the_plugin_by_building_it(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    write(tmp_path / "plugins", "mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    by_default = run(COLD, tmp_path)
    by_variable = run(COLD, elsewhere, **{discovery.FOLDERS_VARIABLE: str(tmp_path / "plugins")})
    for result in (by_default, by_variable):
        assert (result.returncode, result.stdout) == (0, "5\n"), result.stderr
    missed = run(COLD, elsewhere).stderr
    assert "there is no attention variant 'mine'" in missed
    assert f"plugin files were looked for in {elsewhere.resolve() / 'plugins'} (no such folder)" in missed


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder on the path with an installed distribution that has three entry points, two of them broken."""
    site = tmp_path / "site"
    package = site / "their_package"
    (package / "conf" / "attention").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    write(package, "mine")
    write(package, "half", after="\n1 / 0\n")
    info = site / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[attnframe.plugins]\n"
        "mine = their_package.mine\n"
        "gone = their_package.mine:Nobody\n"
        "half_way = their_package.half\n"
    )
    return site


def test_entry_points(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    with pytest.warns(PluginWarning) as caught:
        load_plugins()
    load_plugins()
    try:
        assert discovery.loaded_plugins() == ["mine (their_package.mine)"]
        assert registry.variants()["mine"].file == str(installed / "their_package" / "mine.py")
        assert discovery.plugin_conf_folders() == [installed / "their_package" / "conf"]
        assert "half" not in registry.variants()
        assert sorted(str(warning.message).partition(" was left out")[0] for warning in caught) == [
            "plugin gone (their_package.mine:Nobody)",
            "plugin half_way (their_package.half)",
        ]
        causes = {"half_way": "ZeroDivisionError", "half": "ZeroDivisionError", "gone": "AttributeError"}
        for name, cause in causes.items():
            with pytest.raises(UserError, match=rf"'{name}' is not available: .*{cause}"):
                find_variant(name)
        x = torch.randn(2, 3, 6)
        assert torch.equal(build_attention("mine", d_model=6, num_heads=2)(x, x, x), x)
    finally:
        for module in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
            del sys.modules[module]


def test_entry_points_in_a_cold_process_without_loose_files(installed: Path, tmp_path: Path) -> None:
    code = COLD.replace('simplefilter("error")', 'simplefilter("ignore")')
    result = run(code, tmp_path, PYTHONPATH=str(installed), **{discovery.FOLDERS_VARIABLE: ""})
    assert (result.returncode, result.stdout) == (0, "5\n"), result.stderr


def test_an_entry_point_that_takes_a_core_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed / "their_package", "mine").write_text(
        SOURCE.format(name="extra", cls="Extra") + SOURCE.format(name="cross", cls="Mine")
    )
    result = run(
        "from attnframe import discovery, registry, build_attention\nimport attnframe.attention\n"
        "try:\n    discovery.load_plugins()\nexcept registry.DuplicateNameError as error:\n"
        "    print(error, 'extra' in registry.variants())\n",
        tmp_path,
        PYTHONPATH=str(installed),
        PYTHONWARNINGS="ignore",
    )
    assert "'cross' is registered twice" in result.stdout, result.stderr
    assert result.stdout.endswith(" False\n")
