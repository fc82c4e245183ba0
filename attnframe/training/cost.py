"""What a run costs beside its time: FLOPs for each target token, and memory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.model.accounting import count_seq2seq
from attnframe.runs.building import encoder_of
from attnframe.training.data_module import TranslationData

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_BACKWARD = 2
"""The backward pass takes two products for each one of the forward pass: for the inputs, and for the weights."""


def training_flops_per_token(
    settings: Mapping[str, Any], attention: AttentionFactory, data: TranslationData
) -> float | None:
    """FLOPs of a training step for each target token: three times the forward pass, matrix products only.

    Counted by `model.accounting` for source and target of the training set's mean target length (EOS counted), so that
    what grows with the length counts as much as it does there. None for a variant that cannot be counted.
    """
    model = settings["model"]
    lengths = [len(data.tgt_tokenizer.encode(pair.target)) + 1 for pair in data.corpus.sets["train"]]
    try:
        count = count_seq2seq(
            attention,
            num_encoder_layers=encoder_of(model)["num_layers"],
            num_decoder_layers=model["num_layers"],
            d_ff=model["d_ff"],
            vocabulary=(len(data.src_tokenizer), len(data.tgt_tokenizer)),
            length=max(1, round(sum(lengths) / len(lengths))),
        )
    except UserError as error:
        _log.info("FLOPs are not known: %s", error)
        return None
    return float((1 + _BACKWARD) * count.flops_per_token)


def watch_memory(device: torch.device) -> None:
    """Begin anew with the peak of `device`; that of a CPU is the process's, and cannot."""
    if device.type == "cuda":
        # Nothing may have been there yet, and the statistics are refused before that.
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """On CUDA the most that torch has had allocated there since `watch_memory`.

    On a CPU the largest resident set of the process since it began, Python and its libraries counted; None where the
    platform does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # First of all, for what Linux tells `getrusage` may be the peak of whoever started this process.
    if (own := _own_peak_bytes()) is not None:
        return own
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _own_peak_bytes() -> int | None:
    """The largest resident set of this program as Linux keeps it; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
