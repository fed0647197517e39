"""Recordings as training examples: random crops that are a pure function of (seed, k), and whole recordings."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from audiodiff import audio_io
from audiodiff.data.manifest import Entry
from audiodiff.dsp.resample import resample
from audiodiff.errors import DataError, ParameterError

# What is read on either side of a crop before it is resampled, in samples of the lower of the two rates. The kernel of
# `resample` reaches 64 zero crossings / 0.9476 = 68 of them; the test compares with the whole file resampled.
_CONTEXT_SAMPLES = 72
# The streams of random numbers that one seed gives.
_ORDER, _OFFSET = 0, 1


class Example(TypedDict):
    """Hold one crop or recording; n_valid counts the samples before the padding, index is its number."""

    audio: Float[Tensor, "channels time"]
    n_valid: int
    index: int
    path: str
    text: str
    label: str
    speaker: str


class CropDataset(Dataset[Example]):
    """Draw random crops without end: item k = 0, 1, 2, ... is a pure function of (seed, k).

    An epoch is a permutation in which every entry has ceil(duration / crop) turns, so that a sample of a long recording
    is heard as often as one of a short recording. Each turn is a crop at a random place; only the samples that it needs
    are decoded. A recording shorter than the crop is padded with zeros at its end.

    Args:
        entries: scanned recordings, as `load_entries` gives them.
        sample_rate: of the crops, in Hz; recordings of other rates are resampled.
        n_channels: of the crops; 1 takes the mean of a recording's channels.
        crop_samples: length of the crops, at sample_rate.
        seed: of the order and of the places.

    Raises:
        DataError: if there are no entries, one was not scanned, or its channels cannot become n_channels.
        ParameterError: if an argument is out of range.
    """

    def __init__(
        self, entries: Sequence[Entry], *, sample_rate: int, n_channels: int, crop_samples: int, seed: int
    ) -> None:
        if crop_samples < 1:
            raise ParameterError(f"crop_samples={crop_samples} must be positive")
        if seed < 0:
            raise ParameterError(f"seed={seed} must not be negative")
        _check(entries, sample_rate=sample_rate, n_channels=n_channels)
        self.entries = tuple(entries)
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.crop_samples = crop_samples
        self.seed = seed
        turns = [math.ceil(_n_samples_at(entry, sample_rate) / crop_samples) for entry in self.entries]
        self._turns = np.repeat(np.arange(len(self.entries)), turns)

    @property
    def n_per_epoch(self) -> int:
        """The number of crops after which every entry has had its turns."""
        return len(self._turns)

    def __getitem__(self, k: int) -> Example:
        """Draw crop k, for any k from 0."""
        if k < 0:
            raise ParameterError(f"k={k} must not be negative")
        epoch, turn = divmod(k, self.n_per_epoch)
        entry = self.entries[self._turns[_order(self.seed, epoch, self.n_per_epoch)[turn]]]
        n_samples = _n_samples_at(entry, self.sample_rate)
        n_valid = min(n_samples, self.crop_samples)
        first = int(np.random.default_rng([self.seed, _OFFSET, k]).integers(n_samples - n_valid + 1))
        audio = _read(entry, first=first, n_samples=n_valid, sample_rate=self.sample_rate, n_channels=self.n_channels)
        return _example(F.pad(audio, (0, self.crop_samples - n_valid)), n_valid=n_valid, index=k, entry=entry)


class WholeDataset(Dataset[Example]):
    """Give every recording whole, in the order of the entries.

    Args:
        entries: scanned recordings, as `load_entries` gives them.
        sample_rate: in Hz; recordings of other rates are resampled.
        n_channels: 1 takes the mean of a recording's channels.

    Raises:
        DataError: if there are no entries, one was not scanned, or its channels cannot become n_channels.
    """

    def __init__(self, entries: Sequence[Entry], *, sample_rate: int, n_channels: int) -> None:
        _check(entries, sample_rate=sample_rate, n_channels=n_channels)
        self.entries = tuple(entries)
        self.sample_rate = sample_rate
        self.n_channels = n_channels

    def __len__(self) -> int:
        """Count the recordings."""
        return len(self.entries)

    def __getitem__(self, k: int) -> Example:
        """Read recording k."""
        entry = self.entries[k]
        audio = load_whole(entry, sample_rate=self.sample_rate, n_channels=self.n_channels)
        return _example(audio, n_valid=audio.shape[-1], index=k, entry=entry)


def load_whole(
    entry: Entry, *, sample_rate: int, n_channels: int, max_seconds: float | None = None
) -> Float[Tensor, "channels time"]:
    """Read a scanned recording from its first sample to its last, at the given rate and number of channels.

    Args:
        entry: the recording.
        sample_rate: of the result, in Hz.
        n_channels: of the result; 1 takes the mean of the recording's channels.
        max_seconds: decode and give only its beginning; None gives all of it.

    Raises:
        DataError: if the entry was not scanned, or its channels cannot become n_channels.
        AudioFileError: if the file cannot be decoded.
    """
    _check([entry], sample_rate=sample_rate, n_channels=n_channels)
    n_samples = _n_samples_at(entry, sample_rate)
    if max_seconds is not None:
        n_samples = max(1, min(n_samples, round(max_seconds * sample_rate)))
    return _read(entry, first=0, n_samples=n_samples, sample_rate=sample_rate, n_channels=n_channels)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(n)


def _n_samples_at(entry: Entry, sample_rate: int) -> int:
    """Count the samples after resampling."""
    return -(-entry.n_samples * sample_rate // entry.sample_rate)


def _read(
    entry: Entry, *, first: int, n_samples: int, sample_rate: int, n_channels: int
) -> Float[Tensor, "channels time"]:
    """Read samples first to first + n_samples of the resampled entry, decoding little more than they depend on."""
    factor = math.gcd(entry.sample_rate, sample_rate)
    step_in, step_out = entry.sample_rate // factor, sample_rate // factor
    # Input sample m * step_in falls on output sample m * step_out: from there, a resampled part equals the whole.
    context = 0 if step_in == step_out else math.ceil(_CONTEXT_SAMPLES * max(1.0, step_in / step_out))
    block = max(0, first * step_in // step_out - context) // step_in
    start = block * step_in
    stop = min(entry.n_samples, -(-(first + n_samples) * step_in // step_out) + context)
    audio, _ = audio_io.read(entry.path, start=entry.first_sample + start, n_samples=stop - start)
    if audio.shape[-1] != stop - start:
        raise DataError(
            f"{entry.path}: {audio.shape[-1]} samples at sample {entry.first_sample + start} must be {stop - start}; "
            "the file has changed since it was scanned, or is damaged"
        )
    mixed = audio if audio.shape[0] == n_channels else audio.mean(dim=0, keepdim=True)
    resampled = resample(mixed, from_rate=entry.sample_rate, to_rate=sample_rate)
    offset = first - block * step_out
    return resampled[:, offset : offset + n_samples]


def _example(audio: Float[Tensor, "channels time"], *, n_valid: int, index: int, entry: Entry) -> Example:
    return Example(
        audio=audio.contiguous(),
        n_valid=n_valid,
        index=index,
        path=str(entry.path),
        text=entry.text,
        label=entry.label,
        speaker=entry.speaker,
    )


def _check(entries: Sequence[Entry], *, sample_rate: int, n_channels: int) -> None:
    if sample_rate < 1 or n_channels < 1:
        raise ParameterError(f"sample_rate={sample_rate} and n_channels={n_channels} must be positive")
    if not entries:
        raise DataError("a data set must have at least one entry")
    for entry in entries:
        if entry.n_samples < 1:
            raise DataError(f"{entry.path}: has not been scanned; use the entries that load_entries returns")
        if n_channels not in (1, entry.n_channels):
            raise DataError(
                f"{entry.path}: n_channels={entry.n_channels} cannot become {n_channels}; "
                "only a mix down to 1 channel is made"
            )
