"""Adversarial fine-tuning: few-step sampling trained with discriminators."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.objective import Objective
from audiodiff.diffusion.sampler import Sampler
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.window_sampler import add_noise
from audiodiff.networks.discriminators import Discriminators
from audiodiff.training.refinement import first_guess
from audiodiff.training.step import Float32Batch, Losses, TrainingStep, noise_like
from audiodiff.types import Sigma, Signal, Waveform


class Adversarial(TrainingStep):
    """Sample with 1, 2 or 4 steps, drawn for each batch, and train through all of them.

    The loss of the model is the sum of a hinge loss of the discriminators, the distance of their features for sample
    and recording (feature matching), and the distance of log-mels. The discriminators are trained to separate samples
    from recordings. One backward pass serves both: the model's losses treat the discriminators as constants, and the
    discriminators' loss the sample.

    Args:
        synthesizer: a trained model, from `train.init_from`; its sampler's solver and grid are unrolled.
        objective: not used.
        density: not used.
        discriminators: the discriminators.
        mel: dialect of the compared log-mels.
        n_steps: numbers of steps.
        adversarial: weight of the hinge loss.
        feature_matching: weight of the distance of features.
        mel_distance: weight of the mean distance of log-mels.

    Raises:
        ParameterError: if the model is not one of mono waveforms, or a number of steps or a weight is out of range.

    Source: Yao et al. 2026 (Flow2GAN) for the second stage after a flow; Lim and Ye 2017 for the hinge loss; Kumar et
        al. 2019 (MelGAN), eq. 3, for feature matching.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        discriminators: Discriminators,
        mel: MelDialect,
        n_steps: Sequence[int] = (1, 2, 4),
        adversarial: float = 1.0,
        feature_matching: float = 2.0,
        mel_distance: float = 45.0,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        representation = synthesizer.representation
        if not isinstance(representation, WaveformRepresentation) or representation.n_channels != 1:
            raise ParameterError("method=adversarial trains mono waveforms: choose representation=waveform")
        if not n_steps:
            raise ParameterError("method.n_steps=[] must name a number of steps, as [1, 2, 4] does")
        for n in n_steps:
            check_whole(n, name="method.n_steps", least=1)
        self._weights = {
            "adversarial": adversarial,
            "feature_matching": feature_matching,
            "mel_distance": mel_distance,
        }
        for name, weight in self._weights.items():
            if not weight >= 0.0:
                raise ParameterError(f"method.{name}={weight} must not be negative")
        if mel.sample_rate != synthesizer.sample_rate:
            raise ParameterError(
                f"method.mel.sample_rate={mel.sample_rate} must be the model's, {synthesizer.sample_rate}"
            )
        self.discriminators = discriminators
        self.mel = mel
        self.n_steps = tuple(n_steps)
        self._shown: dict[str, float] = {}

    def trainable(self) -> Iterable[nn.Parameter]:
        return [*self.synthesizer.parameters(), *self.discriminators.parameters()]

    def state(self) -> Mapping[str, Tensor]:
        return self.discriminators.state_dict()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        # Empty after a run of another method: the discriminators then start from new weights.
        if state:
            self.discriminators.load_state_dict(dict(state))

    def logged(self) -> Mapping[str, float]:
        return self._shown

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            place = int(torch.randint(len(self.n_steps), (), generator=generator, device=generator.device))
            sampler = self._sampler(batch.audio, condition, generator)

        def noise(like: Signal, step: int) -> Signal:
            return noise_like(like, generator)

        n_steps = self.n_steps[place]
        sample = sampler(self.synthesizer.denoiser.bind(condition), x0, noise, n_steps=n_steps)
        if condition.mask is not None:
            sample = sample * condition.mask.unsqueeze(1)
        with torch.autocast(batch.audio.device.type, enabled=False):
            fake, _ = self.synthesizer.representation.decode(sample.float(), noise=noise, n_samples=x0.shape[-1])
            of_model, of_discriminators = self._compared(fake, batch.audio)
        model = sum(self._weights[name] * loss for name, loss in of_model.items())
        assert isinstance(model, Tensor)
        parts = {**of_model, "discriminators": of_discriminators}
        self._shown = {name: float(loss.detach().mean()) for name, loss in parts.items()}
        sigma = sampler.grid(n_steps)[:1].to(x0).expand(len(x0))
        return model + of_discriminators, of_model["mel_distance"].detach(), sigma

    def _sampler(self, audio: Waveform, condition: Condition, generator: torch.Generator) -> Sampler:
        """Return the model's sampler, which starts from an inversion of the mel if the model does."""
        model = self.synthesizer
        if not model.warm_start:
            return model.sampler
        assert condition.frames is not None
        guess = first_guess(
            audio, condition.frames, synthesizer=model, n_iterations=model.n_iterations, generator=generator
        )
        return replace(model.sampler, start=partial(add_noise, guess))

    def _compared(self, fake: Waveform, real: Waveform) -> tuple[dict[str, Losses], Losses]:
        """Return the losses of the model by name, and that of the discriminators."""
        # Clips shorter than the windows are padded with silence.
        missing = max(0, self.discriminators.least_samples - real.shape[-1])
        fake, real = F.pad(fake, (0, missing)), F.pad(real, (0, missing))
        of_real, of_fake = self.discriminators(real), self.discriminators(fake.detach())
        separation = sum(
            (F.relu(1.0 - right).mean(dim=1) + F.relu(1.0 + wrong).mean(dim=1))
            for (right, _), (wrong, _) in zip(of_real, of_fake, strict=True)
        )
        constant = {name: value.detach() for name, value in self.discriminators.named_parameters()}
        judged = functional_call(self.discriminators, constant, (fake,))
        deceived = sum(F.relu(1.0 - scores).mean(dim=1) for scores, _ in judged)
        distances = [
            (own - its.detach()).abs().flatten(1).mean(dim=1)
            for (_, features), (_, others) in zip(judged, of_real, strict=True)
            for own, its in zip(features, others, strict=True)
        ]
        mel_distance = (self.mel.mel(fake[:, 0]) - self.mel.mel(real[:, 0])).abs().flatten(1).mean(dim=1)
        assert isinstance(separation, Tensor)
        assert isinstance(deceived, Tensor)
        return {
            "adversarial": deceived / len(judged),
            "feature_matching": torch.stack(distances).mean(dim=0),
            "mel_distance": mel_distance,
        }, separation / len(judged)
