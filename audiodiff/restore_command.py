"""`audiodiff enhance`, `inpaint`, `extend`, `declip`: the commands."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audiodiff import audio_io, checkpoint
from audiodiff.devices import device_named
from audiodiff.file_plan import plan_from_files
from audiodiff.restoration import METHODS, check_model
from audiodiff.restoration.enhancement import ENHANCING, Enhance
from audiodiff.restoration_files import Restoring, restore_files

DEFAULT_OUT = Path("restored")
DEFAULT_MODEL = "speech-prior-16k"

Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Recordings (wav, flac, mp3, ...), folders or globs of them.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="PATH", help="A file (.wav, .flac, ...) for one result, or a folder.")
]
Model = Annotated[str, typer.Option(metavar="MODEL", help="A run folder, a checkpoint, or a name.")]
MethodName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(METHODS)}. told needs a model that hears damaged recordings, as the default does; the others "
        "restore with any model of waveforms.",
    ),
]
Steps = Annotated[int, typer.Option(metavar="N", help="Steps of the sampler: more are slower and, up to some, better.")]
Start = Annotated[
    float | None,
    typer.Option(
        metavar="SIGMA",
        help="Start from the recording with noise of this level, where speech has one near 0.1, instead of from noise "
        "alone: less can change.",
        show_default="noise alone",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the noise; another seed gives another possible result.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")]
Float = Annotated[bool, typer.Option("--float", help="Write 32-bit float samples, at the level as it is.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def enhance_command(
    inputs: Inputs,
    out: Out = DEFAULT_OUT,
    model: Model = DEFAULT_MODEL,
    steps: Steps = ENHANCING.steps or 1,
    start: Start = ENHANCING.start,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    force: Force = False,
) -> None:
    """Take noise out of speech.

    A result has the length, the sample rate, the channels and the sample format of its input. What lies above half the
    model's sample rate, 8 kHz, is not kept. Long recordings are read, computed and written in windows.

    \b
    Examples:
      audiodiff enhance noisy.wav -o clean.wav
      audiodiff enhance interviews/ -o clean --steps 16
      audiodiff enhance noisy.wav --model runs/mine --start 0.1
    """
    sampling = replace(ENHANCING, steps=steps, start=start)
    _restore(inputs, Restoring(Enhance(), sampling, seed, float_), model=model, out=out, device=device, force=force)


def _restore(inputs: Sequence[str], restoring: Restoring, *, model: str, out: Path, device: str, force: bool) -> None:
    """Do what all commands do."""
    jobs = plan_from_files(
        inputs,
        suffixes=audio_io.AUDIO_SUFFIXES,
        out=out,
        out_suffixes=audio_io.AUDIO_SUFFIXES,
        new_suffix=None,
        force=force,
    )
    loaded = checkpoint.load(model, device=device_named(device))
    restore_files(check_model(loaded, method=restoring.sampling.method), jobs, restoring)
