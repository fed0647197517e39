"""Spectral refiner: a network at the frame rate that refines an inverted mel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.networks.embedding import Embedding, StepEncoder
from audiodiff.networks.network import Network
from audiodiff.networks.residual import ResidualStack, kaiming_conv1d
from audiodiff.networks.spectral import at_frames_of, centre_of, overlapping, spread_of
from audiodiff.types import ReceptiveField, Signal

QUIETEST = 1e-3
"""Magnitude, relative to the mel's envelope, below which features no longer depend on it: -60 dB."""
LEAST_MAGNITUDE = 1e-3
"""Least magnitude of the envelope, for audio in [-1, 1]."""
MOST_LOG_GAIN = 4.0
"""Limit of the logarithm of a gain: 35 dB."""


class SpectralRefiner(Network):
    """Multiply the STFT of x by a gain for each bin and frame.

    Before training it is the identity: its input, an inverted mel, has nearly the right magnitudes, and its phases are
    kept. Its features are, for each bin of the STFT, the phase with the root of the magnitude relative to the envelope
    from the mel, and the logarithm of this; and the mel. The frames of the gains are shorter, n_gains for each frame of
    features. It is made for `warm_start`, `method=refinement` and preconditioning=sample.

    Args:
        embedding: of the noise level's clock.
        dialect: of condition.frames.
        n_fft, hop_length: of the STFT of the features, in samples; preferably those of the dialect.
        n_gains: frames of gains for each frame of features, shorter by this factor.
        channels: width of the stack.
        n_layers: number of residual blocks.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle), in frames.
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded noise level.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> from audiodiff.networks.embedding import Sinusoidal
        >>> hifigan = dialect("hifigan")
        >>> network = SpectralRefiner(Sinusoidal(), dialect=hifigan, channels=8, n_layers=2, dilation_cycle=2)
        >>> audio = torch.randn(1, 1, 2560)
        >>> encoded = network.encode(Condition(frames=hifigan.mel(audio[:, 0])))
        >>> torch.allclose(network(audio, torch.tensor([0.0]), encoded), audio, atol=1e-5)
        True
    """

    spread: Tensor

    def __init__(
        self,
        embedding: Embedding,
        *,
        dialect: MelDialect,
        n_fft: int = 1024,
        hop_length: int = 256,
        n_gains: int = 2,
        channels: int = 256,
        n_layers: int = 8,
        dilation_cycle: int = 4,
        kernel_size: int = 3,
        step_features: int = 64,
    ) -> None:
        super().__init__()
        self.dialect = dialect
        check_whole(n_gains, name="n_gains", least=1)
        if n_fft % (2 * n_gains) or hop_length % n_gains:
            raise ParameterError(
                f"n_gains={n_gains} must divide hop_length={hop_length} and half of n_fft={n_fft}: frames of gains are "
                "shorter by this factor"
            )
        self.n_gains = n_gains
        self.stft = overlapping(n_fft, hop_length)
        self.shorter = overlapping(n_fft // n_gains, hop_length // n_gains)
        bins = n_fft // 2 + 1
        self.register_buffer("spread", spread_of(dialect, self.stft), persistent=False)
        self.step_encoder = StepEncoder(embedding, step_features)
        self.mel_projection = kaiming_conv1d(dialect.n_mels, channels, kernel_size)
        self.input_projection = kaiming_conv1d(3 * bins, channels)
        self.stack = ResidualStack(
            channels,
            n_layers=n_layers,
            dilation_cycle=dilation_cycle,
            kernel_size=kernel_size,
            step_features=step_features,
        )
        self.skip_projection = kaiming_conv1d(channels, channels)
        self.output_projection = kaiming_conv1d(channels, n_gains * (n_fft // n_gains // 2 + 1))
        nn.init.zeros_(self.output_projection.weight)
        assert self.output_projection.bias is not None
        nn.init.zeros_(self.output_projection.bias)

    @property
    def receptive_field(self) -> ReceptiveField:
        # Half a window of analysis and half a window of synthesis; for the mel, the latter and two of its frames.
        hop, window, side = self.stft.hop_length, self.stft.n_fft, self.mel_projection.kernel_size[0] // 2
        centre, stack = centre_of(self.dialect), self.stack.receptive_field
        before = max(window, window // 2 + centre)
        after = max(window, window // 2 + self.dialect.hop_length - centre)
        return ReceptiveField((stack.before + side) * hop + before, (stack.after + side) * hop + after)

    @property
    def alignment(self) -> int:
        return self.stft.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Encode the mel at the network's frame rate; signal of the result is the envelope of magnitudes.

        Raises:
            ParameterError: if condition.frames is not a mel of the dialect's bands.
        """
        mel = condition.frames
        if mel is None or mel.shape[1] != self.dialect.n_mels:
            raise ParameterError(f"condition.frames must be a mel spectrogram of {self.dialect.n_mels} bands")
        amplitude = at_frames_of(self.stft, self.dialect.amplitude(mel), dialect=self.dialect)
        with torch.autocast(mel.device.type, enabled=False):
            envelope = torch.einsum("km,bmt->bkt", self.spread, amplitude).clamp(min=LEAST_MAGNITUDE)
        # Roughly standardised, for any compression of the dialect.
        features = (amplitude.clamp(min=1e-5).log() + 5.0) / 2.5
        if condition.mask is not None:
            inside = condition.mask[:, :: self.stft.hop_length][:, : features.shape[-1]]
            features = features * F.pad(inside, (0, features.shape[-1] - inside.shape[-1])).unsqueeze(1)
        return Condition(frames=self.mel_projection(features), signal=envelope)

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict F.

        Raises:
            ParameterError: if x has more than one channel, or the mel ends before x does.
        """
        if x.shape[1] != 1:
            raise ParameterError(f"channels={x.shape[1]} must be 1: this network models mono audio")
        local, envelope, hop = condition.frames, condition.signal, self.stft.hop_length
        assert local is not None
        assert envelope is not None
        n_samples, n_frames = x.shape[-1], (x.shape[-1] + hop - 1) // hop
        if envelope.shape[-1] < n_frames:
            raise ParameterError(
                f"the mel covers {envelope.shape[-1] * hop} samples and x has {n_samples}: give more frames"
            )
        local, envelope = local[..., :n_frames], envelope[..., :n_frames]
        with torch.autocast(x.device.type, enabled=False):
            audio = F.pad(x[:, 0], (0, n_frames * hop - n_samples)).float()
            spectrum = self.stft.forward(audio)
            real, imag = spectrum.real / envelope, spectrum.imag / envelope
            power = real.square() + imag.square() + QUIETEST**2
            root = power**-0.25
            features = torch.cat([real * root, imag * root, 0.25 * power.log()], dim=1)
        hidden = F.relu(self.input_projection(features) + local)
        real_frames = None if condition.mask is None else condition.mask[:, ::hop]
        hidden = self.stack(hidden, self.step_encoder(c_noise), None, None, real_frames)
        given = self.output_projection(F.relu(self.skip_projection(hidden))).float()
        # (batch, gains x bins, frames) -> (batch, bins, frames x gains): in the order of time.
        logs = given.unflatten(1, (self.n_gains, -1)).permute(0, 2, 3, 1).flatten(2)
        gain = (MOST_LOG_GAIN * torch.tanh(logs / MOST_LOG_GAIN)).exp()
        if real_frames is not None:
            real_frames = real_frames.repeat_interleave(self.n_gains, dim=1)
            gain = gain * real_frames.unsqueeze(1)
        audio = self.shorter.inverse(gain * self.shorter.forward(audio), length=n_frames * hop)
        if real_frames is not None:
            audio = audio * self.shorter.unpadded_gain(real_frames, length=n_frames * hop)
        return audio[:, None, :n_samples].to(x.dtype)
