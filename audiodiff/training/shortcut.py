"""Shortcut models: one network with the step size as input, which learns long steps from its own shorter ones."""

import math
from dataclasses import fields

import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.few_step import halves, two_steps
from audiodiff.diffusion.objective import Objective
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.distillation import own_target
from audiodiff.training.step import Float32Batch, Losses, TrainingStep
from audiodiff.types import Sigma, Signal


class Shortcut(TrainingStep):
    """Train a share of each batch to make one jump equal to two of half its length, and the rest to denoise.

    Jumps are the steps of the sampler's grid with 1, 2, 4, ... steps, all lengths equally likely. The halves of the
    shortest are Euler steps of the denoiser, jumps of length zero, which connect the long ones to the data.

    Args:
        synthesizer: the model, whose denoiser has a step-size embedding; sampled with `shortcut`.
        objective: of both; the target is the x0 of the jump, or the clean signal.
        density: the distribution of sigma of the other examples.
        n_doublings: jumps are steps of grids with 2^0 to 2^(n_doublings - 1) steps.
        share: share of each batch that jumps, rounded up, but never the whole batch.

    Raises:
        ParameterError: if the denoiser has no step-size embedding, or the grid does not halve.

    Source: Frans et al. 2025 (shortcut models), section 3, with the x0 of a jump for its velocity.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        n_doublings: int = 6,
        share: float = 0.25,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        check_whole(n_doublings, name="method.n_doublings", least=1)
        if not 0.0 < share < 1.0:
            raise ParameterError(f"method.share={share} must lie between 0 and 1")
        if synthesizer.denoiser.step_size is None:
            raise ParameterError(
                "method=shortcut needs a denoiser with the step size as input: choose recipes=techniques/shortcut, "
                "or set model.denoiser.step_size"
            )
        grids = [halves(synthesizer.sampler.grid, 2**power) for power in range(n_doublings)]
        # The steps of the grid of 2^k steps begin at place 2^k - 1.
        self._start, self._middle, self._end = (torch.cat(parts) for parts in zip(*grids, strict=True))
        self._n_doublings = n_doublings
        self._share = share

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            n_jumps = min(len(x0) - 1, math.ceil(self._share * len(x0)))
            sigma = self.density(len(x0) - n_jumps, generator=generator).to(x0.device).double()
            start, middle, end, shortest = self._draw(n_jumps, generator=generator, device=x0.device)
            sigma, sigma_next = torch.cat([start, sigma]), torch.cat([end, sigma])
            x = self._noisy(x0, sigma, condition, generator)
        with own_target():
            jumped = self._jumped(x[:n_jumps], _first(condition, n_jumps), start, middle, end, shortest)
            target = torch.cat([jumped, x0[n_jumps:]])
        prediction = self.synthesizer.denoiser(x, sigma, condition, sigma_next=sigma_next)
        with torch.autocast(batch.audio.device.type, enabled=False):
            losses = self._losses(prediction, target, x, sigma, condition)
            denoising, _, _ = self._weighted(losses[n_jumps:], sigma[n_jumps:])
        return torch.cat([losses[:n_jumps], denoising]), losses.detach(), sigma

    def _draw(
        self, n: int, *, generator: torch.Generator, device: torch.device
    ) -> tuple[Sigma, Sigma, Sigma, torch.Tensor]:
        """Draw n jumps as (sigma, middle, end), and whether their halves are jumps of length zero."""
        power = torch.randint(self._n_doublings, (n,), generator=generator, device=generator.device)
        place = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        which = (2**power - 1 + (2**power * place).long()).cpu()
        start, middle, end = (levels[which].to(device) for levels in (self._start, self._middle, self._end))
        return start, middle, end, (power == self._n_doublings - 1).to(device)

    def _jumped(
        self, x: Signal, condition: Condition, sigma: Sigma, middle: Sigma, end: Sigma, shortest: torch.Tensor
    ) -> Signal:
        """Return the x0 whose one jump equals two of the model."""
        if len(x) == 0:
            return x
        denoise = self.synthesizer.denoiser.bind(condition)

        def first(x: Signal, sigma: Sigma) -> Signal:
            return denoise.predict_jump(x, sigma, torch.where(shortest, sigma, middle))

        def second(x: Signal, middle: Sigma) -> Signal:
            return denoise.predict_jump(x, middle, torch.where(shortest, middle, end))

        return two_steps(first, second, x, sigma, middle, end)


def _first(condition: Condition, n: int) -> Condition:
    """Return the condition of the first n examples."""
    values = ((field.name, getattr(condition, field.name)) for field in fields(condition))
    return Condition(**{name: None if value is None else value[:n] for name, value in values})
