"""`audiodiff noise-schedule`: optimize a model's noise schedule for a number of steps, into a new checkpoint."""

import dataclasses
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from audiodiff import metrics
from audiodiff.cli.options import OUTPUT, Device, Force, Sampler
from audiodiff.data import speech_folder
from audiodiff.diffusion.grid import Fixed
from audiodiff.errors import ParameterError
from audiodiff.io.console import say, stage_progress
from audiodiff.io.paths import user_path
from audiodiff.models import checkpoint, registry
from audiodiff.models.devices import device_named
from audiodiff.models.mel_inverter import INVERSIONS
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.levels import Levels, sigmas_of_betas
from audiodiff.tasks.noise_schedule.optimize import optimize_schedule
from audiodiff.tasks.noise_schedule.report import check_out, table, write_checkpoint
from audiodiff.tasks.noise_schedule.request import (
    CONVERGENCE,
    DEFAULT_METRIC,
    SEARCH,
    STRATEGIES,
    TABLE,
    ScheduleRequest,
    resolve_request,
)


def noise_schedule_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a checkpoint, or a name.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="The checkpoint to write.", rich_help_panel=OUTPUT),
    ],
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps of the sampler.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A folder of recordings, a manifest, or 'embedded': the speech that ships."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split of the recordings.")] = "val",
    n: Annotated[int, typer.Option("-n", metavar="N", help="Recordings to search on; as many more for a check.")] = 8,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Length of each, from its beginning.")] = 2.0,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(metrics.METRICS)}, or {CONVERGENCE}: the distance from the result of many steps.",
            show_default=f"{DEFAULT_METRIC}; {CONVERGENCE} for an unconditional model",
        ),
    ] = None,
    strategy: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(STRATEGIES)}.")] = SEARCH,
    trials: Annotated[int, typer.Option(metavar="N", help="Number of grids that a search tries.")] = 40,
    sampler: Sampler = None,
    sigmas: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Install these levels, the highest first.")
    ] = None,
    betas: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Install the levels of these betas, the lowest first."),
    ] = None,
    sigma_min: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Lowest level.", show_default="that of the model's grid")
    ] = None,
    sigma_max: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Highest level.", show_default="that of the model's grid")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the noise, which is the same in every trial.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Optimize a model's noise schedule for a number of steps, and save it in a new checkpoint.

    The strategy search tries grids on a metric, with the same noise each time, and keeps the best one unless it is
    worse on held-out recordings. elbo minimizes the variational bound, truncation the deviation of Euler steps from the
    probability flow; both are exact, and quick. All are compared with the model's own grid. --sigmas and --betas
    install a known table.

    A metric needs recordings, and so does elbo. An unconditional model can be searched on convergence.

    \b
    Examples:
      audiodiff noise-schedule runs/mine --steps 4 --data embedded --metric lsd -o fast
      audiodiff noise-schedule runs/mine --steps 4 --data embedded --strategy elbo -o fast
      audiodiff noise-schedule runs/mine --betas 1e-4,1e-3,0.01,0.05,0.2,0.5 -o fast
      generate-wav speech.wav --model fast -o copy.wav
    """
    given = _given(sigmas=sigmas, betas=betas)
    if steps is None and given is None:
        raise ParameterError("give --steps N, or a table: --sigmas or --betas")
    if given is not None and strategy != SEARCH:
        raise ParameterError(f"--strategy {strategy} has no meaning with a table, which is installed unchanged")
    request = ScheduleRequest(
        steps=len(given) if steps is None and given is not None else steps or 0,
        strategy=strategy if given is None else TABLE,
        given=given,
        metric=metric,
        data=None if data is None else speech_folder() if data == "embedded" else user_path(data),
        split=split,
        n=n,
        seconds=seconds,
        trials=trials,
        sampler=sampler,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        seed=seed,
    )
    if model in INVERSIONS:
        raise ParameterError(f"MODEL {model} is not trained and has no noise levels: give a run folder or a checkpoint")
    source = registry.find(model)
    check_out(out, source=source, force=force)
    loaded = checkpoint.load(source, device=device_named(device))
    assert isinstance(loaded, Synthesizer)
    request = resolve_request(request, model=loaded, solver=_solver_name(source, request))
    with stage_progress() as on_progress:
        result = optimize_schedule(loaded, request, on_progress=on_progress, on_note=say)
    print(table(result))
    command = _command_line(model, request, table={"sigmas": sigmas, "betas": betas}, data=data)
    write_checkpoint(out, result, model=loaded, source=source, command=command)
    say(f"wrote {out}: generate-wav --model {out} takes {request.steps} steps")


def _given(*, sigmas: str | None, betas: str | None) -> Levels | None:
    """Return the levels of --sigmas or --betas."""
    if sigmas is not None and betas is not None:
        raise ParameterError("--sigmas and --betas: give one of them")
    if sigmas is not None:
        levels = _numbers(sigmas, option="--sigmas")
        Fixed(levels)
        return levels
    return None if betas is None else sigmas_of_betas(_numbers(betas, option="--betas"))


def _numbers(text: str, *, option: str) -> Levels:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ParameterError(f"{option} {text} must be numbers with commas between them, as in {option} 4,1,0.2")
    return numbers


def _solver_name(source: Path, request: ScheduleRequest) -> str | None:
    """Return the name of the solver that will be used; None if the checkpoint does not name it."""
    node = checkpoint.read_config(source)["model"]["sampler"]["solver"]
    return node.get("name") if request.sampler is None else request.sampler


def _command_line(model: str, request: ScheduleRequest, *, table: Mapping[str, str | None], data: str | None) -> str:
    """Return the command line with the options that change the result."""
    words = ["audiodiff", "noise-schedule", model]
    options = {field.name: (getattr(request, field.name), field.default) for field in dataclasses.fields(request)}
    options["data"] = (data, None)
    if request.given is not None:
        for name in ("steps", "strategy", "given"):
            del options[name]
        options |= {name: (text, None) for name, text in table.items()}
    for name, (value, default) in options.items():
        if value != default:
            words += ["-n" if name == "n" else f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
