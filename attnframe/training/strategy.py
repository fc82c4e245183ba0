"""DDP and FSDP as this framework runs them: Lightning's strategies, in processes that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
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

from attnframe.errors import UserError, did_you_mean
from attnframe.model.layers import DecoderLayer, EncoderLayer
from attnframe.training.world import PATIENCE, World

_NEVER_USED = "never_used"
_SHARDED_PRECISIONS = ("32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")


def make_strategy(settings: Mapping[str, Any], world: World) -> tuple[str | Strategy, list[LightningEnvironment]]:
    """What `Trainer` takes as `strategy` and as `plugins` for the settings under `trainer`. Raises `UserError`."""
    name = settings.get("strategy", "auto")
    if name == "auto":
        return "auto", []
    environment = [_Standing(world, len_of(settings["devices"]))]
    if name == "ddp":
        # Buffers are derived, and may be of different length.
        return _Replicated(timeout=PATIENCE, find_unused_parameters=True, broadcast_buffers=False), environment
    precision = str({32: "32-true", "32": "32-true"}.get(settings["precision"], settings["precision"]))
    if precision not in _SHARDED_PRECISIONS:
        raise UserError(f"trainer.precision={precision} with fsdp: {did_you_mean(precision, _SHARDED_PRECISIONS)}")
    return _Sharded(timeout=PATIENCE, auto_wrap_policy={EncoderLayer, DecoderLayer}), environment


def len_of(devices: Any) -> int:
    """How many processes `trainer.devices` asks for on one machine."""
    return len(devices) if isinstance(devices, list) else int(devices)


def is_sharded(settings: Mapping[str, Any]) -> bool:
    """Whether under the settings `trainer` no process holds all the weights."""
    return str(settings["strategy"]) == "fsdp"


def is_parallel(settings: Mapping[str, Any]) -> bool:
    """Whether the settings `trainer` are those of a run in processes of its own."""
    return str(settings["strategy"]) != "auto"


def in_one_process(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `trainer` for what the first process does alone, on the same device as before."""
    devices = settings["devices"]
    first = devices[:1] if isinstance(devices, list) else 1
    return {**settings, "strategy": "auto", "num_nodes": 1, "devices": first}


class _Standing(LightningEnvironment):
    """The processes have been started and have met: Lightning is to start none, and to look for none."""

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
