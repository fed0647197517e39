"""`audiodiff likelihood`: nats and bits per dimension of recordings under a model."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Device, Force
from audiodiff.errors import ParameterError
from audiodiff.evaluation.likelihood import MEASURES, Likelihood, Settings, check_model, likelihood, mean
from audiodiff.io.atomic import atomic_file
from audiodiff.io.audio import info, read
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import check_target, find_files
from audiodiff.io.paths import file_text
from audiodiff.models.checkpoint import load
from audiodiff.models.devices import device_named
from audiodiff.tasks.generation.labels import read_single_labels

BOTH = "both"
SUFFIXES = (".csv", ".json")


def likelihood_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a checkpoint, or a name.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Recordings (wav, flac, mp3, ...), folders or globs of them.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A label of all recordings, for a model that knows labels."),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(metavar="NAME", help="flow: of deterministic samplers. bound: of ancestral sampling. Or both."),
    ] = BOTH,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the table, as .csv or .json.")
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps of the flow, four evaluations each.")] = 24,
    probes: Annotated[int, typer.Option(metavar="N", help="Random probes of the flow's trace.")] = 1,
    levels: Annotated[int, typer.Option(metavar="N", help="Noise levels of the bound.")] = 64,
    sigma_min: Annotated[
        float | None,
        typer.Option(metavar="SIGMA", help="Smallest noise level.", show_default="that of the model's sampler"),
    ] = None,
    chunk: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Longer recordings are scored in chunks of this length, each as a recording."
        ),
    ] = 4.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random draws.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Compute how likely recordings are under a model, in nats and bits per dimension.

    For a model of waveforms, the number is -log P of 16-bit samples at the model's rate, per sample: bits compare with
    those of lossless compression. For a model of mel spectrograms it is -log p of the mel, a density, per band and
    frame; it may be negative. Lower is more likely. `flow` and `bound` are of two models, how deterministic and how
    ancestral samplers draw; neither bounds the other. Compare numbers of one measure, model representation and
    sigma_min only.

    \b
    Examples:
      audiodiff likelihood digits-8k recordings/ --label digit=7
      audiodiff likelihood speech-prior-16k a.wav b.wav --measure bound
      audiodiff likelihood runs/mine test/ -o likelihood.csv --probes 4
    """
    if measure not in (*MEASURES, BOTH):
        raise ParameterError(f"--measure {measure} must be one of {', '.join((*MEASURES, BOTH))}")
    paths = list(dict.fromkeys(path for text in inputs for path in find_files(text)))
    if out is not None:
        if out.suffix.lower() not in SUFFIXES:
            raise ParameterError(f"--out {out} must end in {' or '.join(SUFFIXES)}")
        check_target(out, force=force, inputs=paths)
    settings = Settings(
        measures=tuple(name for name in MEASURES if measure in (name, BOTH)),
        n_steps=steps,
        n_probes=probes,
        n_levels=levels,
        sigma_min=sigma_min,
        chunk_seconds=chunk,
        seed=seed,
    )
    loaded = check_model(load(model, device=device_named(device))).requires_grad_(False)
    labels = read_single_labels(label or [], labels=loaded.labels)
    seconds = [info(path).seconds for path in paths]
    found: list[Likelihood] = []
    with progress("computing likelihoods", total=len(paths)) as bar:
        for index, path in enumerate(paths):
            audio, rate = read(path)
            try:
                scored = likelihood(
                    loaded,
                    audio,
                    sample_rate=rate,
                    labels=labels,
                    settings=settings,
                    item=index,
                    on_step=bar.within,
                )
            except ParameterError as error:
                raise ParameterError(f"{path}: {error}") from error
            found.append(scored)
            bar.advance()
    kind = "mel values (a density)" if loaded.representation.makes_mel else "16-bit samples"
    _show(paths, seconds, found, kind=kind)
    if out is not None:
        with atomic_file(out) as temporary:
            temporary.write_bytes(file_text(_text(paths, seconds, found, model=model, kind=kind, suffix=out.suffix)))
        say(f"wrote {out}")


def _show(paths: Sequence[Path], seconds: Sequence[float], found: Sequence[Likelihood], *, kind: str) -> None:
    names = list(found[0].nats)
    width = max(4, *(len(str(path)) for path in paths))
    heads = [f"{name} {unit}" for name in names for unit in ("nats", "bits")]
    print(f"per dimension, of {kind}")
    print(f"{'file':{width}}  {'seconds':>8}  " + "  ".join(f"{head:>11}" for head in heads))
    rows = [*zip(map(str, paths), seconds, found, strict=True)]
    if len(paths) > 1:
        rows.append(("mean", sum(seconds), mean(found)))
    for path, length, each in rows:
        values = [value for name in names for value in (each.nats[name], each.bits[name])]
        print(f"{path:{width}}  {length:8.2f}  " + "  ".join(f"{value:11.4f}" for value in values))


def _text(
    paths: Sequence[Path],
    seconds: Sequence[float],
    found: Sequence[Likelihood],
    *,
    model: str,
    kind: str,
    suffix: str,
) -> str:
    rows = [
        {"path": str(path), "seconds": length, "n_dims": each.n_dims}
        | {f"{name}_nats": value for name, value in each.nats.items()}
        | {f"{name}_bits": value for name, value in each.bits.items()}
        for path, length, each in zip(paths, seconds, found, strict=True)
    ]
    if suffix.lower() == ".json":
        whole = mean(found)
        about = {"model": model, "of": kind, "mean": {"nats": dict(whole.nats), "bits": whole.bits}, "files": rows}
        return json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
