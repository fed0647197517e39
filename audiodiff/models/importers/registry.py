"""The known families, and the import of a file: read, recognise, convert, check, and save as a checkpoint."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models import checkpoint
from audiodiff.models.importers.diffwave import LMNT, PHILSYN, PRIORGRAD, SPEECHBRAIN
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.flow_matching import FLOW2GAN, WAVEFM
from audiodiff.models.importers.hifigan import BIGVGAN, HIFIGAN
from audiodiff.models.importers.source import Source, read_source
from audiodiff.models.importers.vocos import VOCOS, WAVENEXT
from audiodiff.models.importers.wavegrad import WAVEGRAD
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.weights import assign_weights

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            LMNT,
            PRIORGRAD,
            SPEECHBRAIN,
            PHILSYN,
            WAVEGRAD,
            VOCOS,
            WAVENEXT,
            FLOW2GAN,
            WAVEFM,
            BIGVGAN,
            HIFIGAN,
        )
    }
)
"""Families by name; where a file fits several, the first."""
NETWORK = "denoiser.network."
"""Where a model keeps the weights of its network."""


def family_of(source: Source, name: str | None = None) -> Family:
    """Return the family of a file: the one named, or the one whose names of weights it has.

    Raises:
        ParameterError: if there is no family of this name.
        CheckpointError: if the file is not of the family, or of none.
    """
    if name is not None and name not in FAMILIES:
        raise ParameterError(f"--from {name} must be one of {', '.join(FAMILIES)}")
    fitting = [family for family in FAMILIES.values() if family.recognises(source.tensors)]
    if name is not None and FAMILIES[name] not in fitting:
        what = f"has the weights of {fitting[0].name}" if fitting else f"begins with {_first(source)}"
        raise CheckpointError(f"{source.path} is no checkpoint of {name}: it {what}")
    if name is not None:
        return FAMILIES[name]
    if not fitting:
        raise CheckpointError(
            f"{source.path} is of no known family ({', '.join(FAMILIES)}): its weights begin with {_first(source)}"
        )
    return fitting[0]


def _first(source: Source) -> str:
    return ", ".join(list(source.tensors)[:3])


def convert(source: Source, family: Family, given: Mapping[str, Any]) -> tuple[Synthesizer, Imported]:
    """Build the model of a foreign checkpoint, with its weights.

    Args:
        source: the file.
        family: which it is of.
        given: options of the user; values may be texts.

    Raises:
        ParameterError: for an option that the family does not have.
        CheckpointError: if settings and weights do not fit each other.
    """
    for name in given:
        if name not in family.options:
            known = "; ".join(f"{option} ({meaning})" for option, meaning in family.options.items())
            raise ParameterError(f"--set {name}: {family.name} takes {known}")
    imported = family.convert(source, Options(given, source.settings))
    model = checkpoint.build(imported.model, where=source.path)
    try:
        assign_weights(model, {NETWORK + name: weight for name, weight in imported.weights.items()}, where=source.path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. Give the configuration of the checkpoint, --config, or the options that differ, --set"
        ) from error
    return model.eval(), imported


def load_foreign(path: Path) -> Synthesizer:
    """Load a foreign checkpoint as it is; a warning says what it was taken for, and what was assumed.

    Raises:
        CheckpointError: if it is of no known family, or cannot be imported without options.
    """
    source = read_source(path)
    family = family_of(source)
    model, imported = convert(source, family, {})
    assumed = (
        f"; assumed: {', '.join(imported.assumed)} (audiodiff import --set changes it)" if imported.assumed else ""
    )
    warnings.warn(f"{path} was read as a checkpoint of {family.name}{assumed}", UserWarning, stacklevel=3)
    return model


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    family: str | None = None,
    config: Path | None = None,
    options: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> tuple[Family, Imported]:
    """Write a foreign checkpoint as one of ours.

    Args:
        path: the file.
        out: folder to write.
        family: its name; None recognises it.
        config: file of the model's settings; None is the one beside it, if any.
        options: what the file leaves open.
        licence: of the weights, for the model card.

    Raises:
        ParameterError: for a family or an option that does not exist.
        CheckpointError: if the file cannot be imported.
    """
    source = read_source(path, config=config)
    kind = family_of(source, family)
    model, imported = convert(source, kind, options or {})
    checkpoint.save(
        out,
        model=imported.model,
        sample_rate=model.sample_rate,
        mel_dialect=model.dialect,
        weights=model.state_dict(),
        metrics={},
        card=_card(source, kind, imported, licence=licence),
    )
    return kind, imported


def _card(source: Source, family: Family, imported: Imported, *, licence: str | None) -> str:
    beside = f"\n- settings: `{source.config.name}`" if source.config is not None else ""
    assumed = f"\n- assumed, since the file does not say it: {', '.join(imported.assumed)}" if imported.assumed else ""
    return f"""# Model card

- family: {family.name}: {family.title}
- imported from: `{source.path.name}`, SHA256 {source.sha256}{beside}{assumed}
{f"- license: {licence}" if licence else "- the licence of the weights was not stated: ask who published them"}
- quality: not measured here
"""
