"""`audiodiff enhance`, `inpaint`, `extend` and `declip`."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from audiodiff.cli.options import Device, Float, Force, Model, Normalize, Out, Recordings, read_normalize
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import say, stage_progress
from audiodiff.io.jobs import Job, plan_jobs
from audiodiff.models import checkpoint, registry
from audiodiff.models.devices import device_named
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import (
    FOR_LOSS,
    FOR_NOISE,
    PosteriorSampler,
    Sampling,
    check_model,
    posterior_named,
)
from audiodiff.tasks.restoration.declipping import DECLIPPING, Declip
from audiodiff.tasks.restoration.enhancement import ENHANCING, Enhance
from audiodiff.tasks.restoration.extension import EXTENDING, Extend
from audiodiff.tasks.restoration.files import Restoring, restore_files
from audiodiff.tasks.restoration.inpainting import INPAINTING, Inpaint

DEFAULT_OUT = Path("restored")

LossPosterior = Annotated[
    str,
    typer.Option(
        "--posterior",
        metavar="NAME",
        help=f"{', '.join(FOR_LOSS)}. conditional needs a model that takes damaged recordings, as the default does; "
        "the others restore with any model of waveforms.",
    ),
]
NoisePosterior = Annotated[
    str,
    typer.Option(
        "--posterior",
        metavar="NAME",
        help="conditional: the model is given the noisy recording, as the default is. denoising: the noise is taken as "
        "stationary and its spectrum is estimated; works with any model of clean speech.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Steps of the solver. More than the default take longer, and measured no better (enhance: worse).",
    ),
]
Start = Annotated[
    float | None,
    typer.Option(
        metavar="SIGMA",
        help="Start from the recording with noise of this level instead of from noise alone, so that less can change. "
        "Speech has a level near 0.1.",
        show_default="noise alone",
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        metavar="T",
        help="Factor of the random noise, 0 to 1: lower values give results nearer to the mean, and duller.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the noise; another seed gives another possible result.")]


def enhance_command(
    inputs: Recordings,
    out: Out = DEFAULT_OUT,
    model: Model = registry.SPEECH_PRIOR,
    posterior: NoisePosterior = ENHANCING.posterior.name,
    steps: Steps = ENHANCING.steps,
    start: Start = ENHANCING.start,
    temperature: Temperature = ENHANCING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Remove noise from speech.

    One step gives the mean of all possible clean recordings. More steps give one of them, farther from what was said by
    every measure. A result has the length, the sample rate, the channels and the sample format of its input. Above half
    the model's sample rate, 8 kHz, the recording stays, attenuated as the band just below is. Music is not preserved.

    \b
    Examples:
      audiodiff enhance noisy.wav -o clean.wav
      audiodiff enhance interviews/ -o clean
      audiodiff enhance noisy.wav --steps 8 --start 0.1 --seed 1
      audiodiff enhance hiss.wav --model runs/mine --posterior denoising
    """
    sampling = _sampling(ENHANCING, FOR_NOISE, posterior, steps=steps, start=start, temperature=temperature)
    jobs, loaded = _prepared(inputs, sampling, out=out, model=model, device=device, force=force)
    repair = Enhance(loaded.sample_rate / 2, shares_gains=steps == 1)
    _restore(loaded, jobs, Restoring(repair, sampling, seed, float_, False, read_normalize(normalize)))


