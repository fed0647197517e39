"""Table of a sweep: overrides and results of every run, and the quality of its model by solver and steps.

Hydra calls `SweepTable` (`hydra.callbacks.table`). A combination that is refused, or a training that fails, is a row
with the reason, and the sweep goes on. The recipe techniques/sweep also measures the models by solver and steps.
"""

import csv
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode

from audiodiff.data.dataset import load_whole
from audiodiff.data.manifest import Entry
from audiodiff.data.source import Read, read_file
from audiodiff.diffusion.solvers import REGISTRY
from audiodiff.errors import AudiodiffError, ParameterError, TrainingError, check_whole
from audiodiff.io.console import fail, say
from audiodiff.metrics import score, select
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.config import absolute, plain
from audiodiff.training.datasets import recordings

REFUSAL, QUALITY, ROW = "refused.txt", "quality.csv", "row.json"
Quality = dict[str, str | int | float]


def has_table(hydra_config: Any) -> bool:
    """Return whether this run belongs to a sweep whose table has a row for refusals."""
    return hydra_config.mode == RunMode.MULTIRUN and "table" in (hydra_config.callbacks or {})


def record_refusal(run: Path, error: AudiodiffError) -> None:
    """Print why a run of a sweep has no result, and write it into its folder for the table."""
    say(f"{run.name}: {error}")
    (run / REFUSAL).write_text(f"{error}\n", encoding="utf-8")


class SweepTable(Callback):
    """Write table.md and table.csv into the sweep's folder, and, where models are measured, quality.csv.

    Args:
        solvers: names of solvers to sample every model with; none for the validation's metrics alone.
        steps: numbers of steps of each.
        metrics: names as in `audiodiff.metrics`.
        n_examples: held-out recordings that are vocoded.
        max_seconds: a recording is cut to this length.
    """

    def __init__(
        self,
        solvers: Sequence[str] = (),
        steps: Sequence[int] = (),
        metrics: Sequence[str] = ("lsd", "mr_stft"),
        n_examples: int = 8,
        max_seconds: float = 4.0,
    ) -> None:
        for name in solvers:
            if name not in REGISTRY:
                raise ParameterError(f"hydra.callbacks.table.solvers: {name!r} must be one of {', '.join(REGISTRY)}")
        for n_steps in steps:
            check_whole(n_steps, name="hydra.callbacks.table.steps", least=1)
        check_whole(n_examples, name="hydra.callbacks.table.n_examples", least=1)
        if not max_seconds > 0:
            raise ParameterError(f"hydra.callbacks.table.max_seconds={max_seconds} must be positive")
        self._solvers, self._steps = tuple(solvers), tuple(steps)
        self._metrics = [metric.name for metric in select(list(metrics))]
        self._n_examples, self._max_seconds = n_examples, max_seconds
        self._began = 0.0

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Refuse to overwrite the results of an earlier sweep; Hydra catches every exception but an exit."""
        folder = absolute(config.hydra.sweep.dir)
        rows = list(folder.glob(f"*/{ROW}"))
        if not all((path.parent / REFUSAL).is_file() for path in rows):
            fail(
                TrainingError(f"hydra.sweep.dir={folder} holds the results of an earlier sweep: choose another folder")
            )
        for path in rows:
            path.unlink()
            (path.parent / REFUSAL).unlink()

    def on_job_start(self, config: Any, **_: Any) -> None:
        """Start the clock of a run."""
        self._began = time.perf_counter()

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        """Record the results of a run of a sweep, and measure its model."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        run, seconds = Path(config.hydra.runtime.output_dir), time.perf_counter() - self._began
        chosen = dict(_parted(override) for override in config.hydra.overrides.task)
        row: dict[str, Any] = {"run": run.name, "overrides": chosen, "seconds": round(seconds, 1)}
        if (run / REFUSAL).is_file():
            row["refused"] = " ".join((run / REFUSAL).read_text(encoding="utf-8").split())
        elif (run / "checkpoints" / registry.LATEST).is_file():
            row |= _results(json.loads((registry.find(run) / checkpoint.METRICS).read_text(encoding="utf-8")))
            self._measure(run, config=plain(config))
        (run / ROW).write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """Write the tables, print that of the runs, and exit with 2 if no run has a result."""
        folder = absolute(config.hydra.sweep.dir)
        table = write_tables(folder)
        shown = [name for name in table[0] if any(row[name] != "" for row in table)]
        say(_markdown(shown, [{name: _shortened(row[name]) for name in shown} for row in table]).rstrip())
        say(f"table of the sweep: {folder / 'table.csv'}, {folder / 'table.md'}")
        if all(row["refused"] for row in table):
            raise SystemExit(2)  # Hydra catches every exception but this.

    def _measure(self, run: Path, *, config: Mapping[str, Any]) -> None:
        if not (self._solvers and self._steps):
            return
        model = checkpoint.load(run, device="cpu")
        if not (isinstance(model, Synthesizer) and model.needs_mel):
            return
        scan = recordings(config)
        rows = quality(
            model,
            scan.split("val")[: self._n_examples],
            read=scan.read,
            solvers=self._solvers,
            steps=self._steps,
            metrics=self._metrics,
            max_seconds=self._max_seconds,
        )
        _write_csv(run / QUALITY, rows)


