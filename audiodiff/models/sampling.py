"""Sampling options: the choices that a call may make in place of a model's own sampler, and their validation."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from audiodiff.diffusion.grid import GRIDS, Grid, grid_named
from audiodiff.diffusion.guidance import Interval
from audiodiff.diffusion.guidance import check as check_guidance
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import REGISTRY, Solver, check_solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.errors import ParameterError, check_whole

if TYPE_CHECKING:
    import audiodiff.models.synthesizer


@dataclass(frozen=True)
class SamplingOptions:
    """Choose how a model samples; None is the model's own choice.

    Args:
        steps: of the sampler.
        solver: a solver, or its name in `audiodiff.diffusion.solvers`.
        grid: a grid that does not start above the model's own, or its name in `audiodiff.diffusion.grid.GRIDS`, which
            is cut to the model's noise levels.
        guide: a weaker `Synthesizer` of the same kind, for example an earlier checkpoint, to guide away from.
        guidance: scale of the guidance, by the guide or, without one, by the null condition; 1 is none.
        guidance_interval: (lo, hi), the noise levels lo < sigma <= hi that are guided; None is all.
    """

    steps: int | None = None
    solver: str | Solver | None = None
    grid: str | Grid | None = None
    guide: nn.Module | None = None
    guidance: float | None = None
    guidance_interval: Interval | None = None

    @property
    def given(self) -> Sequence[str]:
        """Names of the options that are not None."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


MODEL_DEFAULTS = SamplingOptions()
"""Every choice is the model's own."""


@torch.no_grad()
def resolve_sampling(
    model: "audiodiff.models.synthesizer.Synthesizer", options: SamplingOptions
) -> tuple[Sampler, float]:
    """Return the sampler and the scale of guidance that options mean for a model, 1 where there is none.

    Raises:
        ParameterError: if an option has no meaning for this model or cannot be.
    """
    guide, guidance = options.guide, options.guidance
    sampler = checked_sampler(
        model.sampler,
        steps=options.steps,
        solver=options.solver,
        grid=options.grid,
        guided=guidance not in (None, 1.0),
    )
    scale = checked_guidance(guidance, interval=options.guidance_interval, guided=guide is not None)
    if guide is not None:
        if not isinstance(guide, type(model)):
            raise ParameterError(
                f"guide is a {type(guide).__name__}; give a trained model, as audiodiff.load returns it"
            )
        check_guide(guide, of=model, from_level=_first_level(sampler))
    elif guidance is not None and not model.conditioner.can_drop:
        raise ParameterError(
            f"guidance={guidance} needs a guide: this model was not trained to do without its condition, so that "
            "there is no null condition to guide by; give a weaker checkpoint of it as guide"
        )
    return sampler, scale


def checked_sampler(
    own: Sampler, *, steps: int | None, solver: str | Solver | None, grid: str | Grid | None, guided: bool
) -> Sampler:
    """Return a model's sampler with another number of steps, solver or grid, having refused what cannot be.

    A grid that is named is cut to the noise levels of the model's own grid with its own number of steps; one that is
    given as an object must not start above them.

    Raises:
        ParameterError: if there is no such solver or grid, it has no such number of steps, a solver's option is out of
            its range, or a guided denoiser cannot answer what the solver asks.
    """
    if steps is not None:
        check_whole(steps, name="steps", least=1)
    levels = own.grid(own.n_steps).tolist()
    chosen = own.grid if grid is None else grid
    if isinstance(chosen, str):
        if len(levels) == 2 and chosen in GRIDS:
            raise ParameterError(f"grid={chosen!r} needs a range of noise levels, and this model samples in one step")
        chosen = grid_named(chosen, sigma_min=levels[-2], sigma_max=levels[0])
    default = own.n_steps if chosen.only_steps is None else chosen.only_steps
    n_steps = default if steps is None else steps
    try:
        sigmas = chosen(n_steps)
    except ParameterError as error:
        raise ParameterError(f"steps={n_steps}: {error}") from error
    if sigmas[0] > levels[0] * (1.0 + 1e-6):
        raise ParameterError(
            f"grid starts at sigma={float(sigmas[0]):.4g}, and this model was made for levels up to {levels[0]:.4g}: "
            f"give a grid within them, or the name of one that is cut to them ({', '.join(GRIDS)})"
        )
    solve = solver_named(solver) if isinstance(solver, str) else own.solver if solver is None else solver
    check_solver(solve, sigmas, guided=guided)
    return replace(own, solver=solve, grid=chosen, n_steps=n_steps)