def inpaint_command(
    inputs: Recordings,
    gap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:STOP",
            help="A gap in seconds, in all inputs and channels; may be given several times.",
            show_default="stretches of one value, 5 ms or more",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Mask of known samples: a .npy file or a recording of 1 (known) and 0 (lost), as long as the input.",
            show_default="none",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = registry.SPEECH_PRIOR,
    posterior: LossPosterior = INPAINTING.posterior.name,
    steps: Steps = INPAINTING.steps,
    start: Start = INPAINTING.start,
    temperature: Temperature = INPAINTING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Fill gaps: lost packets, dropouts, deleted words.

    All samples outside the gaps stay as they are, to the bit. A file without gaps is copied.

    \b
    Examples:
      audiodiff inpaint call.wav -o whole.wav                      gaps are found
      audiodiff inpaint talk.wav --gap 1.20:1.35 --gap 7:7.08 -o whole.wav
      audiodiff inpaint talk.wav --mask known.npy --seed 3 -o whole.wav
      audiodiff inpaint music.wav --model runs/mine --posterior projection
    """
    gaps = tuple(_gap(text) for text in gap) if gap else None
    repair = Inpaint(gaps=gaps, mask=None if mask is None else _mask(mask))
    sampling = _sampling(INPAINTING, FOR_LOSS, posterior, steps=steps, start=start, temperature=temperature)
    jobs, loaded = _prepared(inputs, sampling, out=out, model=model, device=device, force=force)
    _restore(loaded, jobs, Restoring(repair, sampling, seed, float_, True, read_normalize(normalize)))


def extend_command(
    inputs: Recordings,
    cutoff: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="Frequency above which the inputs have no energy; one that has some is full band.",
            show_default="detected in the mean spectrum of each",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = registry.SPEECH_PRIOR,
    posterior: LossPosterior = EXTENDING.posterior.name,
    steps: Steps = EXTENDING.steps,
    start: Start = EXTENDING.start,
    temperature: Temperature = EXTENDING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Add the missing high frequencies to narrow-band recordings.

    Frequencies below the cutoff stay; those from the cutoff to half the model's sample rate, 8 kHz, are added, at the
    level that speech has there. A full-band recording stays as it is. A result has the sample rate of its input, or the
    model's where that is higher.

    \b
    Examples:
      audiodiff extend telephone.wav -o wide.wav
      audiodiff extend calls/ --cutoff 3400 -o wide
    """
    sampling = _sampling(EXTENDING, FOR_LOSS, posterior, steps=steps, start=start, temperature=temperature)
    jobs, loaded = _prepared(inputs, sampling, out=out, model=model, device=device, force=force)
    _restore(
        loaded,
        jobs,
        Restoring(
            Extend(cutoff, up_to=loaded.sample_rate / 2), sampling, seed, float_, False, read_normalize(normalize)
        ),
    )


def declip_command(
    inputs: Recordings,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Magnitude at which the inputs are clipped; full scale is 1.",
            show_default="detected in each channel",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    model: Model = registry.SPEECH_PRIOR,
    posterior: LossPosterior = DECLIPPING.posterior.name,
    steps: Steps = DECLIPPING.steps,
    start: Start = DECLIPPING.start,
    temperature: Temperature = DECLIPPING.temperature,
    seed: Seed = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Restore clipped peaks.

    Samples that were not clipped stay as they are. Restored peaks may exceed full scale: a result is then scaled down
    to fit, unless --float keeps the level.

    \b
    Examples:
      audiodiff declip hot.wav -o calm.wav
      audiodiff declip takes/ --threshold 0.5 --float -o calm
    """
    repair = Declip(threshold)
    sampling = _sampling(DECLIPPING, FOR_LOSS, posterior, steps=steps, start=start, temperature=temperature)
    jobs, loaded = _prepared(inputs, sampling, out=out, model=model, device=device, force=force)
    _restore(loaded, jobs, Restoring(repair, sampling, seed, float_, False, read_normalize(normalize)))


def _sampling(
    usual: Sampling,
    samplers: Mapping[str, PosteriorSampler],
    posterior: str,
    *,
    steps: int | None,
    start: float | None,
    temperature: float,
) -> Sampling:
    sampler = posterior_named(posterior, samplers, option="--posterior ")
    if posterior != sampler.name:
        say(f"{posterior} is now {sampler.name}; the old name works until audiodiff 0.3")
    return replace(usual, posterior=sampler, steps=steps, start=start, temperature=temperature)


def _prepared(
    inputs: Sequence[str], sampling: Sampling, *, out: Path, model: str, device: str, force: bool
) -> tuple[list[Job], Synthesizer]:
    """Plan the outputs and load the model."""
    jobs = plan_jobs(inputs, out=out, force=force, new_suffix=None)
    return jobs, check_model(checkpoint.load(model, device=device_named(device)), posterior=sampling.posterior)


def _restore(model: Synthesizer, jobs: Sequence[Job], restoring: Restoring) -> None:
    lines: list[str] = []
    try:
        with stage_progress() as on_progress:
            lines.extend(restore_files(model, jobs, restoring, on_progress=on_progress))
    finally:
        # After the bar is gone; and for every file that was written, whatever ended the work.
        for line in lines:
            say(line)


def _gap(text: str) -> tuple[float, float]:
    """Read START:STOP."""
    try:
        start, stop = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise ParameterError(f"--gap {text} must be START:STOP in seconds, as in --gap 1.20:1.35") from error
    return start, stop


def _mask(path: Path) -> Tensor:
    """Read a mask of known samples.

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
