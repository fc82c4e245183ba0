"""Which process of a run this one is, and where it meets the others: as torchrun, Slurm or the first process says."""

from __future__ import annotations

import os
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in its __all__
from torch.distributed.distributed_c10d import PrefixStore, Store

from attnframe.training.world import PATIENCE

_RANK_AND_SIZE = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
_LOOPBACK = "127.0.0.1"
_COMING = timedelta(minutes=10)


def given_place() -> tuple[int, int]:
    """The rank of this process and how many there are; (0, 1) for one that was simply started."""
    for rank, size in _RANK_AND_SIZE:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def meeting_point() -> Store:
    """The store at ``$MASTER_ADDR:$MASTER_PORT``, which torchrun keeps, or else the first process.

    Under Slurm without these it is on the machine of the first process, at a port that the job's number decides.
    """
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if address is None:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        address = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_STEP_NODELIST", _LOOPBACK))
    if port is None:
        port = str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000)
    kept_by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_host = given_place()[0] == 0 and not kept_by_torchrun
    store = TCPStore(address, int(port), is_master=is_host, timeout=_COMING, wait_for_workers=False)
    store.set_timeout(PATIENCE)
    return _ours(store)


def new_meeting_point() -> tuple[Store, int]:
    """A store in this process for others on this machine, and its port."""
    store = TCPStore(_LOOPBACK, 0, is_master=True, wait_for_workers=False)
    return _ours(store), store.port


def place_at(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment by which a process on this machine knows its place, and the store at `port`."""
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": _LOOPBACK, "MASTER_PORT": str(port)}


def arrival(rank: int) -> str:
    """The key in the store by which a process says that it is ready to train."""
    return f"arrived/{rank}"


def _ours(store: Store) -> Store:
    """Our part of a store; a new one each time that torchrun starts the processes again."""
    return PrefixStore(f"attnframe/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
