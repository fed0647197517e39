"""Checkpoints: config.yaml, model.safetensors, metrics.json and README.md in a folder, and the state to resume from.

A node in config.yaml describes the model; names of audiodiff 0.1 in it are read through `audiodiff.compat`.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from audiodiff import compat
from audiodiff._version import __version__
from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.errors import CheckpointError, MelError, ParameterError, innermost
from audiodiff.io.atomic import atomic_folder
from audiodiff.io.paths import user_path
from audiodiff.models import adapter as adapters
from audiodiff.models.building import Builder
from audiodiff.models.card import licence_of
from audiodiff.models.devices import device_named
from audiodiff.models.dialect_fields import check_dialect, written_fields
from audiodiff.models.mel_inverter import CONSTRAINT, INVERSIONS, MelInverter
from audiodiff.models.registry import ADAPTER, CARD, CONFIG, DEFAULT_DIALECT, METRICS, WEIGHTS, find
from audiodiff.models.safety import check_targets
from audiodiff.models.safety import trust as trust_packages
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.vocoder import Vocoder
from audiodiff.models.weights import PERMISSIONS, assign_weights, load_weights, read_weights

FORMAT = 1
"""Version of the folder's layout; a newer one is refused."""

STATE = "training_state.pt"

Place = str | os.PathLike[str]
"""A checkpoint, a run folder, or the name of a model."""


