"""Draws are a pure function of (seed, k): every entry has its turns, classes theirs, and groups are of like length."""

from collections import Counter

import numpy as np
import pytest

from audiodiff.data.order import DrawOrder


def _order(
    turns: list[int], *, lengths: list[int] | None = None, seed: int = 3, classes: list[int] | None = None, alike=1
) -> DrawOrder:
    return DrawOrder(turns, lengths=lengths or [1] * len(turns), seed=seed, classes=classes, alike=alike)


def _epoch(order: DrawOrder, number: int) -> list[int]:
    return [order.draw(number * order.n_per_epoch + turn) for turn in range(order.n_per_epoch)]


@pytest.mark.parametrize("alike", [1, 4])
@pytest.mark.parametrize("classes", [None, [0, 1, 1, 2, 2, 2]])
def test_a_draw_is_the_same_whatever_was_drawn_before(classes: list[int] | None, alike: int):
    arguments = {"lengths": [5, 3, 8, 1, 2, 9], "classes": classes, "alike": alike}
    order = _order([2, 1, 1, 3, 1, 2], **arguments)
    forwards = [order.draw(k) for k in range(60)]
    again = _order([2, 1, 1, 3, 1, 2], **arguments)
    assert [again.draw(k) for k in reversed(range(60))] == forwards[::-1]
    assert [_order([2, 1, 1, 3, 1, 2], **arguments, seed=4).draw(k) for k in range(60)] != forwards


@pytest.mark.parametrize("alike", [1, 3, 4, 7, 16, 50])
def test_an_epoch_is_a_permutation_of_the_turns(alike: int):
    turns = [1, 2, 3, 1, 4, 1, 1, 2]
    order = _order(turns, lengths=[3, 1, 4, 1, 5, 9, 2, 6], alike=alike)
    epochs = [_epoch(order, number) for number in range(9)]
    assert all(Counter(epoch) == dict(enumerate(turns)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("alike", [1, 4])
def test_classes_are_drawn_equally_often_and_their_members_in_rotation(alike: int):
    # -1 is the class of those that have no value.
    classes = [0] * 7 + [1] * 2 + [-1] * 3
    turns = [1] * 7 + [1, 2] + [1] * 3
    order = _order(turns, lengths=list(range(12)), classes=classes, alike=alike)
    assert order.n_per_epoch == 3 * 7
    total = Counter[int]()
    for number in range(6):
        epoch = _epoch(order, number)
        assert Counter(classes[entry] for entry in epoch) == {0: 7, 1: 7, -1: 7}
        total.update(epoch)
        shares = [total[entry] / turns[entry] for entry in range(12)]
        for known in (0, 1, -1):
            members = [share for share, own in zip(shares, classes, strict=True) if own == known]
            assert max(members) - min(members) <= 1
    # After 3 turns of the whole rotation each, 42 = 6 * 7 draws of every class.
    assert [total[entry] for entry in range(12)] == [6] * 7 + [14, 28] + [14] * 3


def test_groups_hold_like_lengths_and_begin_at_multiples_of_their_size():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1000, 16001, size=1003).tolist()

    def padding(order: DrawOrder) -> float:
        drawn = np.array([lengths[order.draw(k)] for k in range(16 * 300)]).reshape(-1, 16)
        return 1.0 - drawn.mean() / drawn.max(axis=1).mean()

    # Of 16 uniform lengths between 1 and 16 s the longest is 1 + 15 * 16/17 on average, the mean 8.5: padding of 44 %.
    assert padding(_order([1] * 1003, lengths=lengths)) == pytest.approx(0.437, abs=0.02)
    # Sorted in windows of 16 groups, a group spans about a sixteenth of the range, of which half is padding: 15/32 s.
    assert padding(_order([1] * 1003, lengths=lengths, alike=16)) == pytest.approx(15 / 32 / 9.0, abs=0.015)


def test_groups_change_their_members_and_their_order_from_epoch_to_epoch():
    order = _order([1] * 1024, lengths=list(range(1024)), alike=8)
    groups = [
        {frozenset(epoch[first : first + 8]) for first in range(0, 1024, 8)}
        for epoch in (_epoch(order, 0), _epoch(order, 1))
    ]
    assert len(groups[0] & groups[1]) <= 1
    longest_first = [max(_epoch(order, number)[:8]) for number in range(8)]
    assert len(set(longest_first)) > 4
