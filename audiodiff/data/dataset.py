"""Training examples from recordings: random crops, a pure function of (seed, k), and whole recordings."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
from audiodiff.data.paired_mels import PairedMels
from audiodiff.data.source import Read, read_file
from audiodiff.dsp.level import constant_offset
from audiodiff.dsp.resample import resample
from audiodiff.errors import DataError, ParameterError
from audiodiff.labels import LabelSet

# Samples read on either side of a crop before resampling, at the lower of the two rates. The kernel of `resample`
# covers 64 zero crossings / 0.9476 = 68 of them.
_CONTEXT_SAMPLES = 72
# Of a long recording, the offset is that of 8 blocks.
_OFFSET_SAMPLES, _N_OFFSET_BLOCKS = 32768, 8
# The random stream of a seed that gives the positions of crops; DrawOrder has the others.
_OFFSET = 1
_NO_LABELS = LabelSet({})


class _WithMel(TypedDict, total=False):
    mel: Float[Tensor, "n_mels frames"]


class Example(_WithMel):
    """Hold one crop or recording, with the mel of another system where there is one.

    n_valid is the number of samples before the padding, index the number of the draw, labels are indices into the
    vocabularies of a `LabelSet`, -1 if unknown.
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

    The constant offset of a recording in a file is removed.

    An epoch is a permutation in which every entry occurs ceil(duration / crop) times, so that a sample of a long
    recording is drawn as often as one of a short recording. Each draw is a crop at a random position; only the samples
    that it needs are decoded. A recording shorter than the crop is padded with zeros at its end.

    Args:
        entries: scanned recordings, from `load_entries`.
        sample_rate: of the crops, in Hz; recordings of other rates are resampled.
        n_channels: of the crops; 1 averages the channels of a recording.
        crop_samples: length of the crops, at sample_rate.
        seed: of the order and of the positions.
        labels: the labels of examples; None for none.
        columns: the column of the entries that holds each label.
        balance: a label whose values are drawn equally often; entries without a value count as one more value. An epoch
            then has as many draws of each value as the most frequent one has, and the others repeat.
        alike: number of consecutive draws of similar length, from draw 0 on: the batch size, for little padding.
        read: reads the entries.
        mels: of the entries, made by another system; crops then begin at frames.

    Raises:
        DataError: if there are no entries, or one was not scanned, has channels that cannot become n_channels, or has a
            label with an unknown value.
        ParameterError: if an argument is out of range, or labels, columns and balance do not fit together.
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
        read: Read = read_file,
        mels: PairedMels | None = None,
    ) -> None:
        if crop_samples < 1:
            raise ParameterError(f"crop_samples={crop_samples} must be positive")
        if seed < 0:
            raise ParameterError(f"seed={seed} must not be negative")
        if alike < 1:
            raise ParameterError(f"alike={alike} must be positive; 1 does not sort by length")
        _check(entries, sample_rate=sample_rate, n_channels=n_channels)
        self.entries = tuple(entries)
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.crop_samples = crop_samples
        self.seed = seed
        self.alike = alike
        self._read = read
        self.mels = mels
        self.labels = labels or _NO_LABELS
        if balance is not None and balance not in self.labels.names:
            raise ParameterError(
                f"balance={balance!r} must be one of the labels: {', '.join(self.labels.names) or 'there are none'}"
            )
        self.label_indices = label_indices(self.entries, self.labels, columns or {})
        self.lengths = tuple(n_samples_at(entry, sample_rate) for entry in self.entries)
        self._order = DrawOrder(
            [math.ceil(n_samples / crop_samples) for n_samples in self.lengths],
            lengths=[min(n_samples, crop_samples) for n_samples in self.lengths],
            seed=seed,
            classes=None if balance is None else self.label_indices[:, self.labels.names.index(balance)].tolist(),
            alike=alike,
        )

    @property
    def n_per_epoch(self) -> int:
        """The number of draws in an epoch."""
        return self._order.n_per_epoch

    def whole(self, index: int) -> Float[Tensor, "channels time"]:
        """Read a whole recording."""
        entry = self.entries[index]
        return load_whole(entry, sample_rate=self.sample_rate, n_channels=self.n_channels, read=self._read)

    def __getitem__(self, k: int) -> Example:
        """Draw crop k, for any k from 0."""
        if k < 0:
            raise ParameterError(f"k={k} must not be negative")
        drawn = self._order.draw(k)
        entry, n_samples = self.entries[drawn], self.lengths[drawn]
        n_valid = min(n_samples, self.crop_samples)
        hop = 1 if self.mels is None else self.mels.dialect.hop_length
        first = hop * int(np.random.default_rng([self.seed, _OFFSET, k]).integers((n_samples - n_valid) // hop + 1))
        audio = _stretch(
            entry,
            first=first,
            n_samples=n_valid,
            sample_rate=self.sample_rate,
            n_channels=self.n_channels,
            read=self._read,
        )
        padded = F.pad(audio, (0, self.crop_samples - n_valid))
        example = _example(padded, n_valid=n_valid, index=k, entry=entry, labels=self.label_indices[drawn])
        if self.mels is not None:
            n_frames = self.mels.dialect.n_frames(self.crop_samples)
            example["mel"] = self.mels.window(drawn, first=first // hop, n_frames=n_frames)
        return example


def load_whole(
    entry: Entry, *, sample_rate: int, n_channels: int, max_seconds: float | None = None, read: Read = read_file
) -> Float[Tensor, "channels time"]:
    """Read a whole scanned recording, at the given rate and number of channels.

    Args:
        entry: the recording.
        sample_rate: of the result, in Hz.
        n_channels: of the result; 1 averages the channels of the recording.
        max_seconds: decode and return only the beginning; None for all of it.
        read: reads the entry.

    Raises:
        DataError: if the entry was not scanned, or its channels cannot become n_channels.
        AudioFileError: if the file cannot be decoded.
    """
    _check([entry], sample_rate=sample_rate, n_channels=n_channels)
    n_samples = n_samples_at(entry, sample_rate)
    if max_seconds is not None:
        n_samples = max(1, min(n_samples, round(max_seconds * sample_rate)))
    return _stretch(entry, first=0, n_samples=n_samples, sample_rate=sample_rate, n_channels=n_channels, read=read)


def n_samples_at(entry: Entry, sample_rate: int) -> int:
    """Count the samples of a scanned recording after resampling."""
    return -(-entry.n_samples * sample_rate // entry.sample_rate)


def _stretch(
    entry: Entry, *, first: int, n_samples: int, sample_rate: int, n_channels: int, read: Read
) -> Float[Tensor, "channels time"]:
    """Read samples first to first + n_samples of the resampled entry, decoding only what they depend on."""
    factor = math.gcd(entry.sample_rate, sample_rate)
    step_in, step_out = entry.sample_rate // factor, sample_rate // factor
    # Input sample m * step_in falls on output sample m * step_out: a part from there on is resampled as the whole is.
    context = 0 if step_in == step_out else math.ceil(_CONTEXT_SAMPLES * max(1.0, step_in / step_out))
    block = max(0, first * step_in // step_out - context) // step_in
    start = block * step_in
    stop = min(entry.n_samples, -(-(first + n_samples) * step_in // step_out) + context)
    audio = read(entry, start=start, n_samples=stop - start)
    if audio.shape != (entry.n_channels, stop - start):
        raise DataError(
            f"{entry.path}: {audio.shape[0]} x {audio.shape[-1]} samples at sample {start} must be "
            f"{entry.n_channels} x {stop - start}; it has changed since it was scanned, or is damaged"
        )
    if read is read_file:
        audio = audio - _offset(entry)
    mixed = audio if audio.shape[0] == n_channels else audio.mean(dim=0, keepdim=True)
    resampled = resample(mixed, from_rate=entry.sample_rate, to_rate=sample_rate)
    offset = first - block * step_out
    return resampled[:, offset : offset + n_samples]


@lru_cache(maxsize=100_000)
def _offset(entry: Entry) -> Float[Tensor, "channels 1"]:
    """Return the constant offset of a file's recording, of all of it or of blocks that are spread over a long one."""
    step = max(_OFFSET_SAMPLES, entry.n_samples // _N_OFFSET_BLOCKS)
    blocks = [
        read_file(entry, start=start, n_samples=min(_OFFSET_SAMPLES, entry.n_samples - start))
        for start in range(0, entry.n_samples, step)
    ]
    return constant_offset(torch.cat(blocks, dim=-1))


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
            raise DataError(f"{entry.path}: has not been scanned; use entries from load_entries")
        if n_channels not in (1, entry.n_channels):
            raise DataError(
                f"{entry.path}: n_channels={entry.n_channels} cannot become {n_channels}; "
                "only a mix to 1 channel is possible"
            )
