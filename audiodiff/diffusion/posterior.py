"""Posterior sampling: draw x0 given y = A x0 + sigma_y * noise, with a denoiser that was not trained for A.

| here | acts on | needs of A | exact for |
|---|---|---|---|
| projection | D | pseudo-inverse | known samples; sigma_y = 0 |
| replacement | x, after every step | pseudo-inverse | known samples; sigma_y = 0 |
| reconstruction_guidance | D | A | |
| pigdm | D | pseudo-inverse | isotropic Gaussian data |
| dps | x, after every step | A | |
| repaint (`repaint.py`) | x, several times per step | pseudo-inverse | known samples; sigma_y = 0 |

The methods that act on D take a denoiser and return one, for any solver and grid. As score = (D - x) / sigma^2, adding
g = grad_x log p(y | x) to the score adds sigma^2 g to D.
"""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.operators import LinearOperator, Measurement, gain_of
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver, euler_ancestral
from audiodiff.diffusion.solvers.method import finish, fixed_step
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Sigma, Signal


def projection(denoise: Denoise, operator: LinearOperator, y: Measurement) -> Denoise:
    """Replace the measured part of the estimate: D' = A^+ y + (D - A^+ A D).

    The estimate is consistent with y at every step, and so is the result of a solver whose last step returns D. With a
    mask, the known samples equal y to the bit.

    Args:
        denoise: (x, sigma) -> x0, of the data alone.
        operator: A, with a pseudo-inverse.
        y: the measurement, without noise.

    Raises:
        ParameterError: if the operator has no pseudo-inverse.

    Source: Wang et al. 2023 (DDNM), eq. 13.
    """
    gain_of(operator)
    measured = operator.pseudo_inverse(y)

    def projected(x: Signal, sigma: Sigma) -> Signal:
        denoised = denoise(x, sigma)
        return measured + (denoised - operator.pseudo_inverse(operator(denoised)))

    return projected


def replacement(operator: LinearOperator, y: Measurement, *, noise: Noise) -> AfterStep:
    """Make a hook that replaces the measured part of x: x' = A^+ (y + sigma A eps) + (x - A^+ A x).

    Args:
        operator: A, with a pseudo-inverse.
        y: the measurement, without noise.
        noise: draws eps, with step number k + 1 after transition k; it must differ from the solver's noise.

    Raises:
        ParameterError: if the operator has no pseudo-inverse.

    Source: Song et al. 2021 (score SDE), appendix I.2 and I.4.
    """
    gain_of(operator)
    measured = operator.pseudo_inverse(y)

    def after_step(x: Signal, step: int, sigma: float) -> Signal:
        eps = noise(x, step + 1)
        return measured + sigma * operator.pseudo_inverse(operator(eps)) + (x - operator.pseudo_inverse(operator(x)))

    return after_step


def reconstruction_guidance(
    denoise: Denoise, operator: LinearOperator, y: Measurement, *, weight: float = 1.0, sigma_y: float = 0.0
) -> Denoise:
    """Descend the gradient of the error: D' = D - weight * share / 2 * grad_x |y - A D(x)|^2.

    It assumes p(y | x) = N(A D, (sigma^2 + sigma_y^2) 1), which gives share = sigma^2 / (sigma^2 + sigma_y^2). The
    gradient is taken through the network. For isotropic Gaussian data of variance v, the variance of x0 given x is
    r^2 = sigma^2 v / (sigma^2 + v) and not sigma^2, so this guidance is too weak, most of all at high noise levels.

    Args:
        denoise: (x, sigma) -> x0, of the data alone, differentiable; it must treat the examples independently.
        operator: A.
        y: the measurement.
        weight: w_r; the assumption above gives 1.
        sigma_y: std of the noise in y.

    Raises:
        ParameterError: if weight or sigma_y is negative.

    Source: Ho et al. 2022 (video diffusion models), eq. 7, where sigma_y is 0.
    """
    _check_not_negative(weight=weight, sigma_y=sigma_y)

    def guided(x: Signal, sigma: Sigma) -> Signal:
        denoised, at = _with_gradient(denoise, x, sigma)
        with torch.enable_grad():
            error = 0.5 * ((y - operator(denoised)) ** 2).sum()
        (gradient,) = torch.autograd.grad(error, at)
        share = sigma**2 / (sigma**2 + sigma_y**2)
        return denoised.detach() - weight * pad_dims_like(share, x) * gradient

    return guided


