"""`audiodiff generate`, also `generate-wav`: generate audio files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from audiodiff.cli.mel_advice import report_mels
from audiodiff.cli.options import (
    MODEL,
    SAMPLING,
    Device,
    Dialect,
    Float,
    Force,
    GeneratorModel,
    Iterations,
    Key,
    NoiseLevels,
    Normalize,
    Out,
    OutputRate,
    Sampler,
    SamplerOption,
    SecondStage,
    Steps,
    check_least,
    check_sampling,
    read_normalize,
    read_solver,
)
from audiodiff.cli.report import full_band, report_levels, report_lost, report_written
from audiodiff.dsp.dialect_text import with_named_values
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.io.console import progress
from audiodiff.io.formats import AUDIO_SUFFIXES, FLOAT
from audiodiff.io.jobs import plan_jobs
from audiodiff.io.mel import MEL_KEY, MEL_SUFFIXES
from audiodiff.io.readers import open_inputs
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.mel_inverter import DEFAULT_MODEL, INVERSIONS
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.generation.files import GenerationSettings, generate_from_inputs, generate_from_specs
from audiodiff.tasks.generation.labels import read_seed
from audiodiff.tasks.generation.request import GenerationRequest

DEFAULT_OUT = Path("generated")
GUIDANCE, NO_INPUT = "Guidance", "Without an input"


def generate_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Recordings (wav, flac, mp3, ...), mel spectrograms (.npz, .npy, .pt), folders or globs of them; "
            "none for a model that generates without an input; - for standard input (see audiodiff stream).",
            show_default=False,
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    rate: OutputRate = None,
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
    model: GeneratorModel = DEFAULT_MODEL,
    vocoder: SecondStage = None,
    dialect: Dialect = None,
    key: Key = MEL_KEY,
    device: Device = "auto",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Signals of equal length to compute together.", rich_help_panel=MODEL)
    ] = 1,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            metavar="N",
            help="How many sounds to generate, of each label.",
            show_default="1",
            rich_help_panel=NO_INPUT,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Length of each sound.",
            show_default="as in the training data, or 1",
            rich_help_panel=NO_INPUT,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Label of the sound: digit=7; several: digit=0,1,2 or digit=all; or digit=3:7 with --interpolate. "
            "Repeat it for other labels: all combinations are generated. Write a backslash before a comma or colon "
            "within a value.",
            show_default="any",
            rich_help_panel=NO_INPUT,
        ),
    ] = None,
    interpolate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of sounds from one label or seed to another, both ends included.",
            rich_help_panel=NO_INPUT,
        ),
    ] = None,
    no_sheet: Annotated[
        bool,
        typer.Option(
            "--no-sheet", help="Draw no contact sheet, the spectrograms of all sounds.", rich_help_panel=NO_INPUT
        ),
    ] = False,
    steps: Steps = None,
    sampler: Sampler = None,
    sampler_option: SamplerOption = None,
    grid: NoiseLevels = None,
    iterations: Iterations = None,
    seed: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Seed of the noise: the same seed gives the same samples, whatever the batch size. Each file of a "
            "list has noise of its own, by its place. A:B interpolates between two seeds, with --interpolate.",
            rich_help_panel=SAMPLING,
        ),
    ] = "0",
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE",
            help="Strength of the guidance; 1 is none. Without --guide it is classifier-free, for models that were "
            "trained with dropped conditions. It doubles the time.",
            rich_help_panel=GUIDANCE,
        ),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Guide away from a weaker model of the same kind, for example an earlier checkpoint of the run.",
            rich_help_panel=GUIDANCE,
        ),
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LO HI",
            help="Guide only at noise levels sigma from LO to HI.",
            show_default="all",
            rich_help_panel=GUIDANCE,
        ),
    ] = None,
) -> None:
    """Generate audio files from recordings, from mel spectrograms, from labels, or from noise alone.

    \b
    Examples:
      generate-wav speech.wav -o copy.wav                     mel inversion, without training
      generate-wav speech.wav -o copy.wav --model runs/mine   a trained vocoder
      generate-wav mels/ -o wavs --dialect tacotron2          a folder of mel spectrograms
      generate-wav --model runs/mine -n 8 --seconds 2 -o new  an unconditional model
      generate-wav --model runs/mel --vocoder runs/mine       a model of mels and a vocoder

    \b
    Labels:
      generate-wav --model digits-8k --label digit=7 -o seven.wav
      generate-wav --model digits-8k --label digit=all --label speaker=theo,lucas -n 4 -o grid
      generate-wav --model digits-8k --label digit=7 --guidance 2 -n 16 -o sevens
      generate-wav --model digits-8k --label digit=3:7 --interpolate 5 -o three-to-seven
      generate-wav --model digits-8k --label digit=7 --seed 1:2 --interpolate 5 -o other-noise

    \b
    Sampling:
      generate-wav speech.wav --model runs/mine --sampler dpmpp_2m --grid karras --steps 12
      generate-wav speech.wav --model runs/mine --sampler euler_ancestral --sampler-option eta=0.5
      generate-wav -n 8 --model runs/mine --guide runs/mine/checkpoints/step_00000500 --guidance 2

    A recording is analysed and generated again from its mel spectrogram; the result has exactly its length. Its
    channels are generated together, from their mels and those of their sums and differences, which keeps the stereo
    image. Audio above full scale is scaled down to fit, unless --float keeps the level. Several sounds without an input
    come with manifest.csv, which lists their labels and seeds, and contact_sheet.png, their spectrograms.
    """
    inputs = inputs or []
    check_sampling(steps=steps, iterations=iterations, grid=grid)
    check_least("--batch-size", batch_size, 1)
    check_least("--rate", rate, 1)
    if guide is not None and guidance is None:
        raise ParameterError(f"--guide {guide} needs --guidance, its strength, for example --guidance 2")
    normalization = read_normalize(normalize)
    request = GenerationRequest(label or [], read_seed(seed), interpolate, count, has_sheet=not no_sheet)
    if inputs:
        _refuse_with_input([*request.given, *([] if seconds is None else [f"--seconds {seconds}"])])
    solver = read_solver(sampler, sampler_option)
    jobs = (
        plan_jobs(inputs, out=out, force=force, new_suffix=".wav", suffixes=(*AUDIO_SUFFIXES, *MEL_SUFFIXES))
        if inputs
        else []
    )
    given = None if dialect is None else dialect_named(dialect)
    sources = open_inputs((job.source for job in jobs), dialect=given, key=key)
    wanted = None if given is None else with_named_values(given)
    if wanted is None and model in INVERSIONS:
        wanted = next((source.dialect for source in sources if source.dialect is not None), None)
        wanted = full_band(sources) if wanted is None else wanted
    loaded = checkpoint.load(model, device=device_named(device), dialect=wanted, vocoder=vocoder)
    if loaded.dialect is None and dialect is not None:
        raise ParameterError(f"--dialect {dialect} has no meaning for model {model!r}, which knows no mel spectrogram")
    sampling = SamplingOptions(
        steps=steps,
        solver=solver,
        grid=grid,
        guide=None if guide is None else _guide(guide, device=loaded.device),
        guidance=guidance,
        guidance_interval=guidance_interval,
    )
    settings = GenerationSettings(
        sampling,
        iterations=iterations,
        seed=request.seed if isinstance(request.seed, int) else 0,
        batch_size=batch_size,
        rate=rate,
        subtype=FLOAT if float_ else None,
        normalization=normalization,
    )
    if inputs:
        report_mels(sources, loaded, where=model, is_given=dialect is not None)
        with progress("generating", total=len(jobs)) as bar:
            written = generate_from_inputs(loaded, jobs, sources, settings, bar=bar)
        report_levels(written, normalization)
        report_written([file.path for file in written], out=out)
        report_lost(sources, written, model=loaded, is_chosen=model not in INVERSIONS or dialect is not None)
        return
    plan = request.plan(loaded, out=out, force=force)
    with progress("generating", total=len(plan.specs)) as bar:
        written = generate_from_specs(loaded, plan, settings, seconds=seconds, bar=bar)
    beside = ""
    if plan.overview is not None:
        with progress("contact sheet", total=plan.overview.n_panels) as bar:
            plan.overview.write(plan.specs, written, on_panel=bar.advance)
        beside = f", and {' and '.join(path.name for path in plan.overview.targets)} beside them"
    report_levels(written, normalization)
    report_written(plan.targets, out=out, beside=beside)


def _refuse_with_input(options: Sequence[str]) -> None:
    if options:
        raise ParameterError(f"{options[0]} has no meaning with an input, which gives one result of its own length")


def _guide(where: str, *, device: torch.device) -> Synthesizer:
    """Load the model to guide away from."""
    try:
        guide = checkpoint.load(where, device=device)
    except CheckpointError as error:
        raise CheckpointError(f"--guide: {error}") from error
    if not isinstance(guide, Synthesizer):
        raise ParameterError(f"--guide {where} is not trained, and cannot guide: give a run or a checkpoint")
    return guide
