"""`audiodiff features`: extract feature vectors from recordings."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import OUTPUT, Device, Force, Model, Split
from audiodiff.errors import ParameterError
from audiodiff.io.console import say, stage_progress
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.tasks.features.archive import SUFFIX, save_features
from audiodiff.tasks.features.extract import default_layer
from audiodiff.tasks.features.files import check_outputs, features_of_files, list_recordings, load_model
from audiodiff.tasks.features.probe import choose_layer


def features_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Recordings: files, folders, globs, or manifests (.csv, .jsonl). A folder's manifest.csv is used.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The feature file to write (.npz).", rich_help_panel=OUTPUT),
    ],
    model: Model = SPEECH_PRIOR,
    noise_level: Annotated[
        float | None,
        typer.Option(metavar="SIGMA", help="Level of the added noise.", show_default="by the kind of model"),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="K", help="Number of the residual block, from 0.", show_default="by the kind of model"),
    ] = None,
    choose_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Choose the noise level and layer at which a linear probe predicts this column best: label, speaker, "
            "another column of the manifest, or folder. Recordings of split test are not used for the choice.",
        ),
    ] = None,
    split: Split = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Extract feature vectors from recordings: the activations of a diffusion model, pooled over time.

    Each vector holds the means and the standard deviations over time of a layer's channels. Recordings may have any
    sample rate and length; channels are averaged. The file holds vectors (recordings, features), path, and the columns
    of the manifest; numpy.load reads it.

    \b
    Examples:
      audiodiff features recordings/ -o features.npz
      audiodiff features fsdd/ -o features.npz --model digits-8k --split test
      audiodiff features fsdd/ -o features.npz --choose-by label
      audiodiff features a.wav b.flac -o features.npz --noise-level 0.01 --layer 6
    """
    if out.suffix.lower() != SUFFIX:
        raise ParameterError(f"--out {out} must end in {SUFFIX}")
    given = {"--noise-level": noise_level, "--layer": layer}
    if choose_by is not None and (also := [name for name, value in given.items() if value is not None]):
        raise ParameterError(f"--choose-by {choose_by} chooses them: leave out {' and '.join(also)}")
    check_outputs([out], inputs=inputs, force=force)
    with stage_progress() as on_progress:
        entries = list_recordings(inputs, split=split)
        loaded = load_model(model, device=device)
        at = default_layer(loaded)
        if choose_by is not None:
            candidates = entries if split is None else list_recordings(inputs)
            probes = choose_layer(loaded, candidates, column=choose_by, on_progress=on_progress)
            at = probes.best
            say(
                f"accuracy in % of a linear probe of {choose_by} on {probes.n_validated} recordings, fitted on "
                f"{probes.n_fit}:\n{probes.table()}"
            )
        changed = {"noise_level": noise_level, "layer": layer}
        at = dataclasses.replace(at, **{name: value for name, value in changed.items() if value is not None})
        features = features_of_files(loaded, entries, name=model, at=at, on_progress=on_progress)
    save_features(out, features)
    n, size = features.vectors.shape
    say(f"wrote {out}: {n} vectors of {size} features, of layer {at.layer} at noise level {at.noise_level:.4g}")
