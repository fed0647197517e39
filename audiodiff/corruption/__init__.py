"""What happens to recordings on their way: noise, lost bands, clipping, gaps; for training and for tests.

Every corruption takes clean audio and a generator, and says of each sample whether it is still as it was measured.
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
