"""Spectral restorer: a network at the frame rate, conditioned on a degraded recording or unconditional."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Embedding, StepEncoder
from audiodiff.networks.network import Network
from audiodiff.networks.residual import ResidualStack, kaiming_conv1d
from audiodiff.networks.spectral import overlapping
from audiodiff.types import ReceptiveField, Signal

QUIETEST = 1e-3
"""Magnitude, relative to the expected one, below which features no longer depend on it: -60 dB."""


class SpectralRestorer(Network):
    """Predict a waveform from the STFTs of x and of a degraded recording, with a residual stack at the frame rate.

    The features of both are, for each bin, the phase with the root of the magnitude, and the logarithm of the
    magnitude, so that quiet bins have as much influence as loud ones. The output is the posterior mean of a Gaussian in
    every bin. With its mean m, a predicted share of the recording's bin plus a predicted value, and its predicted
    variance P,

        D = m + W (x - m),    W = P / (P + sigma^2 N^2),

    where N^2 is the power of white noise in a bin. So D is x without noise, m at high noise levels, and a Wiener filter
    between. It is made for process=flow, whose clock determines sigma, and preconditioning=sample.

    Args:
        embedding: of the noise level's clock.
        n_fft, hop_length: of the STFT, in samples.
        sample_rate: in Hz, for the corner.
        noise_scale: of the flow.
        level: expected RMS of the audio.
        corner: frequency above which the expected spectrum falls, in Hz.
        channels: width of the stack.
        n_layers: number of residual blocks.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle), in frames.
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded noise level.

    Example:
        >>> from audiodiff.networks.embedding import Sinusoidal
        >>> network = SpectralRestorer(Sinusoidal(), sample_rate=16000, channels=8, n_layers=2, dilation_cycle=2)
        >>> network(torch.zeros(1, 1, 1000), torch.tensor([0.5]), network.encode(Condition())).shape
        torch.Size([1, 1, 1000])

    Source: Richter et al. 2023 (SGMSE+), section III-B, for magnitudes to the power of 1/2.
    """

    expected: Tensor

    def __init__(
        self,
        embedding: Embedding,
        *,
        sample_rate: int,
        noise_scale: float = 0.1,
        n_fft: int = 512,
        hop_length: int = 160,
        level: float = 0.07,
        corner: float = 500.0,
        channels: int = 256,
        n_layers: int = 12,
        dilation_cycle: int = 6,
        kernel_size: int = 3,
        step_features: int = 128,
    ) -> None:
        super().__init__()
        for name, value in (("level", level), ("corner", corner), ("noise_scale", noise_scale)):
            if not value > 0.0:
                raise ParameterError(f"{name}={value} must be positive")
        self.stft = overlapping(n_fft, hop_length)
        bins = n_fft // 2 + 1
        frequency = torch.linspace(0.0, sample_rate / 2.0, bins, dtype=torch.float64)
        # Magnitudes of white noise, Hann's window having a mean square of 3/8, and of noise with the slope of speech.
        self.noise_magnitude = (n_fft * 3.0 / 8.0) ** 0.5
        magnitude = level * self.noise_magnitude / (1.0 + (frequency / corner) ** 2).sqrt()
        self.register_buffer("expected", magnitude.float()[:, None], persistent=False)
        self.noise_scale = noise_scale
        self.step_encoder = StepEncoder(embedding, step_features)
        self.noisy_projection = kaiming_conv1d(3 * bins, channels)
        self.noisy_gain = nn.Linear(step_features, channels)
        # Beside the spectrum, the known share of each frame. The name stays, as checkpoints hold its weights.
        self.heard_projection = kaiming_conv1d(3 * bins + 1, channels)
        self.stack = ResidualStack(
            channels,
            n_layers=n_layers,
            dilation_cycle=dilation_cycle,
            kernel_size=kernel_size,
            step_features=step_features,
        )
        self.skip_projection = kaiming_conv1d(channels, channels)
        self.output_projection = kaiming_conv1d(channels, 4 * bins)
        nn.init.zeros_(self.output_projection.weight)

    @property
    def receptive_field(self) -> ReceptiveField:
        # Half a window of analysis and half a window of synthesis.
        hop, window, stack = self.stft.hop_length, self.stft.n_fft, self.stack.receptive_field
        return ReceptiveField(stack.before * hop + window, stack.after * hop + window)

    @property
    def alignment(self) -> int:
        return self.stft.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Encode a recording and a mask of its known samples: frames of the result is its projection, signal its STFT.

        Raises:
            ParameterError: if condition.signal does not have these two channels.
        """
        if condition.signal is None:
            return Condition()
        if condition.signal.shape[1] != 2:
            raise ParameterError(
                f"condition.signal has {condition.signal.shape[1]} channels and must have 2: a recording, and 1 "
                "where it is known"
            )
        n_frames, hop = self._n_frames(condition.signal), self.stft.hop_length
        spectrum = self._analysed(condition.signal[:, :1])
        known = F.pad(condition.signal[:, 1:].float(), (0, n_frames * hop - condition.signal.shape[-1]))
        known = known.reshape(-1, 1, n_frames, hop).mean(dim=-1)
        # All features are 0 where nothing is known, as without a recording.
        features = torch.cat([self._features(spectrum) * (known > 0.0), known], dim=1)
        return Condition(frames=self.heard_projection(features), signal=spectrum)

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict F.

        Raises:
            ParameterError: if x has more than one channel, or the recording ends before x does.
        """
        if x.shape[1] != 1:
            raise ParameterError(f"channels={x.shape[1]} must be 1: this network models mono audio")
        n_frames, hop, bins = self._n_frames(x), self.stft.hop_length, len(self.expected)
        parts = self._analysed(x)
        step = self.step_encoder(c_noise)
        noisy = self.noisy_projection(self._features(parts)) * (1.0 + self.noisy_gain(step)).unsqueeze(-1)
        hidden = F.relu(noisy + self._of_recording(condition.frames, n_frames=n_frames))
        real_frames = None if condition.mask is None else condition.mask[:, ::hop]
        hidden = self.stack(hidden, step, None, None, real_frames)
        given = self.output_projection(F.relu(self.skip_projection(hidden))).float()
        variance, kept, own = given.split([bins, bins, 2 * bins], dim=1)
        mean = self.expected.repeat(2, 1) * own
        if condition.signal is not None:
            mean = mean + torch.sigmoid(kept).repeat(1, 2, 1) * condition.signal[..., :n_frames]
        # In logarithms, which stay finite at the end of the flow's clock; x_t = (1 - t) x.
        clock = c_noise.double().clamp(1e-6, 1.0 - 1e-6)[:, None, None]
        sigma = (self.noise_scale * clock / (1.0 - clock)).float()
        wiener = torch.sigmoid(variance + 2.0 * (self.expected / (sigma * self.noise_magnitude)).log()).repeat(1, 2, 1)
        estimate = mean + wiener * (parts / (1.0 - clock).float() - mean)
        if real_frames is not None:
            estimate = estimate * real_frames.unsqueeze(1)
        audio = self.stft.inverse(torch.complex(*estimate.chunk(2, dim=1)), length=n_frames * hop)
        if real_frames is not None:
            audio = audio * self.stft.unpadded_gain(real_frames, length=n_frames * hop)
        return audio[:, None, : x.shape[-1]].to(x.dtype)

    def _n_frames(self, signal: Signal) -> int:
        # Not -(-n // hop), whose inner quotient ONNX rounds towards 0.
        return (signal.shape[-1] + self.stft.hop_length - 1) // self.stft.hop_length

    def _analysed(self, audio: Float[Tensor, "batch 1 time"]) -> Float[Tensor, "batch real_and_imaginary frames"]:
        """Return the real and the imaginary parts of the STFT of audio, one after the other, in float32."""
        missing = self._n_frames(audio) * self.stft.hop_length - audio.shape[-1]
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = self.stft.forward(F.pad(audio[:, 0].float(), (0, missing)))
        return torch.cat([spectrum.real, spectrum.imag], dim=1)

    def _features(
        self, parts: Float[Tensor, "batch real_and_imaginary frames"]
    ) -> Float[Tensor, "batch features frames"]:
        """Return the phase of every bin with the root of its magnitude, and the logarithm of this root."""
        real, imag = (parts / self.expected.repeat(2, 1)).chunk(2, dim=1)
        power = real.square() + imag.square() + QUIETEST**2
        root = power**-0.25
        return torch.cat([real * root, imag * root, 0.25 * power.log()], dim=1)

    def _of_recording(
        self, projected: Float[Tensor, "batch channels frames"] | None, *, n_frames: int
    ) -> Float[Tensor, "batch channels frames"]:
        """Return the projection of the recording, cut to n_frames; without one, the bias."""
        if projected is None:
            assert self.heard_projection.bias is not None
            return self.heard_projection.bias[None, :, None]
        if projected.shape[-1] < n_frames:
            hop = self.stft.hop_length
            raise ParameterError(
                f"the observed recording covers {projected.shape[-1] * hop} samples and x needs {n_frames * hop}: "
                "give one as long as x"
            )
        return projected[..., :n_frames]
