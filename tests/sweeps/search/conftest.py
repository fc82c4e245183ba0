"""Searches that do not wait for the disk."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal is brought to the disk at every line, which only a loss of power asks for."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
