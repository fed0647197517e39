"""What `audiodiff schedule` leaves behind: the checkpoint with its new grid, the note in it, and the picture."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.jobs import make_folder
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.choice import Choice, listed
from audiodiff.tasks.noise_schedule.levels import Levels, betas_of_sigmas

PICTURE = "schedule.png"
_HEADING = "## Noise levels"
_FILES = {checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.METRICS, checkpoint.CARD, PICTURE}


def check_out(out: Path, *, source: Path, force: bool) -> None:
    """Refuse a folder that must not be written, and find out whether it can be.

    Raises:
        ParameterError: if it is the model itself, or holds it.
        AudioFileError: if it exists without `force`, holds something else than such a checkpoint, or cannot be made.
    """
    if source.resolve().is_relative_to(out.resolve()):
        raise ParameterError(f"--out {out} is the model's own folder, or holds it: give another --out")
    if out.exists():
        if not force:
            raise AudioFileError(f"--out: {out} exists: give --force to replace it, or another --out")
        others = sorted({path.name for path in out.iterdir()} - _FILES) if out.is_dir() else [out.name]
        if others:
            raise AudioFileError(f"--out: {out} holds {others[0]}, which this command does not write: give another")
    make_folder(out)


def write(out: Path, choice: Choice, *, model: Synthesizer, source: Path, command: str) -> None:
    """Write the checkpoint, whole or not at all, and the picture into it."""
    config = checkpoint.read_config(source)
    picture = draw(choice)
    checkpoint.save(
        out,
        model=installed(config["model"], choice.sigmas, solver=choice.request.sampler),
        sample_rate=model.sample_rate,
        mel_dialect=model.dialect,
        weights=model.state_dict(),
        metrics={**_metrics(source / checkpoint.METRICS), "schedule": note(choice, command=command)},
        card=card(choice, command=command, before=_text(source / checkpoint.CARD)),
    )
    temporary = out / f".{PICTURE}.{os.getpid()}.tmp"
    temporary.write_bytes(picture)
    os.replace(temporary, out / PICTURE)


def installed(model: Mapping[str, Any], sigmas: Levels, *, solver: str | None) -> dict[str, Any]:
    """Return a checkpoint's model node with these levels in the place of its grid."""
    grid = {"_target_": "audiodiff.diffusion.grid.Fixed", "sigmas": list(sigmas)}
    node = {**model["sampler"], "grid": grid, "n_steps": len(sigmas)}
    if solver is not None:
        node["solver"] = {"_target_": "audiodiff.diffusion.solvers.solver", "name": solver}
    return {**model, "sampler": node}


def note(choice: Choice, *, command: str) -> dict[str, Any]:
    """Return what metrics.json says of a grid."""
    return {
        "command": command,
        "method": choice.request.method,
        "n_steps": len(choice.sigmas),
        "n_trials": len(choice.trials),
        "sigmas": list(choice.sigmas),
        "betas": list(betas_of_sigmas(choice.sigmas)),
        "start": None if choice.start is None else list(choice.start),
        "measured": [vars(comparison) for comparison in choice.comparisons],
    }


def table(choice: Choice) -> str:
    """Return the comparisons as a table in Markdown, and the levels."""
    rows = [
        f"| {comparison.what}, {comparison.better} is better | {_shown(comparison.before)} | "
        f"{_shown(comparison.after)} |"
        for comparison in choice.comparisons
    ]
    head = ["| | before | after |", "|---|---|---|"]
    return "\n".join(
        [
            *([*head, *rows, ""] if rows else []),
            f"- sigmas: {listed(choice.sigmas)}",
            f"- betas of the variance-preserving chain: {listed(betas_of_sigmas(choice.sigmas))}",
        ]
    )


def card(choice: Choice, *, command: str, before: str) -> str:
    """Return a model card with a section on the levels, in the place of an earlier one."""
    tried = f", {len(choice.trials)} trials" if choice.trials else ""
    return f"""{before.split(_HEADING)[0].rstrip()}

{_HEADING}

Chosen for {len(choice.sigmas)} steps, method {choice.request.method}{tried}:

    {command}

{table(choice)}
""".lstrip()


def draw(choice: Choice) -> bytes:
    """Draw the metric over the trials, if there are any, and both grids on an axis of log sigma, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5 if choice.trials else 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if choice.trials else 1, 1, squeeze=False)[:, 0]
    if choice.trials:
        sign = -1.0 if choice.request.higher_is_better else 1.0
        lowest = [min(trial.cost for trial in choice.trials[: k + 1]) for k in range(len(choice.trials))]
        axes[0].plot([sign * trial.cost for trial in choice.trials], ".", color="tab:gray", label="trial")
        axes[0].plot([sign * cost for cost in lowest], color="tab:blue", label="best so far")
        axes[0].set_xlabel("trial")
        axes[0].set_ylabel(choice.request.metric or "")
        axes[0].legend()
    grids = {"before": choice.start, "after": choice.sigmas}
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


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _metrics(path: Path) -> dict[str, Any]:
    return json.loads(_text(path) or "{}")
