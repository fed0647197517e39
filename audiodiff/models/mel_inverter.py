"""Mel inversion without training: the models `mel-inversion` and `griffin-lim`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.noise import Seed, noise_of
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.continued_inversion import ContinuedInversion
from audiodiff.dsp.inversion import DEFAULT_ITERATIONS, griffin_lim, inversion_receptive_field, invert
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.chunking import ChunkPlan, Renderer, join_chunks
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions
from audiodiff.models.streaming import StreamLayout
from audiodiff.models.validation import Labels, checked_items, checked_mel, checked_n_samples
from audiodiff.models.vocoder import Vocoder
from audiodiff.types import Mel, Mels, MelsOfSignals, ReceptiveField, Waveform


@dataclass(frozen=True)
class Inversion:
    """An algorithm that inverts mels.

    Args:
        name: of the model that uses it.
        invert: (noise, mel, *, dialect, n_iterations, first_frame, pairs, on_step) -> audio.
        receptive_field: (dialect, n_iterations) -> frames before and after a window that its samples depend on; None
            where only a whole can be inverted.
    """

    name: str
    invert: Callable[..., Float[Tensor, "batch time"]]
    receptive_field: Callable[[MelDialect, int], ReceptiveField] | None


def _griffin_lim(
    noise: Float[Tensor, "batch time"],
    mel: MelsOfSignals,
    *,
    dialect: MelDialect,
    n_iterations: int,
    first_frame: int,
    pairs: ChannelPairs | None,
    on_step: Callable[..., None] | None,
) -> Float[Tensor, "batch time"]:
    assert first_frame == 0
    return griffin_lim(mel, noise, dialect=dialect, n_iterations=n_iterations, pairs=pairs, on_step=on_step)


DEFAULT_MODEL = "mel-inversion"
CONSTRAINT = Inversion(DEFAULT_MODEL, invert, inversion_receptive_field)
INVERSIONS = {
    DEFAULT_MODEL: CONSTRAINT,
    "none": CONSTRAINT,
    "griffin-lim": Inversion("griffin-lim", _griffin_lim, None),
}
"""The algorithms, by the names that `audiodiff.load` takes; none is another name of the first."""


class MelInverter(Vocoder):
    """Invert mel spectrograms of one dialect without training.

    Args:
        dialect: the contract that every mel has to keep.
        n_iterations: iterations unless a call asks for another number.
        inversion: the algorithm; the accelerated mel constraint unless given.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> model = MelInverter(dialect=dialect("hifigan"))
        >>> model
        MelInverter(sample_rate: 22050 Hz, dialect: hifigan, parameters: 0 M, iterations: 16)
        >>> model.generate(model.mel(0.1 * torch.randn(2, 1, 5120))).shape
        torch.Size([2, 1, 5120])
    """

    dialect: MelDialect

    _place: torch.Tensor

    def __init__(
        self, *, dialect: MelDialect, n_iterations: int = DEFAULT_ITERATIONS, inversion: Inversion = CONSTRAINT
    ) -> None:
        super().__init__()
        self.sample_rate = dialect.sample_rate
        self.dialect = dialect
        self.n_iterations = n_iterations
        self.inversion = inversion
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def needs_mel(self) -> bool:
        """True: it makes sound from mels alone."""
        return True

    @property
    def n_steps(self) -> int:
        """0: nothing is sampled."""
        return 0

    @property
    def labels(self) -> None:
        """None: it knows no labels."""

    def check_sampling(self, options: SamplingOptions = MODEL_DEFAULTS) -> None:
        """Refuse all sampling options, since nothing is sampled.

        Raises:
            ParameterError: if an option is not None.
        """
        for name in options.given:
            self._refuse(name, getattr(options, name))

    @torch.no_grad()
    def generate(
        self,
        mel: Mels,
        *,
        n_samples: int | None = None,
        iterations: int | None = None,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "... time"]:
        """Make audio whose mel spectrogram is the given one.

        Args:
            mel: (batch, n_mels, frames), or (n_mels, frames) of one sound, in the compressed scale of the dialect.
            n_samples: length of the result; None is what the frames cover.
            iterations: of the inversion; None is the model's own number.
            seed: of the noise that the inversion starts from.
            items: number of each example, which keys its noise, so that it does not depend on the batch.
            on_step: called as (done, of all) after each iteration.

        Returns: audio (batch, 1, n_samples), or (1, n_samples) of one sound, not limited to [-1, 1].

        Raises:
            ParameterError: if an argument cannot be.
            MelError: if the mel breaks the contract of the dialect.
        """
        mels = checked_mel(mel, dialect=self.dialect).to(self.device)
        length = checked_n_samples(n_samples, n_frames=mel.shape[-1], dialect=self.dialect)
        made = self.generate_chunks(
            [mels], batch=len(mels), n_samples=length, iterations=iterations, seed=seed, items=items, on_step=on_step
        )
        audio = join_chunks(made, n_samples=length)
        return audio if mel.ndim == 3 else audio[0]

    def generate_chunks(
        self,
        mels: Iterable[Mel] | None = None,
        *,
        n_samples: int | Sequence[int],
        labels: Labels | None = None,
        batch: int = 1,
        at_once: int | None = None,
        pairs: ChannelPairs | None = None,
        iterations: int | None = None,
        options: SamplingOptions = MODEL_DEFAULTS,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Waveform]:
        """Generate audio a few seconds at a time, each example alone; see `Vocoder.generate_chunks`."""
        if mels is None:
            raise ParameterError(
                f"mels=None: model {self.inversion.name!r} has no training and inverts a mel; give one, or audio"
            )
        if labels is not None:
            self._refuse("labels", labels)
        if not isinstance(n_samples, int):
            self._refuse("n_samples", n_samples)
        self.check_sampling(options)
        n_iterations = self.checked_iterations(iterations)
        items = checked_items(items, batch=batch)
        return self._in_chunks(
            lambda part, report: self.renderer(
                n_iterations=n_iterations, seed=seed, items=items[part], pairs=pairs, on_step=report
            ),
            mels,
            n_samples=n_samples,
            batch=batch,
            at_once=1 if pairs is None else pairs.n_signals,
            plan=self.chunk_plan(n_iterations=n_iterations),
            n_steps_of=lambda n_windows: n_windows * n_iterations,
            on_step=on_step,
        )

    def chunk_plan(self, *, n_iterations: int, options: SamplingOptions = MODEL_DEFAULTS) -> ChunkPlan | None:
        """Return how its sounds may be divided into chunks, or None where only a whole can be made."""
        if self.inversion.receptive_field is None:
            return None
        hop = self.dialect.hop_length
        before, after = self.inversion.receptive_field(self.dialect, n_iterations)
        return ChunkPlan(margin=ReceptiveField(before * hop, after * hop), alignment=hop)

    def checked_iterations(self, iterations: int | None) -> int:
        """Return the number of iterations; None is the model's own number.

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
        self,
        *,
        n_iterations: int,
        seed: Seed,
        items: Sequence[int],
        on_step: Callable[..., None] | None,
        options: SamplingOptions = MODEL_DEFAULTS,
        pairs: ChannelPairs | None = None,
    ) -> Renderer:
        """Return the function that makes the sound of a window of mels."""

        @torch.no_grad()
        def render(mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform:
            assert mel is not None
            noise = noise_of(seed, items, offset=first_sample)
            return self.inversion.invert(
                noise(mel.new_zeros(len(items), 1, n_samples), -1)[:, 0],
                mel,
                dialect=self.dialect,
                n_iterations=n_iterations,
                first_frame=first_sample // self.dialect.hop_length,
                pairs=pairs,
                on_step=on_step,
            )[:, None]

        return render

    def continued_renderer(
        self, layout: StreamLayout, *, n_iterations: int, seed: Seed, item: int
    ) -> tuple[StreamLayout, Renderer]:
        """Return a renderer that goes on with the phases of the last chunk."""
        twice = layout.ahead_frames >= layout.chunk_frames
        inversion = ContinuedInversion(self.dialect, n_iterations=n_iterations, twice=twice)
        settled = count(step=layout.chunk_frames * self.dialect.hop_length)

        def render(mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform:
            assert mel is not None

            def noise(first: int, n: int) -> Tensor:
                return noise_of(seed, [item], offset=first)(mel.new_zeros(1, 1, n), -1)[0, 0]

            return inversion.invert(
                mel[0],
                n_samples=n_samples,
                first_sample=first_sample,
                n_settled=next(settled) - first_sample,
                noise=noise,
            )[None, None]

        return replace(layout, behind_frames=ContinuedInversion.settled_frames(self.dialect)), render

    def _refuse(self, name: str, value: object) -> NoReturn:
        shown = f"{name}={value}" if isinstance(value, int | float | str | tuple) else name
        raise ParameterError(f"{shown} has no meaning for model {self.inversion.name!r}: it only inverts the given mel")
