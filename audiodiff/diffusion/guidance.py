"""Guidance: denoisers made from other denoisers, for any sampler, solver and grid.

With the conditional denoiser D_c and the unconditional denoiser D_u, the guided denoiser is

    D = D_u + scale (D_c - D_u),

so that scale 1 is D_c, scale 0 is D_u, and more than 1 exaggerates the condition. Its score, (D - x) / sigma^2, is that
of p_c^scale p_u^(1 - scale) at each noise level.

| here | elsewhere |
|---|---|
| scale | 1 + w in Ho and Salimans 2022, w in Karras et al. 2024 and `guidance_scale` in diffusers |
| rescale | phi in Lin et al. 2024, `guidance_rescale` in diffusers |
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Sigma, Signal

LogProbability = Callable[[Signal, Sigma], Float[Tensor, "batch"]]
"""(x, sigma) -> log p(y | x = x0 + sigma eps) of the wanted class y, one number per example."""
Interval = tuple[float, float]
"""(lo, hi): guidance acts at the noise levels lo < sigma <= hi."""


def classifier_free(
    conditional: Denoise,
    unconditional: Denoise,
    *,
    scale: float,
    interval: Interval | None = None,
    rescale: float = 0.0,
) -> Denoise:
    """Guide by the difference between conditional and unconditional: D = D_u + scale (D_c - D_u).

    Args:
        conditional: D_c.
        unconditional: D_u, of the same network with the null condition.
        scale: 1 is D_c itself, at one evaluation instead of two.
        interval: (lo, hi), levels of sigma; at other levels D is D_c, at one evaluation. None guides at all levels.
        rescale: phi in D (1 - phi + phi std(D_c) / std(D)), the std over the channels and times of each example: 1
            gives D the std of D_c. It acts on x0, whatever the network predicts.

    Raises:
        ParameterError: if scale is not finite, rescale not in [0, 1], or the interval empty.

    Example:
        >>> guided = classifier_free(lambda x, sigma: x + 1.0, lambda x, sigma: x, scale=3.0, interval=(0.1, 2.0))
        >>> x = torch.zeros(2, 1, 1)
        >>> guided(x, torch.tensor([1.0, 5.0]))[:, 0, 0]
        tensor([3., 1.])

    Source: Ho and Salimans 2022, eq. 6; Kynkaanniemi et al. 2024, eq. 6, for the interval; Lin et al. 2024, eq. 15 and
    16, for rescale.
    """
    check(scale, interval=interval)
    if not 0.0 <= rescale <= 1.0:
        raise ParameterError(f"rescale={rescale} must lie in [0, 1]")
    if scale == 1.0:
        return conditional

    def guided(x: Signal, sigma: Sigma) -> Signal:
        denoised_c = conditional(x, sigma)
        acts = _acts(sigma, interval)
        if not acts.any():
            return denoised_c
        denoised_u = unconditional(x, sigma)
        denoised = denoised_u + scale * (denoised_c - denoised_u)
        if rescale > 0.0:
            denoised = (1.0 - rescale + rescale * _std_ratio(denoised_c, denoised)) * denoised
        if acts.all():
            return denoised
        return torch.where(pad_dims_like(acts.to(x.dtype), x) > 0.0, denoised, denoised_c)

    return guided


def autoguidance(strong: Denoise, weak: Denoise, *, scale: float, interval: Interval | None = None) -> Denoise:
    """Guide a model by a weaker version of itself: D = D_weak + scale (D_strong - D_weak).

    Args:
        strong: the model.
        weak: a model of the same data and condition with less capacity or training, for example an earlier checkpoint.
        scale: 1 is the strong model itself, at one evaluation instead of two.
        interval: as in `classifier_free`.

    Raises:
        ParameterError: if scale is not finite, or the interval empty.

    Source: Karras et al. 2024 (Guiding a diffusion model with a bad version of itself), eq. 3.
    """
    return classifier_free(strong, weak, scale=scale, interval=interval)


def classifier_guidance(denoise: Denoise, log_probability: LogProbability, *, scale: float) -> Denoise:
    """Guide by a classifier of noisy signals: D + scale sigma^2 grad_x log p(y | x, sigma).

    With scale 1 and the exact classifier this is the conditional denoiser, by Bayes' rule.

    Args:
        denoise: the unconditional denoiser.
        log_probability: of the wanted class, differentiable in x; it must treat the examples independently.
        scale: above 1 sharpens the classifier to p(y | x)^scale.

    Raises:
        ParameterError: if scale is not finite.

    Example:
        >>> def denoise(x, sigma):  # data: -1 or 1 with equal probabilities
        ...     return torch.tanh(x / pad_dims_like(sigma, x) ** 2)
        >>> def is_positive(x, sigma):  # log p(x0 = 1 | x), one channel and one sample
        ...     return torch.nn.functional.logsigmoid(2.0 * x[:, 0, 0] / sigma**2)
        >>> guided = classifier_guidance(denoise, is_positive, scale=1.0)
        >>> guided(torch.tensor([[[-0.5]], [[0.5]]]), torch.tensor([1.0, 1.0]))[:, 0, 0]
        tensor([1., 1.])

    Source: Dhariwal and Nichol 2021, section 4.2, in the coordinate x = x0 + sigma eps.
    """
    check(scale)

    def guided(x: Signal, sigma: Sigma) -> Signal:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_probability(at, sigma).sum(), at)
        return denoise(x, sigma) + scale * pad_dims_like(sigma**2, x) * gradient

    return guided


def check(scale: float, *, interval: Interval | None = None) -> None:
    """Check a guidance scale and an interval.

    Raises:
        ParameterError: if scale is not finite, or the interval empty.
    """
    if not math.isfinite(scale):
        raise ParameterError(f"scale={scale} must be a finite number; 1 is no guidance")
    if interval is not None and not 0.0 <= interval[0] < interval[1]:
        raise ParameterError(f"interval={interval} must be two levels of sigma, 0 <= lo < hi")


def _acts(sigma: Sigma, interval: Interval | None) -> Tensor:
    """Return, for each example, whether guidance acts at its noise level."""
    if interval is None:
        return torch.ones_like(sigma, dtype=torch.bool)
    return (interval[0] < sigma) & (sigma <= interval[1])


def _std_ratio(reference: Signal, denoised: Signal) -> Float[Tensor, "batch 1 1"]:
    """Return std(reference) / std(denoised) of each example, 1 where denoised is constant."""
    numerator, denominator = (part.std(dim=(1, 2), correction=0, keepdim=True) for part in (reference, denoised))
    return torch.where(denominator > 0.0, numerator / denominator, torch.ones_like(denominator))
