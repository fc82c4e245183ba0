"""Who may import whom, and what `import attnframe` leaves alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnframe

PACKAGE = Path(attnframe.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# What a module or folder of the package may import of the package at run time, beside itself.
# What is not named here (the package's own __init__, modules beside the folders) may import everything.
_FOUNDATION = {"errors", "options", "registry", "discovery", "sources"}
_ATTENTION = _FOUNDATION | {"attention", "backends"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "options": {"errors"},
    "registry": {"errors", "options"},
    "discovery": {"errors", "registry"},
    "sources": {"errors", "discovery"},
    "backends": {"errors"},
    "attention": _FOUNDATION | {"backends"},
    "data": {"errors"},
    "model": _ATTENTION | {"data.tokenizer"},
    "patterns": _ATTENTION | {"data.schema"},
    "testing": _ATTENTION | {"model", "patterns"},
    "runs": _ATTENTION | {"model", "patterns", "data"},
    "catalogue": _ATTENTION | {"model", "patterns"},
    "bench": _ATTENTION | {"model", "patterns"},
    "comparison": _ATTENTION | {"model", "patterns", "data", "runs"},
    "training": _ATTENTION | {"model", "patterns", "data", "runs"},
    "sweeps": _ATTENTION | {"model", "patterns", "data", "runs", "training"},
}
STANDARD_LIBRARY_ONLY = {"errors", "options", "registry", "discovery", "sources"}

# A distribution's top-level name: where alone it may be imported.
ONLY_IN: dict[str, set[str]] = {
    "lightning": {"training"},
    "pytorch_lightning": {"training"},
    "wandb": {"training"},
    "hydra": {"cli", "sweeps"},
    "omegaconf": {"cli", "sweeps"},
    "optuna": {"sweeps"},
    "matplotlib": {"patterns", "sweeps", "bench"},
    "sqlalchemy": {"sweeps"},
    "scipy": {"comparison"},
    "triton": {"backends"},
    "pytest": {"testing"},
    "plugins": set(),
    "attnframe_plugins": set(),
    "tests": set(),
    "benchmarks": set(),
}
ONLY_IMPORTED_BY_CLI = {"cli", "testing"}


def imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that `module` imports at run time, wherever in the file; not those under `if TYPE_CHECKING`."""
    for node in _run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *filter(None, [base])])
            # `from a import b` may mean the module a.b or the name b of a.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _run_time_nodes(child)


