"""Inversion of a mel that is still arriving: each window starts from the phases that the earlier ones found."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from audiodiff.dsp.excitation import excite
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import full_bands, low_bands
from audiodiff.dsp.mel_constraint import EXPONENT, LOW_MOMENTUM, MOMENTUM
from audiodiff.dsp.mel_iteration import BandSignal, n_low_iterations, smoothed

_PITCH_CONTEXT = 4  # frames before the first guess that its pitch follows on
# Shares of the iterations that a window does where every frame is part of two: see docs/streaming.md.
_SHARE = 0.75
_LOW_SHARE = 0.375  # in the low band


class ContinuedInversion:
    """Invert the windows of a mel one after another, for a stream.

    The samples before a chunk are settled: they were returned, and stay. Those after it were iterated on while they
    were the look-ahead of earlier chunks, and go on from there. So the iterations of a frame are shared out among the
    windows that it is part of, and the phases of a chunk continue those before it.

    Args:
        dialect: of the mel.
        n_iterations: of a window whose frames are all new.
        twice: whether every frame is part of two windows or more until its samples are settled, which then share the
            iterations. The first window does all of them.

    Source: Zhu, Beauregard and Wyse 2007, "Real-time signal estimation from modified short-time Fourier transform
    magnitude spectra" (RTISI with look-ahead), with the mel constraint as the iteration.
    """

    def __init__(self, dialect: MelDialect, *, n_iterations: int, twice: bool) -> None:
        self._dialect = dialect
        self._n_iterations = n_iterations
        self._twice = twice
        self._signal = torch.empty(0)
        self._first_sample = 0

    @staticmethod
    def settled_frames(dialect: MelDialect) -> int:
        """Return how many settled frames before a chunk lead it: one STFT window."""
        return -(-dialect.n_fft // dialect.hop_length)

    def invert(
        self,
        mel: Float[Tensor, "n_mels frames"],
        *,
        n_samples: int,
        first_sample: int,
        n_settled: int,
        noise: Callable[[int, int], Float[Tensor, "time"]],
    ) -> Float[Tensor, "time"]:
        """Invert the next window, whose frames follow on those of the last one or overlap them.

        Args:
            mel: of the window, in the compressed scale of the dialect.
            n_samples: of the window.
            first_sample: number of its first sample in the whole, a multiple of the hop.
            n_settled: samples of the window that were settled.
            noise: (first sample, number of samples) -> white noise of variance 1.
        """
        with torch.inference_mode():
            known = self._signal[first_sample - self._first_sample :][:n_samples]
            is_one_of_two = self._twice and len(known) > 0
            target = self._dialect.amplitude(mel).mT.contiguous()
            if len(known) < n_samples:
                known = self._extended(known, mel, target, n_samples=n_samples, first_sample=first_sample, noise=noise)
            bands = full_bands(self._dialect, known.dtype, known.device)
            state = BandSignal(known, target, bands, n_settled=n_settled)
            n_iterations = math.ceil((_SHARE if is_one_of_two else 1.0) * self._n_iterations)
            for step in range(n_iterations):
                if step == n_iterations // 2:
                    self._iterate_low_band(state, is_one_of_two=is_one_of_two)
                state.iterate(momentum=MOMENTUM, exponent=EXPONENT)
            self._signal, self._first_sample = state.signal, first_sample
        return self._signal.clone()  # outside of inference mode, so that a caller may train with it

    def _iterate_low_band(self, state: BandSignal, *, is_one_of_two: bool) -> None:
        low = low_bands(self._dialect, state.signal.dtype, state.signal.device)
        if low is None:
            return
        lowered = state.lowered(low)
        share = _LOW_SHARE if is_one_of_two else 1.0
        for _ in range(max(1, round(share * n_low_iterations(state.factor_to(low), self._n_iterations)))):
            lowered.iterate(momentum=LOW_MOMENTUM, exponent=EXPONENT)
        state.replace_low_band(lowered, first_bin=0)

    def _extended(
        self,
        known: Tensor,
        mel: Tensor,
        target: Tensor,
        *,
        n_samples: int,
        first_sample: int,
        noise: Callable[[int, int], Tensor],
    ) -> Tensor:
        """Append a first guess, at the level of the mel, to the known samples of a window."""
        hop, stft = self._dialect.hop_length, self._dialect.stft
        first = max(0, len(known) // hop - _PITCH_CONTEXT)
        n_before = len(known) - first * hop
        fresh = noise(first_sample + len(known), n_samples - len(known)).to(mel)
        guess = excite(
            pad(fresh, (n_before, 0))[None],
            mel[None, :, first:],
            dialect=self._dialect,
            first_frame=first_sample // hop + first,
        )
        own = full_bands(self._dialect, guess.dtype, guess.device).amplitude_of_noise().sum()
        gain = smoothed(target[first:].sum(dim=1)) / own
        guess = guess * stft.between_frames(gain[None], n_samples=guess.shape[-1])
        return torch.cat([known, guess[0, n_before:]])
