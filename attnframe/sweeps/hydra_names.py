"""Making our sweepers known to Hydra, which takes such classes only from packages called `hydra_plugins`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from attnframe.sweeps.grid_sweeper import GridSweeper
from attnframe.sweeps.search.schema import SearchSchema
from attnframe.sweeps.search.sweeper import SearchSweeper

_PACKAGE = "hydra_plugins.attnframe"


@dataclass
class GridSchema:
    """`max_batch_size` jobs go to the launcher at once, null all. A job cut off is run again `retries` times.

    With `estimate` one job of each kind is timed for some seconds before the first begins.
    """

    _target_: str = f"{_PACKAGE}.{GridSweeper.__name__}"
    max_batch_size: int | None = None
    retries: int = 1
    estimate: bool = True
    params: dict[str, str] | None = field(default_factory=dict)


def register_sweepers() -> None:
    """Let `hydra/sweeper=attnframe_grid` and `hydra/sweeper=attnframe_optuna` be chosen."""
    _register(GridSweeper, "attnframe_grid", GridSchema)
    _register(SearchSweeper, "attnframe_optuna", SearchSchema)


def _register(sweeper: type[Sweeper], name: str, schema: type) -> None:
    # Hydra reads the module's name once, here. Afterwards the class must bear its own again, for launchers pickle it.
    home = sweeper.__module__
    sweeper.__module__ = _PACKAGE
    try:
        Plugins.instance().register(sweeper)
    finally:
        sweeper.__module__ = home
    ConfigStore.instance().store(group="hydra/sweeper", name=name, node=schema, provider="attnframe")
