"""Loudness by ITU-R BS.1770-4, in LUFS, and the gain that brings a recording to a loudness or a peak."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.types import Recordings

STEP_SECONDS = 0.1
STEPS_PER_BLOCK = 4
"""A gating block is 0.4 s long, and begins every 0.1 s."""
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OFFSET_DB = -0.691
"""Makes the loudness of a sine of 997 Hz at full scale, in one channel, -3.01 LUFS."""
SURROUND_WEIGHT = 1.41
_WEIGHTS = {
    # In the order of wav files: left, right, centre, (low-frequency effects,) left and right surround.
    5: (1.0, 1.0, 1.0, SURROUND_WEIGHT, SURROUND_WEIGHT),
    6: (1.0, 1.0, 1.0, 0.0, SURROUND_WEIGHT, SURROUND_WEIGHT),
}
_TARGET = re.compile(r"([+-]?\d+(?:\.\d*)?) ?(lufs|lkfs|db|dbfs)", re.IGNORECASE)


@dataclass(frozen=True)
class Normalization:
    """The level that a recording is brought to, by one gain for all its channels.

    Args:
        target: in LUFS, or in dB relative to full scale.
        is_loudness: whether the target is a loudness; otherwise it is the peak, the greatest magnitude of a sample.

    Raises:
        ParameterError: if the target is not between -70 and 0.
    """

    target: float
    is_loudness: bool

    def __post_init__(self) -> None:
        if not ABSOLUTE_GATE_LUFS < self.target <= 0.0:
            raise ParameterError(f"normalize={self} must be above {ABSOLUTE_GATE_LUFS:g} and at most 0")

    def __str__(self) -> str:
        """Return the text that `read_normalization` reads."""
        return f"{self.target:g}{'LUFS' if self.is_loudness else 'dB'}"

    def gain(self, *, loudness: float, peak: float) -> float | None:
        """Return the factor for a recording of this loudness, in LUFS, and this peak; None where it is too quiet."""
        present = loudness if self.is_loudness else 20.0 * math.log10(peak) if peak > 0.0 else -math.inf
        return 10.0 ** ((self.target - present) / 20.0) if math.isfinite(present) else None


def read_normalization(text: str) -> Normalization:
    """Read -16LUFS, a loudness, or -1dB, a peak relative to full scale.

    Raises:
        ParameterError: if the text is neither.

    Example:
        >>> read_normalization("-16LUFS"), str(read_normalization("-1 dBFS"))
        (Normalization(target=-16.0, is_loudness=True), '-1dB')
    """
    match = _TARGET.fullmatch(text.strip())
    if match is None:
        raise ParameterError(f"normalize={text} must be a loudness, as in -16LUFS, or a peak, as in -1dB")
    return Normalization(float(match[1]), match[2].lower() in ("lufs", "lkfs"))


def normalize(audio: Recordings, target: str, *, sample_rate: int) -> Recordings:
    """Bring each recording to a loudness or a peak, by one gain for all its channels.

    Args:
        audio: one recording or a batch; (time,) or (channels, time) is one. Silent ones stay.
        target: -16LUFS, the loudness by ITU-R BS.1770-4; or -1dB, the peak relative to full scale.
        sample_rate: in Hz.

    Returns: audio of the same shape; a loudness is reached even if the peak then exceeds full scale.

    Raises:
        ParameterError: if the target cannot be read.

    Example:
        >>> import torch
        >>> normalize(torch.tensor([0.1, -0.25, 0.2]), "-6.0206dB", sample_rate=16000)
        tensor([ 0.2000, -0.5000,  0.4000])
    """
    wanted = read_normalization(target)
    batch = audio.reshape(-1, *audio.shape[-2:]) if audio.ndim > 1 else audio[None, None]
    gains = [wanted.gain(loudness=loudness(own, sample_rate=sample_rate), peak=float(own.abs().max())) for own in batch]
    factors = batch.new_tensor([1.0 if gain is None else gain for gain in gains])
    return (batch * factors[:, None, None]).reshape(audio.shape)


def loudness(audio: Float[Tensor, "channels time"], *, sample_rate: int) -> float:
    """Return the integrated loudness of a recording in LUFS, -inf where no block is above -70 LUFS.

    A recording shorter than a block of 0.4 s is one block. Channels weigh 1; of 5 channels the last two, and of 6 the
    last two but not the fourth, low-frequency effects, which is left out, weigh 1.41 (surround).

    Source: ITU-R BS.1770-4, annex 1. The filters at rates other than 48 kHz: Mansbridge, Finn and Reiss 2012.

    Example:
        >>> import torch
        >>> tone = torch.sin(2 * torch.pi * 997 * torch.arange(48000) / 48000)
        >>> round(loudness(tone[None], sample_rate=48000), 2)
        -3.01
    """
    meter = LoudnessMeter(sample_rate=sample_rate)
    meter.add(audio)
    return meter.loudness()


class LoudnessMeter:
    """Measure `loudness` of a recording that arrives in blocks.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, *, sample_rate: int) -> None:
        self._filters = k_weighting(sample_rate)
        self._step = max(1, round(STEP_SECONDS * sample_rate))
        self._state: np.ndarray | None = None
        self._rest: np.ndarray | None = None
        self._energies: list[np.ndarray] = []

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Add the next block."""
        import scipy.signal  # here, since its import takes a second

        samples = audio.detach().cpu().double().numpy()
        if self._state is None or self._rest is None:
            self._state, self._rest = np.zeros((len(self._filters), len(samples), 2)), samples[:, :0]
        weighted, self._state = scipy.signal.sosfilt(self._filters, samples, zi=self._state)
        held = np.concatenate([self._rest, weighted], axis=1)
        whole = held.shape[1] // self._step * self._step
        self._energies.append(np.square(held[:, :whole]).reshape(len(held), -1, self._step).sum(axis=2))
        self._rest = held[:, whole:].copy()

    def loudness(self) -> float:
        """Return the loudness of all blocks so far."""
        if self._rest is None:
            return -math.inf
        energies = np.concatenate(self._energies, axis=1)
        n_blocks = energies.shape[1] - STEPS_PER_BLOCK + 1
        if n_blocks < 1:
            n_samples = energies.shape[1] * self._step + self._rest.shape[1]
            power = (energies.sum(axis=1) + np.square(self._rest).sum(axis=1))[:, None] / max(1, n_samples)
        else:
            sums = sum(energies[:, first : first + n_blocks] for first in range(STEPS_PER_BLOCK))
            power = np.asarray(sums) / (STEPS_PER_BLOCK * self._step)
        weights = np.array(_WEIGHTS.get(len(power), (1.0,) * len(power)))
        blocks = weights @ power
        blocks = blocks[_lufs(blocks) > ABSOLUTE_GATE_LUFS]
        if len(blocks) == 0:
            return -math.inf
        return float(_lufs(blocks[_lufs(blocks) > _lufs(blocks.mean()) + RELATIVE_GATE_LU].mean()))


def measure(blocks: Iterable[Float[Tensor, "channels _"]], *, sample_rate: int) -> float:
    """Return the `loudness` of a recording in blocks."""
    meter = LoudnessMeter(sample_rate=sample_rate)
    for block in blocks:
        meter.add(block)
    return meter.loudness()


def k_weighting(sample_rate: int) -> Float[np.ndarray, "2 6"]:
    """Return the two filters of the K-weighting, b0 b1 b2 1 a1 a2 each: the head's high shelf, and a high-pass filter.

    Source: ITU-R BS.1770-4, tables 1 and 2, at 48 kHz; their analogue prototypes at other rates (Mansbridge, Finn and
        Reiss 2012, bilinear transform).
    """
    tangent = math.tan(math.pi * 1681.974450955533 / sample_rate)
    quality, high = 0.7071752369554196, 10.0 ** (3.999843853973347 / 20.0)
    middle = high**0.4996667741545416
    norm = 1.0 + tangent / quality + tangent**2
    shelf = [
        (high + middle * tangent / quality + tangent**2) / norm,
        2.0 * (tangent**2 - high) / norm,
        (high - middle * tangent / quality + tangent**2) / norm,
        1.0,
        2.0 * (tangent**2 - 1.0) / norm,
        (1.0 - tangent / quality + tangent**2) / norm,
    ]
    tangent, quality = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1.0 + tangent / quality + tangent**2
    passed = [1.0, -2.0, 1.0, 1.0, 2.0 * (tangent**2 - 1.0) / norm, (1.0 - tangent / quality + tangent**2) / norm]
    return np.array([shelf, passed])


def _lufs(power: np.ndarray | float) -> np.ndarray | float:
    """Return OFFSET_DB + 10 log10 of a weighted power."""
    return OFFSET_DB + 10.0 * np.log10(np.maximum(power, 1e-30))
