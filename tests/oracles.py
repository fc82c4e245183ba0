"""Other people's implementations, with which variants are compared."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest


def oracle(module: str) -> ModuleType:
    """The module of this name; skips the test where it is not installed. What it warns of at import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            pytest.skip(f"{module} is not installed (pip install -e '.[oracles]'): {error}")
