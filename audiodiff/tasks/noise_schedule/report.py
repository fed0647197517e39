"""Output of `audiodiff noise-schedule`: a checkpoint with the new grid, a note in its metrics and card, a picture."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.atomic import write_atomic
from audiodiff.io.jobs import check_folder_name, make_folder
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.levels import Levels, betas_of_sigmas, format_levels
from audiodiff.tasks.noise_schedule.optimize import ScheduleResult

PICTURE = "schedule.png"
_HEADING = "## Noise levels"
_FILES = {checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.METRICS, checkpoint.CARD, PICTURE}


def check_out(out: Path, *, source: Path, force: bool) -> None:
    """Refuse an output folder that must not or cannot be written.

    Raises:
        ParameterError: if it is the model's folder, or holds it.
        AudioFileError: if it exists without `force`, holds other files than such a checkpoint, or cannot be made.
    """
    if source.resolve().is_relative_to(out.resolve()):
        raise ParameterError(f"--out {out} is the model's own folder, or holds it: give another --out")
    check_folder_name(out)
    if out.exists():
        if not force:
            raise AudioFileError(f"--out: {out} exists: give --force to replace it, or another --out")
        others = sorted({path.name for path in out.iterdir()} - _FILES) if out.is_dir() else [out.name]
        if others:
            raise AudioFileError(
                f"--out: {out} holds {others[0]}, which this command does not write: give another --out"
            )
    make_folder(out)


def write_checkpoint(out: Path, result: ScheduleResult, *, model: Synthesizer, source: Path, command: str) -> None:
    """Write the checkpoint with the new grid, and the picture into it."""
    config = checkpoint.read_config(source)
    picture = draw(result)
    checkpoint.save(
        out,
        model=installed(config["model"], result.sigmas, solver=result.request.sampler),
        sample_rate=model.sample_rate,
        mel_dialect=model.dialect,
        weights=model.state_dict(),
        metrics={**_metrics(source / checkpoint.METRICS), "schedule": note(result, command=command)},
        card=card(result, command=command, before=_text(source / checkpoint.CARD)),
    )
    write_atomic(out / PICTURE, picture)


def installed(model: Mapping[str, Any], sigmas: Levels, *, solver: str | None) -> dict[str, Any]:
    """Return a checkpoint's model node with these levels as its grid."""
    grid = {"_target_": "audiodiff.diffusion.grid.Fixed", "sigmas": list(sigmas)}
    node = {**model["sampler"], "grid": grid, "n_steps": len(sigmas)}
    if solver is not None:
        node["solver"] = {"_target_": "audiodiff.diffusion.solvers.solver", "name": solver}
    return {**model, "sampler": node}


def note(result: ScheduleResult, *, command: str) -> dict[str, Any]:
    """Return the note on a schedule in metrics.json."""
    return {
        "command": command,
        "strategy": result.request.strategy,
        "n_steps": len(result.sigmas),
        "n_trials": len(result.trials),
        "sigmas": list(result.sigmas),
        "betas": list(betas_of_sigmas(result.sigmas)),
        "start": None if result.start is None else list(result.start),
        "measured": [vars(comparison) for comparison in result.comparisons],
    }


def table(result: ScheduleResult) -> str:
    """Return the comparisons as a table in Markdown, and the levels."""
    rows = [
        f"| {comparison.what}, {comparison.better} is better | {_format(comparison.before)} | "
        f"{_format(comparison.after)} |"
        for comparison in result.comparisons
    ]
    head = ["| | before | after |", "|---|---|---|"]
    return "\n".join(
        [
            *([*head, *rows, ""] if rows else []),
            f"- sigmas: {format_levels(result.sigmas)}",
            f"- betas of the variance-preserving chain: {format_levels(betas_of_sigmas(result.sigmas))}",
        ]
    )


def card(result: ScheduleResult, *, command: str, before: str) -> str:
    """Return a model card with a section on the levels, which replaces an earlier one."""
    tried = f", {len(result.trials)} trials" if result.trials else ""
    return f"""{before.split(_HEADING)[0].rstrip()}

{_HEADING}

Chosen for {len(result.sigmas)} steps, strategy {result.request.strategy}{tried}:

    {command}

{table(result)}
""".lstrip()


def draw(result: ScheduleResult) -> bytes:
    """Draw the metric over the trials, if any, and both grids on an axis of log sigma, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5 if result.trials else 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if result.trials else 1, 1, squeeze=False)[:, 0]
    if result.trials:
        sign = -1.0 if result.request.higher_is_better else 1.0
        lowest = [min(trial.cost for trial in result.trials[: k + 1]) for k in range(len(result.trials))]
        axes[0].plot([sign * trial.cost for trial in result.trials], ".", color="tab:gray", label="trial")
        axes[0].plot([sign * cost for cost in lowest], color="tab:blue", label="best so far")
        axes[0].set_xlabel("trial")
        axes[0].set_ylabel(result.request.metric or "")
        axes[0].legend()
    grids = {"before": result.start, "after": result.sigmas}
    for height, (name, color) in enumerate(zip(grids, ("tab:gray", "tab:blue"), strict=True)):
        levels = grids[name] or ()
        axes[-1].plot(levels, [height] * len(levels), "o-", color=color)
    axes[-1].set_xscale("log")
    axes[-1].invert_xaxis()
    axes[-1].set_yticks(range(len(grids)), list(grids))
    axes[-1].set_ylim(-0.5, 1.5)
    axes[-1].set_xlabel("sigma, from noise to sound")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _metrics(path: Path) -> dict[str, Any]:
    return json.loads(_text(path) or "{}")
