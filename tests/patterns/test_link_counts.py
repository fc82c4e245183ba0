from __future__ import annotations

import random

import pytest
import torch
from linked_sentences import measured, random_sentence
from torch import Tensor
from torch.testing import assert_close

from attnframe.data.schema import Alignment
from attnframe.patterns.alignment import Reading, alignment_error_rate, perfect_links
from attnframe.patterns.link_counts import LinkCounter, LinkCounts


def measures(counter: LinkCounter, tag: str | None = None) -> Tensor:
    """[*maps, readings, 6] in the order of `linked_sentences.Measures`."""
    columns = []
    for soft in (False, True):
        counts = counter.counts(tag, soft=soft)
        columns += [counts.error_rate(), counts.precision(), counts.recall()]
    return torch.stack(columns, dim=-1)


def sentence(rows: list[list[float]]) -> Tensor:
    """One map, [1, query, key], whose two readings are the same: each row stands for itself and the step after it."""
    return torch.tensor([rows], dtype=torch.float64)


@pytest.mark.parametrize("seed", range(60))
def test_every_map_is_measured_like_in_plain_loops(seed: int) -> None:
    rng = random.Random(seed)
    maps = rng.choice([(1, 1), (2, 3), (5,), ()])
    sentences = [random_sentence(rng, *maps) for _ in range(3)]
    counter = LinkCounter(*maps)
    for one in sentences:
        counter.add(one.weights, one.src_ids, one.tgt_ids, one.gold)
    found = measures(counter).reshape(-1, 2, 6)
    for index in range(len(found)):
        tables = [one.weights.flatten(0, -3)[index] if maps else one.weights for one in sentences]
        for shift in range(len(Reading)):
            expected = measured(
                [(table.tolist(), one) for table, one in zip(tables, sentences, strict=True)], shift=shift
            )
            assert found[index, shift].tolist() == pytest.approx(expected, abs=1e-12)


def test_two_words_by_hand() -> None:
    """|S| = 2, |P| = 3. Single links: (0, 0) sure, (0, 1) only possible. Soft links: the rows, less 0.2 for EOS."""
    counter = LinkCounter(1)
    counter.add(
        sentence([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.4, 0.1]]),
        [0, 1],
        [0, 1],
        Alignment(frozenset({(0, 0), (1, 1)}), frozenset({(0, 1)})),
    )
    single = [1 - (1 + 2) / (2 + 2), 2 / 2, 1 / 2]
    in_sure, in_possible, links = 0.6 + 0.4, 0.6 + 0.4 + 0.5, 1.8
    soft = [1 - (in_sure + in_possible) / (links + 2), in_possible / links, in_sure / 2]
    assert measures(counter)[0, 0].tolist() == pytest.approx([*single, *soft], abs=1e-12)
    # The other reading takes the second and the third row: the first word has 0.5 on its own, 0.4 on no gold link.
    in_sure, in_possible, links = 0.5 + 0.4, 0.5 + 0.4 + 0.5, 1.8
    soft = [1 - (in_sure + in_possible) / (links + 2), in_possible / links, in_sure / 2]
    assert measures(counter)[0, 1].tolist() == pytest.approx([*single, *soft], abs=1e-12)