def save(
    folder: Path,
    *,
    model: Mapping[str, Any],
    sample_rate: int,
    mel_dialect: MelDialect | None,
    weights: Mapping[str, Tensor],
    metrics: Mapping[str, Any],
    card: str,
    training_state: Mapping[str, Any] | None = None,
    adapter: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all; an older one of the same name stays until the new one is whole.

    Args:
        folder: the checkpoint.
        model: the resolved configuration node that builds the model.
        sample_rate: of the model's audio, Hz.
        mel_dialect: of the model's mels, written out in full.
        weights: state dict to be used for inference.
        metrics: what is known of the model's quality.
        card: the model card, Markdown.
        training_state: for resume; left out of a checkpoint that is to be given away.
        adapter: node of `audiodiff.models.adapter`, where the weights are adapters of another model.
    """
    import yaml
    from safetensors.torch import save_file

    config = {
        "format": FORMAT,
        "audiodiff": __version__,
        "torch": str(torch.__version__),
        "sample_rate": sample_rate,
        "dialect": None if mel_dialect is None else written_fields(mel_dialect),
        "model": dict(model),
    }
    if adapter is not None:
        config["adapter"] = dict(adapter)
    with atomic_folder(folder) as temporary:
        (temporary / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        save_file(tensors, temporary / (WEIGHTS if adapter is None else ADAPTER))
        (temporary / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        if training_state is not None:
            torch.save(dict(training_state), temporary / STATE)


@overload
def load(
    where: Literal["mel-inversion", "none", "griffin-lim"] = "mel-inversion",
    *,
    device: str | torch.device = "auto",
    dialect: str | MelDialect | None = None,
    vocoder: None = None,
    trust: Sequence[str] = (),
) -> MelInverter: ...


@overload
def load(  # pyright: ignore[reportOverlappingOverload]
    where: Place,
    *,
    device: str | torch.device = "auto",
    dialect: str | MelDialect | None = None,
    vocoder: Place | None = None,
    trust: Sequence[str] = (),
) -> Synthesizer: ...


def load(
    where: Place = "mel-inversion",
    *,
    device: str | torch.device = "auto",
    dialect: str | MelDialect | None = None,
    vocoder: Place | None = None,
    trust: Sequence[str] = (),
) -> Synthesizer | MelInverter:
    """Load a model for use.

    Args:
        where: a checkpoint, a run folder, the checkpoint file of another project (docs/import.md), a model on the
            Hugging Face Hub (hf://owner/name, docs/hub.md), or a name.
            `mel-inversion`, also called `none`, and `griffin-lim` give a `MelInverter`, which needs no training; every
            other name or path gives a `Synthesizer`, which is also what type checkers see where the name is computed.
        device: as torch names it, or "auto": the GPU if there is one.
        dialect: of the mels that will be given: the one to invert (hifigan unless given), or the one that a trained
            model is checked against.
        vocoder: what makes sound of the mels that the model makes, another such place or name; None is the vocoder in
            the checkpoint, or else the mel constraint.
        trust: packages whose classes checkpoints may build, from now on in this process: those of your own networks.

    Raises:
        CheckpointError: if it is missing, damaged, unsafe or not of this package, with the field that does not fit.
        MelError: if a trained model's dialect is not the one asked for, or the vocoder's not the model's.
        ParameterError: if a vocoder is given to a model that makes no mel, or the vocoder takes none.

    Example:
        >>> load("mel-inversion", dialect="tacotron2").sample_rate
        22050
    """
    trust_packages(trust)
    wanted = dialect_named(dialect) if isinstance(dialect, str) else dialect
    target = device_named(device)
    if (inversion := INVERSIONS.get(str(where))) is not None:
        if vocoder is not None:
            raise ParameterError(f"vocoder={str(vocoder)!r} has no meaning for model {str(where)!r}, which takes mels")
        return MelInverter(dialect=wanted or dialect_named(DEFAULT_DIALECT), inversion=inversion).to(target)
    path = user_path(where, name="the name of the model")
    if path.is_file():
        from audiodiff.models.importers.registry import load_foreign

        model = load_foreign(path)
    else:
        model = _load_folder(find(where))
    if wanted is not None and model.dialect is not None:
        ensure_same(
            model.dialect,
            wanted,
            name=f"model {str(where)!r}",
            remedy="give mels of the model's own dialect, or choose another model",
        )
    if vocoder is not None:
        model.vocoder = second_stage(vocoder, first=model)
    return model.to(target).eval()


def _load_folder(folder: Path) -> Synthesizer:
    """Load a checkpoint of ours."""
    config = read_config(folder)
    model = build(config["model"], where=folder)
    if config["sample_rate"] != model.sample_rate:
        raise CheckpointError(
            f"{folder / CONFIG}: sample_rate={config['sample_rate']!r} is not the model's, {model.sample_rate}"
        )
    check_dialect(model.dialect, config, folder)
    if "adapter" in config:
        base, settings = adapters.read_adapter_node(config["adapter"], where=folder / CONFIG)
        below = _load_folder(adapters.base_folder(base, where=folder / CONFIG))
        assign_weights(model, below.state_dict(), where=folder)
        adapters.apply_adapters(model, read_weights(folder / ADAPTER), settings, where=folder / ADAPTER)
    else:
        load_weights(model, folder / WEIGHTS)
    if (folder / CARD).is_file():
        model.licence = licence_of((folder / CARD).read_text(encoding="utf-8"))
    return model


def second_stage(where: Place, *, first: Synthesizer) -> Vocoder | None:
    """Load the vocoder of a model that makes mels; None means the mel constraint, which `mel-inversion` names.

    Raises:
        CheckpointError: as `load`.
        MelError: if the dialects are not the same, with every field that differs.
        ParameterError: if the first stage makes no mel, or the second takes none.
    """
    if not first.representation.makes_mel:
        raise ParameterError(
            f"vocoder={str(where)!r}: the first stage makes no mel spectrograms, so a second has nothing to do: give a "
            "model that was trained with representation=log_mel"
        )
    if INVERSIONS.get(str(where)) is CONSTRAINT:
        return None
    stage = load(where, device="cpu", dialect=first.dialect if str(where) in INVERSIONS else None)
    if not stage.needs_mel or stage.dialect is None or first.dialect is None:
        raise ParameterError(
            f"vocoder={str(where)!r} takes no mel spectrogram: give a model that was trained with conditioner=mel"
        )
    own, other = written_fields(first.dialect), written_fields(stage.dialect)
    # One set of numbers may have two names.
    differing = [
        f"{name} is {own[name]}, the vocoder's {other[name]}"
        for name in own
        if name != "name" and own[name] != other[name]
    ]
    if differing:
        raise MelError(
            f"vocoder={str(where)!r} is of another mel dialect than the first stage:\n  " + "\n  ".join(differing)
        )
    return first.checked_vocoder(stage)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's config.yaml, its version checked."""
    import yaml

    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({error.strerror}): {PERMISSIONS}") from error
    if not isinstance(config, dict) or not {"format", "model", "sample_rate"} <= set(config):
        raise CheckpointError(f"{folder / CONFIG} must have the fields format, model and sample_rate")
    if not isinstance(config["format"], int) or not isinstance(config["model"], dict):
        raise CheckpointError(f"{folder / CONFIG}: format must be a whole number and model a mapping")
    if config["format"] > FORMAT:
        raise CheckpointError(f"{folder / CONFIG}: format={config['format']} is newer than {FORMAT}: upgrade audiodiff")
    return config


def build(model: Mapping[str, Any], *, where: Path) -> Synthesizer:
    """Instantiate a model node, having checked that it only calls what this package defines.

    Raises:
        CheckpointError: for a `_target_` from elsewhere, or a node that does not build.
    """
    renamed = compat.renamed_words(model)
    if renamed:
        words = "; ".join(f"{old} is now {new}" for old, new in renamed.items())
        warnings.warn(
            f"{where} was written by audiodiff 0.1 and loads until audiodiff 0.3 ({words}). To rewrite it: "
            f"python -c \"from audiodiff.models.checkpoint import upgrade; upgrade('{where}')\"",
            FutureWarning,
            stacklevel=3,
        )
    model = compat.current_node(model)
    check_targets(model, where=where, field="model")
    try:
        built = Builder()(model)
    except Exception as error:
        raise CheckpointError(f"{where}: the model node does not build: {innermost(error)}") from error
    if not isinstance(built, Synthesizer):
        raise CheckpointError(f"{where}: model._target_ must be audiodiff.models.synthesizer.Synthesizer")
    return built


def upgrade(folder: str | os.PathLike[str]) -> None:
    """Rewrite a checkpoint of audiodiff 0.1 with the names of today, in place."""
    import yaml
    from safetensors.torch import load_file, save_file

    folder = find(folder)
    config = read_config(folder)
    config["model"] = compat.current_node(config["model"])
    with atomic_folder(folder) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        (temporary / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        save_file(compat.current_weights(load_file(folder / WEIGHTS)), temporary / WEIGHTS)
