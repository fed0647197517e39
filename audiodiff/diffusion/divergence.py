"""Terms of a variational bound: divergences between Gaussians, and a Gaussian decoder, in nats."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma, Signal

Nats = Float[Tensor, "batch"]


def prior_divergence(x0: Signal, sigma: float, *, data_variance: float) -> Nats:
    """Compute KL(N(x0, sigma^2), N(0, sigma^2 + data_variance)), in nats per dimension.

    Raises:
        ParameterError: if data_variance is negative.
    """
    if data_variance < 0.0:
        raise ParameterError(f"data_variance={data_variance} must not be negative")
    power = x0.double().square().flatten(1).mean(dim=1)
    return 0.5 * ((power - data_variance) / (sigma**2 + data_variance) + math.log1p(data_variance / sigma**2))


def log_variance_ratio(sigma: Sigma, sigma_next: Sigma) -> Sigma:
    """Compute log(beta / beta_tilde) of the step from sigma to sigma_next of a process that preserves the variance.

    In x, beta_tilde = sigma_next^2 (1 - sigma_next^2 / sigma^2) is the variance of the posterior given x0, and beta
    that
    of a step of the process: the least and the greatest variance that a reverse step can need.

    Source: Nichol and Dhariwal 2021, eq. 15; Ho et al. 2020, eq. 7.
    """
    return torch.log1p(sigma_next**2) - torch.log1p(sigma**2) + 2.0 * (torch.log(sigma) - torch.log(sigma_next))


def posterior_divergence(error: Signal, snr_gain: Sigma, excess: Signal) -> Signal:
    """Compute KL(q(x_s | x_t, x0), p(x_s | x_t)) of each sample, in nats.

    Args:
        error: x0 - D(x_t).
        snr_gain: SNR(s) - SNR(t) of each example.
        excess: log variance of p minus that of q; with 0 the result is half of snr_gain * error^2.

    Source: Kingma et al. 2021 (VDM), appendix E; Nichol and Dhariwal 2021, eq. 4.
    """
    return 0.5 * (excess + torch.expm1(-excess) + pad_dims_like(snr_gain, error) * error**2 * torch.exp(-excess))


def decoder_nats(error: Signal, log_variance: Signal, bin_width: float | None) -> Signal:
    """Compute -log of a Gaussian around D at x0, or of its integral over x0's bin, of each sample.

    All bins are equally wide. In Ho et al. the outermost bins reach to infinity, which matters for clipped samples
    only.

    Args:
        error: x0 - D.
        log_variance: of the Gaussian.
        bin_width: width of the bin around x0; None for the density.

    Source: Ho et al. 2020, eq. 13.
    """
    if bin_width is None:
        return 0.5 * (math.log(2.0 * math.pi) + log_variance + error**2 * torch.exp(-log_variance))
    # On the lower side, where the logarithm of the normal distribution function is accurate.
    scale = torch.exp(-0.5 * log_variance.double())
    upper = torch.special.log_ndtr((0.5 * bin_width - error.double().abs()) * scale)
    lower = torch.special.log_ndtr((-0.5 * bin_width - error.double().abs()) * scale)
    return -(upper + torch.log(-torch.expm1(lower - upper)))
