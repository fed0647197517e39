"""The spectrally weighted objective, weighed by x: its best denoiser is the posterior mean."""

import math

import torch

from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import SpectrallyWeighted
from audiodiff.diffusion.preconditioning import Scalings


def _best_gain(objective: SpectrallyWeighted, *, loud: float, quiet: float, sigma: float) -> float:
    """Return the gain g for which D = g x has the least loss, over sounds that are loud or quiet with equal chance."""
    generator = torch.Generator().manual_seed(0)
    n = 4000
    levels = torch.where(torch.rand(n, 1, 1, generator=generator) < 0.5, loud, quiet)
    x0 = levels * torch.randn(n, 1, 128, generator=generator)
    x = x0 + sigma * torch.randn(n, 1, 128, generator=generator)
    one = torch.ones(n, dtype=torch.float64)
    scalings = Scalings(one, one, one, one)

    def loss(denoised: torch.Tensor) -> float:
        prediction = Prediction(denoised, denoised, scalings)
        return float(objective(prediction, x0, x, sigma * torch.ones(n)).double().mean())

    # The loss is a parabola in g: three points give its lowest.
    at = [loss(g * x) for g in (0.0, 0.5, 1.0)]
    slope, curvature = -3 * at[0] + 4 * at[1] - at[2], 2 * at[0] - 4 * at[1] + 2 * at[2]
    return -slope / (2 * curvature)


def test_weighed_by_x_the_best_gain_is_wieners() -> None:
    objective = SpectrallyWeighted(n_fft=32, hop_length=16, n_bands=2, by_noisy=True, highest_weight=1e6)
    # The error of a gain, from 4000 x 128 samples: about 1e-3, times 5.
    assert abs(_best_gain(objective, loud=0.3, quiet=0.3, sigma=0.3) - 0.5) < 0.005


def test_weights_of_x0_bias_an_unconditional_denoiser_to_quiet_sounds() -> None:
    # Drowned in noise, x does not tell loud from quiet, and the posterior mean is Wiener's gain of the mean power.
    loud, quiet, sigma = 1.0, 0.01, 10.0
    power = (loud**2 + quiet**2) / 2
    wiener = power / (power + sigma**2)
    settings = {"n_fft": 32, "hop_length": 16, "n_bands": 2, "highest_weight": 1e6}
    fair = _best_gain(SpectrallyWeighted(**settings, by_noisy=True), loud=loud, quiet=quiet, sigma=sigma)
    drawn = _best_gain(SpectrallyWeighted(**settings), loud=loud, quiet=quiet, sigma=sigma)
    assert math.isclose(fair, wiener, rel_tol=0.2)
    assert drawn < 0.2 * wiener
