"""Mel inversion as pure functions of one sound, for programs that torch.export traces.

The results are those of `audiodiff.dsp.inversion`, which works in place, in groups of frames, and on batches: faster,
and nothing that can be traced. Iterations are a loop of the program, so its size does not depend on their number.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.excitation import excite
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import EDGE_BANDS, RATIO_MAX, RATIO_MIN, MelBands, full_bands, low_bands, power
from audiodiff.dsp.mel_constraint import EXPONENT, LOW_FROM_HZ, LOW_MOMENTUM, MOMENTUM
from audiodiff.dsp.mel_iteration import LOW_OVERLAP, TINY, n_low_iterations, smoothed
from audiodiff.dsp.stft import synthesis_gain, transform_matrices, window_of

Step = Callable[..., Tensor]
"""(previous signal, signal, constants ...) -> next signal."""


def invert_traced(
    noise: Float[Tensor, "time"], mel: Float[Tensor, "n_mels frames"], *, dialect: MelDialect, n_iterations: int
) -> Float[Tensor, "time"]:
    """Compute `audiodiff.dsp.inversion.invert` of one sound."""
    start = excite(noise[None], mel[None], dialect=dialect)[0]
    return constrain_traced(start, mel, dialect=dialect, n_iterations=n_iterations)


def constrain_traced(
    audio: Float[Tensor, "time"], mel: Float[Tensor, "n_mels frames"], *, dialect: MelDialect, n_iterations: int
) -> Float[Tensor, "time"]:
    """Compute `audiodiff.dsp.mel_constraint.constrain` of one sound."""
    target, stft = dialect.amplitude(mel).mT, dialect.stft
    bands = full_bands(dialect, audio.dtype, audio.device)
    low = low_bands(dialect, audio.dtype, audio.device)
    assert bands.above is not None
    covered = power(stft.analyse(audio))[:, bands.first : bands.last]
    levels = smoothed(torch.stack([target.sum(dim=1), _amplitude(covered, bands, bands.gather).sum(dim=1)]))
    signal = audio * stft.between_frames((levels[0] / levels[1])[None], n_samples=audio.shape[-1])[0]
    constants = (
        target,
        target[:, -EDGE_BANDS:] @ bands.above,
        window_of(stft, audio.dtype, audio.device),
        synthesis_gain(stft, audio.shape[-1], audio.dtype, audio.device),
        bands.gather,
        bands.spread,
    )
    step = partial(_step, bands=bands)
    # The momentum restarts after the low band.
    counts = [n_iterations] if low is None else [n_iterations // 2, n_iterations - n_iterations // 2]
    for part, count in enumerate(counts):
        if part == 1 and low is not None:
            signal = _low_band(signal, target, bands=bands, low=low, n_iterations=n_iterations, first_bin=0)
        signal = _repeat(step, count, signal, constants)
    return signal


def constrain_low_band_traced(
    audio: Float[Tensor, "time"], mel: Float[Tensor, "n_mels frames"], *, dialect: MelDialect, n_iterations: int
) -> Float[Tensor, "time"]:
    """Compute `audiodiff.dsp.mel_constraint.constrain_low_band` of one sound."""
    bands = full_bands(dialect, audio.dtype, audio.device)
    low = low_bands(dialect, audio.dtype, audio.device)
    if low is None or n_iterations == 0:
        return audio
    first_bin = round(LOW_FROM_HZ * dialect.n_fft / dialect.sample_rate)
    target = dialect.amplitude(mel).mT
    return _low_band(audio, target, bands=bands, low=low, n_iterations=n_iterations, first_bin=first_bin)


def _low_band(
    signal: Tensor, target: Tensor, *, bands: MelBands, low: MelBands, n_iterations: int, first_bin: int
) -> Tensor:
    """Iterate on the lowest bins at their lower rate, and put them back from a bin on."""
    stft, own, place = bands.stft, low.stft, (signal.dtype, signal.device)
    factor = stft.hop_length // own.hop_length
    spectrum = stft.analyse(signal)
    lowest = spectrum[:, : own.n_fft // 2 + 1] / factor
    lowered = own.synthesise(lowest, length=(lowest.shape[0] - 1) * own.hop_length + own.n_fft)
    constants = (
        target[:, : low.gather.shape[1]],
        *transform_matrices(own, low.first, *place),
        synthesis_gain(own, lowered.shape[0], *place),
        low.gather,
        low.spread,
    )
    lowered = _repeat(partial(_low_step, bands=low), n_low_iterations(factor, n_iterations), lowered, constants)
    last = low.last - LOW_OVERLAP
    result = own.analyse(lowered)[:, :last] * factor
    # ONNX has no complex slice that takes everything.
    lowest_parts = [spectrum[:, :first_bin], result[:, first_bin:]] if first_bin else [result]
    return stft.synthesise(torch.cat([*lowest_parts, spectrum[:, last:]], dim=1), length=signal.shape[0])


def _repeat(step: Step, n: int, signal: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
    """Apply a step n times, without momentum at first; as a loop of the program where one is traced."""
    if not torch.compiler.is_exporting():
        previous = signal
        for _ in range(n):
            previous, signal = signal, step(previous, signal, *constants)
        return signal

    def unfinished(count: Tensor, *_values: Tensor) -> Tensor:
        return count < n

    def body(count: Tensor, previous: Tensor, current: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return count + 1, current.clone(), step(previous, current, *rest)

    # torch._higher_order_ops.while_loop would first compile the body, and so lose what it knows of the sizes.
    start = (torch.zeros((), dtype=torch.int64), signal.clone(), signal.clone())
    _, _, signal = torch.ops.higher_order.while_loop(unfinished, body, start, tuple(c.clone() for c in constants))
    return signal


def _step(
    previous: Tensor,
    signal: Tensor,
    target: Tensor,
    above: Tensor,
    window: Tensor,
    gain: Tensor,
    gather: Tensor,
    spread: Tensor,
    *,
    bands: MelBands,
) -> Tensor:
    """Compute `BandSignal.iterate`."""
    stft = bands.stft
    extrapolated = torch.lerp(previous, signal, 1 + MOMENTUM)
    spectrum = torch.fft.rfft(stft.pad(extrapolated).unfold(-1, stft.n_fft, stft.hop_length) * window)
    squared = power(spectrum)
    gains = [
        squared.new_zeros(squared.shape[0], bands.first),
        _gains(_amplitude(squared[:, bands.first : bands.last], bands, gather), target, spread),
        above / squared[:, bands.last :].sqrt().clamp(min=TINY),
    ]
    frames = torch.fft.irfft(spectrum * torch.cat(gains, dim=1), n=stft.n_fft) * window
    return stft.overlap_add(frames)[stft.padding : stft.padding + signal.shape[0]] * gain


def _low_step(
    previous: Tensor,
    signal: Tensor,
    target: Tensor,
    analysis: Tensor,
    synthesis: Tensor,
    gain: Tensor,
    gather: Tensor,
    spread: Tensor,
    *,
    bands: MelBands,
) -> Tensor:
    """Compute `LowBandSignal.iterate`."""
    stft, n_covered = bands.stft, bands.last - bands.first
    extrapolated = torch.lerp(previous, signal, 1 + LOW_MOMENTUM).unfold(0, stft.n_fft, stft.hop_length)
    parts = (extrapolated @ analysis).unflatten(1, (2, analysis.shape[1] // 2))  # real and imaginary
    covered = parts[:, :, :n_covered]
    gains = _gains(_amplitude(covered.square().sum(dim=1), bands, gather), target, spread)
    parts = torch.cat([covered * gains[:, None], parts[:, :, n_covered:]], dim=2)
    frames = (parts.flatten(1) @ synthesis)[:, : stft.n_fft]
    return stft.overlap_add(frames)[: signal.shape[0]] * gain


def _amplitude(squared: Tensor, bands: MelBands, gather: Tensor) -> Tensor:
    """Compute `MelBands.amplitude_of_power`, with the filters as an argument, as a loop needs them."""
    highest = bands.amplitude_max if math.isfinite(bands.amplitude_max) else None
    return ((squared + bands.power_offset).sqrt() @ gather).clamp(bands.amplitude_min, highest)


def _gains(amplitude: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """Compute `MelBands.gains`, likewise."""
    excess = (EXPONENT * (amplitude / target).log2()).exp2()
    return (excess.clamp(1 / RATIO_MAX, 1 / RATIO_MIN) @ spread).reciprocal()
