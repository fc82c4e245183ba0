"""Types of the config values of every data source."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class DataSchema:
    """What every data source has. `max_tokens` is the token budget of a batch, source and target together.

    `tokenizer` is word or bpe. Text is brought into the Unicode form `normalization` (NFC, NFKC, null for none) before
    it is split into words, and `lowercase` acts on each word after. `min_count` is for word only; `vocab_size` is the
    largest vocabulary of a side, null meaning no limit for word and 8000 for bpe.
    """

    name: str = MISSING
    tokenizer: str = "word"
    lowercase: bool = False
    normalization: str | None = "NFC"
    min_count: int = 1
    vocab_size: int | None = None
    max_tokens: int = 4096
    eval_max_tokens: int = 8192


@dataclass
class GrammarSchema(DataSchema):
    """Sizes in sentence pairs, lengths in source tokens."""

    train_size: int = MISSING
    val_size: int = MISSING
    test_size: int = MISSING
    held_out_size: int = MISSING
    seed: int = 0
    max_length: int = MISSING
    longer_max_length: int = MISSING


@dataclass
class TatoebaSchema(DataSchema):
    """Sizes in source sentences, length in words a side; `path` null downloads `url` once."""

    path: str | None = None
    url: str = MISSING
    languages: tuple[str, str] = ("en", "fr")
    val_size: int | None = MISSING
    test_size: int | None = MISSING
    max_length: int | None = None
    bad_lines: str = "error"


@dataclass
class ParallelFileSchema(DataSchema):
    """`path`, or `source_path` with `target_path`. Sizes in source sentences, null a tenth; length in words a side."""

    path: str | None = None
    source_path: str | None = None
    target_path: str | None = None
    alignment_path: str | None = None
    languages: tuple[str, str] = ("en", "fr")
    val_size: int | None = None
    test_size: int | None = None
    max_length: int | None = 100
    bad_lines: str = "error"
    use: str = "split"


SCHEMAS = {"grammar": GrammarSchema, "parallel_file": ParallelFileSchema, "tatoeba": TatoebaSchema}
"""The type of what stands under `data`, by the name of the source."""
