"""`audiodiff stream`: generate audio live, from standard input to standard output."""

import os
import signal
import sys
from typing import Annotated, Any, cast, get_args

import typer

from audiodiff.cli.options import (
    Device,
    Dialect,
    GeneratorModel,
    Iterations,
    NoiseLevels,
    OutputRate,
    Sampler,
    SamplerOption,
    SecondStage,
    Steps,
    check_least,
    check_sampling,
    read_solver,
)
from audiodiff.dsp.dialect_text import with_named_values
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.mel_inverter import DEFAULT_MODEL
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.generation.live import ByteSource, LiveInput, run_live

INPUT, TIMING = "Input", "Timing"


def stream_command(
    kind: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="KIND",
            help="Format of standard input: pcm, 16-bit little-endian mono samples; or mel, frames of 32-bit "
            "little-endian floats, one for each band.",
            rich_help_panel=INPUT,
        ),
    ] = "pcm",
    in_rate: Annotated[
        int | None,
        typer.Option(
            "--input-rate",
            metavar="HZ",
            help="Sample rate of pcm input.",
            show_default="the model's",
            rich_help_panel=INPUT,
        ),
    ] = None,
    model: GeneratorModel = DEFAULT_MODEL,
    vocoder: SecondStage = None,
    dialect: Dialect = None,
    device: Device = "auto",
    steps: Steps = None,
    sampler: Sampler = None,
    sampler_option: SamplerOption = None,
    grid: NoiseLevels = None,
    iterations: Iterations = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the noise: the same seed gives the same samples.")
    ] = 0,
    chunk_frames: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Mel frames that are generated at once.",
            show_default="16 or more",
            rich_help_panel=TIMING,
        ),
    ] = None,
    look_ahead: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Mel frames that a chunk waits for; fewer make less delay and worse sound.",
            show_default="as many as change the sound",
            rich_help_panel=TIMING,
        ),
    ] = None,
    rate: OutputRate = None,
) -> None:
    """Generate audio live, from standard input to standard output.

    Input is audio or mel frames; output is audio, 16-bit little-endian mono samples. Each chunk is written as soon as
    it is generated; the delay is printed at the start.

    \b
    Examples:
      my-tts | audiodiff stream --input mel > speech.raw
      arecord -t raw -f S16_LE -r 22050 | audiodiff stream | aplay -t raw -f S16_LE -r 22050
      audiodiff stream --model runs/mine --chunk-frames 8 --look-ahead 4 < in.raw > out.raw
    """
    check_sampling(steps=steps, iterations=iterations, grid=grid)
    check_least("--rate", rate, 1)
    if kind not in get_args(LiveInput):
        raise ParameterError(f"--input {kind} must be one of {', '.join(get_args(LiveInput))}")
    if in_rate is not None and kind != "pcm":
        raise ParameterError(f"--input-rate {in_rate} has no meaning with --input {kind}")
    sampling = SamplingOptions(steps=steps, solver=read_solver(sampler, sampler_option), grid=grid)
    given = None if dialect is None else dialect_named(dialect)
    wanted = None if given is None else with_named_values(given)
    loaded = checkpoint.load(model, device=device_named(device), dialect=wanted, vocoder=vocoder)
    if loaded.dialect is None:
        raise ParameterError(f"model {model!r} knows no mel spectrogram and takes no input: give another --model")
    loaded.check_sampling(sampling)
    own: dict[str, Any] = {"iterations": iterations, "seed": seed}
    if isinstance(loaded, Synthesizer):
        own |= {"steps": sampling.steps, "solver": sampling.solver, "grid": sampling.grid}
    stream = loaded.open_stream(chunk_frames=chunk_frames, ahead_frames=look_ahead, **own)
    try:
        run_live(
            stream,
            dialect=loaded.dialect,
            source=cast(ByteSource, sys.stdin.buffer),
            target=sys.stdout.buffer,
            kind=cast(LiveInput, kind),
            in_rate=loaded.sample_rate if in_rate is None else in_rate,
            out_rate=loaded.sample_rate if rate is None else rate,
            input_dialect=given,
            report=say,
        )
    except BrokenPipeError:
        # What is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
