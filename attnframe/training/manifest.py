"""What a run was made of: versions, code, device, data, sizes, and the backend of each site with the reasons."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger

from attnframe import discovery
from attnframe.attention import Attention, settle_backend
from attnframe.backends import dtype_of
from attnframe.model import AttentionFactory, Seq2Seq
from attnframe.training.data_module import TranslationData

_PACKAGES = ("attnframe", "torch", "lightning", "hydra-core", "omegaconf", "wandb", "sacrebleu", "tokenizers")

# What may be different when a run goes on.
_SURROUNDINGS = ("versions", "git", "platform", "device", "precision", "threads", "backends", "plugins")


def settle_backends(model: Seq2Seq, attention: AttentionFactory, trainer: L.Trainer) -> dict[str, dict[str, Any]]:
    """Fix the backend of every attention module for the trainer's device and precision.

    Returns, by site (and layer where layers differ), the `backend` and why others were `passed_over`. Raises
    `BackendError`.
    """
    dtype = dtype_of(trainer.precision)
    by_site: dict[str, dict[str, Any]] = {}
    for module in model.modules():
        if isinstance(module, Attention):
            d_model, d_context = attention.widths(module.site)
            device = trainer.strategy.root_device.type
            resolution = settle_backend(
                module, d_model=d_model, d_context=d_context, device=device, dtype=dtype, trains=True
            )
            entry: dict[str, Any] = {"backend": "own", "passed_over": {}}
            if resolution is not None:
                passed_over = {name: list(reasons) for name, reasons in resolution.passed_over.items()}
                entry = {"backend": resolution.backend.name, "passed_over": passed_over}
            if by_site.setdefault(module.site, entry) != entry:
                by_site[f"{module.site}/layer_{module.layer}"] = entry
    return by_site


def make_manifest(
    settings: Mapping[str, Any],
    data: TranslationData,
    model: Seq2Seq,
    trainer: L.Trainer,
    backends: Mapping[str, Any],
    search: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything needed to know what ran, as plain JSON data. `search` is there where the run is a trial of one."""
    wandb_ids = [logger.experiment.id for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    return {
        "name": settings["name"],
        "seed": settings["seed"],
        "settings": dict(settings),
        "matched": settings.get("matched"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "git": _git_state(),
        "platform": platform.platform(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
        "processes": trainer.world_size,
        "data": {
            "name": data.corpus.name,
            "hash": data.corpus.hash(),
            "sizes": {name: len(pairs) for name, pairs in data.corpus.sets.items()},
            **data.corpus.description,
        },
        "vocabulary": {"source": len(data.src_tokenizer), "target": len(data.tgt_tokenizer)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "backends": dict(backends),
        "plugins": discovery.loaded_plugins(),
        "wandb_id": wandb_ids[0] if wandb_ids else None,
        **({} if search is None else {"search": dict(search)}),
    }


def resumed_manifest(
    first: Mapping[str, Any], now: Mapping[str, Any], *, step: int, limits: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest `first` of a run that goes on after `step` steps, as `now` says, with one more entry in `resumed`.

    What ran at first stays; the entry has the new `limits` and what is different `now`.
    """
    changed = {key: now[key] for key in _SURROUNDINGS if key != "versions" and now[key] != first[key]}
    versions = {name: text for name, text in now["versions"].items() if text != first["versions"].get(name)}
    entry = {
        "step": step,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "limits": dict(limits),
        **changed,
        **({"versions": versions} if versions else {}),
    }
    return {
        **first,
        "settings": now["settings"],
        "wandb_id": first["wandb_id"] or now["wandb_id"],
        "resumed": [*first.get("resumed", []), entry],
    }


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the working directory's repository; None outside of one."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "clean": not status.stdout.strip()}
