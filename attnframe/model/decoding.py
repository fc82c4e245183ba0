"""Turning a trained model's logits into sentences."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.model.seq2seq import Seq2Seq


@torch.no_grad()
def greedy(
    model: Seq2Seq,
    src: Int[Tensor, "batch source"],
    src_keep: Bool[Tensor, "batch source"] | None,
    *,
    max_length: int,
) -> list[list[int]]:
    """The most probable next token, again and again until EOS or `max_length` tokens; ids without BOS and EOS.

    The prefix is recomputed at each step, which is right for every variant.
    """
    memory = model.encode(src, src_keep)
    unfinished = torch.arange(src.shape[0], device=src.device)
    prefix = torch.full((src.shape[0], 1), BOS, device=src.device)
    output: list[list[int]] = [[] for _ in range(src.shape[0])]
    for _ in range(max_length):
        keep = None if src_keep is None else src_keep[unfinished]
        logits = model.decode(prefix, memory[unfinished], keep)[:, -1]
        # BOS and PAD are no words: an untrained model must not print them either.
        logits[:, [BOS, PAD]] = -torch.inf
        token = logits.argmax(dim=-1)
        running = token != EOS
        for row, word in zip(unfinished[running].tolist(), token[running].tolist(), strict=True):
            output[row].append(word)
        unfinished = unfinished[running]
        if not len(unfinished):
            break
        prefix = torch.cat([prefix[running], token[running, None]], dim=1)
    return output
