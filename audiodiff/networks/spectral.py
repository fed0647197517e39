"""Spectral WaveNet: a residual stack at the frame rate, between a short-time Fourier transform and its inverse."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.stft import Stft
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Embedding, StepEncoder
from audiodiff.networks.network import Network
from audiodiff.networks.residual import ResidualStack, kaiming_conv1d, shared_look_ahead
from audiodiff.types import Mel, ReceptiveField, Signal


class SpectralWaveNet(Network):
    """Predict a waveform from the real and imaginary parts of its STFT, with the channels of a stack at the frame rate.

    A frame stands for hop_length samples, so the same stack costs hop_length times less than at the sample rate. The
    input is divided by the root of the sum of the squared envelope (from the mel) and the frame's mean power, so that
    it is of the order of 1 for speech and for noise. The output is the input times a gain for each bin and frame, as of
    a Wiener filter, plus a spectrum, and is multiplied by the envelope, so that it is quiet where the mel is.

    Args:
        embedding: of the noise level's clock.
        dialect: of condition.frames; None makes an unconditional network with a constant envelope.
        n_fft, hop_length: of the network's STFT, in samples; they may differ from those of the dialect.
        level: expected RMS of the audio; the envelope without a mel, and a thousandth of it the least envelope.
        channels: width of the stack.
        n_layers: number of residual blocks.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle), in frames.
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded noise level.
        vector_features: width of condition.vector; None ignores it.
        look_ahead: frames of the network after it that an output frame depends on at most, used up by the mel encoder
            and then the first blocks; 0 is causal, None symmetric. The window adds to it.

    Example:
        >>> from audiodiff.networks.embedding import Sinusoidal
        >>> network = SpectralWaveNet(Sinusoidal(), dialect=None, channels=8, n_layers=2, dilation_cycle=2)
        >>> network(torch.zeros(1, 1, 1000), torch.tensor([0.5]), network.encode(Condition())).shape
        torch.Size([1, 1, 1000])
    """

    spread: Tensor

    def __init__(
        self,
        embedding: Embedding,
        *,
        dialect: MelDialect | None,
        n_fft: int = 512,
        hop_length: int = 128,
        level: float = 0.1,
        channels: int = 256,
        n_layers: int = 8,
        dilation_cycle: int = 4,
        kernel_size: int = 3,
        step_features: int = 256,
        vector_features: int | None = None,
        look_ahead: int | None = None,
    ) -> None:
        super().__init__()
        if level <= 0:
            raise ParameterError(f"level={level} must be positive")
        self.stft = overlapping(n_fft, hop_length)
        self.dialect = dialect
        self.vector_features = vector_features
        # RMS of the STFT of white noise of standard deviation 1: Hann's window has a mean square of 3/8.
        self.noise_magnitude = math.sqrt(n_fft * 3.0 / 8.0)
        self.level = level
        bins = n_fft // 2 + 1
        self.mel_encoder = None
        self.encoder_receptive_field = ReceptiveField(0, 0)
        if dialect is not None:
            self.register_buffer("spread", spread_of(dialect, self.stft), persistent=False)
            first, second = shared_look_ahead(look_ahead, [2, 1])
            self.encoder_receptive_field = ReceptiveField(6 - first - second, first + second)
            self.mel_encoder = nn.Sequential(
                kaiming_conv1d(dialect.n_mels, channels, 5, look_ahead=first),
                nn.ReLU(),
                kaiming_conv1d(channels, channels, 3, look_ahead=second),
                nn.ReLU(),
            )
        self.step_encoder = StepEncoder(embedding, step_features)
        self.input_projection = kaiming_conv1d(2 * bins, channels)
        self.stack = ResidualStack(
            channels,
            n_layers=n_layers,
            dilation_cycle=dilation_cycle,
            kernel_size=kernel_size,
            step_features=step_features,
            condition_channels=None if dialect is None else channels,
            vector_features=vector_features,
            look_ahead=None if look_ahead is None else look_ahead - self.encoder_receptive_field.after,
        )
        self.skip_projection = kaiming_conv1d(channels, channels)
        self.output_projection = kaiming_conv1d(channels, 3 * bins)
        nn.init.zeros_(self.output_projection.weight)

    @property
    def receptive_field(self) -> ReceptiveField:
        # For x, half a window of analysis and half a window of synthesis; for the mel, the latter and the two frames
        # that it is interpolated from.
        hop, window = self.stft.hop_length, self.stft.n_fft
        before = after = window
        if self.dialect is not None:
            centre = centre_of(self.dialect)
            before = max(window, window // 2 + centre)
            after = max(window, window // 2 + self.dialect.hop_length - centre)
        stack, encoder = self.stack.receptive_field, self.encoder_receptive_field
        return ReceptiveField(
            (stack.before + encoder.before) * hop + before, (stack.after + encoder.after) * hop + after
        )

    @property
    def alignment(self) -> int:
        hop = self.stft.hop_length
        return hop if self.dialect is None else math.lcm(hop, self.dialect.hop_length)

    def encode(self, condition: Condition) -> Condition:
        """Encode the mel at the network's frame rate; signal of the result is the envelope of magnitudes."""
        if self.vector_features is not None and condition.vector is None:
            raise ParameterError(f"condition.vector=None: this network needs {self.vector_features} features of it")
        vector = condition.vector if self.vector_features is not None else None
        if self.dialect is None or self.mel_encoder is None:
            return Condition(vector=vector)
        mel = condition.frames
        if mel is None or mel.shape[1] != self.dialect.n_mels:
            raise ParameterError(f"condition.frames must be a mel spectrogram of {self.dialect.n_mels} bands")
        amplitude = at_frames_of(self.stft, self.dialect.amplitude(mel), dialect=self.dialect)
        with torch.autocast(mel.device.type, enabled=False):
            envelope = torch.einsum("km,bmt->bkt", self.spread, amplitude)
        # Roughly standardised, for any compression of the dialect.
        features = (amplitude.clamp(min=1e-5).log() + 5.0) / 2.5
        n_frames = envelope.shape[-1]
        inside = None
        if condition.mask is not None:
            inside = condition.mask[:, :: self.stft.hop_length][:, :n_frames]
            inside = F.pad(inside, (0, n_frames - inside.shape[-1])).unsqueeze(1)
        for layer in self.mel_encoder:
            features = features if inside is None else features * inside
            features = layer(features)[..., :n_frames]
        return Condition(vector=vector, frames=features, signal=envelope)

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict F.

        Raises:
            ParameterError: if x has more than one channel, or the mel ends before x does.
        """
        if x.shape[1] != 1:
            raise ParameterError(f"channels={x.shape[1]} must be 1: this network models mono audio")
        n_samples = x.shape[-1]
        hop = self.stft.hop_length
        n_frames = (n_samples + hop - 1) // hop
        spectrum = self.stft.forward(F.pad(x[:, 0], (0, n_frames * hop - n_samples)).float())
        envelope, local = condition.signal, condition.frames
        if envelope is None:
            envelope = torch.full_like(spectrum.real, self.level * self.noise_magnitude)
        elif envelope.shape[-1] < n_frames:
            raise ParameterError(
                f"the mel covers {envelope.shape[-1] * hop} samples and x has {n_samples}: give more frames"
            )
        else:
            envelope = envelope[..., :n_frames].clamp(min=1e-3 * self.level * self.noise_magnitude)
            local = None if local is None else local[..., :n_frames]
        measured = (spectrum.real.square() + spectrum.imag.square()).mean(dim=1, keepdim=True)
        scale = (envelope.square() + measured).rsqrt()
        hidden = F.relu(self.input_projection(torch.cat([spectrum.real * scale, spectrum.imag * scale], dim=1)))
        real_frames = None if condition.mask is None else condition.mask[:, ::hop]
        hidden = self.stack(hidden, self.step_encoder(c_noise), local, condition.vector, real_frames)
        gain, real, imag = self.output_projection(F.relu(self.skip_projection(hidden))).float().chunk(3, dim=1)
        gain = gain * scale
        estimate = torch.complex(envelope * (gain * spectrum.real + real), envelope * (gain * spectrum.imag + imag))
        if real_frames is not None:
            estimate = estimate * real_frames.unsqueeze(1)
        audio = self.stft.inverse(estimate, length=n_frames * hop)
        if real_frames is not None:
            audio = audio * self.stft.unpadded_gain(real_frames, length=n_frames * hop)
        return audio[:, None, :n_samples].to(x.dtype)


def spread_of(dialect: MelDialect, stft: Stft) -> Float[Tensor, "bins n_mels"]:
    """Return the matrix from band amplitudes to magnitudes of another STFT, constant within and beyond the bands."""
    filters = dialect.filters().double()
    width = filters.sum(dim=1, keepdim=True) ** (1 / dialect.power)
    share = filters / filters.sum(dim=0, keepdim=True).clamp(min=1e-12)
    at_bins = (share / width).T  # (dialect bins, n_mels): the mean magnitude of each band, mixed as the filters overlap
    covered = torch.nonzero(filters.sum(dim=0) > 0)[:, 0]
    frequencies = torch.arange(stft.n_fft // 2 + 1, dtype=torch.float64) * dialect.n_fft / stft.n_fft
    nearest = frequencies.round().long().clamp(int(covered.min()), int(covered.max()))
    # Magnitudes of noise grow with the root of the window's energy.
    return (at_bins[nearest] * math.sqrt(stft.n_fft / dialect.win_length)).float()


def centre_of(dialect: MelDialect) -> int:
    """Return the sample at the centre of the first mel frame."""
    return dialect.n_fft // 2 - dialect.stft.padding


def at_frames_of(stft: Stft, mel: Mel, *, dialect: MelDialect) -> Float[Tensor, "batch n_mels own_frames"]:
    """Interpolate mel frames linearly at the centres of a network's frames, the first of them half a hop in."""
    hop = stft.hop_length
    n_samples = mel.shape[-1] * dialect.hop_length
    n_frames = (n_samples + hop - 1) // hop
    at = (torch.arange(n_frames, device=mel.device) + 0.5) * hop
    position = ((at - centre_of(dialect)) / dialect.hop_length).clamp(0, mel.shape[-1] - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=mel.shape[-1] - 1)
    return torch.lerp(mel[..., low], mel[..., high], (position - low).to(mel))


def overlapping(n_fft: int, hop_length: int) -> Stft:
    """Return the STFT of a network, whose first frame is centred on the middle of the first hop.

    Raises:
        ParameterError: if frames overlap by less than half.
    """
    if hop_length * 2 > n_fft:
        raise ParameterError(f"hop_length={hop_length} must be at most half of n_fft={n_fft}: frames must overlap")
    padding = (n_fft - hop_length) // 2
    return Stft(n_fft=n_fft, hop_length=hop_length, win_length=n_fft, padding=padding, pad_mode="constant")
