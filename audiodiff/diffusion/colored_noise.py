"""Posterior means given a recording with Gaussian noise of a known spectrum, from a denoiser that knows white noise."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Sigma, Signal

LOWEST = 1e-5
"""Of the noise's power in the loudest band: noise below that is no noise."""


def posterior_mean(
    denoise: Denoise, y: Signal, power: Float[Tensor, "batch channels bins"], *, extra: Signal, n_levels: int = 6
) -> Denoise:
    """Make E[x0 | x, y] of E[x0 | x], for y = x0 + n with stationary Gaussian noise n.

    At a frequency where n has the power C, x = x0 + sigma eps and y are two noisy versions of x0, and all that they
    say of it is what their mean says, weighed by precision: z = (C x + sigma^2 y) / (C + sigma^2), with noise of the
    power v = C sigma^2 / (C + sigma^2). If v is one for all frequencies, E[x0 | x, y] = D(z, sqrt(v)), exactly and for
    data of every kind. If not, D is asked at several levels s evenly spaced in log v, of z with noise of the power
    s^2 - v added where v is less, and each frequency is interpolated between the two levels around its v. Where
    nothing is noisy, z is the result.

    Args:
        denoise: (x, sigma) -> x0, of the data alone.
        y: the recording.
        power: C, the variance that white noise as loud as n there would have, at frequencies evenly spaced from 0 to
            half the sample rate.
        extra: white noise of variance 1, independent of that in x, as y: what is added.
        n_levels: at how many levels D is asked at most, for each evaluation of the result.

    Raises:
        ParameterError: if the shapes do not fit, the power is negative, or n_levels is less than 2.

    Example:
        >>> def white(x, sigma):                 # data: white, of variance 1
        ...     return x / (1.0 + sigma[:, None, None] ** 2)
        >>> y = torch.tensor([[[1.0, -2.0, 0.5, 0.0]]])
        >>> told = denoised_with(white, y, torch.ones(1, 1, 3), extra=torch.zeros_like(y))
        >>> told(torch.zeros_like(y), torch.tensor([1e6]))
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
    heard, added = torch.fft.rfft(y), torch.fft.rfft(extra.to(y))

    def told(x: Signal, sigma: Sigma) -> Signal:
        share = pad_dims_like(sigma, x) ** 2
        share = share / (share + at_bins)
        noise = share * at_bins
        combined = torch.lerp(torch.fft.rfft(x), heard, share.to(heard))
        top = noise.amax(dim=(1, 2))
        if not bool((top > 0.0).any()):
            return torch.fft.irfft(combined, n=n_samples)
        top = top.clamp(min=torch.finfo(x.dtype).tiny)[:, None, None]
        # In logarithms: each frequency's place among the levels, from 0, the lowest, to n - 1.
        ratio = (noise / top).clamp(min=LOWEST)
        span = -ratio.amin(dim=(1, 2), keepdim=True).log()
        n = n_levels if bool((span > 0.1).any()) else 1
        step = (span / max(n - 1, 1)).clamp(min=1e-3)
        place = n - 1 + ratio.log() / step
        result = torch.zeros_like(combined)
        for level in range(n):
            variance = top * torch.exp(-(n - 1 - level) * step)
            less = (variance - noise).clamp(min=0.0).sqrt()
            asked = torch.fft.irfft(combined + less * added, n=n_samples)
            estimate = denoise(asked, variance.flatten().sqrt().to(sigma))
            weight = (1.0 - (place - level).abs()).clamp(min=0.0) if n > 1 else torch.ones_like(place)
            result = result + weight * torch.fft.rfft(estimate)
        result = torch.where(noise < LOWEST * top, combined, result)
        return torch.fft.irfft(result, n=n_samples)

    return told
