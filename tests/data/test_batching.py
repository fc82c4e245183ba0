from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from attnframe.data.batching import Batch, Example, TokenBatchSampler, collate, collate_share
from attnframe.data.tokenizer import EOS, PAD
from attnframe.errors import UserError


def _random_lengths(count: int, seed: int = 17) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    sources = [rng.randint(0, 29) for _ in range(count)]
    return [(source, max(0, source + rng.randint(-5, 7))) for source in sources]


def _sampler(lengths: list[tuple[int, int]], *, seed: int = 3, epoch: int = 0, shuffle: bool = True) -> list[list[int]]:
    sampler = TokenBatchSampler(lengths, max_tokens=211, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    return batches


def _size(batch: list[int], lengths: list[tuple[int, int]]) -> int:
    batch_examples = [Example(i, [5] * lengths[i][0], [5] * lengths[i][1]) for i in batch]
    tensors = collate(batch_examples)
    return tensors.src.numel() + tensors.tgt_in.numel()


def test_collate_by_hand() -> None:
    batch = collate([Example(7, (10, 11, 12), (20,)), Example(4, (), (21, 22))])
    torch.testing.assert_close(batch.src, torch.tensor([[10, 11, 12, 2], [2, 0, 0, 0]]))
    torch.testing.assert_close(batch.src_keep, torch.tensor([[True] * 4, [True, False, False, False]]))
    torch.testing.assert_close(batch.tgt_in, torch.tensor([[1, 20, 0], [1, 21, 22]]))
    torch.testing.assert_close(batch.tgt_out, torch.tensor([[20, 2, 0], [21, 22, 2]]))
    torch.testing.assert_close(batch.tgt_keep, torch.tensor([[True, True, False], [True, True, True]]))
    torch.testing.assert_close(batch.indices, torch.tensor([7, 4]))
    assert batch.num_target_tokens == 5
    assert len(batch) == 2


def test_collate_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([])


def test_lightning_moves_a_batch() -> None:
    from lightning.fabric.utilities.apply_func import move_data_to_device

    batch = collate([Example(0, (5, 6), (7, 8, 9))])
    moved = move_data_to_device({"batch": batch}, torch.device("meta"))["batch"]
    assert isinstance(moved, Batch)
    values = {name: getattr(moved, name) for name in Batch.__slots__}
    assert values.pop("all_target_tokens") == 4
    assert {tensor.device.type for tensor in values.values()} == {"meta"}
    assert moved.tgt_in.shape == (1, 4)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 11])
def test_the_shares_of_a_batch_are_the_batch(rows: int) -> None:
    lengths = _random_lengths(rows)
    examples = [Example(13 + i, [5] * source, [6] * target) for i, (source, target) in enumerate(lengths)]
    whole = collate(examples)
    shares = [collate_share(examples, rank, 3) for rank in range(3)]
    assert {share.all_target_tokens for share in (whole, *shares)} == {sum(target + 1 for _, target in lengths)}
    assert sum(share.num_target_tokens for share in shares) == whole.num_target_tokens
    seen = [
        (int(index), row[row != PAD].tolist())
        for share in shares
        for index, row in zip(share.indices, share.tgt_out, strict=True)
        if bool((row != PAD).any())
    ]
    assert sorted(seen) == [(13 + i, [6] * target + [EOS]) for i, (_, target) in enumerate(lengths)]
    assert all(len(share) >= 1 for share in shares), "whoever has nothing to predict computes all the same"


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_index_comes_once_and_every_batch_keeps_to_the_budget(shuffle: bool) -> None:
    lengths = _random_lengths(499)
    batches = _sampler(lengths, shuffle=shuffle)
    assert sorted(i for batch in batches for i in batch) == list(range(499))
    sizes = [_size(batch, lengths) for batch in batches]
    assert max(sizes) <= 211
    assert sum(sizes) / len(sizes) > 0.75 * 211


def test_little_of_a_shuffled_batch_is_padding() -> None:
    lengths = _random_lengths(499)
    padded = sum(_size(batch, lengths) for batch in _sampler(lengths))
    real = sum(source + target + 2 for source, target in lengths)
    assert real / padded > 0.8


