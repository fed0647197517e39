"""Features of files: listing recordings, extraction with a model, and checks of output files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from audiodiff.data import Entry, load_whole, read_manifest, scan, scan_folder
from audiodiff.data.manifest import MANIFEST_NAMES
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.jobs import check_target, find_files, make_folder
from audiodiff.io.paths import user_path
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.features.archive import SUFFIX, Features, known_splits, load_features
from audiodiff.tasks.features.extract import (
    FeatureLayer,
    block_names,
    check_feature_model,
    default_layer,
    features_of_layers,
)
from audiodiff.types import OnProgress

_MANIFEST_SUFFIXES = (".csv", ".jsonl")
_N_NAMED = 10


def list_recordings(inputs: Sequence[str], *, split: str | None = None) -> list[Entry]:
    """List recordings with the columns of their manifest, and read their headers.

    Args:
        inputs: folders (their manifest.csv or manifest.jsonl is followed), manifests, files and globs.
        split: of the manifest; None is all.

    Raises:
        AudioFileError: if an input is missing.
        DataError: if a file cannot be used, or there are none.
    """
    listed = [entry for text in inputs for entry in _list_input(user_path(text))]
    if split is not None:
        kept = [entry for entry in listed if entry.split == split]
        if not kept:
            raise DataError(f"--split {split}: no recording is in it; {known_splits(listed)}")
        listed = kept
    entries, bad = scan(listed, min_seconds=0.0)
    if bad:
        named = [f"  {file.path}: {file.reason}" for file in bad[:_N_NAMED]]
        more = [f"  and {len(bad) - _N_NAMED} more"] if len(bad) > _N_NAMED else []
        raise DataError(
            "\n".join([f"{len(bad)} of {len(listed)} recordings cannot be used; leave them out:", *named, *more])
        )
    return entries


def load_model(where: str, *, device: str = "auto") -> Synthesizer:
    """Load a model that has features.

    Raises:
        CheckpointError: if it cannot be loaded.
        ParameterError: if it was not trained.
    """
    return check_feature_model(checkpoint.load(where, device=device_named(device)))


def features_of_files(
    model: Synthesizer,
    entries: Sequence[Entry],
    *,
    name: str = SPEECH_PRIOR,
    at: FeatureLayer | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Features:
    """Compute the features of recordings.

    Args:
        model: from `load_model`.
        entries: from `list_recordings`.
        name: of the model, to be kept with the features.
        at: layer and noise level; None is the model's default.
        on_progress: called after each recording.

    Raises:
        AudioFileError: if a file cannot be decoded.
        ParameterError: if the model has no such layer.
    """
    at = default_layer(model) if at is None else at
    vectors = []
    for entry in entries:
        vectors.append(entry_features(model, entry, noise_level=at.noise_level, layers=[at.layer])[0])
        on_progress("extracting features", len(vectors), len(entries))
    return Features(np.stack(vectors), tuple(entries), name, at)


def entry_features(
    model: Synthesizer, entry: Entry, *, noise_level: float, layers: Sequence[int] | None = None
) -> Float32[np.ndarray, "layers features"]:
    """Compute the features of layers of one recording; None is all layers."""
    layers = range(len(block_names(model))) if layers is None else layers
    audio = load_whole(entry, sample_rate=model.sample_rate, n_channels=1)
    return features_of_layers(
        model, audio, sample_rate=model.sample_rate, noise_level=noise_level, layers=list(layers)
    ).numpy()


def features_from(
    inputs: Sequence[str],
    *,
    model: str,
    split: str | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda *_: None,
) -> Features:
    """Load features from a file, or compute those of recordings at the model's default layer.

    Args:
        inputs: one .npz of `save_features`, or recordings as for `list_recordings`.
        model: name or folder, for recordings.
        split: of the recordings; None is all.
        device: for recordings.
        on_progress: called after each recording.

    Raises:
        AudioFileError: if an input is missing.
        DataError: if a file cannot be used.
    """
    if any(Path(text).suffix.lower() == SUFFIX for text in inputs):
        if len(inputs) > 1:
            raise ParameterError(f"{len(inputs)} inputs with a {SUFFIX} among them: give it alone")
        loaded = load_features(inputs[0])
        return loaded if split is None else loaded.of_split(split)
    entries = list_recordings(inputs, split=split)
    return features_of_files(load_model(model, device=device), entries, name=model, on_progress=on_progress)


def check_outputs(paths: Sequence[Path], *, inputs: Sequence[str], force: bool) -> None:
    """Check, before anything is computed, that output files can be written.

    Args:
        paths: to be written.
        inputs: as for `features_from`; neither they nor the manifests of folders among them are ever replaced.
        force: replace other files that exist.

    Raises:
        AudioFileError: if one exists without `force`, is a folder, or its folder cannot be written to.
        ParameterError: if one is an input.
    """
    roots = [user_path(text) for text in inputs]
    read = [path for root in roots for path in (root, *(root / name for name in MANIFEST_NAMES))]
    for path in paths:
        check_target(path, inputs=read, force=force)
        make_folder(path)


def _list_input(root: Path) -> list[Entry]:
    if root.is_dir():
        return scan_folder(root)
    if root.suffix.lower() in _MANIFEST_SUFFIXES:
        return read_manifest(root)
    return [Entry(path) for path in find_files(root)]