def test_what_goes_to_eos_is_missed_but_not_wrong() -> None:
    counter = LinkCounter(1)
    half_at_eos = sentence([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    counter.add(half_at_eos, [0, 1], [0, 1], Alignment(frozenset({(0, 0), (1, 1)})))
    soft = counter.counts(soft=True)
    assert (soft.precision()[0, 0], soft.recall()[0, 0]) == (1.0, 0.5)
    assert soft.error_rate()[0, 0].item() == pytest.approx(1 - 2 / 3)
    assert counter.counts().error_rate()[0, 0] == 0.0


def test_negative_weights_are_soft_links_by_size_and_never_chosen() -> None:
    counter = LinkCounter(1)
    counter.add(sentence([[0.25, -0.75]] * 2), [0, 1], [0], Alignment(frozenset({(0, 0)})))
    assert counter.counts().error_rate().tolist() == [[0.0, 0.0]]
    assert counter.counts(soft=True).precision().tolist() == [[0.25, 0.25]]


@pytest.mark.parametrize("seed", range(10))
def test_attention_on_gold_links_is_best_and_beside_them_worst(seed: int) -> None:
    rng = random.Random(seed)
    perfect, adversarial = LinkCounter(1), LinkCounter(1)
    reachable = []
    for _ in range(4):
        num_src, num_tgt = 5, rng.randint(1, 4)
        links = [(rng.randrange(1, num_src), target) for target in range(num_tgt)]
        gold = Alignment(frozenset(links[::2]), frozenset(links))
        rows = torch.eye(num_src + 1, dtype=torch.float64)
        on_gold = rows[[source for source, _ in links] + [num_src]]
        perfect.add(on_gold[None], range(num_src), range(num_tgt), gold)
        adversarial.add(rows[[0] * (num_tgt + 1)][None], range(num_src), range(num_tgt), gold)
        reachable.append((perfect_links(gold, num_tgt), gold))
    lowest = alignment_error_rate(reachable)
    assert lowest == 0
    for soft in (False, True):
        right, wrong = (counter.counts(soft=soft) for counter in (perfect, adversarial))
        found = [right.error_rate()[0, 0], right.precision()[0, 0], right.recall()[0, 0]]
        assert found == [lowest, 1.0, 1.0]
        assert [wrong.error_rate()[0, 0], wrong.precision()[0, 0], wrong.recall()[0, 0]] == [1.0, 0.0, 0.0]


def test_equal_weights_choose_the_first_word() -> None:
    counter = LinkCounter(1)
    counter.add(sentence([[0.25] * 4] * 3), [0, 1, 2], [0, 1], Alignment(frozenset({(0, 0), (1, 1)})))
    assert counter.counts().in_sure.tolist() == [[1, 1]]


def _sum(parts: list[LinkCounts]) -> list[Tensor]:
    fields = ("in_sure", "in_possible", "links")
    return [torch.stack([getattr(part, name) for part in parts]).sum(0) for name in fields]


@pytest.mark.parametrize("soft", [False, True])
def test_the_counts_of_tags_that_divide_the_sentences_add_up_to_the_whole(soft: bool) -> None:
    rng = random.Random(11)
    counter, alone = LinkCounter(2, 3), {tag: LinkCounter(2, 3) for tag in ("a", "b", "c")}
    for index in range(13):
        one = random_sentence(rng, 2, 3)
        own = "abc"[index % 3]
        counter.add(one.weights, one.src_ids, one.tgt_ids, one.gold, (own, *(["also"] if index % 2 else [])))
        alone[own].add(one.weights, one.src_ids, one.tgt_ids, one.gold)
    assert counter.tags == ["a", "also", "b", "c"]
    parts = [counter.counts(tag, soft=soft) for tag in "abc"]
    whole = counter.counts(soft=soft)
    assert_close(_sum(parts), _sum([whole]), rtol=0, atol=1e-12 if soft else 0)
    assert sum(part.sure for part in parts) == whole.sure
    for tag, apart in alone.items():
        assert_close(measures(counter, tag), measures(apart), rtol=0, atol=0)
    assert not torch.equal(measures(counter, "a"), measures(counter))


def test_where_nothing_was_to_be_found_nothing_was_missed() -> None:
    counter = LinkCounter(1)
    counter.add(torch.rand(1, 3, 1), [], [0, 1], Alignment(frozenset()))
    counter.add(torch.rand(1, 1, 3), [0, 1], [], Alignment(frozenset()))
    nothing = [0.0, 1.0, 1.0] * 2
    assert measures(counter)[0].tolist() == [nothing, nothing]
    counter.add(torch.ones(1, 2, 1), [0], [0], Alignment(frozenset()))
    wrong = [1.0, 0.0, 1.0] * 2
    assert measures(counter)[0].tolist() == [wrong, wrong]
    counter = LinkCounter(1)
    counter.add(torch.rand(1, 1, 3), [0, 1], [], Alignment(frozenset()), ["short"])
    assert measures(counter, "short")[0].tolist() == [nothing, nothing]


def test_what_cannot_be_counted_is_refused_as_a_whole() -> None:
    counter = LinkCounter(2, 3)
    with pytest.raises(ValueError, match=r"not \[2, 3, query, key\]"):
        counter.add(torch.rand(3, 2, 2, 2), [0], [0], Alignment(frozenset()))
    with pytest.raises(ValueError, match=r"link \(1, 0\)"):
        counter.add(torch.rand(2, 3, 2, 2), [0], [0], Alignment(frozenset({(1, 0)})))
    with pytest.raises(ValueError, match="NaN"):
        counter.add(torch.full((2, 3, 2, 2), float("nan")), [0], [0], Alignment(frozenset()))
    with pytest.raises(ValueError, match="too small"):
        counter.add(torch.rand(2, 3, 2, 2), [0], [0, 1], Alignment(frozenset()))
    with pytest.raises(ValueError, match="no sentences"):
        counter.counts()
    counter.add(torch.rand(2, 3, 2, 2), [0], [0], Alignment(frozenset()), ["past"])
    with pytest.raises(ValueError, match="no sentences"):
        counter.counts("plural")
