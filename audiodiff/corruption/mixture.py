"""Combinations of corruptions: one of several at random, or two in sequence."""

from collections.abc import Mapping

import torch

from audiodiff.corruption.corruption import Corrupted, Corruption
from audiodiff.errors import ParameterError
from audiodiff.types import Waveform


class Mixture(Corruption):
    """Apply a corruption that is drawn at random for each example.

    Args:
        kinds: corruptions by name.
        shares: relative frequencies, by the same names; they need not sum to 1.

    Raises:
        ParameterError: if the names differ, or a share is negative.
    """

    def __init__(self, kinds: Mapping[str, Corruption], shares: Mapping[str, float]) -> None:
        if set(kinds) != set(shares):
            raise ParameterError(
                f"shares has {', '.join(sorted(shares)) or 'no names'}: it must have {', '.join(sorted(kinds))}"
            )
        if any(share < 0.0 for share in shares.values()) or not sum(shares.values()) > 0.0:
            raise ParameterError(f"shares={dict(shares)} must not be negative, and some must be positive")
        self.kinds = dict(kinds)
        self.shares = dict(shares)

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        names = list(self.kinds)
        weights = torch.tensor([float(self.shares[name]) for name in names])
        drawn = torch.multinomial(weights, len(audio), replacement=True, generator=generator)
        result, known = audio.clone(), torch.ones_like(audio)
        for number, name in enumerate(names):
            if self.shares[name] == 0.0:
                continue
            # On all examples, since babble mixes other examples, and the draws of a kind must not depend on how many
            # examples it is applied to.
            corrupted = self.kinds[name](audio, generator, sample_rate=sample_rate)
            chosen = (drawn == number).to(audio.device)
            result[chosen], known[chosen] = corrupted.audio[chosen], corrupted.known[chosen]
        return Corrupted(result, known)


class Then(Corruption):
    """Apply one corruption to all recordings and then another to some, as in noisy speech over a telephone.

    Args:
        first: applied to all recordings.
        second: applied to some of the results.
        share: probability of the second.

    Raises:
        ParameterError: if the share is not in [0, 1].
    """

    def __init__(self, first: Corruption, second: Corruption, *, share: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ParameterError(f"share={share} must lie in [0, 1]")
        self.first, self.second, self.share = first, second, share

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        once = self.first(audio, generator, sample_rate=sample_rate)
        twice = self.second(once.audio, generator, sample_rate=sample_rate)
        chosen = (torch.rand(len(audio), generator=generator) < self.share).to(audio.device)[:, None, None]
        return Corrupted(
            torch.where(chosen, twice.audio, once.audio), torch.where(chosen, once.known * twice.known, once.known)
        )
