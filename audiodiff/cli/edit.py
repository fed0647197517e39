"""`audiodiff edit`: change the speaker, the class, or vary a recording."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import (
    Device,
    Float,
    Force,
    LabelGuidance,
    Normalize,
    Out,
    Recordings,
    StepsAtAnyStrength,
    read_normalize,
)
from audiodiff.cli.report import report_levels, report_written
from audiodiff.errors import ParameterError, check_whole
from audiodiff.io.console import progress
from audiodiff.io.formats import FLOAT, check_float
from audiodiff.io.jobs import make_folder, plan_jobs
from audiodiff.io.readers import open_recording
from audiodiff.io.writers import WrittenFile, open_writer
from audiodiff.models import checkpoint, registry
from audiodiff.models.devices import device_named
from audiodiff.models.sampling import SamplingOptions
from audiodiff.tasks.editing.edit import ALGORITHMS, DEFAULT_STRENGTH, check_model, check_strength, edit
from audiodiff.tasks.generation.labels import read_single_labels

DEFAULT_OUT = Path("edited")


@dataclass(frozen=True)
class Defaults:
    """Default options."""

    model: str
    algorithm: str
    strength: float


LABELLED = Defaults("digits-8k", "inversion", 0.95)
PLAIN = Defaults(registry.SPEECH_PRIOR, "sdedit", DEFAULT_STRENGTH)


def edit_command(
    inputs: Recordings,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="New label, for a model with labels: speaker=theo. May be given for several labels; the others keep "
            "the value of --source, or may become any.",
            show_default="any",
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Present label, where it is known and the same for all inputs. It is kept unless --label changes it; "
            "--algorithm inversion and --guidance use it too.",
            show_default="any",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="How much to change, from 0, the recording encoded and decoded, to 1, a new sound.",
            show_default=f"{LABELLED.strength} with --label, otherwise {PLAIN.strength}",
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="sdedit: add noise, then denoise. inversion: map the recording to noise with its present labels, then "
            "back with the new ones; it preserves more for the same change, and takes four times as long.",
            show_default=f"{LABELLED.algorithm} with --label, otherwise {PLAIN.algorithm}",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A run folder, a checkpoint, or a name.",
            show_default=f"{LABELLED.model} with --label, otherwise {PLAIN.model}",
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    steps: StepsAtAnyStrength = None,
    guidance: LabelGuidance = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Noise is drawn for the seed and the number of the file in the list.")
    ] = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Change the speaker, the class, or vary a recording.

    A result has the length, the channels and the rate of its input; frequencies above half the model's rate are lost. A
    result above full scale is scaled down to fit. Each recording is held in memory; long ones are computed in windows
    of 20 s.

    \b
    Examples:
      audiodiff edit seven.wav --label speaker=theo -o theo.wav      the same word by another speaker
      audiodiff edit seven.wav --label digit=3 --strength 1          another word by the same speaker
      audiodiff edit takes/ --label speaker=theo --source speaker=george --source digit=7
      audiodiff edit takes/ --label digit=3 --algorithm sdedit --strength 0.85 --guidance 2
      audiodiff edit speech.wav --strength 0.3                       a variation of any speech
      audiodiff edit hits/ --model runs/mine --label class=snare -o snares
    """
    defaults = LABELLED if label else PLAIN
    strength = defaults.strength if strength is None else strength
    algorithm = algorithm or defaults.algorithm
    check_strength(strength)
    if algorithm not in ALGORITHMS:
        raise ParameterError(f"--algorithm {algorithm} must be one of {', '.join(ALGORITHMS)}")
    if steps is not None:
        check_whole(steps, name="--steps", least=1)
    if algorithm == "inversion" and not label:
        raise ParameterError("--algorithm inversion needs --label with the new labels: without, nothing would change")
    normalization = read_normalize(normalize)
    jobs = plan_jobs(inputs, out=out, force=force, new_suffix=".wav")
    if float_:
        for job in jobs:
            check_float(job.target)
    loaded = check_model(checkpoint.load(model or defaults.model, device=device_named(device)))
    to = read_single_labels(label or [], labels=loaded.labels, option="--label")
    of = read_single_labels(source or [], labels=loaded.labels, option="--source")
    loaded.check_sampling(SamplingOptions(steps=steps))
    recordings = [open_recording(job.source) for job in jobs]
    for recording in recordings:
        recording.check_rate(loaded.sample_rate)
    make_folder(jobs[0].target)
    written: list[WrittenFile] = []
    with progress("editing", total=len(jobs)) as bar:
        for job, recording in zip(jobs, recordings, strict=True):
            audio, sample_rate = recording.read(), recording.info.sample_rate
            made = edit(
                loaded,
                audio,
                sample_rate=sample_rate,
                strength=strength,
                labels=to,
                source_labels=of,
                algorithm=algorithm,
                steps=steps,
                guidance=guidance,
                seed=seed,
                items=[job.key],
                on_step=bar.within,
            )
            with open_writer(
                job.target,
                n_samples=audio.shape[-1],
                sample_rate=sample_rate,
                subtype=FLOAT if float_ else None,
                normalization=normalization,
            ) as writer:
                writer.add(made)
                written.append(writer.finish())
            bar.advance()
    report_levels(written, normalization)
    report_written([file.path for file in written], out=out)
