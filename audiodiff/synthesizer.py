"""A trained model: representation + conditioner + denoiser + sampler."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from audiodiff.condition import Condition
from audiodiff.conditioners.conditioner import Conditioner
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.inversion import constrain
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.generation_arguments import checked_items, checked_n_samples
from audiodiff.representations.representation import Representation
from audiodiff.types import Mel, Signal, Waveform


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
        if n_iterations < 0:
            raise ParameterError(f"n_iterations={n_iterations} must not be negative")
        self.sample_rate = sample_rate
        self.dialect = dialect
        self.representation = representation
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.sampler = sampler
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
        """Analyse mono audio at the model's rate."""
        if self.dialect is None:
            raise ParameterError("dialect=None: this model knows no mel spectrogram")
        if audio.shape[1] != 1:
            raise ParameterError(f"channels={audio.shape[1]} must be 1: analyse channels one by one")
        return self.dialect.mel(audio[:, 0].to(self.device))

    @torch.inference_mode()
    def generate(
        self,
        mel: Mel | None = None,
        *,
        batch: int | None = None,
        seconds: float | None = None,
        n_samples: int | None = None,
        steps: int | None = None,
        iterations: int | None = None,
        solver: str | None = None,
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
            solver: name of another solver than the checkpoint's, as in `audiodiff.diffusion.solvers`.
            seed: of the sampling noise.
            items: number of each example, which keys its noise, so that it does not depend on the batch.
            on_step: called as (done, of all) after each step of the sampler and each iteration.

        Returns: audio (batch, channels, n_samples), not limited to [-1, 1].

        Raises:
            ParameterError: if an argument has no meaning for this model or cannot be.
            MelError: if the mel breaks its contract.
        """
        mel, n_examples, length = self._what(mel, batch=batch, seconds=seconds, n_samples=n_samples)
        n_steps = self.sampler.n_steps if steps is None else steps
        n_iterations = self.n_iterations if iterations is None else iterations
        sampler = self.sampler if solver is None else replace(self.sampler, solver=solver_named(solver))
        noise = BlockNoise(seed, checked_items(items, batch=n_examples))
        report = _Progress(on_step)

        condition = Condition(frames=mel) if mel is not None else self.conditioner.null(n_examples)
        denoise = self.denoiser.bind(condition)
        like = torch.zeros(n_examples, self.representation.channels, self.representation.length(length))
        like = like.to(self.device)
        signal = sampler(denoise, like, noise, n_steps=n_steps, on_step=report.each(n_steps, rest=n_iterations))
        audio, target = self.representation.decode(signal, noise=noise, n_samples=length)

        finished = target is None
        target = mel if finished else target
        if target is None or self.dialect is None:
            if iterations:
                raise ParameterError(f"iterations={iterations} needs a mel spectrogram, and this model has none")
            return audio
        if n_iterations == 0 and not finished:
            raise ParameterError("iterations=0 must be positive: this model makes a mel, and it is to be inverted")
        constrained = constrain(
            audio[:, 0],
            target,
            dialect=self.dialect,
            n_iterations=n_iterations,
            on_step=report.each(n_iterations, rest=0),
        )
        return constrained[:, None]

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
            self.dialect.check(mel, name="mel")
            mel = mel.to(self.device, torch.float32)
            return mel, len(mel), checked_n_samples(n_samples, mel=mel, dialect=self.dialect)
        if mel is not None:
            raise ParameterError("mel is given, and this model is unconditional: it generates from nothing")
        batch = 1 if batch is None else batch
        if batch < 1:
            raise ParameterError(f"batch={batch} must be at least 1")
        if seconds is not None and n_samples is not None:
            raise ParameterError(f"seconds={seconds} and n_samples={n_samples}: give one of them")
        length = n_samples if n_samples is not None else round((1.0 if seconds is None else seconds) * self.sample_rate)
        if length < 1:
            raise ParameterError(f"seconds={seconds} must be at least one sample long, {1 / self.sample_rate:.2g} s")
        return None, batch, length


class _Progress:
    """Count the steps of one stage after another."""

    def __init__(self, on_step: Callable[[int, int], None] | None) -> None:
        self._on_step = on_step
        self._before = 0

    def each(self, n: int, *, rest: int) -> Callable[..., None] | None:
        """Return the callback of a stage of n steps, with `rest` steps to come after it."""
        on_step, before = self._on_step, self._before
        if on_step is None:
            return None
        self._before += n
        count = iter(range(before + 1, before + n + 1))
        return lambda *_: on_step(next(count), before + n + rest)
