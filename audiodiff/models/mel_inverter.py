"""The models named `none` and `griffin-lim`: mel inversion without training."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.noise import Seed, noise_of
from audiodiff.diffusion.solvers import Solver
from audiodiff.dsp.inversion import DEFAULT_ITERATIONS, griffin_lim, invert, invert_reach
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.chunking import (
    ChunkPlan,
    Renderer,
    StepCounter,
    chunks_of,
    join_chunks,
    render_batch,
    render_chunks,
)
from audiodiff.models.streaming import Stream
from audiodiff.models.validation import checked_audio, checked_items, checked_mel, checked_n_samples
from audiodiff.models.vocoder import Vocoder
from audiodiff.types import AudioStretch, Mel, MelStretch, ReceptiveField, Waveform


@dataclass(frozen=True)
class Inversion:
    """A way to invert mels.

    Args:
        name: of the model that inverts in this way.
        invert: (noise, mel, *, dialect, n_iterations, first_frame, on_step) -> audio.
        reach: (dialect, n_iterations) -> frames before and after a window that make its samples those of the longer
            signal; None where only a whole can be inverted.
    """

    name: str
    invert: Callable[..., Float[Tensor, "batch time"]]
    receptive_field: Callable[[MelDialect, int], ReceptiveField] | None


def _griffin_lim(
    noise: Float[Tensor, "batch time"],
    mel: Mel,
    *,
    dialect: MelDialect,
    n_iterations: int,
    first_frame: int,
    on_step: Callable[..., None] | None,
) -> Float[Tensor, "batch time"]:
    assert first_frame == 0
    return griffin_lim(mel, noise, dialect=dialect, n_iterations=n_iterations, on_step=on_step)


CONSTRAINT = Inversion("none", invert, invert_reach)
INVERSIONS = {way.name: way for way in (CONSTRAINT, Inversion("griffin-lim", _griffin_lim, None))}
"""The ways to invert mels, by the names that `audiodiff.load` knows them by."""


class MelInverter(Vocoder):
    """Invert mel spectrograms of one dialect without training, unless told otherwise by the accelerated mel constraint.

    Args:
        dialect: the contract that every mel has to keep.
        n_iterations: iterations unless a call asks for another number.
        inversion: the way.
    """

    dialect: MelDialect

    _place: torch.Tensor

    def __init__(
        self, *, dialect: MelDialect, n_iterations: int = DEFAULT_ITERATIONS, inversion: Inversion = CONSTRAINT
    ) -> None:
        super().__init__()
        self.dialect = dialect
        self.n_iterations = n_iterations
        self.inversion = inversion
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def sample_rate(self) -> int:
        """Samples per second, Hz."""
        return self.dialect.sample_rate

    @property
    def needs_mel(self) -> bool:
        """True: there is nothing to make sound from but a mel."""
        return True

    @property
    def n_steps(self) -> int:
        """0: nothing is sampled."""
        return 0

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._place.device

    def mel(self, audio: Waveform) -> Mel:
        """Analyse mono audio at the model's rate, (batch, 1, time)."""
        return self.dialect.mel(checked_audio(audio)[:, 0].to(self.device))

    def check_sampling(
        self,
        *,
        steps: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guide: nn.Module | None = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> None:
        """Refuse whatever is said of sampling: there is none.

        Raises:
            ParameterError: if an argument is not None.
        """
        self._refuse(
            steps=steps, solver=solver, grid=grid, guide=guide, guidance=guidance, guidance_interval=guidance_interval
        )

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
        guide: nn.Module | None = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Waveform:
        """Make audio whose mel spectrogram is the given one.

        Args:
            mel: in the compressed scale of the dialect.
            batch: refused; the mel says how many.
            seconds: refused; the mel says how long.
            n_samples: length of the result; None is what the frames cover.
            steps: refused unless None: nothing is sampled.
            iterations: of the mel constraint; None is the model's default.
            solver: refused unless None.
            grid: likewise.
            guide: likewise.
            guidance: likewise.
            guidance_interval: likewise.
            seed: of the noise that the inversion starts from.
            items: number of each example, which keys its noise, so that it does not depend on the batch.
            on_step: called as (done, of all) after each iteration.

        Returns: audio (batch, 1, n_samples), not limited to [-1, 1].

        Raises:
            ParameterError: without a mel, or with an argument that has no meaning here.
            MelError: if the mel breaks its contract.
        """
        if mel is None:
            raise ParameterError(
                f"mel=None: model {self.inversion.name!r} has no training and inverts a mel; give one, or audio"
            )
        self._refuse(batch=batch, seconds=seconds)
        self.check_sampling(
            steps=steps, solver=solver, grid=grid, guide=guide, guidance=guidance, guidance_interval=guidance_interval
        )
        mel = checked_mel(mel, dialect=self.dialect).to(self.device)
        length = checked_n_samples(n_samples, n_frames=mel.shape[-1], dialect=self.dialect)
        made = self.generate_pieces(
            [mel], batch=len(mel), n_samples=length, iterations=iterations, seed=seed, items=items, on_step=on_step
        )
        return join_chunks(made, n_samples=length)

    def generate_pieces(
        self,
        mels: Iterable[Mel] | None = None,
        *,
        n_samples: int,
        batch: int = 1,
        at_once: int | None = None,
        steps: int | None = None,
        iterations: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guide: nn.Module | None = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Waveform]:
        """Make the audio of `generate` a piece at a time, in the memory of one of them.

        Args:
            mels: stretches of the mels in order, (batch, n_mels, frames) each.
            n_samples: of the whole.
            batch: examples in each stretch.
            at_once: for models that compute several examples together; here each is computed by itself.
            steps: as in `generate`, and so is all that follows.
            iterations: see steps.
            solver: see steps.
            grid: see steps.
            guide: see steps.
            guidance: see steps.
            guidance_interval: see steps.
            seed: see steps.
            items: see steps.
            on_step: as in `generate`.

        Returns: an iterator over audio, (batch, 1, samples), of a few seconds each.

        Raises:
            ParameterError: as `generate`; also where the mels end early.
            MelError: when a stretch is reached that breaks its contract.
        """
        if mels is None:
            raise ParameterError(
                f"mels=None: model {self.inversion.name!r} has no training and inverts a mel; give one, or audio"
            )
        self.check_sampling(
            steps=steps, solver=solver, grid=grid, guide=guide, guidance=guidance, guidance_interval=guidance_interval
        )
        n_iterations = self.checked_iterations(iterations)
        items = checked_items(items, batch=batch)
        cut = self.cut(n_iterations=n_iterations)
        chunks = chunks_of(n_samples, plan=cut, sample_rate=self.sample_rate)
        report = StepCounter(on_step, total=batch * len(chunks) * n_iterations)
        renders = [self.renderer(n_iterations=n_iterations, seed=seed, items=[item], on_step=report) for item in items]
        checked = (checked_mel(mel, dialect=self.dialect).to(self.device) for mel in mels)
        return render_chunks(render_batch(renders, size=1), checked, chunks, dialect=self.dialect)

    def open_stream(
        self,
        *,
        chunk_frames: int | None = None,
        ahead_frames: int | None = None,
        iterations: int | None = None,
        seed: Seed = 0,
        item: int = 0,
    ) -> Stream:
        """Return a stream that takes mel frames as they come, and gives audio.

        Args:
            chunk_frames: frames whose audio is given at once; None is 16.
            ahead_frames: frames after a chunk that it waits for; None is as many as `generate` needs for the same
                result.
            iterations: of the mel constraint; None is the model's default.
            seed: of the noise that the inversion starts from.
            item: number that keys the noise, another one for another sound.

        Raises:
            ParameterError: if a number is out of its range.
        """
        n_iterations = self.checked_iterations(iterations)
        cut = self.cut(n_iterations=n_iterations)
        if cut is None:
            raise ParameterError(f"model {self.inversion.name!r} looks at the whole sound: stream with model 'none'")
        return Stream(
            self.renderer(n_iterations=n_iterations, seed=seed, items=[item], on_step=None),
            dialect=self.dialect,
            plan=cut,
            chunk_frames=chunk_frames,
            ahead_frames=ahead_frames,
        )

    def stream(self, mels: Iterable[MelStretch], **options: Any) -> Iterator[AudioStretch]:
        """Yield audio, (1, 1, samples), while mel frames, (1, n_mels, frames), still come.

        Args:
            mels: stretches of one mel spectrogram, each of any number of frames.
            options: as in `open_stream`.
        """
        return self.open_stream(**options).over(mels)

    def cut(self, *, n_iterations: int) -> ChunkPlan | None:
        """Return how its sounds may be cut into pieces, or None where only a whole can be made."""
        if self.inversion.receptive_field is None:
            return None
        hop = self.dialect.hop_length
        before, after = self.inversion.receptive_field(self.dialect, n_iterations)
        return ChunkPlan(margin=ReceptiveField(before * hop, after * hop), alignment=hop)

    def checked_iterations(self, iterations: int | None) -> int:
        """Return the number of iterations, the model's where None.

        Raises:
            ParameterError: if it is less than 1.
        """
        n_iterations = self.n_iterations if iterations is None else iterations
        check_whole(n_iterations, name="iterations", least=0)
        if n_iterations == 0:
            raise ParameterError(
                f"iterations={n_iterations} must be at least 1: model {self.inversion.name!r} starts from noise"
            )
        return n_iterations

    def renderer(
        self, *, n_iterations: int, seed: Seed, items: Sequence[int], on_step: Callable[..., None] | None
    ) -> Renderer:
        """Return what makes the sound of a window of mels."""

        @torch.no_grad()
        def render(mel: Mel | None, *, n_samples: int, first_sample: int) -> Waveform:
            assert mel is not None
            noise = noise_of(seed, items, offset=first_sample)
            return self.inversion.invert(
                noise(mel.new_zeros(len(items), 1, n_samples), -1)[:, 0],
                mel,
                dialect=self.dialect,
                n_iterations=n_iterations,
                first_frame=first_sample // self.dialect.hop_length,
                on_step=on_step,
            )[:, None]

        return render

    def _refuse(self, **values: object) -> None:
        for name, value in values.items():
            if value is not None:
                shown = f"{name}={value}" if isinstance(value, int | float | str | tuple) else name
                raise ParameterError(
                    f"{shown} has no meaning for model {self.inversion.name!r}: it only inverts the given mel"
                )
