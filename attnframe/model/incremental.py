"""Next-token probabilities while targets grow, with or without a cache."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnframe.data.tokenizer import BOS, PAD
from attnframe.model.seq2seq import Seq2Seq


class IncrementalDecoder:
    """The targets that a search has in hand, a row each, and what the model says of their next tokens.

    At first there is one row for each sentence, with BOS alone. A model that can be cached is run on new tokens only,
    any other one on the whole prefix again; `cache` False does the latter always.
    """

    def __init__(
        self,
        model: Seq2Seq,
        src: Int[Tensor, "batch source"],
        src_keep: Bool[Tensor, "batch source"] | None,
        *,
        cache: bool = True,
    ) -> None:
        self._model = model
        self._memory = model.encode(src, src_keep)
        self._src_keep = src_keep
        self._source_of_row = torch.arange(src.shape[0], device=src.device)
        self._cache = model.new_cache() if cache else None
        self.prefix: Int[Tensor, "rows length"] = torch.full((src.shape[0], 1), BOS, device=src.device)
        """BOS and the tokens after it."""

    def log_probabilities(self) -> Float[Tensor, "rows vocab"]:
        """Of each row's next token, in nats and in float32 or better; once for each `advance`.

        They are the model's own, but for BOS and PAD: these are no words, also where an untrained model says so, and
        have -inf.
        """
        seen = 0 if self._cache is None else self._cache.length
        logits = self._model.decode(self.prefix[:, seen:], self._memory, self._src_keep, self._cache)[:, -1]
        log_p = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        log_p[:, [BOS, PAD]] = -torch.inf
        return log_p

    def advance(self, rows: Int[Tensor, " next"], tokens: Int[Tensor, " next"]) -> None:
        """Go on with row ``rows[i]``, and ``tokens[i]`` behind it, as row i. A row may go on more than once or not."""
        sources = self._source_of_row[rows]
        same_sources = torch.equal(sources, self._source_of_row)
        if not same_sources:
            self._memory = self._memory[rows]
            self._src_keep = None if self._src_keep is None else self._src_keep[rows]
            self._source_of_row = sources
        if self._cache is not None and not torch.equal(rows, torch.arange(len(self.prefix), device=rows.device)):
            self._cache.select(rows, same_sources=same_sources)
        self.prefix = torch.cat([self.prefix[rows], tokens[:, None]], dim=1)
