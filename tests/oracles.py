"""Published modules that variants are compared with."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest


def oracle(module: str) -> Any:
    """The module of that name, imported without its warnings; without its package the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"the oracle {module} is not installed ({error}): pip install -e '.[oracles]'")
