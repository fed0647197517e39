"""Choices that do not fit together, found when a configuration is composed: one line of text for each."""

from collections.abc import Iterator, Mapping
from typing import Any

from audiodiff.conditioners.conditioner import Conditioner
from audiodiff.diffusion.density import DiscreteSteps, LogNormal
from audiodiff.diffusion.grid import Discrete
from audiodiff.diffusion.preconditioning import EDM, Preconditioning
from audiodiff.diffusion.process import DiscreteVP, Process
from audiodiff.dsp.mel import MelDialect
from audiodiff.networks.embedding import Embedding, StepTable
from audiodiff.representations.representation import Representation


def of_dialect(config: Mapping[str, Any], *, dialect: MelDialect | None) -> Iterator[str]:
    """Compare what needs a mel dialect with whether there is one."""
    for name, other in (("conditioner", "none"), ("representation", "waveform")):
        if dialect is None and config["audio"].get("dialect") is None and "dialect" in config[name]:
            yield f"{name} needs a mel dialect, and audio has none: choose audio=hifigan, say, or {name}={other}"


def of_channels(
    config: Mapping[str, Any], *, representation: Representation, conditioner: Conditioner
) -> Iterator[str]:
    """Compare the channels of the data, the representation and the network."""
    n_channels, network = config["data"]["n_channels"], config["network"]
    if n_channels != 1 and (conditioner.needs_mel or representation.makes_mel):
        yield f"data.n_channels={n_channels} must be 1: a mel spectrogram is made from mono audio"
        return
    channels = representation.channels
    if network.get("in_channels", channels) != channels:
        yield (
            f"network.in_channels={network['in_channels']} must be the {channels} channels of the representation: "
            f"set network.in_channels={channels}"
        )


def of_clock(process: Process, *, embedding: Embedding, preconditioning: Preconditioning) -> Iterator[str]:
    """Compare the noise level's embedding with the clock that the network is told."""
    counts = isinstance(process, DiscreteVP) and not isinstance(preconditioning, EDM)
    n_steps = len(process.betas) if isinstance(process, DiscreteVP) and counts else None
    n_known = embedding.table.shape[0] if isinstance(embedding, StepTable) else None
    if n_steps == n_known:
        return
    if n_steps is None:
        yield (
            f"network.embedding counts {n_known} steps and the clock of the noise level is continuous: choose "
            "process=diffwave50 or diffwave200 with preconditioning=epsilon, or another network"
        )
    elif n_known is None:
        yield (
            f"the process counts {n_steps} steps and network.embedding expects a clock in [0, 1]: choose "
            "another process, or network=diffwave"
        )
    else:
        yield (
            f"network.embedding.n_steps={n_known} must be the process's {n_steps} steps: "
            f"set network.embedding.n_steps={n_steps}"
        )


def of_levels(config: Mapping[str, Any], *, process: Process) -> Iterator[str]:
    """Compare the noise levels of training and of sampling with those that the process has."""
    if isinstance(process, DiscreteVP):
        if _makes(config["density"], LogNormal):
            yield "density=log_normal draws noise levels that the steps of the process do not reach: choose discrete"
        return
    if _makes(config["density"], DiscreteSteps):
        yield "density=discrete draws the steps of a process that counts them, this one does not: choose uniform_time"
    if _makes(config["sampler"].get("grid", {}), Discrete):
        yield "sampler=discrete visits the steps of a process that counts them, this one does not: choose flow"


def _makes(node: Mapping[str, Any], kind: type) -> bool:
    return node.get("_target_") == f"{kind.__module__}.{kind.__qualname__}"
