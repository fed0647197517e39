"""`audiodiff generate - -o -`: standard input to standard output, as the command takes it."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from audiodiff.errors import ParameterError
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.generation.files import Model, Settings
from audiodiff.tasks.generation.live import ByteSource, LiveInput, run_live

STANDARD = "-"
"""Standard input, or standard output."""


def is_live(inputs: Sequence[str], *, out: Path, only_live: dict[str, object], never_live: Sequence[str]) -> bool:
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


def stream(
    model: Model, settings: Settings, *, kind: str, in_rate: int | None, chunk: int | None, ahead: int | None
) -> None:
    """Stream from standard input to standard output; whoever stops it is told nothing, as by other filters."""
    if kind not in get_args(LiveInput):
        raise ParameterError(f"--stdin {kind} must be one of {', '.join(get_args(LiveInput))}")
    if in_rate is not None and kind != "pcm":
        raise ParameterError(f"--stdin-rate {in_rate} has no meaning with --stdin {kind}")
    model.check_sampling(SamplingOptions(steps=settings.steps, solver=settings.solver, grid=settings.grid))
    options = {"iterations": settings.iterations, "seed": settings.seed, "chunk_frames": chunk, "ahead_frames": ahead}
    if isinstance(model, Synthesizer):
        options |= {"steps": settings.steps, "solver": settings.solver, "grid": settings.grid}
    opened = model.open_stream(**options)
    assert model.dialect is not None
    try:
        run_live(
            opened,
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
