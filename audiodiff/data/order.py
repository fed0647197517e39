"""The order in which recordings are drawn, a pure function of (seed, epoch)."""

from collections.abc import Sequence

import numpy as np

# Streams of random numbers of one seed; CropDataset takes 1 for the places of its crops.
_ORDER, _ROTATION, _GROUPS = 0, 2, 3
_GROUPS_IN_A_WINDOW = 16
_N_KEPT = 2


class DrawOrder:
    """Order the turns of recordings, one epoch after the other.

    Without more, an epoch is a permutation of all turns. With classes, it has as many turns of every class as the
    class with most has: the turns of the others come round in a fixed rotation that goes on from epoch to epoch, so
    that all of a class come up equally often. With `alike`, draws are put in groups of like length: within windows of
    16 groups an epoch's permutation is sorted by length and cut into groups, and the groups are shuffled. Groups begin
    at multiples of `alike` counted from the first epoch, so that they are batches of that size; where an epoch does
    not end with a group, its longest recordings stand there.

    Args:
        turns: how many turns each recording has.
        lengths: of the recordings as they are drawn, in samples.
        seed: of the order.
        classes: of the recordings, which shall be drawn equally often; None draws recordings as their turns say.
        alike: draws in a group of like length; 1 sorts nothing.
    """

    def __init__(
        self, turns: Sequence[int], *, lengths: Sequence[int], seed: int, classes: Sequence[int] | None, alike: int
    ) -> None:
        self._seed, self._alike = seed, alike
        self._lengths = np.asarray(lengths)
        entries = np.repeat(np.arange(len(turns)), turns)
        class_of = np.zeros(len(turns), dtype=int) if classes is None else np.asarray(classes)
        members = [entries[class_of[entries] == known] for known in np.unique(class_of)]
        generator = np.random.default_rng([seed, _ROTATION])
        self._members = [each if len(members) == 1 else generator.permutation(each) for each in members]
        self._n_per_class = max(len(each) for each in members)
        self._made: dict[int, np.ndarray] = {}

    @property
    def n_per_epoch(self) -> int:
        """The number of draws in an epoch."""
        return len(self._members) * self._n_per_class

    def draw(self, k: int) -> int:
        """Return the recording that draw k takes, for any k from 0."""
        epoch, turn = divmod(k, self.n_per_epoch)
        if epoch not in self._made:
            kept = list(self._made.items())[1 - _N_KEPT :]
            self._made = dict([*kept, (epoch, self._epoch(epoch))])
        return int(self._made[epoch][turn])

    def _epoch(self, epoch: int) -> np.ndarray:
        n = self._n_per_class
        places = np.arange(epoch * n, (epoch + 1) * n)
        drawn = np.concatenate([each[places % len(each)] for each in self._members])
        shuffled = drawn[np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(drawn))]
        return shuffled if self._alike == 1 else self._grouped(shuffled, epoch=epoch)

    def _grouped(self, shuffled: np.ndarray, *, epoch: int) -> np.ndarray:
        size = self._alike
        n_before = min(-epoch * len(shuffled) % size, len(shuffled))
        n_after = (len(shuffled) - n_before) % size
        longest = np.argsort(-self._lengths[shuffled], kind="stable")[: n_before + n_after]
        rest = np.delete(shuffled, longest)
        window = _GROUPS_IN_A_WINDOW * size
        parts = [rest[first : first + window] for first in range(0, len(rest), window)]
        by_length = [part[np.argsort(self._lengths[part], kind="stable")] for part in parts]
        groups = np.concatenate([*by_length, rest[:0]]).reshape(-1, size)
        mixed = groups[np.random.default_rng([self._seed, _GROUPS, epoch]).permutation(len(groups))]
        ends = shuffled[longest]
        return np.concatenate([ends[:n_before], mixed.ravel(), ends[n_before:]])
