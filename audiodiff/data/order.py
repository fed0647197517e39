"""Draw order of recordings, a pure function of (seed, epoch)."""

from collections.abc import Sequence

import numpy as np

# Random streams of a seed; CropDataset takes 1 for the positions of its crops.
_ORDER, _ROTATION, _GROUPS = 0, 2, 3
_GROUPS_IN_A_WINDOW = 16
_N_CACHED = 2


class DrawOrder:
    """Order the draws of recordings, epoch by epoch.

    By default, an epoch is a permutation of all turns. With classes, it has as many draws of every class as the largest
    class has turns: those of the others repeat in a fixed rotation that continues from epoch to epoch, so that all
    turns of a class occur equally often. With `alike`, draws are grouped by length (bucketing): within windows of 16
    groups, the permutation of an epoch is sorted by length and cut into groups, and the groups are shuffled. Groups
    begin at multiples of `alike` counted from the first epoch, so that they are batches of that size; the longest
    recordings fill the groups that an epoch shares with the one before or after it.

    Args:
        turns: how often each recording occurs in an epoch.
        lengths: of the draws of each recording, in samples.
        seed: of the order.
        classes: of the recordings, drawn equally often; None draws recordings by their turns only.
        alike: number of consecutive draws of similar length; 1 does not sort by length.
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
        self._epochs: dict[int, np.ndarray] = {}

    @property
    def n_per_epoch(self) -> int:
        """The number of draws in an epoch."""
        return len(self._members) * self._n_per_class

    def draw(self, k: int) -> int:
        """Return the recording of draw k, for any k from 0."""
        epoch, turn = divmod(k, self.n_per_epoch)
        if epoch not in self._epochs:
            cached = list(self._epochs.items())[1 - _N_CACHED :]
            self._epochs = dict([*cached, (epoch, self._epoch(epoch))])
        return int(self._epochs[epoch][turn])

    def _epoch(self, epoch: int) -> np.ndarray:
        n = self._n_per_class
        positions = np.arange(epoch * n, (epoch + 1) * n)
        drawn = np.concatenate([each[positions % len(each)] for each in self._members])
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
