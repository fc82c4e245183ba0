"""The source text behind a class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from attnframe import discovery, registry
from attnframe.errors import UserError
from attnframe.sources import files_behind, source_digest

PLUGIN = """
from attnframe import Attention, register_attention

@register_attention("{name}")
class Mine(Attention):
    def forward(self, query, key, value, mask):
        return query
"""


def test_of_attnframe_it_is_the_variants_own_file(variant_name: str) -> None:
    variant = registry.variants()[variant_name]
    assert files_behind([variant.cls]) == {variant.cls.__module__: Path(variant.file)}


def test_a_plugin_file_is_a_package_of_its_own(plugin_folder: Path) -> None:
    for name in ("one", "other"):
        (plugin_folder / f"{name}.py").write_text(PLUGIN.format(name=name))
    discovery.load_plugins()
    files = files_behind([registry.variants()["one"].cls])
    assert files == {f"{discovery.MODULE_PREFIX}.one": plugin_folder / "one.py"}


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_bytes(b"x = 1\r\n")
    assert source_digest(file) == hashlib.sha256(b"x = 1\r\n").hexdigest()
    file.unlink()
    with pytest.raises(UserError, match="cannot be read any more"):
        source_digest(file)
