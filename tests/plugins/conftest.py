"""The example plugins, loaded for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnframe import discovery


@pytest.fixture(autouse=True)
def _examples(_core_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(Path(__file__).parents[2] / "plugins"))
    discovery.load_plugins()
