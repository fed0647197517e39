"""Iterations of the mel constraint on the low band, at a fraction of the rate."""

import torch
from torch import Tensor

from audiodiff.dsp.mel_bands import MelBands
from audiodiff.dsp.stft import frame_groups, synthesis_gain, transform_matrices


class LowBandSignal:
    """Iterate on the low band of a signal, as `audiodiff.dsp.mel_iteration.BandSignal` does on all of it.

    The frames are short, so that the transform is a matrix, and the number of steps decides about the time.

    Args:
        signal: at the lower rate, with the padding.
        target: amplitudes of its bands, (frames, n_mels).
        bands: of the target.
        first_frame: as in `audiodiff.dsp.mel_constraint.constrain`.
        n_settled: first samples of the signal, which stay as they are.
    """

    def __init__(
        self, signal: Tensor, target: Tensor, bands: MelBands, *, first_frame: int = 0, n_settled: int = 0
    ) -> None:
        stft, place = bands.stft, (signal.dtype, signal.device)
        self.signal = signal
        self.bands = bands
        self._previous = signal
        self._n_settled = n_settled
        self._analysis, self._synthesis = transform_matrices(stft, bands.first, *place)
        self._gain = synthesis_gain(stft, len(signal), *place)
        n_frames, hop = len(target), stft.hop_length
        n_segments = self._synthesis.shape[1] // hop
        # Segment k of frame m lies at m + k in layer k, and the sum of the layers is the overlap-add.
        self._layers = signal.new_zeros(n_segments, n_frames + n_segments - 1, hop)
        shape, strides = (n_frames, n_segments, hop), (hop, (n_frames + n_segments) * hop, 1)
        all_segments = self._layers.as_strided(shape, strides)
        groups = frame_groups(n_frames, first_frame=first_frame)
        self._groups = [(part, target[part], all_segments[part]) for part in groups]

    def iterate(self, *, momentum: float, exponent: float) -> None:
        stft, bands = self.bands.stft, self.bands
        extrapolated = torch.lerp(self._previous, self.signal, 1 + momentum).unfold(0, stft.n_fft, stft.hop_length)
        n_bins, n_covered = self._analysis.shape[1] // 2, bands.last - bands.first
        for part, target, segments in self._groups:
            spectrum = extrapolated[part] @ self._analysis
            covered = spectrum.view(-1, 2, n_bins)[:, :, :n_covered]  # real and imaginary parts
            amplitude = bands.amplitude_of_power(covered.square().sum(dim=1))
            covered *= bands.gains(amplitude, target, exponent=exponent)[:, None]
            segments.copy_((spectrum @ self._synthesis).view(segments.shape))
        self._previous = self.signal
        self.signal = self._layers.sum(dim=0).view(-1)[: len(self._gain)].mul_(self._gain)
        if self._n_settled:
            self.signal[: self._n_settled] = self._previous[: self._n_settled]