def complaints(source: str, path: Path) -> list[str]:
    """What is wrong with the imports of the file at `path`, relative to the package's folder."""
    parts = path.with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(["attnframe", *(parts[:-1] if is_package else parts)])
    layer = parts[0] if not (is_package and len(parts) == 1) else ""
    found = []
    for name in imported(source, module, is_package):
        top, _, rest = name.partition(".")
        if top == "attnframe":
            inside = rest.partition(".")[0]
            allowed = MAY_IMPORT.get(layer)
            if (
                allowed is not None
                and inside != layer
                and not any(f"{rest}.".startswith(f"{place}.") for place in allowed)
            ):
                found.append(f"{layer} may not import {name}")
            if inside in ONLY_IMPORTED_BY_CLI and layer not in {inside, "cli"}:
                found.append(f"only cli imports {name}")
            if (
                layer == "backends"
                and path.name not in {"__init__.py", "resolution.py"}
                and (f"{rest}.".startswith("backends.eager."))
            ):
                found.append("no backend imports eager")
        else:
            if layer in STANDARD_LIBRARY_ONLY and top not in sys.stdlib_module_names:
                found.append(f"{layer} imports the standard library only, not {name}")
            if top in ONLY_IN and layer not in ONLY_IN[top]:
                found.append(f"{name} has no place in {layer or 'the package'}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    assert complaints(file.read_text(encoding="utf-8"), file.relative_to(PACKAGE)) == []


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        ("registry.py", "import torch", "standard library only"),
        ("discovery.py", "def f():\n    from attnframe.attention import Mask", "discovery may not import"),
        ("errors.py", "from attnframe import registry", "errors may not import"),
        ("backends/new.py", "from attnframe.attention.mask import Mask", "backends may not import"),
        ("backends/new.py", "from attnframe.backends.eager import masked_softmax", "no backend imports eager"),
        ("backends/new.py", "from .eager import masked_softmax", "no backend imports eager"),
        ("backends/new/kernel.py", "from attnframe.backends import eager", "no backend imports eager"),
        ("backends/new.py", "from ..model import greedy", "backends may not import"),
        ("attention/new.py", "from attnframe.model import greedy", "attention may not import"),
        ("attention/new.py", "import attnframe.patterns", "attention may not import"),
        ("data/new.py", "from attnframe.attention import Mask", "data may not import"),
        ("data/new.py", "from attnframe import model", "data may not import"),
        ("model/new.py", "from attnframe.data.batching import collate", "model may not import"),
        ("model/new.py", "import lightning as L", "lightning has no place"),
        ("model/new.py", "import triton", "triton has no place"),
        ("patterns/new.py", "import wandb", "wandb has no place"),
        ("training/new.py", "from omegaconf import DictConfig", "omegaconf.DictConfig has no place"),
        ("runs/new.py", "import lightning as L", "lightning has no place"),
        ("runs/new.py", "from attnframe.training.task import TranslationTask", "runs may not import"),
        ("training/new.py", "from attnframe.sweeps import compare", "training may not import"),
        ("sweeps/new.py", "import attnframe.cli.main", "sweeps may not import"),
        ("comparison/new.py", "from attnframe.training.run import run", "comparison may not import"),
        ("comparison/new.py", "import wandb", "wandb has no place"),
        ("comparison/new.py", "from omegaconf import OmegaConf", "omegaconf.OmegaConf has no place"),
        ("bench/new.py", "from attnframe.training.cost import peak_memory_bytes", "bench may not import"),
        ("bench/new.py", "import hydra", "hydra has no place"),
        ("sweeps/new.py", "from attnframe.testing import check", "only cli imports"),
        ("__init__.py", "import hydra", "hydra has no place"),
        ("runs.py", "from lightning.pytorch import Trainer", "lightning.pytorch.Trainer has no place"),
        ("cli/new.py", "import plugins.forgetting", "plugins.forgetting has no place"),
        ("cli/new.py", "from tests.conftest import build", "tests.conftest.build has no place"),
    ],
)
def test_the_rules_catch_an_offender(path: str, source: str, says: str) -> None:
    assert any(says in complaint for complaint in complaints(source, Path(path)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("backends/new.py", "if TYPE_CHECKING:\n    from attnframe.attention import Mask"),
        ("backends/resolution.py", "from attnframe.backends.eager import Eager"),
        ("backends/triton/kernel.py", "import triton\nfrom attnframe.backends.base import Backend"),
        ("model/new.py", "from attnframe.data.tokenizer import BOS"),
        ("training/new.py", "import lightning, wandb\nfrom attnframe import model, data"),
        ("cli/new.py", "import hydra\nfrom attnframe.testing import check"),
        ("testing/new.py", "import pytest\nfrom attnframe.model import Seq2Seq"),
    ],
)
def test_the_rules_let_pass_what_is_right(path: str, source: str) -> None:
    assert complaints(source, Path(path)) == []


def _variant_modules() -> dict[str, Path]:
    """Module name: file, of each file of `attention/` that registers a variant."""
    return {
        f"attnframe.attention.{file.stem}": file
        for file in sorted((PACKAGE / "attention").glob("*.py"))
        if any(
            isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("register_attention")
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef)
            for decorator in node.decorator_list
        )
    }


def test_nobody_imports_a_variant() -> None:
    variants = _variant_modules()
    assert variants
    for file in FILES:
        module = ".".join(["attnframe", *file.relative_to(PACKAGE).with_suffix("").parts])
        for name in imported(file.read_text(encoding="utf-8"), module, file.name == "__init__.py"):
            for variant in variants:
                assert not f"{name}.".startswith(f"{variant}."), f"{file} imports {name}"


def test_a_file_is_called_like_its_variant(variant_name: str) -> None:
    assert f"attnframe.attention.{variant_name}" in _variant_modules()


LEFT_ALONE = ["lightning", "wandb", "hydra", "omegaconf", "triton", "matplotlib", "plugins"]


def loaded_by(code: str) -> set[str]:
    """Top-level names that a cold Python has imported after `code`, of those that may not be."""
    program = f"{code}\nimport sys\nprint(*({{name.partition('.')[0] for name in sys.modules}} & set({LEFT_ALONE})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import attnframe",
        "import attnframe\nattnframe.build_attention('multi_head', d_model=6, num_heads=2)",
        "import attnframe\nfor name in attnframe.__all__: getattr(attnframe, name)",
    ],
)
def test_importing_attnframe_is_light(code: str) -> None:
    assert loaded_by(code) == set()
    assert loaded_by(f"{code}\nimport omegaconf") == {"omegaconf"}, "then this test sees nothing"


def test_an_estimate_waits_for_lightning_only_where_it_reads_data() -> None:
    assert loaded_by("import attnframe.training.estimate") == set()


def test_import_attnframe_loads_no_torch() -> None:
    code = "import sys, attnframe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_promised_is_there() -> None:
    for name in attnframe.__all__:
        assert getattr(attnframe, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attnframe.nothing  # noqa: B018