def pigdm(
    denoise: Denoise, operator: LinearOperator, y: Measurement, *, sigma_data: float, sigma_y: float = 0.0
) -> Denoise:
    """Add the score of p(y | x) = N(A D, r^2 A A^T + sigma_y^2 1), with r^2 = sigma^2 sd^2 / (sigma^2 + sd^2).

    D' = D + sigma^2 J^T A^T (r^2 A A^T + sigma_y^2)^-1 (y - A D), where J is the Jacobian of D. It is exact for data
    distributed as N(m, sd^2 1).

    Args:
        denoise: (x, sigma) -> x0, of the data alone, differentiable; it must treat the examples independently.
        operator: A, with a gain.
        y: the measurement.
        sigma_data: sd, std of the signals that are diffused; near 0.1 for speech.
        sigma_y: std of the noise in y.

    Raises:
        ParameterError: if the operator has no gain, sigma_data is not positive, or sigma_y is negative.

    Source: Song et al. 2023 (Pseudoinverse-guided diffusion models), eq. 7 and 8.
    """
    gain = gain_of(operator)
    _check_not_negative(sigma_y=sigma_y)
    if not sigma_data > 0.0:
        raise ParameterError(f"sigma_data={sigma_data} must be positive")

    def guided(x: Signal, sigma: Sigma) -> Signal:
        denoised, at = _with_gradient(denoise, x, sigma)
        variance = sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)
        residual = operator.adjoint(y - operator(denoised.detach()))
        (pull,) = torch.autograd.grad(denoised, at, residual)
        return denoised.detach() + pad_dims_like(sigma**2 / (gain * variance + sigma_y**2), x) * pull

    return guided


def dps(operator: LinearOperator, y: Measurement, *, scale: float, eta: float = 1.0) -> Solver:
    """Make a solver: an ancestral step, then x' - scale * grad_x |y - A D(x)|^2 / |y - A D(x)|.

    The length of the gradient step does not depend on the size of the error: it is 2 scale where the Jacobian of D is
    the identity. Each step evaluates and differentiates the denoiser once.

    Args:
        operator: A.
        y: the measurement.
        scale: zeta, an amplitude. All gradient steps together move x by at most 2 scale n_steps, so that few steps need
            a large scale.
        eta: of the ancestral step, as in `euler_ancestral`.

    Raises:
        ParameterError: if scale is negative.

    Source: Chung et al. 2023 (Diffusion posterior sampling), algorithm 1 and section 3.3, in the coordinate x, as for
        VE; in x_t of VP the same step has the scale zeta / (alpha_t alpha_t-1).
    """
    _check_not_negative(scale=scale)

    def solve(
        denoise: Denoise,
        x: Signal,
        sigmas: Sigmas,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
        after_step: AfterStep | None = None,
    ) -> Signal:
        for step, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
            level = torch.full((x.shape[0],), sigma, dtype=torch.float64, device=x.device)
            denoised, at = _with_gradient(denoise, x, level)
            with torch.enable_grad():
                error = (y - operator(denoised)).flatten(1).norm(dim=1).sum()
            (gradient,) = torch.autograd.grad(error, at)
            estimate = denoised.detach()
            one = None if noise is None else fixed_step(noise, step + 1)
            x = euler_ancestral(lambda *_, estimate=estimate: estimate, x, sigmas[step : step + 2], noise=one, eta=eta)
            x = finish(x - 2.0 * scale * gradient, estimate, step, sigma_next, on_step, after_step)
        return x

    return solve


def _with_gradient(denoise: Denoise, x: Signal, sigma: Sigma) -> tuple[Signal, Signal]:
    """Return D with its graph, and the x to differentiate it by, also where gradients are off."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        return denoise(at, sigma), at


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise ParameterError(f"{name}={value} must be a finite number, at least 0")
