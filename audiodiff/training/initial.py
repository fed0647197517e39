"""Initial weights of a run from a checkpoint."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from audiodiff import compat
from audiodiff.errors import CheckpointError, ParameterError, TrainingError
from audiodiff.labels import LabelSet
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.state import flatten

FREE = ("sampler", "n_iterations", "denoiser.step_size", "denoiser.network.vector_features")
"""Fields of the model node, and whole groups of them, that do not change the meaning of weights."""
ADDED = ("denoiser.step_size.", ".vector_projection.")
"""Parts of the names of weights that a step-size embedding adds to a model."""
BIAS = ".vector_projection.bias"
ACROSS = "; or train on from it at this rate and mel, with train.init_across=true"
LATER = {"denoiser.network.look_ahead": repr(None)}
"""Fields that are newer than some checkpoints, and the value that those imply."""


def start_from(where: str, *, synthesizer: Synthesizer, model: Mapping[str, Any], across: bool = False) -> None:
    """Copy the averaged weights of a checkpoint, and the statistics of its representation, into a new model.

    A step-size embedding that the checkpoint lacks has no effect at first.

    Args:
        where: a checkpoint, or a run folder.
        synthesizer: the new model.
        model: the configuration node that built it.
        across: whether the new model may have another sample rate or mel dialect.

    Raises:
        TrainingError: if the checkpoint is of another model, with each field or weight that differs.
        CheckpointError: if there is none, or it is damaged.
    """
    try:
        folder = registry.find(where)
        saved = compat.current_node(checkpoint.read_config(folder)["model"])
        differing = dict(_differing_fields(flatten(saved), flatten(model)))
        of_audio = {field: said for field, said in differing.items() if _describes_audio(field)}
        refused = differing.keys() - of_audio.keys() if across else differing.keys()
        remedy = ACROSS if of_audio.keys() == differing.keys() else ""
        _refuse_other(where, (said for field, said in differing.items() if field in refused), remedy=remedy)
        trained = checkpoint.load(folder, device="cpu")
        weights = trained.state_dict()
    except CheckpointError as error:
        raise CheckpointError(f"train.init_from: {error}") from error
    known = trained.labels if isinstance(trained, Synthesizer) else None
    if known != synthesizer.labels:
        _refuse_other(where, [f"labels were {_said(known)}, are {_said(synthesizer.labels)}"])
    own = synthesizer.state_dict()
    if synthesizer.denoiser.step_size is not None:
        added = {name: value for name, value in own.items() if any(part in name for part in ADDED)}
        # The embedding's features start at zero, and so must the bias of their projections.
        silent = {name: torch.zeros_like(value) for name, value in added.items() if name.endswith(BIAS)}
        weights = added | silent | weights
    _refuse_other(
        where,
        (
            f"{name} was {_shape(weights.get(name))}, is {_shape(own.get(name))}"
            for name in sorted(own.keys() | weights.keys())
            if _shape(own.get(name)) != _shape(weights.get(name))
        ),
    )
    synthesizer.load_state_dict(weights)


def with_model_of(config: Any) -> Any:
    """Replace the model of a configuration by that of the checkpoint `train.init_from`, imported ones too.

    Network, conditioner, representation, preconditioning, process, sampler, sample rate and dialect are the
    checkpoint's; data, density, objective, method and optimiser stay those of the configuration.

    Args:
        config: an OmegaConf DictConfig, not resolved.

    Raises:
        ParameterError: without `train.init_from`.
        CheckpointError: if there is no checkpoint, or it is damaged.
    """
    from omegaconf import open_dict

    where = config.train.resume or config.train.init_from
    if where is None:
        raise ParameterError("train.init_model=true needs the checkpoint whose model is taken: train.init_from=MODEL")
    try:
        saved = compat.current_node(checkpoint.read_config(registry.find(str(where)))["model"])
    except CheckpointError as error:
        raise CheckpointError(f"train.init_from: {error}") from error
    config = config.copy()
    denoiser, dialect = saved["denoiser"], saved.get("dialect")
    with open_dict(config):
        config.model = saved
        for name in ("conditioner", "representation", "sampler"):
            config[name] = saved[name]
        config.network, config.preconditioning = denoiser["network"], denoiser["preconditioning"]
        config.process = denoiser["preconditioning"]["process"]
        config.audio.sample_rate, config.audio.dialect = saved["sample_rate"], dialect
        built = checkpoint.build(saved, where=registry.find(str(where))).dialect
        if built is not None:
            config.audio.hop_length = built.hop_length
    return config


def frozen(where: str, *, name: str) -> Synthesizer:
    """Load a trained model, frozen.

    Args:
        where: its checkpoint, or the run folder.
        name: of the setting, for errors.

    Raises:
        ParameterError: if it has no network.
        CheckpointError: if it is missing or damaged.
    """
    model = checkpoint.load(where, device="cpu")
    if not isinstance(model, Synthesizer):
        raise ParameterError(f"{name}={where} has no network: give the run folder of a trained model")
    return model.requires_grad_(False)


def _differing_fields(saved: Mapping[str, str], model: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the fields that differ between two nodes, each with a message.

    A field in one node alone has its default in the other; weights that it adds are found later.
    """
    for name in sorted((saved.keys() | LATER.keys()) & model.keys()):
        free = any(name == field or name.startswith(f"{field}.") for field in FREE)
        before = saved.get(name, LATER.get(name))
        if not free and before != model[name]:
            yield name, f"model.{name} was {before}, is {model[name]}"


def _describes_audio(field: str) -> bool:
    """Return whether a field of the model node is a sample rate or part of a mel dialect."""
    parts = field.split(".")
    return parts[-1] == "sample_rate" or "dialect" in parts[:-1]


def _said(labels: LabelSet | None) -> str:
    return (
        "none" if labels is None else ", ".join(f"{name}={list(known)}" for name, known in labels.vocabularies.items())
    )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)}"


def _refuse_other(where: str, differing: Iterable[str], *, remedy: str = "") -> None:
    found = list(differing)
    if found:
        shown = "\n  ".join(found[:20])
        raise TrainingError(
            f"train.init_from={where} is of another model; what differs:\n  {shown}\n"
            f"Choose the settings that it was trained with, or another checkpoint{remedy}"
        )
