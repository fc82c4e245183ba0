"""Which pairs a trainer sees in which epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from attnframe.data.batching import Batch
from attnframe.runs.folder import RunFolder
from attnframe.training.data_module import TranslationData
from attnframe.training.trainer import make_trainer

PAIRS, EPOCHS = 1009, 5


class Witness(L.LightningModule):
    """Notes the pairs of every batch by epoch, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = [[] for _ in range(EPOCHS)]
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen[self.current_epoch] += batch.indices.tolist()
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Lightning's advice on loggers, workers and checkpoints, which a run of ours silences too.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_pair_comes_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    """Small batches, so that epochs differ in their number of batches."""
    data = TranslationData(
        {
            "name": "grammar",
            "tokenizer": "word",
            "max_tokens": 101,
            "eval_max_tokens": 101,
            "train_size": PAIRS,
            "val_size": 3,
            "test_size": 3,
            "held_out_size": 3,
        },
        seed=7,
    )
    settings = {"max_epochs": EPOCHS, "accelerator": "cpu", "limit_val_batches": 0, "val_check_interval": None}
    witness = Witness()
    make_trainer(settings, RunFolder(tmp_path), []).fit(witness, datamodule=data)
    for seen in witness.seen:
        assert Counter(seen) == Counter(range(PAIRS))
    assert len({tuple(seen) for seen in witness.seen}) == EPOCHS
