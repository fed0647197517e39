"""Posterior sampling: draw x0 given y = A x0 + sigma_y * noise, with a denoiser that knows nothing of A.

| here | acts on | needs of A | exact for |
|---|---|---|---|
| projection | D | pseudo-inverse | what is known; sigma_y = 0 |
| replacement | x, after every step | pseudo-inverse | what is known; sigma_y = 0 |
| reconstruction_guidance | D | A | |
| pigdm | D | pseudo-inverse | isotropic Gaussian data |
| dps | x, after every step | A | |
| repaint | x, several times per step | pseudo-inverse | what is known; sigma_y = 0 |

Those that act on D take a denoiser and return one, for any solver and grid. With score = (D - x) / sigma^2, to add
g = grad_x log p(y | x) to the score is to add sigma^2 g to D.
"""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.operators import LinearOperator, Measurement, gain_of
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver, euler_ancestral
from audiodiff.diffusion.solvers.method import finish, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Sigma, Signal


def projection(denoise: Denoise, operator: LinearOperator, y: Measurement) -> Denoise:
    """Replace what was measured in the estimate: D' = A^+ y + (D - A^+ A D).

    The estimate is consistent with y at every step, and so is the result of every solver whose last step is to D: with
    a mask the known samples are y to the bit.

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
    """Make a hook that replaces what was measured in x: x' = A^+ (y + sigma A eps) + (x - A^+ A x).

    Args:
        operator: A, with a pseudo-inverse.
        y: the measurement, without noise.
        noise: draws eps, step number k + 1 after transition k. It has to be another noise than the solver's.

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
    """Descend the error of the estimate: D' = D - weight * share / 2 * grad_x |y - A D(x)|^2.

    It takes p(y | x) for N(A D, (sigma^2 + sigma_y^2) 1), hence share = sigma^2 / (sigma^2 + sigma_y^2). The gradient
    goes through the network. With isotropic Gaussian data of variance v, x0 given x has the variance r^2 = sigma^2 v /
    (sigma^2 + v) and not sigma^2: guidance is too weak, the more so the higher the level.

    Args:
        denoise: (x, sigma) -> x0, of the data alone, differentiable; it has to treat the examples independently.
        operator: A.
        y: the measurement.
        weight: w_r; 1 follows from the assumption above.
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

    D' = D + sigma^2 J^T A^T (r^2 A A^T + sigma_y^2)^-1 (y - A D), where J is the Jacobian of D. It is exact for data of
    law N(m, sd^2 1).

    Args:
        denoise: (x, sigma) -> x0, of the data alone, differentiable; it has to treat the examples independently.
        operator: A, with a gain.
        y: the measurement.
        sigma_data: sd, std of the signals that are diffused; near 0.1 for speech.
        sigma_y: std of the noise in y.

    Raises:
        ParameterError: if the operator has no gain, or an std cannot be one.

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

    The step down the gradient is that of x, whose length does not depend on how good the estimate is: with a perfect
    Jacobian it has the length 2 scale. It evaluates the denoiser, and differentiates it, once in every step.

    Args:
        operator: A.
        y: the measurement.
        scale: zeta, an amplitude. Few steps need a large one: what they move by in all is 2 scale n_steps at most.
        eta: of the ancestral step.

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
            one = None if noise is None else _fixed(noise, step + 1)
            x = euler_ancestral(lambda *_, estimate=estimate: estimate, x, sigmas[step : step + 2], noise=one, eta=eta)
            x = finish(x - 2.0 * scale * gradient, estimate, step, sigma_next, on_step, after_step)
        return x

    return solve


def repaint_path(n_steps: int, *, jump_length: int, n_resamples: int) -> list[int]:
    """Return the levels that RePaint visits, counted in steps before the end: n_steps at the start, 0 at the end.

    From every jump_length-th level it goes jump_length levels back up and comes down again, n_resamples - 1 times. Each
    descent by one is an evaluation: n_steps + (n_resamples - 1) jump_length ceil((n_steps - jump_length) / jump_length)
    in all.

    Example:
        >>> repaint_path(4, jump_length=2, n_resamples=2)
        [4, 3, 2, 1, 3, 2, 1, 0]

    Raises:
        ParameterError: if a number is below 1, or a jump is longer than the path.

    Source: Lugmayr et al. 2022 (RePaint), algorithm 1 and appendix A.
    """
    for name, value in (("jump_length", jump_length), ("n_resamples", n_resamples)):
        if value < 1:
            raise ParameterError(f"{name}={value} must be at least 1")
    if jump_length > n_steps:
        raise ParameterError(f"jump_length={jump_length} must not exceed the {n_steps} steps of the sampler")
    jumps = dict.fromkeys(range(1, n_steps - jump_length + 1, jump_length), n_resamples - 1)
    path, level = [n_steps], n_steps
    while level > 0:
        level -= 1
        path.append(level)
        if jumps.get(level, 0) > 0:
            jumps[level] -= 1
            level += jump_length
            path.append(level)
    return path


def repaint(
    operator: LinearOperator,
    y: Measurement,
    *,
    jump_length: int = 10,
    n_resamples: int = 10,
    solver: Solver = euler_ancestral,
) -> Solver:
    """Make a solver that replaces what was measured in x after every step, and harmonises the rest by going back.

    Replacement alone draws the unknown part from what the known part was before it was replaced. Adding the noise of
    jump_length levels again, and taking it away again, lets the two agree; see `repaint_path` for the number of
    evaluations.

    Args:
        operator: A, with a pseudo-inverse.
        y: the measurement, without noise.
        jump_length: levels to go back by; longer jumps harmonise larger structures.
        n_resamples: how often each stretch is walked down; 1 is replacement alone.
        solver: makes each step down; it draws the noise of transition k with step number k + 1, as without resampling.

    Raises:
        ParameterError: if the operator has no pseudo-inverse, a number is below 1, or, in solving, there is no noise or
            a jump is longer than the grid.

    Source: Lugmayr et al. 2022 (RePaint), algorithm 1.
    """
    gain_of(operator)
    repaint_path(jump_length, jump_length=jump_length, n_resamples=n_resamples)

    def solve(
        denoise: Denoise,
        x: Signal,
        sigmas: Sigmas,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
        after_step: AfterStep | None = None,
    ) -> Signal:
        draw = required(noise, "repaint")
        path = repaint_path(len(sigmas) - 1, jump_length=jump_length, n_resamples=n_resamples)
        # The draws beyond those of the steps down have numbers after them.
        replaced = replacement(operator, y, noise=lambda like, step: draw(like, len(path) + step))
        step = 0
        for transition, (now, following) in enumerate(pairwise(path)):
            sigma, sigma_next = sigmas[-1 - now].item(), sigmas[-1 - following].item()
            if sigma_next > sigma:
                eps = draw(x, 2 * len(path) + transition)
                x = x + math.sqrt(sigma_next**2 - sigma**2) * eps
                continue
            seen: list[Signal] = []
            x = solver(
                denoise,
                x,
                sigmas.new_tensor([sigma, sigma_next]),
                noise=_fixed(draw, step + 1),
                on_step=lambda _, denoised, seen=seen: seen.append(denoised),
            )
            x = finish(replaced(x, step, sigma_next), seen[-1], step, sigma_next, on_step, after_step)
            step += 1
        return x

    return solve


def _with_gradient(denoise: Denoise, x: Signal, sigma: Sigma) -> tuple[Signal, Signal]:
    """Return the estimate with its graph, and the x that it can be differentiated by, also where gradients are off."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        return denoise(at, sigma), at


def _fixed(noise: Noise, step: int) -> Noise:
    """Return a noise that has this step number whatever it is asked for."""
    return lambda like, _: noise(like, step)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise ParameterError(f"{name}={value} must be a finite number, at least 0")
