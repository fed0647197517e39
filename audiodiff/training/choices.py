"""Choices of a configuration, and rules for which of them go together."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audiodiff.diffusion.process import DiscreteVP, Process, Variational
from audiodiff.models.building import locate
from audiodiff.training.distillation import Consistency, Progressive, Reflow
from audiodiff.training.shortcut import Shortcut


class Choices:
    """The classes and options that a configuration chooses.

    Args:
        config: resolved.
        process: as built.
    """

    def __init__(self, config: Mapping[str, Any], *, process: Process) -> None:
        self.process = process
        objective, denoiser, solver = config["objective"], config["model"]["denoiser"], config["sampler"].get("solver")
        self.densities: list[Any] = []
        density = config["density"]
        while density is not None:
            self.densities.append(_class(density))
            density = density.get("base")
        self.conditioner, self.representation = _class(config["conditioner"]), _class(config["representation"])
        self.network, self.method, self.target = (
            _class(config[name]) for name in ("network", "method", "preconditioning")
        )
        self.objective, self.by_noisy = _class(objective), bool(objective.get("by_noisy"))
        self.weighting, self.power = _class(objective.get("weighting")), _class(objective.get("power"))
        self.grid = _class(config["sampler"].get("grid"))
        self.solver, self.variance = (solver or {}).get("name"), (solver or {}).get("variance")
        self.teacher_solver = str((config["method"].get("solver") or {}).get("name", ""))
        self.learns_variance, self.step_size = bool(denoiser.get("learns_variance")), denoiser.get("step_size")
        self.warm_start = bool(config["model"].get("warm_start"))
        self.batch_size = config["train"]["batch_size"]
        self.method_name, self.target_name = self.method.__name__.lower(), self.target.__name__.lower()
        self.weighting_name = "" if self.weighting is None else self.weighting.__name__.lower()
        self.solver_of_method = {Consistency: "consistency", Progressive: "euler"}.get(self.method, self.solver)

    @property
    def in_steps(self) -> bool:
        """Whether the process has a table of steps."""
        return isinstance(self.process, DiscreteVP)

    @property
    def learnt(self) -> bool:
        """Whether the noise schedule is learnt."""
        return isinstance(self.process, Variational)

    @property
    def few_step(self) -> bool:
        """Whether the method trains for few steps, on targets other than the clean signal."""
        return self.method in (Progressive, Consistency, Reflow, Shortcut)

    def draws(self, *densities: type) -> bool:
        """Whether the density, or the one that it is based on, is one of these."""
        return any(density in densities for density in self.densities)


@dataclass(frozen=True)
class Rule:
    """Refuse a combination.

    Args:
        applies: tells the combination.
        message: what is wrong, and what to choose; `c` stands for the choices.
    """

    applies: Callable[[Choices], bool]
    message: str

    def __call__(self, choices: Choices) -> Iterator[str]:
        if self.applies(choices):
            yield self.message.format(c=choices)


@dataclass(frozen=True)
class Together:
    """Refuse some of several choices that only work together.

    Args:
        preset: makes them all.
        parts: whether each is made, by its override.
    """

    preset: str
    parts: Mapping[str, Callable[[Choices], bool]]

    def __call__(self, choices: Choices) -> Iterator[str]:
        made = [name for name, part in self.parts.items() if part(choices)]
        missing = [name for name in self.parts if name not in made]
        if made and missing:
            yield f"{' and '.join(made)} without {' and '.join(missing)}: they need each other, choose {self.preset}"


def _class(node: Mapping[str, Any] | None) -> Any:
    """Return what a node's `_target_` names, None without one."""
    return None if node is None or "_target_" not in node else locate(str(node["_target_"]))
