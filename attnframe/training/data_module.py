"""Corpus and tokenizers as Lightning wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from attnframe.data.batching import Batch, Example, TokenBatchSampler, collate
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.sources import load_corpus
from attnframe.data.tokenizer import Tokenizer, fit_tokenizer

# Settings under `data` that are not the source's own.
_SHARED = ("name", "tokenizer", "max_tokens", "eval_max_tokens")


class TranslationData(L.LightningDataModule):
    """The sets of a corpus, encoded, in batches of a token budget. `seed` decides the order of training batches."""

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__()
        options = {key: value for key, value in settings.items() if key not in _SHARED}
        self.corpus: Corpus = load_corpus(settings["name"], **options)
        train = self.corpus.sets["train"]
        self.src_tokenizer: Tokenizer = fit_tokenizer(settings["tokenizer"], (pair.source for pair in train))
        self.tgt_tokenizer: Tokenizer = fit_tokenizer(settings["tokenizer"], (pair.target for pair in train))
        self._max_tokens = settings["max_tokens"]
        self._eval_max_tokens = settings["eval_max_tokens"]
        self._seed = seed
        self._train_loader = self._loader("train", shuffle=True)

    def encode(self, pairs: Sequence[SentencePair]) -> list[Example]:
        """Ids of both sides, without special tokens."""
        return [
            Example(index, self.src_tokenizer.encode(pair.source), self.tgt_tokenizer.encode(pair.target))
            for index, pair in enumerate(pairs)
        ]

    def batch(self, pairs: Sequence[SentencePair]) -> Batch:
        """One batch of a few pairs."""
        return collate(self.encode(pairs))

    def train_dataloader(self) -> DataLoader[Example]:
        """The batches of the trainer's epoch. Epochs differ in how many they have, so Lightning asks at each one."""
        sampler = self._train_loader.batch_sampler
        assert isinstance(sampler, TokenBatchSampler)
        sampler.set_epoch(self.trainer.current_epoch if self.trainer else 0)
        return self._train_loader

    def val_dataloader(self) -> DataLoader[Example]:
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> list[DataLoader[Example]]:
        """One loader for each of `corpus.test_sets`, in their order."""
        return [self._loader(name, shuffle=False) for name in self.corpus.test_sets]

    def _loader(self, name: str, *, shuffle: bool) -> DataLoader[Example]:
        examples = self.encode(self.corpus.sets[name])
        sampler = TokenBatchSampler(
            [(len(example.src_ids), len(example.tgt_ids)) for example in examples],
            max_tokens=self._max_tokens if shuffle else self._eval_max_tokens,
            seed=self._seed,
            shuffle=shuffle,
        )
        # Batches are slices of lists in memory: worker processes would cost more than they save.
        return DataLoader(examples, batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]
