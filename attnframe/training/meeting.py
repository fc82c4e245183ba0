"""Which process of a run this one is, and where it meets the others: as torchrun, Slurm or the first process says."""

from __future__ import annotations

import os
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store, TCPStore

from attnframe.training.world import PATIENCE

_RANK_AND_SIZE = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
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

        address = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    if port is None:
        port = str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000)
    kept_by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_host = given_place()[0] == 0 and not kept_by_torchrun
    store = TCPStore(address, int(port), is_master=is_host, timeout=_COMING, wait_for_workers=False)
    store.set_timeout(PATIENCE)
    return meeting_place_in(store)


def meeting_place_in(store: Store) -> Store:
    """Our part of a store; a new one each time that torchrun starts the processes again."""
    return PrefixStore(f"attnframe/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
