"""DDP and FSDP as this framework runs them: Lightning's strategies, in processes that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from attnframe.model.layers import DecoderLayer, EncoderLayer
from attnframe.training.parallelism import is_parallel, is_sharded, processes_per_machine
from attnframe.training.world import PATIENCE, World

_NEVER_USED = "never_used"


def make_strategy(settings: Mapping[str, Any], world: World) -> tuple[str | Strategy, list[Any]]:
    """What `Trainer` takes as `strategy` and as `plugins` for the settings under `trainer`."""
    environment = [_Standing(world, processes_per_machine(settings))]
    if not is_parallel(settings):
        return "auto", environment
    if not is_sharded(settings):
        # Buffers are derived, and may be of different length.
        return _Replicated(timeout=PATIENCE, find_unused_parameters=True, broadcast_buffers=False), environment
    return _Sharded(timeout=PATIENCE, auto_wrap_policy={EncoderLayer, DecoderLayer}), environment


class _Standing(LightningEnvironment):
    """The processes have been started and have met: Lightning is to start none, and to look for none.

    In a run of one process neither, whatever else Slurm or torchrun may have started beside it.
    """

    def __init__(self, world: World, per_machine: int) -> None:
        super().__init__()
        self._world, self._per_machine = world, per_machine

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self._world.size

    def global_rank(self) -> int:
        return self._world.rank

    def local_rank(self) -> int:
        return self._world.rank % self._per_machine

    def node_rank(self) -> int:
        return self._world.rank // self._per_machine


class _Replicated(DDPStrategy):
    """DDP of models that may leave a parameter out of a step, as a variant may.

    PyTorch warns, past all of Python's filters, where none is ever left out: so it is given one more that always is.
    """

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        device = next(model.parameters()).device
        model.register_parameter(_NEVER_USED, nn.Parameter(torch.zeros((), device=device)))
        try:
            return super()._setup_model(model)
        finally:
            # Known to DDP, and to nobody else.
            delattr(model, _NEVER_USED)


class _Sharded(FSDPStrategy):
    """FSDP with whole checkpoints, on CPUs too: it is only by the name "fsdp" that Lightning refuses them.

    Wrapped once: what comes after training, a last validation and its checkpoint, finds the same shards.
    """

    _wrapped: FullyShardedDataParallel | None = None

    def _setup_model(self, model: nn.Module) -> nn.Module:
        if self._wrapped is None:
            self._wrapped = FullyShardedDataParallel(
                model,
                # Lightning gives its number, which for a CPU there is not.
                device_id=self.root_device,
                mixed_precision=self.mixed_precision_config,
                sharding_strategy=self.sharding_strategy,
                **self.kwargs,
            )
        return self._wrapped

    def lightning_module_state_dict(self) -> dict[str, Any]:
        with self._gathering():
            return self._wrapped_model.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        wrapped = self._wrapped_model
        plain = getattr(optimizer, "_optimizer", optimizer)
        with self._gathering():
            state = FullyShardedDataParallel.optim_state_dict(wrapped, plain)
            if self.global_rank:
                return state
            return FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, wrapped)

    @property
    def _wrapped_model(self) -> FullyShardedDataParallel:
        assert self._wrapped is not None
        return self._wrapped

    def _gathering(self) -> AbstractContextManager[object]:
        """Where the first process is given whole states.

        Lightning always has them moved to the CPU, which frees the memory that they are in if that is the CPU's.
        """
        offload = self.root_device.type != "cpu"
        return FullyShardedDataParallel.state_dict_type(
            self._wrapped_model,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=offload, rank0_only=True),
            FullOptimStateDictConfig(offload_to_cpu=offload, rank0_only=True),
        )
