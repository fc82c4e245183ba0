"""What every test gets: a device, the core variants, and a registry that is as it was after each test."""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

# As the console scripts do, and before torch is imported: docs/decisions/006-threads-that-wait.md.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker for each core: threads would only take them from one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from offline_browser import browser, open_html  # noqa: F401

from attnframe import build_attention, discovery, registry
from attnframe.attention import Attention, trace_attend
from attnframe.backends import BackendError, backends
from attnframe.errors import UserError

_HAS_TRITON = importlib.util.find_spec("triton") is not None
collect_ignore = [] if _HAS_TRITON else ["backends/triton_kernels", "benchmarks"]


def pytest_report_header() -> list[str]:
    return [] if _HAS_TRITON else ["triton is not installed: its kernels and the GPU suite are not tested"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where attention runs: cpu (default) or cuda")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--device")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise pytest.UsageError(f"--device {name}: torch knows no such device; try cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(f"--device {name}: torch finds no CUDA device on this machine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`variant_name` is each core variant in turn, of a test marked `of_attend` those that call it; `backend_name` is
    each backend. One that is taken only by name is tried in the slow part of the tests."""
    if "variant_name" in metafunc.fixturenames:
        names = list(registry.variants())
        if metafunc.definition.get_closest_marker("of_attend"):
            names = [name for name in names if _calls_attend(name)]
        metafunc.parametrize("variant_name", names)
    if "backend_name" in metafunc.fixturenames:
        slow = pytest.mark.slow if "device" in metafunc.fixturenames else ()
        names = [
            pytest.param(name, marks=slow) if backend.only_by_name else name for name, backend in backends().items()
        ]
        metafunc.parametrize("backend_name", names)


@functools.cache
def _calls_attend(name: str) -> bool:
    return bool(trace_attend(build_attention(name, d_model=24, num_heads=4), d_model=24, d_context=24))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skip_what_the_backend_declines(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skip_what_the_backend_declines(item))


def _skip_what_the_backend_declines(item: pytest.Item) -> Generator[None, object, object]:
    """A test over all backends skips, with the backend's own sentence, what that backend declares it cannot do."""
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("backend_name") if callspec else None
    try:
        return (yield)
    except UserError as error:
        # What builds a whole model says besides for which site, and a run says it again when its folder is closed.
        refusal: BaseException | None = error
        while refusal is not None and not isinstance(refusal, BackendError):
            refusal = refusal.__cause__
        declined = isinstance(refusal, BackendError) and str(refusal).startswith(f"backend={chosen} cannot run")
        if chosen is None or chosen == "eager" or not declined:
            raise
        pytest.skip(str(error))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where the test runs, as `--device` says."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _core_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plugins unless a test asks for some; what it registers and loads is forgotten afterwards."""
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, "")
    stores = (registry._variants, discovery._loaded, discovery._broken, discovery._conf_folders)
    before = [copy.copy(store) for store in stores]
    modules = set(sys.modules)
    yield
    for store, kept in zip(stores, before, strict=True):
        store.clear()
        store.update(kept)  # type: ignore[arg-type]
    for name in set(sys.modules) - modules:
        if name.startswith("attnframe_plugins."):
            del sys.modules[name]


@pytest.fixture
def plugin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which plugins are looked for."""
    folder = tmp_path / "my_plugins"
    folder.mkdir()
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(folder))
    return folder


Build = Callable[..., Attention]


@pytest.fixture
def build(device: torch.device) -> Build:
    """`build_attention` on the test's device, in float64 unless said otherwise, with the same weights each time."""

    def build(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, **arguments: object) -> Attention:
        torch.manual_seed(seed)
        with torch.device(device):
            module: Attention = build_attention(name, **arguments)  # type: ignore[arg-type]
        # Biases start at zero in some variants; what is zero cannot be seen to be left out.
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim():
                    parameter.normal_(std=0.4)
        return module.to(dtype)

    return build
