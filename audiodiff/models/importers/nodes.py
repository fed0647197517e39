"""Configuration nodes of imported models."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audiodiff.models.importers.family import Imported

Node = dict[str, Any]


def dialect_node(name: str, **changes: Any) -> Node:
    """Return the node of a mel dialect with changes."""
    return {"_target_": "audiodiff.dsp.mel.dialect", "name": name, **changes}


def synthesizer_node(
    *, sample_rate: int, dialect: Node | None, network: Node, preconditioning: Node, sampler: Node
) -> Node:
    """Return the node of a model of mono waveforms: a vocoder where it has a mel dialect."""
    conditioner: Node = {"_target_": "audiodiff.models.conditioners.none.NoConditioner"}
    if dialect is not None:
        conditioner = {"_target_": "audiodiff.models.conditioners.mel.MelConditioner", "dialect": dialect}
    return {
        "_target_": "audiodiff.models.synthesizer.Synthesizer",
        "sample_rate": sample_rate,
        "dialect": dialect,
        "representation": {"_target_": "audiodiff.models.representations.waveform.WaveformRepresentation"},
        "conditioner": conditioner,
        "denoiser": {
            "_target_": "audiodiff.diffusion.denoiser.Denoiser",
            "network": network,
            "preconditioning": preconditioning,
        },
        "sampler": sampler,
    }


def sampler_node(solver: str, grid: Node, n_steps: int, **hooks: Node) -> Node:
    """Return the node of a sampler."""
    return {
        "_target_": "audiodiff.diffusion.sampler.Sampler",
        "solver": {"_target_": "audiodiff.diffusion.solvers.solver", "name": solver},
        "grid": grid,
        "n_steps": n_steps,
        **hooks,
    }


def one_call(network: Node, *, sample_rate: int, dialect: Node) -> Node:
    """Return the node of a vocoder whose network gives the audio at once: one step, whose noise it ignores."""
    return synthesizer_node(
        sample_rate=sample_rate,
        dialect=dialect,
        network=network,
        preconditioning={
            "_target_": "audiodiff.diffusion.preconditioning.Sample",
            "process": {"_target_": "audiodiff.diffusion.process.Flow"},
        },
        sampler=sampler_node("euler", {"_target_": "audiodiff.diffusion.grid.Fixed", "sigmas": [1.0]}, 1),
    )


def with_prior(model: Imported, **prior: Any) -> Imported:
    """Return a model whose noise is as loud as its mel, as in `audiodiff.networks.mel_prior.MelPrior`."""
    node = dict(model.model)
    dialect = node["dialect"]
    network = {
        "_target_": "audiodiff.networks.mel_prior.MelPrior",
        "network": node["denoiser"]["network"],
        "frame_bands": dialect["n_mels"],
        "hop_length": dialect["hop_length"],
        **prior,
    }
    node["denoiser"] = {**node["denoiser"], "network": network}
    weights = {f"network.{name}": weight for name, weight in model.weights.items()}
    return replace(model, model=node, weights=weights)


def renamed(weights: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    """Return weights with parts of their names replaced, in the order of the table."""
    found = {}
    for name, weight in weights.items():
        for theirs, ours in table.items():
            name = name.replace(theirs, ours)
        found[name] = weight
    return found
