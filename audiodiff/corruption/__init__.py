"""Corruptions of recordings for training and tests: noise, low-pass filters, clipping and gaps.

A corruption takes clean audio and a generator, and returns the corrupted audio with a mask of the known samples.
"""

from audiodiff.corruption.corruption import Corrupted, Corruption
from audiodiff.corruption.damage import Clipping, Gaps, LowPassed, Untouched
from audiodiff.corruption.mixture import Mixture, Then
from audiodiff.corruption.noise import Babble, ColoredNoise, RecordedNoise, mixed_at_snr

__all__ = [
    "Babble",
    "Clipping",
    "ColoredNoise",
    "Corrupted",
    "Corruption",
    "Gaps",
    "LowPassed",
    "Mixture",
    "RecordedNoise",
    "Then",
    "Untouched",
    "mixed_at_snr",
]
