"""Few-step students of a frozen teacher: progressive distillation, consistency distillation and reflow.

Teacher and student have the same condition. A step draws from its generator alone, and the teacher never changes: a
resume is as exact as that of any other training.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.few_step import draw_steps, halves, two_steps
from audiodiff.diffusion.objective import Objective
from audiodiff.diffusion.solvers import Solver
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.initial import frozen
from audiodiff.training.state import weights_digest
from audiodiff.training.step import Float32Batch, Losses, TrainingStep
from audiodiff.types import Denoise, Sigma, Signal

Step = Callable[[Denoise, Signal, Sigma, Sigma], Signal]
"""(denoise, x, sigma, sigma_next) -> x at sigma_next."""


class Distillation(TrainingStep):
    """Train a student on targets of a frozen teacher.

    Args:
        synthesizer: the student.
        objective: compares the student's prediction with the x0 that follows from the teacher.
        density: the distribution of sigma, where the method does not draw steps of a grid.
        teacher: the trained model; `train.init_from` starts the student from the same.

    Raises:
        ParameterError: if the two are of different sample rates or mel dialects.
    """

    def __init__(
        self, *, synthesizer: Synthesizer, objective: Objective, density: SigmaDistribution, teacher: Synthesizer
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        for name in ("sample_rate", "dialect"):
            of_teacher, of_student = getattr(teacher, name), getattr(synthesizer, name)
            if of_teacher != of_student:
                raise ParameterError(f"the teacher's {name}={of_teacher} must be the student's, {of_student}")
        self.teacher = teacher

    def dependencies(self) -> Mapping[str, str]:
        """Return the digest of the teacher's weights."""
        return {"teacher": weights_digest(self.teacher)}

    def _bound_teacher(self, condition: Condition) -> Denoise:
        # Switching the student between training and evaluation also switches the modules inside this one.
        return self.teacher.eval().denoiser.bind(condition)


class Progressive(Distillation):
    """Progressive distillation: one Euler step of the student replaces two of the teacher.

    A run halves the number of steps once; the next run starts from it, with half of its n_steps.

    Args:
        synthesizer: the student, sampled with n_steps steps of `euler` on its own grid.
        objective: as for Distillation; truncated_snr is the paper's weighting.
        density: not used.
        teacher: the trained model.
        n_steps: the student's steps, half of the teacher's.

    Raises:
        ParameterError: if the student's grid does not halve.

    Source: Salimans and Ho 2022, algorithm 2.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        teacher: Synthesizer,
        n_steps: int,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density, teacher=teacher)
        check_whole(n_steps, name="method.n_steps", least=1)
        self._steps = halves(synthesizer.sampler.grid, n_steps)

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            sigma, middle, end = draw_steps(self._steps, len(x0), generator=generator, device=x0.device)
            x = self._noisy(x0, sigma, condition, generator)
        with torch.no_grad():
            teacher = self._bound_teacher(condition)
            target = two_steps(teacher, teacher, x, sigma, middle, end)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            losses = self._losses(prediction, target, x, sigma, condition)
        return losses, losses.detach(), sigma


class Consistency(Distillation):
    """Consistency distillation: predict the end of the teacher's flow at every level, f(x, sigma) = f(x', sigma').

    x' is the result of one step of the teacher from sigma, and f(x, 0) = x by definition. Here f(x, sigma) is
    D(x, sigma) itself, a jump to 0: the network is not evaluated at sigma = 0, and needs no identity there.

    Args:
        synthesizer: the student, sampled with `consistency`.
        objective: as for Distillation; huber is near the improved technique's pseudo-Huber.
        density: not used.
        teacher: the trained model.
        n_levels: steps of the student's grid, between whose levels it is made consistent: few are learnt quickly, but
            inherit the errors of the teacher's large steps.
        step: carries x from one level to the next with the teacher.

    Source: Song et al. 2023 (consistency models), algorithm 2; Song and Dhariwal 2024, section 3.2, for a target that
        is the student's own without gradient.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        teacher: Synthesizer,
        n_levels: int,
        step: Step,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density, teacher=teacher)
        check_whole(n_levels, name="method.n_levels", least=2)
        levels = synthesizer.sampler.grid(n_levels)
        self._steps = (levels[:-1], levels[1:])
        self._step = step

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            sigma, sigma_next = draw_steps(self._steps, len(x0), generator=generator, device=x0.device)
            x = self._noisy(x0, sigma, condition, generator)
        with own_target():
            landing = self._step(self._bound_teacher(condition), x, sigma, sigma_next)
            # Where sigma' = 0 the network is evaluated at another level, and the result is not used.
            level = torch.where(sigma_next > 0.0, sigma_next, sigma)
            onward = self.synthesizer.denoiser.bind(condition)(landing, level)
            target = torch.where(pad_dims_like(sigma_next, x) > 0.0, onward, landing)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            losses = self._losses(prediction, target, x, sigma, condition)
        return losses, losses.detach(), sigma


class Reflow(Distillation):
    """Reflow: train on straight paths between noise and the sound that the teacher's flow makes from it.

    The teacher samples x0 from x_first; training uses x = x0 + (sigma / sigma_first) (x_first - x0) between them.

    Args:
        synthesizer: the student.
        objective: as for Distillation.
        density: the distribution of sigma.
        teacher: the trained model.
        n_steps: of the teacher's sampling on its own grid, new for every batch.
        solver: of the teacher's sampling; it must draw no noise.

    Source: Liu et al. 2023 (rectified flow), algorithm 1 with reflow.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        teacher: Synthesizer,
        n_steps: int,
        solver: Solver,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density, teacher=teacher)
        check_whole(n_steps, name="method.n_steps", least=1)
        self._levels = self.teacher.sampler.grid(n_steps)
        self._solver = solver

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        first = float(self._levels[0])
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            like, condition = self._example(batch, generator)
            x_first = self._noisy(torch.zeros_like(like), like.new_full((len(like),), first), condition, generator)
            sigma = self.density(len(like), generator=generator).to(like)
        with torch.no_grad():
            x0 = self._solver(self._bound_teacher(condition), x_first, self._levels)
            x = x0 + pad_dims_like(sigma / first, x0) * (x_first - x0)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            return self._weighted(self._losses(prediction, x0, x, sigma, condition), sigma)


@contextmanager
def own_target() -> Iterator[None]:
    """Compute without gradient what a network says that is also to be trained in the same step."""
    with torch.no_grad():
        yield
    # Mixed precision keeps the rounded weights for the next call, and these know no gradient.
    torch.clear_autocast_cache()


def teacher(where: str | None) -> Synthesizer:
    """Load a trained model that is not to change.

    Args:
        where: its checkpoint, or the run folder.

    Raises:
        ParameterError: if there is none.
        CheckpointError: if it is missing or damaged.
    """
    if where is None:
        raise ParameterError("a student needs a trained teacher: give its run folder, train.init_from=RUN")
    return frozen(where, name="train.init_from")
