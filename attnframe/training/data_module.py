"""Corpus and tokenizers as Lightning wants them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from attnframe.data.batching import Batch, Example, TokenBatchSampler, collate, collate_share
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.sources import corpus_of
from attnframe.data.text_form import check_word_numbers, normalized
from attnframe.data.tokenizer import Tokenizer, fit_tokenizer, unknown_words
from attnframe.errors import UserError
from attnframe.training.world import ALONE, World

_log = logging.getLogger(__name__)

_TOKENIZER_OPTIONS = ("lowercase", "normalization", "min_count", "vocab_size")


class TranslationData(L.LightningDataModule):
    """The sets of a corpus, encoded, in batches of a token budget. `seed` decides the order of training batches.

    Each process of `world` is given its share of each training batch, and every other batch whole.
    """

    def __init__(self, settings: Mapping[str, Any], *, seed: int, world: World = ALONE) -> None:
        super().__init__()
        self.corpus: Corpus = corpus_of(settings)
        train = self.corpus.sets["train"]
        if not train:
            raise UserError(f"data={settings['name']}: it holds no pairs to train on (data.use=test is for eval)")
        kind, wanted = settings["tokenizer"], _tokenizer_options(settings)
        self.src_tokenizer: Tokenizer = fit_tokenizer(kind, (pair.source for pair in train), **wanted)
        self.tgt_tokenizer: Tokenizer = fit_tokenizer(kind, (pair.target for pair in train), **wanted)
        for pairs in self.corpus.sets.values():
            check_word_numbers(pairs, wanted.get("normalization"))
        self._log_what_is_lost(wanted.get("normalization"))
        self._max_tokens = settings["max_tokens"]
        self._eval_max_tokens = settings["eval_max_tokens"]
        self._seed = seed
        self._world = world
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
        self._train_sampler.set_epoch(self.trainer.current_epoch if self.trainer else 0)
        return self._train_loader

    def begin_at(self, epoch: int, batch: int) -> None:
        """Leave out the first `batch` batches of `epoch`: a run that goes on has trained on them already."""
        self._train_sampler.begin_at(epoch, batch)

    @property
    def _train_sampler(self) -> TokenBatchSampler:
        sampler = self._train_loader.batch_sampler
        assert isinstance(sampler, TokenBatchSampler)
        return sampler

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
            setting="data.max_tokens" if shuffle else "data.eval_max_tokens",
            seed=self._seed,
            shuffle=shuffle,
        )
        # Batches are slices of lists in memory: worker processes would cost more than they save. A generator of its
        # own, because each iterator draws a number: how often one is made must not move the run's random numbers.
        share = partial(collate_share, rank=self._world.rank, size=self._world.size) if shuffle else collate
        return DataLoader(examples, batch_sampler=sampler, collate_fn=share, generator=torch.Generator())  # type: ignore[arg-type]

    def _log_what_is_lost(self, normalization: str | None) -> None:
        """Unknown words of the validation set, and references that no translation can equal in their Unicode form."""
        pairs = self.corpus.sets["val"]
        for side, tokenizer, texts in (
            ("source", self.src_tokenizer, [pair.source for pair in pairs]),
            ("target", self.tgt_tokenizer, [pair.target for pair in pairs]),
        ):
            unknown = sum(len(unknown_words(tokenizer, text)) for text in texts)
            words = sum(len(set(tokenizer.word_ids(text))) for text in texts)
            _log.info(
                "validation: %d of %d %s words (%.2f %%) are not covered by the vocabulary of %d",
                unknown,
                words,
                side,
                100 * unknown / max(words, 1),
                len(tokenizer),
            )
        changed = sum(normalized(pair.target, normalization).split() != pair.target.split() for pair in pairs)
        if changed:
            _log.warning(
                "data.normalization=%s rewrites %d of %d validation references, but BLEU and chrF compare with them as "
                "they are in the corpus: what it takes away from a reference, no translation can say",
                normalization,
                changed,
                len(pairs),
            )


def _tokenizer_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `settings` ask of the tokenizer. A `min_count` of 1 asks for nothing: not every tokenizer has it."""
    options = {key: settings[key] for key in _TOKENIZER_OPTIONS if key in settings}
    return {key: value for key, value in options.items() if (key, value) != ("min_count", 1)}
