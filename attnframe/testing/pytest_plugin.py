"""For the tests of a package with variants: ``pytest_plugins = ["attnframe.testing.pytest_plugin"]`` in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from attnframe.testing.suite import CHECKS, attnframe_contract

MARKER = "attnframe_contract"
FIXTURE = "attnframe_check"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, also under ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(variant, ..., backend=None): give `{FIXTURE}` each check of each of these variants in turn",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of each variant in the marker."""
    if FIXTURE not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} needs @pytest.mark.{MARKER}('name of a variant')")
    cases = [(variant, name, marker.kwargs.get("backend")) for variant in marker.args for name in CHECKS]
    metafunc.parametrize(FIXTURE, cases, indirect=True, ids=[f"{variant}-{name}" for variant, name, _ in cases])


@pytest.fixture
def attnframe_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """A function without arguments that raises AssertionError where the variant breaks the contract."""
    variant, name, backend = request.param
    return partial(attnframe_contract, variant, backend=backend, only=[name])
