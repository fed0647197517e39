"""The learned variance of ancestral sampling: its objective, and the bound of the chain that it makes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from audiodiff.diffusion.bound import (
    Bound,
    Nats,
    decoder_nats,
    log_variance_ratio,
    posterior_divergence,
    prior_divergence,
)
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.grid import Discrete
from audiodiff.diffusion.objective import Heard, Objective, Plain
from audiodiff.diffusion.process import DiscreteVP
from audiodiff.errors import ParameterError
from audiodiff.types import Noise, Sigma, Signal

BIN_WIDTH = 2.0**-15
"""Of 16-bit audio in [-1, 1]."""


@dataclass(frozen=True)
class Hybrid(Objective):
    """Compute L_simple + vlb_weight * L_vlb, where L_vlb teaches the variance alone: its gradient stops at D.

    L_vlb is estimated by the number of steps times the term of the one step that was drawn, in nats per dimension; the
    steps have to be drawn uniformly (`DiscreteSteps`), or weighted to the same effect.

    Args:
        process: the table of betas; sigma has to be the noise level of one of its steps.
        simple: the objective of D.
        vlb_weight: lambda; small, because the terms differ by orders of magnitude.
        bin_width: of quantised signals, see `variational_bound`; None for signals that are not.

    Source: Nichol and Dhariwal 2021, section 3.1, eq. 16.
    """

    process: DiscreteVP
    simple: Objective = field(default_factory=Plain)
    vlb_weight: float = 0.001
    bin_width: float | None = BIN_WIDTH

    def __post_init__(self) -> None:
        if not self.vlb_weight > 0.0:
            raise ParameterError(f"vlb_weight={self.vlb_weight} must be positive: 0 would leave the variance untaught")
        if self.bin_width is not None and not self.bin_width > 0.0:
            raise ParameterError(f"bin_width={self.bin_width} must be positive, or null for signals not quantised")

    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, heard: Heard | None = None
    ) -> Nats:
        """Compute the loss of each example.

        Raises:
            ParameterError: if the denoiser does not learn its variance.
        """
        fixed = replace(prediction, denoised=prediction.denoised.detach())
        term = step_nats(fixed, x0, sigma, process=self.process, bin_width=self.bin_width)
        weight = self.vlb_weight * len(self.process.betas)
        return self.simple(prediction, x0, x, sigma) + weight * term.to(x.dtype)


def step_nats(
    prediction: Prediction, x0: Signal, sigma: Sigma, *, process: DiscreteVP, bin_width: float | None = None
) -> Nats:
    """Compute each example's term of the bound: the divergence of its step, or for the first step the decoder's nats.

    Args:
        prediction: the denoiser's at sigma.
        x0: clean signals.
        sigma: the noise level of one of the process's steps for each example.
        process: the table of betas.
        bin_width: see `variational_bound`.

    Raises:
        ParameterError: if the denoiser does not learn its variance.

    Source: Nichol and Dhariwal 2021, eq. 3 to 7 and 15.
    """
    fraction = prediction.variance_fraction
    if fraction is None:
        raise ParameterError(
            "the prediction has no variance_fraction: set model.denoiser.learns_variance=true and the network's "
            "out_channels to twice the channels of the signal, or choose another objective"
        )
    step = process.time(sigma.double()).round()
    # The first step has no step before it; it takes the range of variances of the second, as in the paper's code.
    above = process.sigma(torch.clamp(step, min=1.0))
    below = process.sigma(torch.clamp(step - 1.0, min=0.0))
    error = x0 - prediction.denoised
    excess = pad_dims_like(log_variance_ratio(above, below), error) * fraction
    divergence = posterior_divergence(error, below**-2 - above**-2, excess).flatten(1).mean(dim=1).double()

    log_beta = 2.0 * torch.log(below) - torch.log1p(below**2)
    log_range = -torch.log1p(-((below / above) ** 2))
    # Elsewhere the decoder is of no account, but a gradient that overflowed there would not be.
    shortfall = torch.where(pad_dims_like(step, error) == 0.0, fraction - 1.0, 0.0)
    log_variance = pad_dims_like(log_beta, error) + pad_dims_like(log_range, error) * shortfall
    decoder = decoder_nats(error, log_variance, bin_width).flatten(1).mean(dim=1).double()
    return torch.where(step == 0.0, decoder, divergence)


def learned_variance_bound(
    predict: Callable[[Signal, Sigma], Prediction],
    x0: Signal,
    process: DiscreteVP,
    *,
    noise: Noise,
    bin_width: float | None = None,
) -> Bound:
    """Bound -log p(x0) for the chain that starts from x_t ~ N(0, 1) and draws with the learned variance.

    Args:
        predict: `BoundDenoiser.predict`, called once at every step of the process.
        x0: clean signals.
        process: the table of betas.
        noise: draws the noise of level k, the noisiest 0, with step number k.
        bin_width: see `variational_bound`.

    Raises:
        ParameterError: if the denoiser does not learn its variance.

    Source: Nichol and Dhariwal 2021, eq. 3 to 7.
    """
    levels = Discrete(process)(len(process.betas))[:-1]
    terms: list[Nats] = []
    for step, level in enumerate(levels.tolist()):
        sigma = torch.full((len(x0),), level, dtype=torch.float64, device=x0.device)
        prediction = predict(x0 + level * noise(x0, step), sigma)
        terms.append(step_nats(prediction, x0, sigma, process=process, bin_width=bin_width))
    return Bound(
        # In x, N(0, 1) of a process that preserves the variance is N(0, 1 + sigma^2).
        prior=prior_divergence(x0, float(levels[0]), data_variance=1.0),
        diffusion=torch.stack(terms[:-1], dim=1),
        reconstruction=terms[-1],
    )
