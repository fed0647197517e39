"""A trained model: representation + conditioner + denoiser + sampler."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from audiodiff.condition import Condition
from audiodiff.conditioners.conditioner import Conditioner
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.process import share
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import Solver
from audiodiff.dsp.inversion import constrain
from audiodiff.dsp.mel import MelDialect, ensure_same
from audiodiff.errors import ParameterError, check_whole
from audiodiff.generation_arguments import (
    checked_audio,
    checked_guidance,
    checked_items,
    checked_length,
    checked_mel,
    checked_n_samples,
    checked_sampler,
)
from audiodiff.representations.representation import Representation
from audiodiff.types import Denoise, Mel, Signal, Waveform


class Synthesizer(nn.Module):
    """Make sound: unconditionally, or from a mel spectrogram.

    Args:
        sample_rate: of the audio, Hz.
        dialect: of the mel spectrograms that the model takes or makes; None where it knows none.
        representation: between audio and the signal that is diffused.
        conditioner: what the network is told.
        denoiser: the network and its preconditioning.
        sampler: solver, grid and number of steps unless a call asks for others.
        n_iterations: of the mel constraint that ends a generation; 0 leaves the network's output as it is.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        representation: Representation,
        conditioner: Conditioner,
        denoiser: Denoiser,
        sampler: Sampler,
        dialect: MelDialect | None = None,
        n_iterations: int = 0,
    ) -> None:
        super().__init__()
        if dialect is not None and dialect.sample_rate != sample_rate:
            raise ParameterError(f"sample_rate={sample_rate} must be that of the mel dialect, {dialect.sample_rate}")
        if dialect is None and (conditioner.needs_mel or representation.makes_mel):
            raise ParameterError("dialect=None: a model that takes or makes mel spectrograms needs their dialect")
        if n_iterations < 0:
            raise ParameterError(f"n_iterations={n_iterations} must not be negative")
        self.sample_rate = sample_rate
        self.dialect = dialect
        self.representation = representation
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.sampler = share(denoiser.schedule, sampler)
        self.n_iterations = n_iterations

    @property
    def needs_mel(self) -> bool:
        """Whether `generate` has to be given a mel spectrogram."""
        return self.conditioner.needs_mel

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.parameters()).device

    def example(self, audio: Waveform) -> tuple[Signal, Condition]:
        """Return the clean signal x0 and the condition of training examples."""
        return self.representation.encode(audio), self.conditioner(audio)

    def mel(self, audio: Waveform) -> Mel:
        """Analyse mono audio at the model's rate, (batch, 1, time)."""
        if self.dialect is None:
            raise ParameterError("dialect=None: this model knows no mel spectrogram")
        return self.dialect.mel(checked_audio(audio)[:, 0].to(self.device))

    @torch.no_grad()
    def check_sampling(
        self,
        *,
        steps: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guide: "Synthesizer | None" = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> None:
        """Refuse, before anything is computed, what `generate` would refuse of these arguments.

        Raises:
            ParameterError: if one has no meaning for this model or cannot be.
        """
        guided = guidance not in (None, 1.0)
        sampler = checked_sampler(self.sampler, steps=steps, solver=solver, grid=grid, guided=guided)
        self._guidance_scale(guidance, guide=guide, interval=guidance_interval, sampler=sampler)

    @torch.no_grad()
    def generate(
        self,
        mel: Mel | None = None,
        *,
        batch: int | None = None,
        seconds: float | None = None,
        n_samples: int | None = None,
        steps: int | None = None,
        iterations: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guide: "Synthesizer | None" = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        seed: int = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Waveform:
        """Make audio from a mel spectrogram, or from nothing.

        Args:
            mel: in the compressed scale of the dialect; needed by, and only by, a model that is conditioned on it.
            batch: number of results without a mel; 1 where None.
            seconds: length of each without a mel; 1 where None.
            n_samples: the length in samples instead.
            steps: of the sampler; None is the checkpoint's default.
            iterations: of the mel constraint at the end, 0 for none; None is the checkpoint's default.
            solver: another solver than the checkpoint's, or its name as in `audiodiff.diffusion.solvers`.
            grid: another grid than the checkpoint's, which must not start above it, or its name as in
                `audiodiff.diffusion.grid.GRIDS`, which is cut to the checkpoint's noise levels.
            guide: a weaker model of the same kind, an earlier checkpoint for one, to be guided away from.
            guidance: scale of the guidance, by the guide or, without one, by the null condition; 1 is none.
            guidance_interval: (lo, hi), the noise levels lo < sigma <= hi that are guided; None is all.
            seed: of the sampling noise.
            items: number of each example, which keys its noise, so that it does not depend on the batch.
            on_step: called as (done, of all) after each step of the sampler and each iteration.

        Returns: audio (batch, channels, n_samples), not limited to [-1, 1].

        Raises:
            ParameterError: if an argument has no meaning for this model or cannot be.
            MelError: if the mel breaks its contract.
        """
        mel, n_examples, length = self._what(mel, batch=batch, seconds=seconds, n_samples=n_samples)
        n_iterations = self._n_iterations(iterations)
        guided = guidance not in (None, 1.0)
        sampler = checked_sampler(self.sampler, steps=steps, solver=solver, grid=grid, guided=guided)
        scale = self._guidance_scale(guidance, guide=guide, interval=guidance_interval, sampler=sampler)
        items = checked_items(items, batch=n_examples)
        # Convolutions round by the size of their batch, and the mel constraint amplifies that. A CPU gains
        # little from batches, so there each example is computed alone and is the same to the bit in any batch.
        at_once = 1 if self.device.type == "cpu" else n_examples
        parts = [slice(first, first + at_once) for first in range(0, n_examples, at_once)]
        report = _Progress(on_step, total=len(parts) * (sampler.n_steps + n_iterations))

        def made(part: slice) -> Waveform:
            noise = BlockNoise(seed, items[part])
            condition = self.conditioner.null(len(noise.items)) if mel is None else Condition(frames=mel[part])
            like = torch.zeros(len(noise.items), self.representation.channels, self.representation.length(length))
            denoise: Denoise = self.denoiser.bind(condition)
            if scale != 1.0:
                model, told = (self, self._null(condition, n=len(like))) if guide is None else (guide, condition)
                weak = model.denoiser.bind(told)
                denoise = classifier_free(denoise, weak, scale=scale, interval=guidance_interval)
            signal = sampler(denoise, like.to(self.device), noise, on_step=report)
            audio, target = self.representation.decode(signal, noise=noise, n_samples=length)
            target = condition.frames if target is None else target
            if n_iterations == 0 or target is None or self.dialect is None:
                return audio
            audio = audio[:, 0]
            return constrain(audio, target, dialect=self.dialect, n_iterations=n_iterations, on_step=report)[:, None]

        return torch.cat([made(part) for part in parts])

    def _what(
        self, mel: Mel | None, *, batch: int | None, seconds: float | None, n_samples: int | None
    ) -> tuple[Mel | None, int, int]:
        """Return the checked mel, the number of examples and their length in samples."""
        if self.needs_mel:
            if mel is None or self.dialect is None:
                raise ParameterError("mel=None: this model is conditioned on a mel spectrogram; give one, or audio")
            for name, value in (("batch", batch), ("seconds", seconds)):
                if value is not None:
                    raise ParameterError(f"{name}={value} has no meaning with a mel, which says how many and how long")
            mel = checked_mel(mel, dialect=self.dialect).to(self.device)
            return mel, len(mel), checked_n_samples(n_samples, n_frames=mel.shape[-1], dialect=self.dialect)
        if mel is not None:
            raise ParameterError("mel is given, and this model is unconditional: it generates from nothing")
        batch = 1 if batch is None else batch
        check_whole(batch, name="batch", least=1)
        return None, batch, checked_length(n_samples, seconds=seconds, sample_rate=self.sample_rate)

    def _guidance_scale(
        self,
        guidance: float | None,
        *,
        guide: "Synthesizer | None",
        interval: tuple[float, float] | None,
        sampler: Sampler,
    ) -> float:
        """Return the scale of guidance, 1 where there is none, having checked that there is something to guide by."""
        scale = checked_guidance(guidance, interval=interval, guided=guide is not None)
        if guide is not None:
            self._check_guide(guide, sampler=sampler)
        elif guidance is not None and not self.conditioner.can_drop:
            raise ParameterError(
                f"guidance={guidance} needs a guide: this model was not trained to do without its condition, so that "
                "there is no null condition to guide by; give a weaker checkpoint of it as guide"
            )
        return scale

    def _check_guide(self, guide: "Synthesizer", *, sampler: Sampler) -> None:
        """Refuse a guide whose signals, conditions or noise levels are not this model's."""
        if not isinstance(guide, Synthesizer):
            raise ParameterError(
                f"guide is a {type(guide).__name__}; give a trained model, as audiodiff.load returns it"
            )
        for name, own, other in (
            ("sample_rate", self.sample_rate, guide.sample_rate),
            ("conditioner", type(self.conditioner).__name__, type(guide.conditioner).__name__),
            ("representation", type(self.representation).__name__, type(guide.representation).__name__),
            ("channels", self.representation.channels, guide.representation.channels),
            ("device", self.device, guide.device),
        ):
            if own != other:
                raise ParameterError(
                    f"guide has {name}={other} and must have {name}={own}, as the model that it guides"
                )
        if self.dialect is not None and guide.dialect is not None:
            ensure_same(guide.dialect, self.dialect, name="guide", remedy="give a guide of the model's own dialect")
        statistics = guide.representation.state_dict()
        for name, own in self.representation.state_dict().items():
            if not torch.equal(own, statistics[name]):
                raise ParameterError(
                    f"guide was fitted to other data: the {name} of its representation differs, so that its signals "
                    "mean something else; give a checkpoint of the same run, or of one on the same data"
                )
        first = float(sampler.grid(sampler.n_steps)[0])
        highest = float(guide.sampler.grid(guide.sampler.n_steps)[0])
        if first > highest * (1.0 + 1e-6):
            raise ParameterError(
                f"guide was made for levels up to sigma={highest:.4g}, and sampling starts at sigma={first:.4g}: give "
                "a guide of the same process, or another grid"
            )

    def _null(self, condition: Condition, *, n: int) -> Condition:
        """Return the condition that says nothing, as long as the one that says something."""
        null = self.conditioner.null(n)
        if null.frames is None or condition.frames is None:
            return null
        return replace(null, frames=null.frames.to(self.device).expand_as(condition.frames))

    def _n_iterations(self, iterations: int | None) -> int:
        """Return how often the mel constraint is to be applied, which is 0 where there is no mel."""
        if not (self.needs_mel or self.representation.makes_mel):
            if iterations:
                raise ParameterError(f"iterations={iterations} needs a mel spectrogram, and this model has none")
            return 0
        n_iterations = self.n_iterations if iterations is None else iterations
        check_whole(n_iterations, name="iterations", least=0)
        if n_iterations == 0 and self.representation.makes_mel:
            raise ParameterError("iterations=0 must be positive: this model makes a mel, which is still to be inverted")
        return n_iterations


class _Progress:
    """Count the steps of one stage after another; called with whatever the stage reports.

    Args:
        on_step: called as (done, of all).
        total: steps of all stages.
    """

    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self._on_step = on_step
        self._total = total
        self._done = 0

    def __call__(self, *_: object) -> None:
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._total)