def solver_options(name: str, texts: Sequence[str]) -> dict[str, float | int | str]:
    """Read options of a solver that are given as NAME=VALUE.

    Args:
        name: of the solver.
        texts: one for each option.

    Raises:
        ParameterError: if it has no such option, or the value is of another kind.

    Example:
        >>> solver_options("unipc", ["order=3", "variant=bh1"])
        {'order': 3, 'variant': 'bh1'}
    """
    solver_named(name)
    parameters = inspect.signature(REGISTRY[name].solve).parameters
    kinds = {key: each.annotation for key, each in parameters.items() if each.annotation in (float, int, str)}
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in kinds:
            has = f"has {', '.join(kinds)}" if kinds else "has none"
            raise ParameterError(f"{text!r} must be NAME=VALUE of an option of the sampler {name}, which {has}")
        try:
            options[key] = kinds[key](value)
        except ValueError as error:
            number = "a whole number" if kinds[key] is int else "a number"
            raise ParameterError(f"{text!r} must give {number} for {key}, an option of the sampler {name}") from error
    return options


def checked_guidance(guidance: float | None, *, interval: tuple[float, float] | None, guided: bool) -> float:
    """Return the scale of guidance, 1 where there is none.

    Args:
        guidance: the scale.
        interval: the noise levels at which it acts.
        guided: whether there is a guide to scale.

    Raises:
        ParameterError: if one is given without the other, or cannot be.
    """
    if guidance is None:
        if guided:
            raise ParameterError("guidance=None, and a guide is given: say how strong it is to be, as in guidance=2.0")
        if interval is not None:
            raise ParameterError(f"guidance_interval={interval} has no meaning without guidance")
        return 1.0
    try:
        check_guidance(guidance, interval=interval)
    except ParameterError as error:
        raise ParameterError(f"guidance={guidance}, guidance_interval={interval}: {error}") from error
    return guidance


def check_guide(
    guide: "audiodiff.models.synthesizer.Synthesizer",
    *,
    of: "audiodiff.models.synthesizer.Synthesizer",
    from_level: float,
) -> None:
    """Refuse a guide whose signals, conditions or noise levels are not those of the model that it guides.

    Args:
        guide: the weaker model.
        of: the model that it guides.
        from_level: the noise level at which sampling starts.

    Raises:
        ParameterError: if they differ in what both have to share.
    """
    for name, own, other in (
        ("sample_rate", of.sample_rate, guide.sample_rate),
        ("conditioner", type(of.conditioner).__name__, type(guide.conditioner).__name__),
        ("representation", type(of.representation).__name__, type(guide.representation).__name__),
        ("channels", of.representation.channels, guide.representation.channels),
        ("labels", of.conditioner.labels, guide.conditioner.labels),
        ("device", of.device, guide.device),
    ):
        if own != other:
            raise ParameterError(f"guide has {name}={other} and must have {name}={own}, as the model that it guides")
    if of.dialect is not None and guide.dialect is not None:
        ensure_same(guide.dialect, of.dialect, name="guide", remedy="give a guide of the model's own dialect")
    statistics = guide.representation.state_dict()
    for name, own in of.representation.state_dict().items():
        if not torch.equal(own, statistics[name]):
            raise ParameterError(
                f"guide was fitted to other data: the {name} of its representation differs, so that its signals "
                "mean something else; give a checkpoint of the same run, or of one on the same data"
            )
    known_to = _first_level(guide.sampler)
    if from_level > known_to * (1.0 + 1e-6):
        raise ParameterError(
            f"guide was made for levels up to sigma={known_to:.4g}, and sampling starts at sigma={from_level:.4g}: "
            "give a guide of the same process, or another grid"
        )


def _first_level(sampler: Sampler) -> float:
    """Return the noise level at which sampling starts."""
    return float(sampler.grid(sampler.n_steps)[0])
