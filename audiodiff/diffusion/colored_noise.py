"""Posterior means given a recording in Gaussian noise of a known spectrum, from a denoiser of white noise."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Sigma, Signal

NEGLIGIBLE = 1e-5
"""Share of the noise's power at its loudest frequency below which noise is neglected."""


def posterior_mean(
    denoise: Denoise, y: Signal, power: Float[Tensor, "batch channels bins"], *, extra: Signal, n_levels: int = 6
) -> Denoise:
    """Make a denoiser E[x0 | x, y] from D = E[x0 | x], for y = x0 + n with stationary Gaussian noise n.

    At a frequency where n has the power C, x = x0 + sigma eps and y are two noisy versions of x0. Their mean weighed by
    precision, z = (C x + sigma^2 y) / (C + sigma^2), is a sufficient statistic; its noise has the power v = C sigma^2 /
    (C + sigma^2). If v is the same at all frequencies, E[x0 | x, y] = D(z, sqrt(v)), exactly and for any data. If not,
    D is evaluated at several levels s, evenly spaced in log v. At each of them, noise of the power s^2 - v is added to
    z where v is smaller, and each frequency is interpolated between the two levels around its v. Without any noise the
    result is z.

    Args:
        denoise: (x, sigma) -> x0, of the data alone.
        y: the recording.
        power: C, the variance of white noise of the same power density, at frequencies evenly spaced from 0 to half the
            sample rate.
        extra: white noise of variance 1 to be added, shaped like y and independent of the noise in x.
        n_levels: evaluations of D at most, for each evaluation of the result.

    Raises:
        ParameterError: if the shapes do not match, power is negative, or n_levels is less than 2.

    Example:
        >>> def white(x, sigma):  # data: white, of variance 1
        ...     return x / (1.0 + sigma[:, None, None] ** 2)
        >>> y = torch.tensor([[[1.0, -2.0, 0.5, 0.0]]])
        >>> conditional = posterior_mean(white, y, torch.ones(1, 1, 3), extra=torch.zeros_like(y))
        >>> conditional(torch.zeros_like(y), torch.tensor([1e6]))
        tensor([[[ 0.5000, -1.0000,  0.2500,  0.0000]]])
    """
    check_whole(n_levels, name="n_levels", least=2)
    n_samples = y.shape[-1]
    if power.shape[:2] != y.shape[:2] or power.shape[-1] < 2:
        raise ParameterError(
            f"power of shape {tuple(power.shape)} must have two bins or more for each channel of y, of shape "
            f"{tuple(y.shape)}"
        )
    if not bool((power >= 0.0).all()):
        raise ParameterError("power must not be negative: the variance of noise at each frequency")
    at_bins = F.interpolate(power.to(y), size=n_samples // 2 + 1, mode="linear", align_corners=True)
    spectrum, added = torch.fft.rfft(y), torch.fft.rfft(extra.to(y))

    def conditional(x: Signal, sigma: Sigma) -> Signal:
        share = pad_dims_like(sigma, x) ** 2
        share = share / (share + at_bins)
        noise = share * at_bins
        combined = torch.lerp(torch.fft.rfft(x), spectrum, share.to(spectrum))
        top = noise.amax(dim=(1, 2))
        if not bool((top > 0.0).any()):
            return torch.fft.irfft(combined, n=n_samples)
        top = top.clamp(min=torch.finfo(x.dtype).tiny)[:, None, None]
        # The place of each frequency among the levels, from 0 (the lowest) to n - 1, in log v.
        ratio = (noise / top).clamp(min=NEGLIGIBLE)
        span = -ratio.amin(dim=(1, 2), keepdim=True).log()
        n = n_levels if bool((span > 0.1).any()) else 1
        step = (span / max(n - 1, 1)).clamp(min=1e-3)
        place = n - 1 + ratio.log() / step
        result = torch.zeros_like(combined)
        for level in range(n):
            variance = top * torch.exp(-(n - 1 - level) * step)
            less = (variance - noise).clamp(min=0.0).sqrt()
            z = torch.fft.irfft(combined + less * added, n=n_samples)
            estimate = denoise(z, variance.flatten().sqrt().to(sigma))
            weight = (1.0 - (place - level).abs()).clamp(min=0.0) if n > 1 else torch.ones_like(place)
            result = result + weight * torch.fft.rfft(estimate)
        result = torch.where(noise < NEGLIGIBLE * top, combined, result)
        return torch.fft.irfft(result, n=n_samples)

    return conditional
