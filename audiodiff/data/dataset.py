"""Recordings as training examples: random crops that are a pure function of (seed, k), and whole recordings."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from audiodiff.data.labels import label_indices
from audiodiff.data.manifest import Entry
from audiodiff.data.order import DrawOrder
from audiodiff.dsp.resample import resample
from audiodiff.errors import DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.labels import LabelSet

# What is read on either side of a crop before it is resampled, in samples of the lower of the two rates. The kernel of
# `resample` reaches 64 zero crossings / 0.9476 = 68 of them; the test compares with the whole file resampled.
_CONTEXT_SAMPLES = 72
# The stream of random numbers of a seed that gives the places of crops; the others are those of DrawOrder.
_OFFSET = 1
_NO_LABELS = LabelSet({})


class Example(TypedDict):
    """Hold one crop or recording.

    n_valid counts the samples before the padding, index is its number, labels are places in the vocabularies of a
    `LabelSet`, -1 where unknown.
    """

    audio: Float[Tensor, "channels time"]
    n_valid: int
    index: int
    path: str
    text: str
    label: str
    speaker: str
    labels: Int[Tensor, "labels"]


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
        labels: the labels that examples tell; None: none.
        columns: the column that says the value of each label.
        balance: a label whose values are drawn equally often; entries without one count as one more value. An epoch
            then has as many draws of each as the value with most turns has, and the others come round more often.
        alike: draws in a group of like length, from draw 0 on: the size of a batch, for little padding.

    Raises:
        DataError: if there are no entries, one was not scanned, its channels cannot become n_channels, or it has a
            label's value that is not known.
        ParameterError: if an argument is out of range, or the labels, columns and balance do not fit together.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        sample_rate: int,
        n_channels: int,
        crop_samples: int,
        seed: int,
        labels: LabelSet | None = None,
        columns: Mapping[str, str] | None = None,
        balance: str | None = None,
        alike: int = 1,
    ) -> None:
        if crop_samples < 1:
            raise ParameterError(f"crop_samples={crop_samples} must be positive")
        if seed < 0:
            raise ParameterError(f"seed={seed} must not be negative")
        if alike < 1:
            raise ParameterError(f"alike={alike} must be positive; 1 sorts nothing by length")
        _check(entries, sample_rate=sample_rate, n_channels=n_channels)
        self.entries = tuple(entries)
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.crop_samples = crop_samples
        self.seed = seed
        self.alike = alike
        self.labels = labels or _NO_LABELS
        if balance is not None and balance not in self.labels.names:
            raise ParameterError(
                f"balance={balance!r} must be one of the labels: {', '.join(self.labels.names) or 'there are none'}"
            )
        self.label_indices = label_indices(self.entries, self.labels, columns or {})
        self.lengths = tuple(_n_samples_at(entry, sample_rate) for entry in self.entries)
        self._order = DrawOrder(
            [math.ceil(n_samples / crop_samples) for n_samples in self.lengths],
            lengths=[min(n_samples, crop_samples) for n_samples in self.lengths],
            seed=seed,
            classes=None if balance is None else self.label_indices[:, self.labels.names.index(balance)].tolist(),
            alike=alike,
        )

    @property
    def n_per_epoch(self) -> int:
        """The number of crops after which every entry has had its turns."""
        return self._order.n_per_epoch

    def __getitem__(self, k: int) -> Example:
        """Draw crop k, for any k from 0."""
        if k < 0:
            raise ParameterError(f"k={k} must not be negative")
        drawn = self._order.draw(k)
        entry, n_samples = self.entries[drawn], self.lengths[drawn]
        n_valid = min(n_samples, self.crop_samples)
        first = int(np.random.default_rng([self.seed, _OFFSET, k]).integers(n_samples - n_valid + 1))
        audio = _read(entry, first=first, n_samples=n_valid, sample_rate=self.sample_rate, n_channels=self.n_channels)
        padded = F.pad(audio, (0, self.crop_samples - n_valid))
        return _example(padded, n_valid=n_valid, index=k, entry=entry, labels=self.label_indices[drawn])


class WholeDataset(Dataset[Example]):
    """Give every recording whole, in the order of the entries, without labels.

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
        no_labels = torch.empty(0, dtype=torch.int64)
        return _example(audio, n_valid=audio.shape[-1], index=k, entry=entry, labels=no_labels)


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


def _example(
    audio: Float[Tensor, "channels time"], *, n_valid: int, index: int, entry: Entry, labels: Int[Tensor, "labels"]
) -> Example:
    return Example(
        audio=audio.contiguous(),
        n_valid=n_valid,
        index=index,
        path=str(entry.path),
        text=entry.text,
        label=entry.label,
        speaker=entry.speaker,
        labels=labels,
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
