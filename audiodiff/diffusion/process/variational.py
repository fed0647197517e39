"""A learnt noise schedule."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.diffusion.process.base import Clock, VariancePreserving
from audiodiff.errors import ParameterError

_FINEST = 2.0**-51
"""Rounding error of float64 sums near 1."""

_MOST_STEPS = 100
"""Limit of a search in which each step halves either the bracket or the previous step."""


class Variational(nn.Module, VariancePreserving):
    """Variance preserving with a learnt monotone gamma(t) = -log SNR between two fixed ends.

    With u = (gamma - gamma_min) / (gamma_max - gamma_min), the clock is t = w_0 u + sum over k of w_k L_k(u), where L_k
    is the logistic function of (u - centre_k) / width_k, shifted and scaled to run from 0 to 1: a network of one hidden
    layer whose weights are positive, so that t grows with gamma. It is also a mixture of probability laws: t uniform on
    [0, 1] makes u follow the density dt / du, which is what `VariationalTime` learns. gamma(t) is found by Newton's
    method, to the precision of float64.

    The ends are fixed: with a loss in continuous time they enter the bound only through its prior and reconstruction,
    and learning them would need evaluations of the network there (Kingma and Gao 2023, section 2).
    `c_noise`, which the network sees, is u: it does not move while the schedule is learnt.

    Args:
        gamma_min: of gamma at t = 0; -13.3 is sigma = 0.0013.
        gamma_max: of gamma at t = 1; 5 is sigma = 12.2.
        n_units: number of logistic units; 0 keeps t = u.

    Example:
        >>> process = Variational(gamma_min=-4.0, gamma_max=4.0)
        >>> round(process.sigma(torch.tensor([0.5], dtype=torch.float64)).item(), 6)
        1.0

    Source: Kingma et al. 2021 (VDM), section 3.1 and appendix H.
    """

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0, n_units: int = 32) -> None:
        super().__init__()
        if not gamma_min < gamma_max:
            raise ParameterError(f"gamma_min={gamma_min} must be below gamma_max={gamma_max}")
        if n_units < 0:
            raise ParameterError(f"n_units={n_units} must not be negative")
        self.gamma_min = gamma_min
        self.gamma_max = gamma_max
        # Half the weight is on u itself, which keeps dt / du above 0; units of equal width cover the range.
        self.logits = nn.Parameter(torch.zeros(n_units + 1))
        with torch.no_grad():
            self.logits[0] = torch.tensor(max(n_units, 1.0)).log()
        self.centre_logits = nn.Parameter(torch.logit((torch.arange(n_units) + 0.5) / max(n_units, 1)))
        self.log_widths = nn.Parameter(torch.full((n_units,), 1.0 / max(n_units, 1)).log())

    def _parts(self, u: Clock) -> tuple[Tensor, Tensor]:
        """Compute t and dt / du in float64, with gradients of the parameters."""
        logits, centre_logits, log_widths = (
            part.to(u.device).double() for part in (self.logits, self.centre_logits, self.log_widths)
        )
        # Centres within [0, 1]: a unit outside would not rise within the range.
        weights, centres, rates = torch.softmax(logits, dim=0), torch.sigmoid(centre_logits), torch.exp(-log_widths)
        logistic = torch.sigmoid((u.double()[..., None] - centres) * rates)
        first, last = torch.sigmoid(-centres * rates), torch.sigmoid((1.0 - centres) * rates)
        t = weights[0] * u + (weights[1:] * (logistic - first) / (last - first)).sum(-1)
        slope = weights[0] + (weights[1:] * rates * logistic * (1.0 - logistic) / (last - first)).sum(-1)
        return t, slope

    def density(self, sigma: Clock) -> Float[Tensor, "*batch"]:
        """Compute dt / du, the density of u = c_noise(sigma) under uniform t, with gradients of the parameters."""
        return self._parts(self.c_noise(sigma.double()))[1].to(sigma.dtype)

    @torch.no_grad()
    def _fraction(self, t: Clock) -> Clock:
        """Compute u(t) in float64 by Newton's method, bisecting where a step is not half of the last one."""
        t = t.double()
        low, high, u, last_move = torch.zeros_like(t), torch.ones_like(t), torch.full_like(t, 0.5), torch.ones_like(t)
        for _ in range(_MOST_STEPS):
            value, slope = self._parts(u)
            error, newton = value - t, u - (value - t) / slope
            done = (error.abs() <= _FINEST) | ((newton - u).abs() <= _FINEST)
            if bool(done.all()):
                break
            low, high = torch.where(error < 0.0, u, low), torch.where(error < 0.0, high, u)
            good = (low <= newton) & (newton <= high) & ((newton - u).abs() <= 0.5 * last_move)
            following = torch.where(done, u, torch.where(good, newton, 0.5 * (low + high)))
            u, last_move = following, (following - u).abs()
        return u

    def _gamma(self, u: Clock) -> Clock:
        return self.gamma_min + (self.gamma_max - self.gamma_min) * u

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        gamma = self._gamma(self._fraction(t))
        return torch.sigmoid(-gamma).sqrt().to(t.dtype), torch.sigmoid(gamma).sqrt().to(t.dtype)

    @torch.no_grad()
    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        u = self._fraction(t)
        gamma, gamma_rate = self._gamma(u), (self.gamma_max - self.gamma_min) / self._parts(u)[1]
        alpha_t, sigma_t = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        # d alpha / d gamma = -alpha sigma_t^2 / 2 and d sigma_t / d gamma = sigma_t alpha^2 / 2.
        alpha_rate, sigma_rate = -0.5 * alpha_t * sigma_t**2 * gamma_rate, 0.5 * sigma_t * alpha_t**2 * gamma_rate
        return alpha_rate.to(t.dtype), sigma_rate.to(t.dtype)

    @torch.no_grad()
    def time(self, sigma: Clock) -> Clock:
        return self._parts(self.c_noise(sigma.double()))[0].to(sigma.dtype)

    def c_noise(self, sigma: Clock) -> Clock:
        gamma = 2.0 * torch.log(sigma)
        return torch.clamp((gamma - self.gamma_min) / (self.gamma_max - self.gamma_min), 0.0, 1.0)
