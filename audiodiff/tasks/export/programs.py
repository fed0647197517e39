"""Programs of a model: the functions that an export consists of, with what they are traced on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from audiodiff.condition import Condition
from audiodiff.diffusion.sampler import scaled_start
from audiodiff.diffusion.solvers import evaluations_in_a_row
from audiodiff.dsp.level import LEAST_OFFSET, active_rms
from audiodiff.dsp.traced_inversion import constrain_low_band_traced, constrain_traced, invert_traced
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.mel_inverter import CONSTRAINT, MelInverter
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.vocoder import Vocoder
from audiodiff.types import Signal

MOST_STEPS = 8
"""Steps up to which the whole of a model is exported: each adds a copy of the network to the program."""


@dataclass(frozen=True)
class Program:
    """A function of one example, whose inputs may be of any length.

    Args:
        name: of its file.
        module: the function.
        inputs: names of its inputs, in order.
        output: name of its output.
        example: (number of units of time, generator) -> inputs of this length.
        shapes: of each input, the sizes that may change, as torch.export takes them.
    """

    name: str
    module: nn.Module
    inputs: Sequence[str]
    output: str
    example: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    shapes: Sequence[dict[int, Any] | None]


def programs_of(model: Vocoder, *, steps: int | None = None, iterations: int | None = None) -> list[Program]:
    """Return the programs of a model: its denoiser, and its whole where that is one call or a few steps.

    Args:
        model: a trained model, or mel-inversion.
        steps: of the sampler; None is the model's own number, and 1 for enhancement.
        iterations: of the mel constraint; None is the model's own number.

    Raises:
        ParameterError: if an option has no meaning for the model, or nothing of it can be exported.
    """
    if isinstance(model, MelInverter):
        if model.inversion is not CONSTRAINT:
            raise ParameterError(f"model {model.inversion.name!r} cannot be exported: give mel-inversion")
        if steps is not None:
            raise ParameterError(f"steps={steps} has no meaning for model {model.inversion.name!r}: nothing is sampled")
        return [_vocoder(model, _Inversion(model, model.checked_iterations(iterations)), n_draws=1)]
    assert isinstance(model, Synthesizer)
    result = [_denoiser(model)]
    waveform = isinstance(model.representation, WaveformRepresentation) and model.representation.n_channels == 1
    if isinstance(model.conditioner, DegradedConditioner) and waveform:
        sampled = _Sampled(model, 1 if steps is None else steps)
        if sampled.n_steps <= MOST_STEPS:
            result.append(_enhancement(model, sampled))
    elif model.needs_mel and waveform:
        sampled = _Sampled(model, model.n_steps if steps is None else steps)
        if sampled.n_steps <= MOST_STEPS:
            module = _FewSteps(model, sampled, model.checked_iterations(iterations))
            result.append(_vocoder(model, module, n_draws=module.n_draws))
    return result


def _vocoder(model: Vocoder, module: nn.Module, *, n_draws: int) -> Program:
    dialect = model.dialect
    assert dialect is not None

    def example(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        n_frames = 4 * n + (1 if dialect.centred else 0)
        n_samples = dialect.n_samples(n_frames)
        mel = dialect.mel(_sound(n_samples, rate=dialect.sample_rate, generator=generator))
        return mel, torch.randn(1, n_draws, n_samples, generator=generator)

    frames = Dim("frames", min=4, max=2**20)
    lengths = dialect.hop_length * frames - (dialect.hop_length if dialect.centred else 0)
    return Program("vocoder", module, ("mel", "noise"), "audio", example, ({2: frames}, {2: lengths}))


def _enhancement(model: Synthesizer, sampled: "_Sampled") -> Program:
    unit = 4 * model.denoiser.network.alignment

    def example(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        n_samples = n * unit - 3
        audio = _sound(n_samples, rate=model.sample_rate, generator=generator)[:, None]
        return audio, torch.randn(1, sampled.n_draws, n_samples, generator=generator)

    shapes = ({2: Dim.AUTO},) * 2
    return Program("enhance", _Enhancement(model, sampled), ("audio", "noise"), "enhanced", example, shapes)


def _denoiser(model: Synthesizer) -> Program:
    field = "signal" if isinstance(model.conditioner, DegradedConditioner) else None
    field = "frames" if model.needs_mel else "vector" if model.labels is not None else field
    representation, dialect = model.representation, model.dialect
    hop = dialect.hop_length if model.needs_mel and dialect is not None else 1
    unit = 4 * math.lcm(hop, model.denoiser.network.alignment)

    def example(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        x = 0.1 * torch.randn(1, representation.channels, n * unit - 3, generator=generator)
        sigma = model.sampler.grid(model.n_steps)[0].reshape(1).float()
        sound = _sound(n * unit, rate=model.sample_rate, generator=generator)
        if field == "frames":
            assert dialect is not None
            return x, sigma, dialect.mel(sound)
        if field == "signal":
            return x, sigma, torch.stack([sound, torch.ones_like(sound)], dim=1)
        if field == "vector":
            assert model.labels is not None
            return x, sigma, model.labels.vectors([{}])
        return x, sigma

    names = ("x", "sigma") if field is None else ("x", "sigma", field)
    shapes = ({2: Dim.AUTO}, None, None if field == "vector" else {2: Dim.AUTO})[: len(names)]
    return Program("denoiser", _Denoiser(model, field), names, "denoised", example, shapes)


def _sound(n_samples: int, *, rate: int, generator: torch.Generator) -> Tensor:
    """Return a voice-like sound, (1, time): harmonics of 150 Hz whose level varies, and noise."""
    time = torch.arange(n_samples, dtype=torch.float64) / rate
    voice = sum(torch.cos(2.0 * math.pi * 150.0 * k * time + k * k) / k for k in range(1, 13))
    sound = 0.05 * voice * (1.2 + torch.sin(8.0 * time)) + 0.003 * torch.randn(n_samples, generator=generator)
    return sound.float()[None]


class _Inversion(nn.Module):
    def __init__(self, model: MelInverter, n_iterations: int) -> None:
        super().__init__()
        self.dialect, self.n_iterations = model.dialect, n_iterations

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        return invert_traced(noise[0, 0], mel[0], dialect=self.dialect, n_iterations=self.n_iterations)[None, None]


class _Denoiser(nn.Module):
    """D(x, sigma) with the condition encoded inside."""

    def __init__(self, model: Synthesizer, field: str | None) -> None:
        super().__init__()
        self.denoiser, self.field = model.denoiser, field

    def forward(self, x: Tensor, sigma: Tensor, given: Tensor | None = None) -> Tensor:
        condition = Condition() if self.field is None else Condition(**{self.field: given})
        return self.denoiser.bind(condition)(x, sigma)


class _Sampled(nn.Module):
    """The sampler of a model, with the noise of its draws as an input: (condition, start, noise) -> signal.

    Args:
        model: whose sampler it is.
        n_steps: of the sampler.

    Raises:
        ParameterError: if its solver chooses its steps while it runs.
    """

    def __init__(self, model: Synthesizer, n_steps: int) -> None:
        super().__init__()
        self.denoiser, self.sampler, self.n_steps = model.denoiser, model.sampler, n_steps
        if evaluations_in_a_row(model.sampler.solver, n_steps) is None:
            raise ParameterError("the model's solver chooses its steps by the sound, which a program cannot")
        self.sigmas = model.sampler.grid(n_steps)
        self.first = float(self.sigmas[0])
        drawn: set[int] = set()

        def noise(like: Signal, step: int) -> Signal:
            drawn.add(step)
            return torch.zeros_like(like)

        x = torch.zeros(1, model.representation.channels, 1)
        model.sampler.solver(lambda x, _sigma: x, x, self.sigmas, noise=noise)
        self.draws = [0, *sorted(drawn - {0})]

    @property
    def n_draws(self) -> int:
        """Draws of white noise in a sampling."""
        return len(self.draws)

    def forward(self, condition: Condition, start: Tensor | None, noise: Tensor) -> Tensor:
        def draw(like: Signal, step: int) -> Signal:
            place = self.draws.index(step)
            return noise[:, place : place + 1]

        make = scaled_start if self.sampler.start is None else self.sampler.start
        eps = noise[:, :1]
        x = make(eps, self.first) if start is None else start + self.first * eps
        bound = self.denoiser.bind(condition)
        return self.sampler.solver(bound, x, self.sigmas, noise=draw, after_step=self.sampler.after_step)


class _FewSteps(nn.Module):
    """A vocoder: mel and noise to audio. With a warm start, the first draw is the noise of the mel's inversion."""

    def __init__(self, model: Synthesizer, sampled: _Sampled, n_iterations: int) -> None:
        super().__init__()
        self.sampled, self.n_iterations, self.warm_start = sampled, n_iterations, model.warm_start
        assert model.dialect is not None
        self.dialect, self.representation = model.dialect, model.representation

    @property
    def n_draws(self) -> int:
        """Draws of white noise in a generation."""
        return self.sampled.n_draws + int(self.warm_start)

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        start, n_samples = None, noise.shape[-1]
        settings = {"dialect": self.dialect, "n_iterations": self.n_iterations}
        if self.warm_start:
            inverted = invert_traced(noise[0, 0], mel[0], **settings)
            start, noise = self.representation.encode(inverted[None, None]), noise[:, 1:]
        signal = self.sampled(Condition(frames=mel), start, noise)
        audio, _ = self.representation.decode(signal, noise=lambda like, _step: like, n_samples=n_samples)
        if self.n_iterations == 0:
            return audio
        finish = constrain_low_band_traced if self.warm_start else constrain_traced
        return finish(audio[0, 0], mel[0], **settings)[None, None]


class _Enhancement(nn.Module):
    """Enhancement of a recording at the model's rate: brought to its level, and sampled."""

    def __init__(self, model: Synthesizer, sampled: _Sampled) -> None:
        super().__init__()
        self.sampled, self.sample_rate, self.level = sampled, model.sample_rate, model.conditioner.level
        self.representation = model.representation

    def forward(self, audio: Tensor, noise: Tensor) -> Tensor:
        mean = audio.mean(dim=-1, keepdim=True)
        offset = torch.where(mean.abs() > LEAST_OFFSET * audio.abs().amax(dim=-1, keepdim=True), mean, 0.0)
        centred = audio - offset
        gain = torch.ones_like(offset)
        if self.level is not None:
            rms = active_rms(centred, sample_rate=self.sample_rate).square().mean().sqrt()
            gain = torch.where(rms > 0.0, torch.exp2(torch.round(torch.log2(self.level / rms))), 1.0)
        measured = gain * centred
        condition = DegradedConditioner.observed(measured, torch.ones_like(measured))
        signal = self.sampled(condition, None, noise)
        audio, _ = self.representation.decode(signal, noise=lambda like, _step: like, n_samples=noise.shape[-1])
        return audio / gain + offset
