"""Speech enhancement: noise taken out of speech."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.restoration.problem import Problem
from audiodiff.restoration.repair import Repair, Stretch
from audiodiff.restoration.sampling import Sampling
from audiodiff.restoration.windows import OnWindow, restore
from audiodiff.synthesizer import Synthesizer
from audiodiff.types import Signal

ENHANCING = Sampling(steps=1)
"""How `enhance` samples where it is not told: one step, to the mean of what the clean speech may be.

More steps draw one of the possibilities, which is farther from the speech (`benchmarks.jobs.enhance --tune`).
"""


@dataclass(frozen=True)
class Enhance(Repair):
    """Draw clean speech given noisy speech, of which no sample is known to be right: all of it is new."""

    def survey(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Enhance":
        return self

    def found(self, *, sample_rate: int) -> str:
        return ""

    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        """Return 1 throughout: all of the noisy speech was measured."""
        return torch.ones_like(audio)

    def needed(self, known: Float[Tensor, "channels time"]) -> bool:
        return True

    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        return audio

    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        return Problem(measured, known)

    def merged(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        return restored

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate


def enhance(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    sampling: Sampling = ENHANCING,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Float[Tensor, "channels time"]:
    """Take noise out of speech.

    Args:
        model: one that hears degraded speech: `audiodiff.load("speech-prior-16k")`.
        audio: noisy speech, of any length, rate and number of channels. What lies above half the model's rate is not
            in the result.
        sample_rate: of the audio, in Hz.
        sampling: how to draw. With `start`, a noise level, it is from the noisy speech, as in SGMSE and FlowSE, and
            not from noise alone that it starts.
        seed: of the noise.
        on_window: called after every window of the recording.

    Raises:
        ParameterError: if the model cannot, or an argument is out of its range.

    Source: Welker et al. 2022 (SGMSE); `audiodiff.diffusion.bridge` for why one denoiser serves all such processes.
    """
    return restore(
        model, audio, sample_rate=sample_rate, repair=Enhance(), sampling=sampling, seed=seed, on_window=on_window
    )
