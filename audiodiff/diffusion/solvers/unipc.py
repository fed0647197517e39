"""UniPC: a multistep predictor whose next evaluation corrects it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.adams_bashforth import exponential_moments
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, weighted_sum
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal

_BH = {"bh1": lambda h: h, "bh2": lambda h: -math.expm1(-h)}
"""B(h) of the paper for steps of width h, with opposite sign."""


def check_unipc(sigmas: Sigmas, *, guided: bool = False, order: int = 2, variant: str = "bh2") -> None:
    """Check the order and the variant."""
    if order not in (1, 2, 3):
        raise ParameterError(f"order={order} must be 1, 2 or 3")
    if variant not in _BH:
        raise ParameterError(f"variant={variant!r} must be one of {', '.join(_BH)}")


def unipc(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    order: int = 2,
    variant: str = "bh2",
) -> Signal:
    """Predict from the last evaluations of D, correct with the next one: order + 1, one evaluation a step.

    Step k, counted from 1, predicts and corrects at order min(k, order); a step to sigma = 0 is euler's. The corrector
    of a step acts at the start of the next, with the evaluation that is made there anyway; D is not evaluated again at
    the corrected x. The correction is added to the result of after_step.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the prediction of every step.
        order: p, the number of evaluations in a prediction: 1, 2 or 3. With p = 3 the first step, of order two, limits
            the whole to order three if D depends on sigma at the first level.
        variant: B(h) of the predictor at p = 2 and the corrector at p = 1, which leave it free: "bh2" is 1 - exp(-h),
            "bh1" is h.

    Raises:
        ParameterError: if the order is not 1 to 3 or there is no such variant.

    Source: Zhao et al. 2023 (UniPC), algorithms 1 and 2 with data prediction, and appendix E.
    """
    check_unipc(sigmas, order=order, variant=variant)
    levels = sigmas.tolist()
    history: list[tuple[float, Signal]] = []
    predicted: list[float] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        if sigma_next == 0.0:
            x = denoised
        else:
            if history:
                # Predictor and corrector differ only in the weights of D: a correction is a difference of weights.
                corrected = _weights([sigma, *(level for level, _ in history)], history[0][0], sigma, variant)
                changes = [after - before for after, before in zip(corrected[1:], predicted, strict=True)]
                x = weighted_sum([1.0, corrected[0], *changes], [x, denoised, *(past for _, past in history)])
            history = [(sigma, denoised), *history[: order - 1]]
            predicted = _weights([level for level, _ in history], sigma, sigma_next, variant)
            x = weighted_sum([sigma_next / sigma, *predicted], [x, *(past for _, past in history)])
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _weights(levels: Sequence[float], sigma: float, sigma_next: float, variant: str) -> list[float]:
    """Return the weights of D at each level in a step from sigma, itself one of the levels, to sigma_next."""
    h = math.log(sigma / sigma_next)
    base = -math.expm1(-h)
    others = [level for level in levels if level != sigma]
    places = [math.log(sigma / level) / h for level in others]
    if not places:
        return [base]
    if len(places) == 1:
        shares = [0.5 * _BH[variant](h) / places[0]]
    else:
        # Exact for D = s, s^2, ... with s = log(sigma / tau) / h; the weight of D at sigma makes constants exact.
        powers = np.vander(places, len(places) + 1, increasing=True)[:, 1:].T
        moments = [h * math.exp(-h) * moment for moment in exponential_moments(h, len(places) + 1)[1:]]
        shares = np.linalg.solve(powers, moments).tolist()
    of_others = iter(shares)
    return [base - sum(shares) if level == sigma else next(of_others) for level in levels]
