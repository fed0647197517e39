"""`audiodiff enhance`, `inpaint`, `extend`, `declip`: the commands."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from audiodiff.cli.options import Device, Float, Force, Model, Out, Recordings
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import Job, plan_from_files
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import METHODS, OF_NOISY, Sampling, check_model
from audiodiff.tasks.restoration.declipping import DECLIPPING, Declip
from audiodiff.tasks.restoration.enhancement import ENHANCING, Enhance
from audiodiff.tasks.restoration.extension import EXTENDING, Extend
from audiodiff.tasks.restoration.files import Restoring, restore_files
from audiodiff.tasks.restoration.inpainting import INPAINTING, Inpaint

DEFAULT_OUT = Path("restored")

MethodName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(METHODS)}. told needs a model that hears damaged recordings, as the default does; the others "
        "restore with any model of waveforms.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", help="Steps of the sampler: more are slower and, up to some, better."),
]
Start = Annotated[
    float | None,
    typer.Option(
        metavar="SIGMA",
        help="Start from the recording with noise of this level, where speech has one near 0.1, instead of from noise "
        "alone: less can change.",
        show_default="noise alone",
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        metavar="T",
        help="Factor of the noise that is drawn, 0 to 1: lower is nearer to the mean of what may be, and duller.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the noise; another seed gives another possible result.")]


def enhance_command(
    inputs: Recordings,
    out: Out = DEFAULT_OUT,
    model: Model = checkpoint.SPEECH_PRIOR,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="told: the model hears the noisy recording, as the default does. denoise: the noise is taken for "
            "steady, and its spectrum for known; for any model of clean speech.",
        ),
    ] = ENHANCING.method,
    steps: Steps = ENHANCING.steps,
    start: Start = ENHANCING.start,
    temperature: Temperature = ENHANCING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    force: Force = False,
) -> None:
    """Take noise out of speech.

    One step gives the mean of what the clean speech may be, more steps one of the possibilities. A result has the
    length, the sample rate, the channels and the sample format of its input. What lies above half the model's sample
    rate, 8 kHz, is not kept. Long recordings are read, computed and written in windows.

    \b
    Examples:
      audiodiff enhance noisy.wav -o clean.wav
      audiodiff enhance interviews/ -o clean
      audiodiff enhance noisy.wav --steps 8 --start 0.1 --seed 1
      audiodiff enhance hiss.wav --model runs/mine --method denoise
    """
    if method not in OF_NOISY:
        raise ParameterError(
            f"--method {method} must be one of {', '.join(OF_NOISY)}: of noisy speech no sample is known"
        )
    sampling = replace(ENHANCING, method=method, steps=steps, start=start, temperature=temperature)
    jobs = _planned(inputs, out=out, force=force)
    restore_files(_loaded(model, sampling, device=device), jobs, Restoring(Enhance(), sampling, seed, float_))


def inpaint_command(
    inputs: Recordings,
    gap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:STOP",
            help="A gap, in seconds, the same in all inputs and channels; may be given several times.",
            show_default="stretches of one value, 5 ms or more",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where samples are known: a .npy file or a recording of 1 (known) and 0 (lost), as long as the input.",
            show_default="none",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = checkpoint.SPEECH_PRIOR,
    method: MethodName = INPAINTING.method,
    steps: Steps = INPAINTING.steps,
    start: Start = INPAINTING.start,
    temperature: Temperature = INPAINTING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    force: Force = False,
) -> None:
    """Fill gaps: lost packets, dropouts, what was cut out.

    All samples outside the gaps stay as they are, to the bit. A file without gaps is copied.

    \b
    Examples:
      audiodiff inpaint call.wav -o whole.wav                      gaps are found
      audiodiff inpaint talk.wav --gap 1.20:1.35 --gap 7:7.08 -o whole.wav
      audiodiff inpaint talk.wav --mask known.npy --seed 3 -o whole.wav
      audiodiff inpaint music.wav --model runs/mine --method projection
    """
    gaps = tuple(_gap(text) for text in gap) if gap else None
    repair = Inpaint(gaps=gaps, mask=None if mask is None else _mask(mask))
    sampling = _sampling(INPAINTING, method=method, steps=steps, start=start, temperature=temperature)
    jobs = _planned(inputs, out=out, force=force)
    restoring = Restoring(repair, sampling, seed, float_, limits=True)
    restore_files(_loaded(model, sampling, device=device), jobs, restoring)


def extend_command(
    inputs: Recordings,
    cutoff: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="Frequency above which the inputs hold nothing.",
            show_default="found in the mean spectrum of each",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = checkpoint.SPEECH_PRIOR,
    method: MethodName = EXTENDING.method,
    steps: Steps = EXTENDING.steps,
    start: Start = EXTENDING.start,
    temperature: Temperature = EXTENDING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    force: Force = False,
) -> None:
    """Give narrow-band recordings the high frequencies that they lack.

    What lies below the cutoff stays; what is added lies between it and half the model's sample rate, 8 kHz. A result
    has the input's sample rate, or the model's where that is higher.

    \b
    Examples:
      audiodiff extend telephone.wav -o wide.wav
      audiodiff extend calls/ --cutoff 3400 -o wide
    """
    sampling = _sampling(EXTENDING, method=method, steps=steps, start=start, temperature=temperature)
    jobs = _planned(inputs, out=out, force=force)
    loaded = _loaded(model, sampling, device=device)
    restore_files(loaded, jobs, Restoring(Extend(cutoff, up_to=loaded.sample_rate / 2), sampling, seed, float_))


def declip_command(
    inputs: Recordings,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Magnitude, of full scale 1, at which the inputs were cut off.",
            show_default="found in each channel",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = checkpoint.SPEECH_PRIOR,
    method: MethodName = DECLIPPING.method,
    steps: Steps = DECLIPPING.steps,
    start: Start = DECLIPPING.start,
    temperature: Temperature = DECLIPPING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    force: Force = False,
) -> None:
    """Restore what was clipped.

    Samples that were not clipped stay as they are. Peaks that come back may pass full scale: a result is then scaled
    down to fit, unless --float keeps the level.

    \b
    Examples:
      audiodiff declip hot.wav -o calm.wav
      audiodiff declip takes/ --threshold 0.5 --float -o calm
    """
    repair = Declip(threshold)
    sampling = _sampling(DECLIPPING, method=method, steps=steps, start=start, temperature=temperature)
    jobs = _planned(inputs, out=out, force=force)
    restore_files(_loaded(model, sampling, device=device), jobs, Restoring(repair, sampling, seed, float_))


def _sampling(usual: Sampling, *, method: str, steps: int | None, start: float | None, temperature: float) -> Sampling:
    """Return how to draw what is lost in part."""
    sampling = replace(usual, method=method, steps=steps, start=start, temperature=temperature)
    if method not in METHODS:
        raise ParameterError(
            f"--method {method} must be one of {', '.join(METHODS)}: it takes noise away, and here something is lost"
        )
    return sampling


def _gap(text: str) -> tuple[float, float]:
    """Read START:STOP."""
    try:
        start, stop = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise ParameterError(f"--gap {text} must be START:STOP in seconds, as in --gap 1.20:1.35") from error
    return start, stop


def _mask(path: Path) -> Tensor:
    """Read where samples are known.

    Raises:
        AudioFileError: if the file cannot be read.
    """
    if path.suffix.lower() != ".npy":
        return audio_io.read(path)[0] != 0
    try:
        with path.open("rb") as file:
            return torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise AudioFileError(f"--mask {path}: cannot be read ({error}); save 0s and 1s with numpy.save") from error


def _planned(inputs: Sequence[str], *, out: Path, force: bool) -> list[Job]:
    return plan_from_files(
        inputs,
        suffixes=audio_io.AUDIO_SUFFIXES,
        out=out,
        out_suffixes=audio_io.AUDIO_SUFFIXES,
        new_suffix=None,
        force=force,
    )


def _loaded(model: str, sampling: Sampling, *, device: str) -> Synthesizer:
    return check_model(checkpoint.load(model, device=device_named(device)), method=sampling.method)
