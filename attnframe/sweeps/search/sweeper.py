"""`hydra/sweeper=attnframe_optuna`: a search in the place of every combination."""

from __future__ import annotations

import importlib.util
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from attnframe.errors import UserError


class SearchSweeper(Sweeper):
    """Hydra's side of a search; takes what `SearchSchema` describes."""

    def __init__(self, **options: Any) -> None:
        self._options = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }
        self._task: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config, self._task = hydra_context, config, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the search. Raises `UserError`."""
        if importlib.util.find_spec("optuna") is None:
            raise UserError("hydra/sweeper=attnframe_optuna needs Optuna: pip install 'attnframe[optuna]'")

        # Here and not above: this class is registered even where Optuna is missing.
        from attnframe.sweeps.search.conduct import conduct

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        conduct(self.hydra_context, self.config, self.launcher, self._task, arguments, self._options)
