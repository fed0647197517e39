"""`audiodiff features`: turn recordings into vectors."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.tasks.features.extract import default_tap
from audiodiff.tasks.features.files import (
    SUFFIX,
    check_outputs,
    features_of_files,
    load_model,
    recordings,
    save_features,
)
from audiodiff.tasks.features.probe import choose


def features_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Recordings: files, folders, globs, or manifests (.csv, .jsonl). A folder's manifest.csv is followed.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .npz to be written.")],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="A run folder, a checkpoint, or a name: speech-prior-16k, digits-8k."),
    ] = SPEECH_PRIOR,
    noise_level: Annotated[
        float | None,
        typer.Option(metavar="SIGMA", help="Of the noise that is added.", show_default="what suits such a model"),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="K", help="Residual block, from 0.", show_default="what suits such a model"),
    ] = None,
    choose_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Try noise levels and layers, and take the ones at which a linear probe tells this column best: "
            "label, speaker, or any other of the manifest, or folder. Recordings of split test are left alone in this.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what the manifest has in this split.", show_default="all")
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Turn recordings into vectors: what a layer of a trained denoiser makes of them, over time.

    The file holds vectors (recordings, features), path, and the columns of the manifest; numpy.load reads it. Each
    vector is the means and the standard deviations over time of a layer's channels. Any rate and length will do;
    channels are averaged.

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
        raise ParameterError(f"--choose-by {choose_by} chooses it: leave out {' and '.join(also)}")
    check_outputs([out], inputs=inputs, force=force)
    entries = recordings(inputs, split=split)
    loaded = load_model(model, device=device)
    tap = default_tap(loaded)
    if choose_by is not None:
        choice = choose(loaded, entries if split is None else recordings(inputs), column=choose_by)
        tap = choice.best
        say(
            f"% of {choice.n_validated} recordings whose {choose_by} a linear probe tells, fitted on {choice.n_fit}:\n"
            f"{choice.table()}"
        )
    changed = {"noise_level": noise_level, "layer": layer}
    tap = dataclasses.replace(tap, **{name: value for name, value in changed.items() if value is not None})
    found = features_of_files(loaded, entries, name=model, tap=tap)
    save_features(out, found)
    n, size = found.vectors.shape
    say(f"wrote {out}: {n} vectors of {size} features, of layer {tap.layer} at noise level {tap.noise_level:.4g}")
