"""One of several corruptions for each example, or two in a row."""

from collections.abc import Mapping

import torch

from audiodiff.corruption.corruption import Corrupted, Corruption
from audiodiff.errors import ParameterError
from audiodiff.types import Waveform


class Mixture(Corruption):
    """Draw a corruption for each example.

    Args:
        kinds: corruptions by name.
        shares: how often each is drawn, by the same names; they need not sum to 1.

    Raises:
        ParameterError: if the names differ, or a share is negative.
    """

    def __init__(self, kinds: Mapping[str, Corruption], shares: Mapping[str, float]) -> None:
        if set(kinds) != set(shares):
            raise ParameterError(
                f"shares names {', '.join(sorted(shares)) or 'nothing'}, and must name {', '.join(sorted(kinds))}"
            )
        if any(share < 0.0 for share in shares.values()) or not sum(shares.values()) > 0.0:
            raise ParameterError(f"shares={dict(shares)} must not be negative, and some must be positive")
        self.kinds = dict(kinds)
        self.shares = dict(shares)

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        names = list(self.kinds)
        weights = torch.tensor([float(self.shares[name]) for name in names])
        drawn = torch.multinomial(weights, len(audio), replacement=True, generator=generator)
        spoilt, known = audio.clone(), torch.ones_like(audio)
        for number, name in enumerate(names):
            if self.shares[name] == 0.0:
                continue
            # All examples, so that one that draws from others finds them, and so that the draws of a kind do not
            # depend on how many drew it.
            corrupted = self.kinds[name](audio, generator, sample_rate=sample_rate)
            chosen = (drawn == number).to(audio.device)
            spoilt[chosen], known[chosen] = corrupted.audio[chosen], corrupted.known[chosen]
        return Corrupted(spoilt, known)


class Then(Corruption):
    """Spoil recordings in one way, and some of what is left in another, as noisy speech on a telephone is.

    Args:
        first: of all recordings.
        second: of some of the results.
        share: how many.

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
