"""Telling Hydra what there is: our `conf/`, the user's, and every variant and backend as a typed config."""

from __future__ import annotations

import importlib
import os
import re
import secrets
from dataclasses import make_dataclass
from datetime import datetime
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

import attnframe
from attnframe import discovery, registry
from attnframe.cli import command_schema, data_schema, train_schema
from attnframe.errors import UserError
from attnframe.sweeps.hydra_names import register_sweepers

VERSION_BASE = "1.3"
PRIMARY = "train"


def conf_folder() -> Path:
    """Our `conf/`: beside the package in an installed wheel, at the top of the tree in a checkout."""
    package = Path(attnframe.__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def user_conf_folders() -> list[Path]:
    """Folders searched after ours: those of plugin packages, then `conf/` of the working directory."""
    own = Path("conf").resolve()
    here = [own] if own.is_dir() and own != conf_folder() else []
    return [*discovery.plugin_conf_folders(), *here]


def prepare() -> None:
    """Load every plugin and register all configs; once a process. Raises `UserError`."""
    # Here and not above: the first commands of a user, `-h` and `--version`, need no torch.
    importlib.import_module("attnframe.attention")
    from attnframe.backends import backends
    from attnframe.backends.resolution import AUTO

    discovery.load_plugins()
    _refuse_shadowed_variants()
    store = ConfigStore.instance()
    store.store(name="train_schema", node=train_schema.TrainSchema)
    store.store(name="eval_schema", node=command_schema.EvalSchema)
    store.store(name="ablate_schema", node=command_schema.AblateSchema)
    store.store(name="bench_schema", node=command_schema.BenchSchema)
    store.store(name="explain_schema", node=command_schema.ExplainSchema)
    store.store(name="translate_schema", node=command_schema.TranslateSchema)
    store.store(group="decoding", name="greedy_schema", node=train_schema.GreedySchema)
    store.store(group="decoding", name="beam_schema", node=train_schema.BeamSchema)
    store.store(group="data", name="grammar_schema", node=data_schema.GrammarSchema)
    store.store(group="data", name="parallel_file_schema", node=data_schema.ParallelFileSchema)
    store.store(group="data", name="tatoeba_schema", node=data_schema.TatoebaSchema)
    for variant in registry.variants().values():
        store.store(group="attention", name=variant.name, node=variant.schema())
    for name in (AUTO, *backends()):
        store.store(group="backend", name=name, node=make_dataclass("BackendSchema", [("name", str, name)]))
    Plugins.instance().register(_UserConf)
    register_sweepers()
    # Unique to this launch and inherited by the workers of a sweep, which must agree on its folder.
    os.environ["ATTNFRAME_LAUNCH"] = f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}_{secrets.token_hex(3)}"
    # Hydra then raises its exceptions instead of printing them and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"


def compose_config(overrides: list[str], primary: str = PRIMARY, *, with_hydra: bool = False) -> DictConfig:
    """The config of a command, by default that of a run, without Hydra's launcher; `with_hydra` has Hydra's own too."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base=VERSION_BASE, job_name="attnframe"):
        try:
            return compose(primary, overrides=overrides, return_hydra_config=with_hydra)
        except ValueError as error:
            # Hydra's own words say neither which group nor which value.
            raise UserError(f"{not_a_name(overrides) or error}") from error


def not_a_name(overrides: list[str]) -> str:
    """What to say where a group was given a number, a list or null in the place of a name; empty where none was."""
    for item in overrides:
        key, _, value = item.partition("=")
        if key.partition("@")[0] in group_names() and not re.fullmatch(r"(?!(null|true|false)$)[A-Za-z_].*", value):
            return f"{item}: {key} is chosen by name; `attnframe list {key.partition('@')[0]}` shows the names"
    return ""


def group_names() -> list[str]:
    """Every config group: the folders of all `conf/` and the groups that come from code."""
    folders = {path.name for conf in (conf_folder(), *user_conf_folders()) for path in conf.iterdir() if path.is_dir()}
    stored = {name for name, node in ConfigStore.instance().repo.items() if isinstance(node, dict)}
    return sorted((folders | stored) - {"hydra", "_dummy_empty_config_", "__pycache__"})


def choices(group: str) -> list[str]:
    """The names that can be chosen in a config group; none where there is no such group."""
    stored = ConfigStore.instance().repo.get(group, {})
    names = {name.removesuffix(".yaml") for name, node in stored.items() if not isinstance(node, dict)}
    for conf in (conf_folder(), *user_conf_folders()):
        names |= {file.stem for file in (conf / group).glob("*.yaml")}
    return sorted(name for name in names if not name.endswith("_schema"))


class _UserConf(SearchPathPlugin):
    """Appended, never prepended: a user's `train.yaml` must not replace ours."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in user_conf_folders():
            search_path.append("user", f"file://{folder}")


def _refuse_shadowed_variants() -> None:
    known = registry.variants()
    for folder in (conf_folder(), *user_conf_folders()):
        for file in sorted((folder / "attention").glob("*.y*ml")):
            if file.stem in known:
                raise UserError(
                    f"{file} bears the name of the variant {file.stem!r}, registered in {known[file.stem].file}, "
                    f"and would hide its options: give the preset another name"
                )