def test_a_seed_and_an_epoch_fix_the_batches() -> None:
    lengths = _random_lengths(499)
    assert _sampler(lengths, seed=1, epoch=2) == _sampler(lengths, seed=1, epoch=2)
    places = ((1, 2), (2, 1), (1, 1), (11, 2), (1, 12))
    different = [_sampler(lengths, seed=seed, epoch=epoch) for seed, epoch in places]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_another_epoch_changes_who_shares_a_batch_not_only_the_order() -> None:
    lengths = _random_lengths(499)
    first, second = ({frozenset(batch) for batch in _sampler(lengths, epoch=epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) // 2


def test_batches_do_not_come_sorted_by_length() -> None:
    lengths = _random_lengths(499)
    longest = [max(sum(lengths[i]) for i in batch) for batch in _sampler(lengths)]
    falling = sum(a > b for a, b in pairwise(longest))
    assert falling > len(longest) // 4


def test_coming_back_to_an_epoch_gives_its_batches_again() -> None:
    sampler = TokenBatchSampler(_random_lengths(101), max_tokens=211, seed=3, shuffle=True)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_an_epoch_begun_in_its_middle_is_the_rest_of_it_and_the_others_are_whole() -> None:
    sampler = TokenBatchSampler(_random_lengths(101), max_tokens=211, seed=3, shuffle=True)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    for done in (0, 3, len(epochs[1])):
        sampler.begin_at(1, done)
        for epoch, left in enumerate((epochs[0], epochs[1][done:], epochs[2])):
            sampler.set_epoch(epoch)
            assert list(sampler) == left
            assert len(sampler) == len(epochs[epoch])
    assert len(epochs[1]) > 3


def test_batches_are_the_same_in_another_process() -> None:
    code = (
        "from attnframe.data.batching import TokenBatchSampler as S\n"
        "print(list(S([(i % 7, i % 5) for i in range(43)], max_tokens=31, seed=5, shuffle=True)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = TokenBatchSampler([(i % 7, i % 5) for i in range(43)], max_tokens=31, seed=5, shuffle=True)
    assert printed == str(list(here))


def test_without_shuffling_pairs_go_from_short_to_long_whatever_the_epoch() -> None:
    lengths = _random_lengths(199)
    batches = _sampler(lengths, shuffle=False)
    totals = [sum(lengths[i]) for batch in batches for i in batch]
    assert totals == sorted(totals)
    assert _sampler(lengths, shuffle=False, seed=9, epoch=4) == batches


def test_a_batch_ends_only_where_the_next_pair_would_not_fit() -> None:
    rng = random.Random(19)
    lengths = [(rng.randint(0, 43), rng.randint(0, 43)) for _ in range(199)]
    batches = _sampler(lengths, shuffle=False)
    assert all(_size([*batch, following[0]], lengths) > 211 for batch, following in pairwise(batches))


def test_editing_a_batch_leaves_the_sampler_whole() -> None:
    sampler = TokenBatchSampler(_random_lengths(31), max_tokens=211, seed=3, shuffle=True)
    for batch in sampler:
        batch.clear()
    assert sum(map(len, sampler)) == 31


def test_a_pair_over_the_budget_is_refused_with_what_it_needs() -> None:
    lengths = [(3, 2), (11, 7)]
    with pytest.raises(UserError, match=r"data\.max_tokens is 19, .* 20 or more"):
        TokenBatchSampler(lengths, max_tokens=19, seed=0, shuffle=True)
    assert len(TokenBatchSampler(lengths, max_tokens=20, seed=0, shuffle=True)) == 2


def test_no_pairs_make_no_batches() -> None:
    assert list(TokenBatchSampler([], max_tokens=7, seed=0, shuffle=True)) == []


def test_a_data_loader_takes_the_sampler_and_lightning_tells_it_the_epoch() -> None:
    from lightning.fabric.utilities.data import _set_sampler_epoch

    lengths = _random_lengths(97)
    examples = [Example(i, [4] * source, [5] * target) for i, (source, target) in enumerate(lengths)]
    sampler = TokenBatchSampler(lengths, max_tokens=211, seed=3, shuffle=True)
    loader: DataLoader[Example] = DataLoader(examples, batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]
    _set_sampler_epoch(loader, 5)
    assert len(loader) == len(_sampler(lengths, epoch=5))
    assert [batch.indices.tolist() for batch in loader] == _sampler(lengths, epoch=5)
