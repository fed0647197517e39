"""WaveNet: a dilated gated residual stack at the rate of the signal, as in DiffWave."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.blockwise import BLOCK_SAMPLES, run_in_blocks
from audiodiff.networks.embedding import Embedding, StepEncoder
from audiodiff.networks.network import Network
from audiodiff.networks.residual import ResidualStack, kaiming_conv1d
from audiodiff.networks.upsample import Upsampler
from audiodiff.types import ReceptiveField, Signal


class WaveNet(Network):
    """Predict at the rate of the signal with a dilated gated residual stack: DiffWave's network, at any hop and depth.

    The local condition is condition.frames, upsampled by hop_length, and condition.signal, if their numbers of channels
    are given. With hop_length = 1, frames are at the rate of x and not upsampled (for example if x is a mel spectrogram
    with its bands as channels). A condition longer than x is cut.

    Args:
        embedding: of the noise level's clock: StepTable for a discrete process, Sinusoidal otherwise.
        in_channels: channels of x and, unless out_channels is given, of the result.
        channels: width of the stack; DiffWave has 64, 128 or 256.
        n_layers: number of residual blocks; DiffWave has 30 or 36.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle); DiffWave has 10 or 12.
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded noise level.
        frame_bands: bands of condition.frames; None ignores them (unconditional).
        hop_length: samples of x per frame.
        upsample: upsamples frames to the rate of x; None derives DiffWave's upsampler from hop_length.
        signal_channels: channels of condition.signal; None ignores it.
        vector_features: width of condition.vector; None ignores it.
        out_channels: channels of the result; None is in_channels; a learned variance needs twice as many.
        look_ahead: samples of x after it that an output depends on at most; 0 is causal, None symmetric. The frames
            that the upsampler mixes add to it.
        upsample_per_block: give each block an upsampler of its own, in the place of one for all.
        reflect: the dilated convolutions see the reflected signal outside it; else zeros.
        step_in_residual: add the encoded noise level to the residual path too.

    The last three are those of public implementations whose checkpoints `audiodiff import` reads.

    Example:
        >>> from audiodiff.networks.embedding import StepTable
        >>> network = WaveNet(StepTable(50), channels=8, n_layers=4, dilation_cycle=2, frame_bands=80, hop_length=256)
        >>> encoded = network.encode(Condition(frames=torch.zeros(1, 80, 3)))
        >>> network(torch.zeros(1, 1, 700), torch.tensor([7.0]), encoded).shape
        torch.Size([1, 1, 700])

    Source: Kong et al. 2021 (DiffWave), section 3 and appendix C.
    """

    def __init__(
        self,
        embedding: Embedding,
        *,
        in_channels: int = 1,
        channels: int = 64,
        n_layers: int = 30,
        dilation_cycle: int = 10,
        kernel_size: int = 3,
        step_features: int = 512,
        frame_bands: int | None = None,
        hop_length: int = 1,
        upsample: Upsampler | None = None,
        signal_channels: int | None = None,
        vector_features: int | None = None,
        out_channels: int | None = None,
        look_ahead: int | None = None,
        upsample_per_block: bool = False,
        reflect: bool = False,
        step_in_residual: bool = False,
    ) -> None:
        super().__init__()
        if out_channels is not None and out_channels < 1:
            raise ParameterError(f"out_channels={out_channels} must be at least 1, or null for in_channels")
        if upsample is not None and upsample.hop_length != hop_length:
            raise ParameterError(f"upsample.hop_length={upsample.hop_length} must equal hop_length={hop_length}")
        self.frame_bands = frame_bands
        self.signal_channels = signal_channels
        self.vector_features = vector_features
        self.upsample = self.upsamplers = None
        if frame_bands is not None and upsample_per_block:
            if upsample is not None or signal_channels is not None:
                raise ParameterError("upsample_per_block=true takes neither upsample nor signal_channels")
            self.upsamplers = nn.ModuleList(Upsampler(hop_length) for _ in range(n_layers))
        elif frame_bands is not None:
            self.upsample = Upsampler(hop_length) if upsample is None else upsample
        self.hop_length = 1 if frame_bands is None else hop_length
        self.step_encoder = StepEncoder(embedding, step_features)
        self.input_projection = kaiming_conv1d(in_channels, channels)
        self.stack = ResidualStack(
            channels,
            n_layers=n_layers,
            dilation_cycle=dilation_cycle,
            kernel_size=kernel_size,
            step_features=step_features,
            condition_channels=(frame_bands or 0) + (signal_channels or 0) or None,
            vector_features=vector_features,
            look_ahead=look_ahead,
            reflect=reflect,
            step_in_residual=step_in_residual,
        )
        self.skip_projection = kaiming_conv1d(channels, channels)
        self.output_projection = kaiming_conv1d(channels, in_channels if out_channels is None else out_channels)
        nn.init.zeros_(self.output_projection.weight)

    @property
    def receptive_field(self) -> ReceptiveField:
        upsample = self.upsample if self.upsamplers is None else self.upsamplers[0]
        mixed = upsample.receptive_field if isinstance(upsample, Upsampler) else 0
        return ReceptiveField(self.stack.receptive_field.before + mixed, self.stack.receptive_field.after + mixed)

    @property
    def alignment(self) -> int:
        return self.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Upsample the frames; signal of the result is the whole local condition.

        With an upsampler in each block, the frames stay as they are: upsampled for all blocks, they would fill the
        memory.
        """
        parts: list[Tensor] = []
        if self.upsample is not None:
            frames = _required(condition.frames, "frames", self.frame_bands)
            parts.append(self.upsample(frames))
        frames = None if self.upsamplers is None else _required(condition.frames, "frames", self.frame_bands)
        if self.signal_channels is not None:
            parts.append(_required(condition.signal, "signal", self.signal_channels))
        vector = None
        if self.vector_features is not None:
            vector = _required(condition.vector, "vector", self.vector_features)
        if not parts:
            return Condition(frames=frames, vector=vector)
        length = min(part.shape[-1] for part in parts)
        return Condition(vector=vector, signal=torch.cat([part[..., :length] for part in parts], dim=1))

    def forward(
        self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition
    ) -> Float[Tensor, "batch out_channels signal_time"]:
        """Predict F.

        Raises:
            ParameterError: if the local condition ends before x does, or x is too short to be reflected.
        """
        if x.shape[-1] <= self.stack.reflected:
            raise ParameterError(
                f"x has {x.shape[-1]} samples: this network reflects {self.stack.reflected} at each end, so give more"
            )
        local = self._local(condition, x.shape[-1])
        step = self.step_encoder(c_noise)
        if not isinstance(local, Iterator) and condition.mask is None and self._can_run_in_blocks(x):
            self.stack.check(local, condition.vector)
            return torch.stack(
                [
                    run_in_blocks(
                        x[index],
                        blocks=self.stack.layers,
                        step=step[index],
                        local=None if local is None else local[index],
                        vector=None if condition.vector is None else condition.vector[index],
                        input_projection=self.input_projection,
                        skip_projection=self.skip_projection,
                        output_projection=self.output_projection,
                    )
                    for index in range(len(x))
                ]
            )
        hidden = F.relu(self.input_projection(x))
        hidden = self.stack(hidden, step, local, condition.vector, condition.mask)
        return self.output_projection(F.relu(self.skip_projection(hidden)))

    def _local(self, condition: Condition, n_samples: int) -> Tensor | Iterator[Tensor] | None:
        """Return the local condition of n samples, or an iterator over those of all blocks."""
        local, frames, upsamplers = condition.signal, condition.frames, self.upsamplers
        covered = n_samples
        if local is not None:
            covered = local.shape[-1]
        elif upsamplers is not None:
            covered = 0 if frames is None else frames.shape[-1] * self.hop_length
        if covered < n_samples:
            raise ParameterError(
                f"the condition covers {covered} samples and x has {n_samples}: give more frames or a shorter x"
            )
        if upsamplers is not None:
            return (upsample(frames)[..., :n_samples] for upsample in upsamplers)
        return None if local is None else local[..., :n_samples]

    def _can_run_in_blocks(self, x: Signal) -> bool:
        """Whether the faster blockwise evaluation is possible: a CPU, float32, no gradients, hooks or tracing."""
        return (
            x.device.type == "cpu"
            and x.dtype == torch.float32
            and x.shape[-1] > BLOCK_SAMPLES // 2
            and self.stack.reflected == 0
            and not self.stack.step_in_residual
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu")
            and not any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())
        )


def _required(value: Tensor | None, name: str, size: int | None) -> Tensor:
    if value is None:
        raise ParameterError(f"condition.{name}=None: this network needs {size} features of it")
    if value.shape[1] != size:
        raise ParameterError(f"condition.{name} has {value.shape[1]} features and this network needs {size}")
    return value
