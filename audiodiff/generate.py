"""`audiodiff generate`, also `generate-wav`: the command."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import torch
import typer

from audiodiff import audio_io, checkpoint
from audiodiff.devices import device_named
from audiodiff.diffusion.grid import GRIDS
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.diffusion.solvers import Solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect
from audiodiff.dsp.mel_file import MEL_SUFFIXES, load_mel
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.file_generation import Model, Settings, generate_files
from audiodiff.file_plan import Job, plan_from_files, plan_from_nothing
from audiodiff.file_result import FLOAT
from audiodiff.file_sources import is_mel
from audiodiff.generation_arguments import solver_options
from audiodiff.live import ByteSource, LiveInput, run_live
from audiodiff.messages import say
from audiodiff.synthesizer import Synthesizer

DEFAULT_OUT = Path("generated")
STANDARD = "-"
"""Standard input, or standard output."""


def plan(inputs: Sequence[str], *, out: Path, count: int | None, force: bool) -> list[Job]:
    """Say which files are to be made, having checked that none is in the way.

    Args:
        inputs: recordings, mels, folders or globs of them; none, to generate from nothing.
        out: a file or a folder.
        count: how many to generate from nothing; 1 where None.
        force: replace files that exist.

    Raises:
        AudioFileError: if an input is missing or an output exists.
        ParameterError: if the outputs cannot be what is asked for.
    """
    if inputs:
        if count is not None:
            raise ParameterError(f"--count {count} has no meaning with an input; another --seed gives another version")
        return plan_from_files(
            inputs,
            suffixes=(*audio_io.AUDIO_SUFFIXES, *MEL_SUFFIXES),
            out=out,
            out_suffixes=audio_io.AUDIO_SUFFIXES,
            new_suffix=".wav",
            force=force,
        )
    n = 1 if count is None else count
    if n < 1:
        raise ParameterError(f"--count {n} must be at least 1")
    return plan_from_nothing(n, out=out, out_suffixes=audio_io.AUDIO_SUFFIXES, new_suffix=".wav", force=force)


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


def _check_standard(
    inputs: Sequence[str], *, out: Path, only_live: dict[str, object], never_live: Sequence[str]
) -> bool:
    """Return whether standard input goes to standard output, having refused what goes with one of them alone."""
    if STANDARD not in inputs:
        if str(out) == STANDARD:
            raise ParameterError("--out - writes what is made of the input -, live; with other inputs give a file")
        given = [name for name, value in only_live.items() if value is not None]
        if given:
            raise ParameterError(f"{given[0]} has no meaning without the input -, standard input")
        return False
    if len(inputs) > 1:
        raise ParameterError("the input -, standard input, must be the only one")
    if str(out) != STANDARD:
        raise ParameterError("the input -, standard input, goes to standard output: give --out -")
    if never_live:
        raise ParameterError(f"{never_live[0]} has no meaning with the input -, standard input")
    return True


def _run_live(
    model: Model, settings: Settings, *, kind: str, in_rate: int | None, chunk: int | None, ahead: int | None
) -> None:
    """Stream from standard input to standard output; whoever stops it is told nothing, as by other filters."""
    if kind not in get_args(LiveInput):
        raise ParameterError(f"--stdin {kind} must be one of {', '.join(get_args(LiveInput))}")
    if in_rate is not None and kind != "pcm":
        raise ParameterError(f"--stdin-rate {in_rate} has no meaning with --stdin {kind}")
    model.check_sampling(steps=settings.steps, solver=settings.solver, grid=settings.grid)
    options = {"iterations": settings.iterations, "seed": settings.seed, "chunk_frames": chunk, "ahead_frames": ahead}
    if isinstance(model, Synthesizer):
        options |= {"steps": settings.steps, "solver": settings.solver, "grid": settings.grid}
    stream = model.open_stream(**options)
    assert model.dialect is not None
    try:
        run_live(
            stream,
            dialect=model.dialect,
            source=cast(ByteSource, sys.stdin.buffer),
            target=sys.stdout.buffer,
            kind=cast(LiveInput, kind),
            in_rate=model.sample_rate if in_rate is None else in_rate,
            out_rate=model.sample_rate if settings.rate is None else settings.rate,
        )
    except BrokenPipeError:
        # What is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


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
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="The same seed gives the same samples, whatever the batch size. Noise is drawn for the seed and the "
            "number of the file in the list: a file has other noise when others come before it.",
        ),
    ] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")] = "auto",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Signals of equal length that are computed together.")
    ] = 1,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", metavar="N", help="How many to generate from nothing.", show_default="1"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Length of what is generated from nothing.", show_default="1"),
    ] = None,
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
    """Make sound from recordings (analysis, then synthesis), from mel spectrograms, or from nothing.

    A result is as long as its input to the sample, and has its channels, which are made one by one. It has the
    model's sample rate unless --rate asks for another. A result above full scale is scaled to fit.

    \b
    Examples:
      generate-wav speech.wav -o copy.wav                     mel inversion without training
      generate-wav mels/ -o wavs --dialect tacotron2          a folder of mels
      generate-wav speech.wav -o copy.wav --model runs/mine   a trained vocoder
      generate-wav --model runs/mine -n 8 --seconds 2 -o new  an unconditional model
      generate-wav - -o - --stdin mel                         live: frames in, samples out

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
    no_live = {
        "--count": count,
        "--float": float_,
        "--force": force,
        "--guide": guide,
        "--guidance": guidance,
        "--guidance-interval": guidance_interval,
        "--batch-size": batch_size != 1,
    }
    live = _check_standard(
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
        seed=seed,
        batch_size=batch_size,
        rate=rate,
        subtype=FLOAT if float_ else None,
    )
    jobs = [] if live else plan(inputs, out=out, count=count, force=force)
    wanted: str | MelDialect | None = dialect
    if model == "none" and dialect is None:
        wanted = stated_dialect(jobs)
    loaded = checkpoint.load(model, device=device_named(device), dialect=wanted)
    if guide is not None:
        settings = replace(settings, guide=_guide(guide, device=loaded.device))
    if loaded.dialect is None and dialect is not None:
        raise ParameterError(f"--dialect {dialect} has no meaning for model {model!r}, which knows no mel spectrogram")
    if live:
        _run_live(loaded, settings, kind=stdin or "pcm", in_rate=stdin_rate, chunk=chunk_frames, ahead=look_ahead)
        return
    if dialect is None and loaded.dialect is not None and (bare := bare_mels(jobs)):
        which = bare[0].name if len(bare) == 1 else f"{bare[0].name} and {len(bare) - 1} more"
        say(
            f"no dialect is stated by {which}: taken as {loaded.dialect.name} (see --dialect and audiodiff mel --check)"
        )
    written = generate_files(loaded, jobs, settings, seconds=seconds)
    say(f"wrote {written[0]}" if len(written) == 1 else f"wrote {len(written)} files to {out}")
