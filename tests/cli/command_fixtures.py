"""Fixtures of the tests that run `attnframe` in processes of its own: import those that a file needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import PreparedCommand


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of someone without settings or credentials."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[PreparedCommand]:
    """`attnframe` with PyTorch imported: for what is refused or only printed."""
    with PreparedCommand("attnframe.cli.train,attnframe.cli.list", home) as prepared:
        yield prepared


@pytest.fixture(scope="module")
def train(home: Path) -> Iterator[PreparedCommand]:
    """`attnframe` with everything imported that a run needs."""
    with PreparedCommand("attnframe.cli.train,attnframe.training.run", home) as prepared:
        yield prepared
