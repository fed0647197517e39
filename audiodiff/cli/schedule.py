"""`audiodiff schedule`: noise levels that suit a trained model under a budget of steps, saved into a checkpoint."""

import dataclasses
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from audiodiff import metrics
from audiodiff.data import speech_folder
from audiodiff.diffusion.grid import Fixed
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.choice import (
    CONVERGENCE,
    DEFAULT_METRIC,
    GIVEN,
    METHODS,
    SEARCH,
    Request,
    choose,
    settled,
)
from audiodiff.tasks.noise_schedule.levels import Levels, sigmas_of_betas
from audiodiff.tasks.noise_schedule.report import check_out, table, write


def schedule_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a checkpoint, or a name.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The checkpoint to be written.")],
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps of the sampler.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A folder of recordings, a manifest, or 'embedded': the speech in here."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the recordings.")] = "val",
    n: Annotated[int, typer.Option("-n", metavar="N", help="Recordings to search on; as many more check it.")] = 8,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Of each, from its beginning.")] = 2.0,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(metrics.METRICS)}, or {CONVERGENCE}: the distance from what many steps make.",
            show_default=f"{DEFAULT_METRIC}; {CONVERGENCE} for an unconditional model",
        ),
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(METHODS)}.")] = SEARCH,
    trials: Annotated[int, typer.Option(metavar="N", help="Grids that a search tries.")] = 40,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"{', '.join(SOLVERS)}.", show_default="the model's")
    ] = None,
    sigmas: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="No search: these levels, the noisiest first.")
    ] = None,
    betas: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="No search: the levels of these betas, the least first.")
    ] = None,
    sigma_min: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Least level.", show_default="the model's grid's")
    ] = None,
    sigma_max: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Greatest level.", show_default="the model's grid's")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the noise, which is the same in every trial.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace such a checkpoint.")] = False,
) -> None:
    """Find the noise levels with which a model is best in few steps, and save them into a new checkpoint.

    search tries grids on a metric, with the same noise each time, and keeps the best only if it is no worse on
    recordings that it was not searched on. elbo finds the grid of the least variational bound, truncation the one on
    which Euler's steps stay nearest to the probability flow; both are exact, and quick. All are compared with the
    model's own grid. --sigmas and --betas install a table that is known.

    A metric needs recordings, and so does elbo. An unconditional model can be searched on convergence.

    \b
    Examples:
      audiodiff schedule runs/mine --steps 4 --data embedded --metric lsd -o fast
      audiodiff schedule runs/mine --steps 4 --data embedded --method elbo -o fast
      audiodiff schedule runs/mine --betas 1e-4,1e-3,0.01,0.05,0.2,0.5 -o fast
      generate-wav speech.wav --model fast -o copy.wav
    """
    given = _given(sigmas=sigmas, betas=betas)
    if steps is None and given is None:
        raise ParameterError("give --steps N, or a table: --sigmas or --betas")
    if given is not None and method != SEARCH:
        raise ParameterError(
            f"--method {method} has no meaning with a table, which is installed as it is: leave it out"
        )
    request = Request(
        steps=len(given) if steps is None and given is not None else steps or 0,
        method=method if given is None else GIVEN,
        given=given,
        metric=metric,
        data=None if data is None else speech_folder() if data == "embedded" else Path(data).expanduser(),
        split=split,
        n=n,
        seconds=seconds,
        trials=trials,
        sampler=sampler,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        seed=seed,
    )
    if model == "none":
        raise ParameterError("MODEL none is not trained, and has no noise levels: give a run folder or a checkpoint")
    source = checkpoint.find(model)
    check_out(out, source=source, force=force)
    loaded = checkpoint.load(source, device=device_named(device))
    assert isinstance(loaded, Synthesizer)
    request = settled(request, model=loaded, solver=_solver_name(source, request))
    choice = choose(loaded, request)
    print(table(choice))
    command = _command_line(model, request, table={"sigmas": sigmas, "betas": betas}, data=data)
    write(out, choice, model=loaded, source=source, command=command)
    say(f"wrote {out}: generate-wav --model {out} takes {request.steps} steps")


def _given(*, sigmas: str | None, betas: str | None) -> Levels | None:
    """Return the levels of a table on the command line."""
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


def _solver_name(source: Path, request: Request) -> str | None:
    """Return the name of the solver that will be used, if the checkpoint says it by name."""
    node = checkpoint.read_config(source)["model"]["sampler"]["solver"]
    return node.get("name") if request.sampler is None else request.sampler


def _command_line(model: str, request: Request, *, table: Mapping[str, str | None], data: str | None) -> str:
    """Return the command, without what does not change the result."""
    words = ["audiodiff", "schedule", model]
    asked = {field.name: (getattr(request, field.name), field.default) for field in dataclasses.fields(request)}
    asked["data"] = (data, None)
    if request.given is not None:
        for name in ("steps", "method", "given"):
            del asked[name]
        asked |= {name: (text, None) for name, text in table.items()}
    for name, (value, default) in asked.items():
        if value != default:
            words += ["-n" if name == "n" else f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