def quality(
    model: Synthesizer,
    entries: Sequence[Entry],
    *,
    read: Read = read_file,
    solvers: Sequence[str],
    steps: Sequence[int],
    metrics: Sequence[str],
    max_seconds: float,
) -> list[Quality]:
    """Vocode recordings with every solver and number of steps, without the mel constraint.

    Returns: a row for each pair, with the number of evaluations of the network and the mean of every metric over the
        recordings for which it exists; NaN where it exists for none. A pair that the model refuses has no row.
    """
    assert model.dialect is not None, "only a vocoder is compared with what was recorded"
    hop, longest = model.dialect.hop_length, round(max_seconds * model.sample_rate)
    truths = []
    for entry in entries:
        audio = load_whole(entry, sample_rate=model.sample_rate, n_channels=1, max_seconds=max_seconds, read=read)
        truths.append(audio[:, : max(1, min(longest, audio.shape[-1]) // hop) * hop])
    pairs = ((name, n_steps) for name in solvers for n_steps in steps)
    rows = (_row(model, truths, solver=name, n_steps=n_steps, metrics=metrics) for name, n_steps in pairs)
    return [row for row in rows if row is not None]


def _row(
    model: Synthesizer, truths: Sequence[Any], *, solver: str, n_steps: int, metrics: Sequence[str]
) -> Quality | None:
    found: dict[str, list[float]] = {metric: [] for metric in metrics}
    for index, truth in enumerate(truths):
        mel = model.mel(truth[None])
        try:
            made = model.generate(
                mel, n_samples=truth.shape[-1], iterations=0, steps=n_steps, solver=solver, seed=0, items=[index]
            )
        except ParameterError as error:
            say(f"{solver} in {n_steps} steps: {error}")
            return None
        scores = score(made[0].cpu(), truth, sample_rate=model.sample_rate, names=list(metrics))
        for metric, value in scores.items():
            found[metric].append(float(value.mean()))
    calls = REGISTRY[solver].n_evaluations
    row: Quality = {"solver": solver, "steps": n_steps, "calls": n_steps if calls is None else calls(n_steps)}
    return row | {metric: _mean_of_numbers(values) for metric, values in found.items()}


def write_tables(folder: Path) -> list[dict[str, Any]]:
    """Collect the results of a sweep's runs in table.csv, table.md and quality.csv; return the rows of the first."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*/{ROW}"), key=_number)]
    keys = _varied(rows)
    metrics = list(dict.fromkeys(name for row in rows for name in row.get("validation", {})))
    columns = ["run", *keys, "step", *metrics, "seconds", "refused"]
    table = [
        {
            "run": row["run"],
            **{key: row["overrides"].get(key, "") for key in keys},
            "step": row.get("step", ""),
            **{name: row.get("validation", {}).get(name, "") for name in metrics},
            "seconds": row["seconds"],
            "refused": row.get("refused", ""),
        }
        for row in rows
    ]
    by_steps: list[Quality] = []
    for row in rows:
        path = folder / row["run"] / QUALITY
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                cells = {"run": row["run"], **{key: row["overrides"].get(key, "") for key in keys}}
                by_steps += [{**cells, **line} for line in csv.DictReader(file)]
    _write_csv(folder / "table.csv", table, columns=columns)
    if by_steps:
        _write_csv(folder / QUALITY, by_steps)
    (folder / "table.md").write_text(_markdown(columns, table) + _matrices(by_steps, keys=keys), encoding="utf-8")
    return table


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the overrides that differ between the runs."""
    keys = dict.fromkeys(key for row in rows for key in row["overrides"])
    return [key for key in keys if len({row["overrides"].get(key) for row in rows}) > 1] or list(keys)[:1]


def _matrices(rows: Sequence[Quality], *, keys: Sequence[str]) -> str:
    """Return a matrix of solvers by steps for every run, one table for each metric."""
    if not rows:
        return ""
    steps = sorted({int(row["steps"]) for row in rows})
    text = ""
    for metric in [name for name in rows[0] if name not in ("run", *keys, "solver", "steps", "calls")]:
        lines: dict[tuple[str, ...], Quality] = {}
        for row in rows:
            which = (str(row["run"]), *(str(row[key]) for key in keys), str(row["solver"]))
            cells = dict(zip(("run", *keys, "solver"), which, strict=True))
            lines.setdefault(which, {**cells})[f"{row['steps']} steps"] = float(row[metric])
        columns = ["run", *keys, "solver", *(f"{n} steps" for n in steps)]
        text += f"\n{metric}, by solver and number of steps:\n\n" + _markdown(columns, list(lines.values()))
    return text


def _markdown(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(columns, *lines, strict=True)]
    lines = [list(columns), ["-" * width for width in widths], *lines]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "".join("| " + " | ".join(line) + " |\n" for line in padded)


def _shortened(value: Any) -> Any:
    """Return a value for the console, where the reason of a refusal would fill several lines."""
    return f"{value[:57]}..." if isinstance(value, str) and len(value) > 60 else value


def _results(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return step and validation of a model's metrics.json; a classifier's are its accuracies by split and label."""
    accuracies = {
        f"{split} {label}": counts["n_right"] / counts["n"]
        for split, of_labels in measured.get("accuracy", {}).items()
        for label, counts in of_labels.items()
        if counts["n"]
    }
    return {"step": measured["step"], "validation": measured.get("validation", accuracies)}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None) -> None:
    names = list(columns or (rows[0] if rows else ()))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _mean_of_numbers(values: Sequence[float]) -> float:
    numbers = [value for value in values if value == value and abs(value) != float("inf")]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def _parted(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def _number(path: Path) -> tuple[int, str]:
    name = path.parent.name
    return (int(name) if name.isdigit() else -1, name)
