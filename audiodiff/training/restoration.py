"""Restoration: train one network on degraded recordings and on sound alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.corruption import (
    Babble,
    Clipping,
    ColoredNoise,
    Corruption,
    Gaps,
    LowPassed,
    Mixture,
    RecordedNoise,
    Then,
    Untouched,
)
from audiodiff.corruption.corruption import uniform
from audiodiff.data.dataset import load_whole
from audiodiff.data.scanning import load_entries
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.objective import Objective
from audiodiff.dsp.level import active_rms
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.paths import user_path
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.examples import training_example
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.step import Float32Batch, Losses, TrainingStep
from audiodiff.types import Sigma

LARGEST_GAIN = 10.0
"""Greatest amplification of a quiet crop, as of a pause."""
MOST_SECONDS = 4 * 3600
"""Limit of recorded noise, which is kept in memory: 0.9 GB at 16 kHz."""


class Restoration(TrainingStep):
    """Denoise clean recordings, conditioned on a randomly corrupted version of them.

    Args:
        synthesizer: a model with `conditioner=degraded`.
        objective: the loss of a prediction.
        density: the distribution of sigma.
        noise_root: a folder or a manifest of recorded noise, of which the split train is used; None for synthetic
            noise only: coloured noise, and babble of the batch.
        shares: probability of each kind of corruption: recorded, coloured, babble, low_passed, clipped, gaps,
            untouched.
        lowest_snr: of all noises, in dB.
        highest_snr: likewise.
        narrowed: share of noisy recordings that also lose their high band.
        spread_db: levels of degraded recordings differ from the conditioner's level by up to this much.

    Raises:
        ParameterError: if the conditioner takes no degraded recordings, or a kind is unknown.
        DataError: if the noise cannot be read.

    Source: Serrà et al. 2022 (UNIVERSE), section 3, for one model of many degradations; Welker et al. 2022, eq. 7, for
        enhancement by a score that is conditioned on the noisy speech.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        noise_root: str | None,
        shares: Mapping[str, float],
        lowest_snr: float = -5.0,
        highest_snr: float = 20.0,
        narrowed: float = 0.3,
        spread_db: float = 6.0,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        if not isinstance(synthesizer.conditioner, DegradedConditioner):
            raise ParameterError("method=restoration tells degraded recordings: choose conditioner=degraded")
        if spread_db < 0.0:
            raise ParameterError(f"spread_db={spread_db} must not be negative")
        self.conditioner = synthesizer.conditioner
        self.spread_db = spread_db
        low_passed = LowPassed()

        def then_narrowed(noise: Corruption) -> Corruption:
            return Then(noise, low_passed, share=narrowed)

        kinds: dict[str, Corruption] = {
            "coloured": then_narrowed(ColoredNoise(lowest_snr=lowest_snr, highest_snr=highest_snr)),
            "babble": then_narrowed(Babble(lowest_snr=lowest_snr, highest_snr=highest_snr)),
            "low_passed": low_passed,
            "clipped": Clipping(),
            "gaps": Gaps(),
            "untouched": Untouched(),
        }
        self._noise_digest = "none"
        wanted = {name: share for name, share in shares.items() if noise_root is not None or name != "recorded"}
        if noise_root is not None:
            recordings = _recordings(noise_root, sample_rate=synthesizer.sample_rate)
            self._noise_digest = hashlib.sha256(torch.cat(recordings).numpy().tobytes()).hexdigest()[:16]
            recorded = RecordedNoise(recordings, lowest_snr=lowest_snr, highest_snr=highest_snr)
            kinds["recorded"] = then_narrowed(recorded)
        self.corruption = Mixture(kinds, wanted)

    def dependencies(self) -> Mapping[str, str]:
        return {"recordings of noise": self._noise_digest}

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            rate = self.synthesizer.sample_rate
            corrupted = self.corruption(batch.audio, generator, sample_rate=rate)
            aim = self.conditioner.level * 10.0 ** (
                uniform(len(batch.audio), -self.spread_db, self.spread_db, generator) / 20.0
            )
            loud = active_rms(corrupted.audio[:, 0], sample_rate=rate)
            gain = (aim.to(loud) / loud.clamp(min=1e-12)).clamp(max=LARGEST_GAIN)[:, None, None]
            x0, condition = training_example(
                self.synthesizer, gain * batch.audio, n_valid=batch.n_valid, labels=batch.labels
            )
            degraded = self.conditioner.observed(gain * corrupted.audio, corrupted.known).signal
            if condition.mask is not None and degraded is not None:
                degraded = degraded * condition.mask.unsqueeze(1)
            condition = self.conditioner.dropped(replace(condition, signal=degraded), generator)
            sigma = self.density(len(x0), generator=generator).to(x0)
            x = self._noisy(x0, sigma, condition, generator)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            return self._weighted(self._losses(prediction, x0, x, sigma, condition), sigma)


def _recordings(root: str, *, sample_rate: int) -> list[Float[Tensor, "_"]]:
    """Read the recordings of noise to train with."""
    folder = user_path(root)
    if not folder.exists():
        raise DataError(f"noise_root={root} does not exist")
    entries = load_entries(folder, on_bad="skip", split="train").entries
    seconds = sum(entry.n_samples / entry.sample_rate for entry in entries)
    if seconds > MOST_SECONDS:
        raise DataError(
            f"noise_root={root} holds {seconds / 3600:.1f} hours, which are held in memory and may be "
            f"{MOST_SECONDS // 3600} at most: give a manifest of fewer"
        )
    return [load_whole(entry, sample_rate=sample_rate, n_channels=1)[0] for entry in entries]
