"""`audiodiff generate`, also `generate-wav`: the command."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from audiodiff.cli.stream import is_live, stream
from audiodiff.diffusion.grid import GRIDS
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.diffusion.solvers import Solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.io.console import say
from audiodiff.io.jobs import Job
from audiodiff.io.mel import load_mel
from audiodiff.io.readers import is_mel
from audiodiff.io.writers import FLOAT
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.mel_inverter import INVERSIONS
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import solver_options
from audiodiff.tasks.generation.files import Settings, generate_files
from audiodiff.tasks.generation.labels import read_seed
from audiodiff.tasks.generation.request import Request, plan_from_inputs

DEFAULT_OUT = Path("generated")


def stated_dialect(jobs: Sequence[Job]) -> MelDialect | None:
    """Return the dialect that the first mel file states which states one."""
    for job in jobs:
        if job.source is not None and is_mel(job.source):
            _, stated = load_mel(job.source)
            if stated is not None:
                return stated
    return None


def bare_mels(jobs: Sequence[Job]) -> list[Path]:
    """Return the mel files of a kind that does not state its dialect."""
    mels = [job.source for job in jobs if job.source is not None and is_mel(job.source)]
    return [path for path in mels if path.suffix.lower() != ".npz"]


def _solver(name: str | None, *, options: Sequence[str]) -> str | Solver | None:
    """Return the solver that is asked for, by its name where it has no options."""
    if not options:
        return name
    if name is None:
        raise ParameterError(f"--sampler-option {options[0]} needs --sampler, one of {', '.join(SOLVERS)}")
    return solver_named(name, **solver_options(name, options))


def _guide(where: str, *, device: torch.device) -> Synthesizer:
    """Load the model to be guided away from."""
    try:
        guide = checkpoint.load(where, device=device)
    except CheckpointError as error:
        raise CheckpointError(f"--guide: {error}") from error
    if not isinstance(guide, Synthesizer):
        raise ParameterError(f"--guide {where} is not trained, and has nothing to guide by: give a run or a checkpoint")
    return guide


def generate_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Recordings (wav, flac, mp3, ...), mel spectrograms (.npz, .npy, .pt), folders or globs of them; "
            "nothing, for a model that generates unconditionally; - for standard input, with --out -.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="A run folder, a checkpoint, or a name; 'none' inverts mels, untrained."),
    ] = "none",
    vocoder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What makes sound of the mels that MODEL makes: a vocoder, 'none' for the mel constraint, or "
            "'griffin-lim'.",
            show_default="the model's",
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="DIALECT",
            help=f"Mel dialect, NAME or NAME:field=value,... with a NAME of {', '.join(DIALECT_NAMES)}. Model 'none' "
            "inverts this one (without it, what the first .npz says, or hifigan); a trained model is checked against "
            "it.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="A file (.wav, .flac, ...) for one result, a folder, or -."),
    ] = DEFAULT_OUT,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the sampler.", show_default="the model's")
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(metavar="N", help="Iterations of the mel constraint; 0 is none.", show_default="the model's"),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"{', '.join(SOLVERS)}.", show_default="the model's")
    ] = None,
    sampler_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of --sampler, eta=0.5 of euler_ancestral for one; may be given several times.",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Noise levels of the sampler: {', '.join(GRIDS)}; cut to those that the model was made for.",
            show_default="the model's",
        ),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A weaker model of the same kind, an earlier checkpoint of the run for one: --guidance says how far "
            "to go away from what it would make.",
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE",
            help="Of the guidance; 1 is none. Without --guide it is classifier-free, for models that were trained to "
            "do without their condition. It doubles the time.",
        ),
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LO HI", help="Guide at noise levels sigma from LO to HI only.", show_default="all"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="For a model that knows labels, what the sound is to be: digit=7; several, digit=0,1,2 or digit=all; "
            "or the way from one to another, digit=3:7. May be given for several labels, and all combinations are "
            "made. A comma or colon within a value has a backslash before it.",
            show_default="any",
        ),
    ] = None,
    between: Annotated[
        int | None,
        typer.Option(metavar="N", help="Sounds on the way between two labels or two seeds, both ends among them."),
    ] = None,
    seed: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="The same seed gives the same samples, whatever the batch size. Noise is drawn for the seed and the "
            "number of the file in the list: a file has other noise when others come before it. A:B is the way "
            "between the noises of two seeds, for what is generated from nothing.",
        ),
    ] = "0",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")] = "auto",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Signals of equal length that are computed together.")
    ] = 1,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", metavar="N", help="How many to generate from nothing, of each label.", show_default="1"
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Length of what is generated from nothing.",
            show_default="as long as such sounds are, or 1",
        ),
    ] = None,
    no_sheet: Annotated[
        bool, typer.Option("--no-sheet", help="Draw no contact sheet of several that are generated from nothing.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", help="Sample rate of the files that are written.", show_default="the model's"),
    ] = None,
    float_: Annotated[bool, typer.Option("--float", help="Write 32-bit float samples, at the level as it is.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    stdin: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What standard input is: pcm, 16-bit little-endian mono samples, or mel, frames of 32-bit "
            "little-endian floats in the dialect, band by band. Standard output is pcm.",
            show_default="pcm",
        ),
    ] = None,
    stdin_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Sample rate of standard input.", show_default="the model's")
    ] = None,
    chunk_frames: Annotated[
        int | None,
        typer.Option(metavar="N", help="Live: mel frames whose sound is made at once.", show_default="16 or more"),
    ] = None,
    look_ahead: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Live: mel frames that a chunk waits for. Fewer come sooner and sound worse.",
            show_default="as many as change the sound",
        ),
    ] = None,
) -> None:
    """Make sound from recordings (analysis, then synthesis), from mel spectrograms, from labels, or from nothing.

    A result is as long as its input to the sample, and has its channels, which are made one by one. It has the
    model's sample rate unless --rate asks for another. A result above full scale is scaled to fit. Beside several
    that are made from nothing lie manifest.csv, which says what each is, and contact_sheet.png, their spectrograms.

    \b
    Examples:
      generate-wav speech.wav -o copy.wav                     mel inversion without training
      generate-wav mels/ -o wavs --dialect tacotron2          a folder of mels
      generate-wav speech.wav -o copy.wav --model runs/mine   a trained vocoder
      generate-wav --model runs/mine -n 8 --seconds 2 -o new  an unconditional model
      generate-wav --model runs/mel --vocoder runs/mine       a model of mels, and a vocoder to make sound of them
      generate-wav - -o - --stdin mel                         live: frames in, samples out

    \b
    Labels:
      generate-wav --model digits-8k --label digit=7 -o seven.wav
      generate-wav --model digits-8k --label digit=all --label speaker=theo,lucas -n 4 -o grid
      generate-wav --model digits-8k --label digit=7 --guidance 2 -n 16 -o sevens
      generate-wav --model digits-8k --label digit=3:7 --between 5 -o three-to-seven
      generate-wav --model digits-8k --label digit=7 --seed 1:2 --between 5 -o other-noise

    \b
    How to sample:
      generate-wav speech.wav --model runs/mine --sampler dpmpp_2m --grid karras --steps 12
      generate-wav speech.wav --model runs/mine --sampler euler_ancestral --sampler-option eta=0.5
      generate-wav -n 8 --model runs/mine --guide runs/mine/checkpoints/step_00000500 --guidance 2
    """
    inputs = inputs or []
    if seconds is not None and inputs:
        raise ParameterError(f"--seconds {seconds} has no meaning with an input, which says how long")
    if guide is not None and guidance is None:
        raise ParameterError(f"--guide {guide} needs --guidance, which says how strong it is to be: --guidance 2, say")
    request = Request(label or [], seed=read_seed(seed), between=between, count=count, has_sheet=not no_sheet)
    if inputs:
        request.refuse("has no meaning with an input, of which one sound is made")
    no_live = {
        "--float": float_,
        "--force": force,
        "--guide": guide,
        "--guidance": guidance,
        "--guidance-interval": guidance_interval,
        "--batch-size": batch_size != 1,
    }
    live = is_live(
        inputs,
        out=out,
        only_live={
            "--stdin": stdin,
            "--stdin-rate": stdin_rate,
            "--chunk-frames": chunk_frames,
            "--look-ahead": look_ahead,
        },
        never_live=[name for name, value in no_live.items() if value is not None and value is not False],
    )
    settings = Settings(
        steps=steps,
        iterations=iterations,
        solver=_solver(sampler, options=sampler_option or []),
        grid=grid,
        guidance=guidance,
        guidance_interval=guidance_interval,
        seed=request.seed if isinstance(request.seed, int) else 0,
        batch_size=batch_size,
        rate=rate,
        subtype=FLOAT if float_ else None,
    )
    jobs = plan_from_inputs(inputs, out=out, force=force) if inputs and not live else []
    overview = None
    wanted: str | MelDialect | None = dialect
    if model in INVERSIONS and dialect is None:
        wanted = stated_dialect(jobs)
    loaded = checkpoint.load(model, device=device_named(device), dialect=wanted, vocoder=vocoder)
    if guide is not None:
        settings = replace(settings, guide=_guide(guide, device=loaded.device))
    if loaded.dialect is None and dialect is not None:
        raise ParameterError(f"--dialect {dialect} has no meaning for model {model!r}, which knows no mel spectrogram")
    if live:
        stream(loaded, settings, kind=stdin or "pcm", in_rate=stdin_rate, chunk=chunk_frames, ahead=look_ahead)
        return
    if dialect is None and loaded.dialect is not None and (bare := bare_mels(jobs)):
        which = bare[0].name if len(bare) == 1 else f"{bare[0].name} and {len(bare) - 1} more"
        say(
            f"no dialect is stated by {which}: taken as {loaded.dialect.name} (see --dialect and audiodiff mel --check)"
        )
    if not inputs:
        jobs, overview = request.plan(loaded, out=out, force=force)
    written = generate_files(loaded, jobs, settings, seconds=seconds, overview=overview)
    beside = "" if overview is None else f", and {' and '.join(path.name for path in overview.targets)} beside them"
    say(f"wrote {written[0]}" if len(written) == 1 else f"wrote {len(written)} files to {out}{beside}")
