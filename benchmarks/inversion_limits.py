"""Limits of mel inversion: inversions that are given parts of the true STFT, true magnitudes or the true pitch.

    python -m benchmarks.inversion_limits FOLDER [--count 18] [--dialect hifigan]

FOLDER holds recordings; if it has a manifest.csv, those of its split test are taken. Prints PESQ-WB, means.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import librosa
import torch
from torch import Tensor

from audiodiff.dsp.inversion import invert
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.dsp.pitch import track_pitch
from audiodiff.metrics import pesq
from benchmarks.mel_inversion import recordings

Clip = tuple[Tensor, MelDialect, Tensor]  # audio and white noise, (1, time)
BANDS = ((0, 300), (0, 600), (0, 1000), (300, 1000), (1000, 2000), (1000, 8000))
OFF = 1.04


def with_truth(audio: Tensor, made: Tensor, d: MelDialect, *, low: float, high: float) -> Tensor:
    """Replace the STFT of an inversion by the true one between two frequencies, in Hz."""
    own, true = d.stft.analyse(made), d.stft.analyse(audio)
    first, last = (round(hz / d.sample_rate * d.n_fft) for hz in (low, high))
    own[..., first:last] = true[..., first:last]
    return d.stft.synthesise(own, length=audio.shape[-1])


def from_magnitudes(audio: Tensor, d: MelDialect, noise: Tensor, n_iterations: int) -> Tensor:
    """Invert the true magnitudes by fast Griffin-Lim in the time domain, momentum 0.99."""
    magnitude = d.stft.analyse(audio).abs()
    made = previous = noise
    for _ in range(n_iterations):
        spectrum = d.stft.analyse(torch.lerp(previous, made, 1.99))
        previous, made = (
            made,
            d.stft.synthesise(spectrum * (magnitude / spectrum.abs().clamp(min=1e-9)), length=audio.shape[-1]),
        )
    return made


def pitch_errors(clips: list[Clip]) -> tuple[float, float]:
    """Return the share of voiced frames whose pitch is off by more than 4 % of pYIN's, and the mean error of others."""
    off: list[float] = []
    for audio, d, _ in clips:
        own = track_pitch(d.mel(audio), dialect=d).frequency[0]
        theirs, voiced, _ = librosa.pyin(
            audio[0].numpy(), fmin=60, fmax=420, sr=d.sample_rate, frame_length=d.n_fft, hop_length=d.hop_length
        )
        # A frame of the mel lies between two of pYIN's, which are centred on the multiples of the hop.
        for frame in range(min(len(own), len(theirs) - 1)):
            if voiced[frame] and voiced[frame + 1]:
                off.append(abs(float(own[frame]) / (0.5 * (theirs[frame] + theirs[frame + 1])) - 1.0))
    near = [error for error in off if error < OFF - 1.0]
    return 1.0 - len(near) / len(off), statistics.fmean(near)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=18, help="recordings")
    parser.add_argument("--dialect", default="hifigan", help="not a centred one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips: list[Clip] = []
    for index, (audio, rate) in enumerate(recordings(options.folder, options.count)):
        d = dialect(options.dialect, sample_rate=rate, f_max=min(8000.0, rate / 2))
        whole = audio[:, : audio.shape[-1] // d.hop_length * d.hop_length]
        clips.append((whole, d, torch.randn(whole.shape, generator=torch.Generator().manual_seed(index))))

    def mean(make: Callable[[Tensor, MelDialect, Tensor], Tensor]) -> float:
        values = [float(pesq(make(audio, d, noise), audio, sample_rate=d.sample_rate)) for audio, d, noise in clips]
        return statistics.fmean(values)

    made = {id(audio): invert(noise, d.mel(audio), dialect=d, n_iterations=8) for audio, d, noise in clips}
    print(f"8 iterations: {mean(lambda audio, d, noise: made[id(audio)]):.2f}")
    for low, high in BANDS:
        value = mean(
            lambda audio, d, noise, low=low, high=high: with_truth(audio, made[id(audio)], d, low=low, high=high)
        )
        print(f"  with the true STFT from {low} to {high} Hz: {value:.2f}")
    for n in (16, 32):
        print(f"true magnitudes, {n} iterations: {mean(lambda a, d, z, n=n: from_magnitudes(a, d, z, n)):.2f}")
    share, error = pitch_errors(clips)
    print(f"pitch: {share:.1%} of voiced frames off by more than 4 % of pYIN's, the others by {error:.2%} on average")


if __name__ == "__main__":
    main()
