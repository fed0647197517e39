"""`audiodiff demo`: train a vocoder on the embedded speech, vocode and compare, in minutes."""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from audiodiff import metrics
from audiodiff.data import load_entries, speech_folder
from audiodiff.errors import AudioFileError
from audiodiff.evaluation.spectrograms import draw_spectrograms
from audiodiff.evaluation.vocoding import METRICS, Comparison, compare, systems_of
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import check_folder_name
from audiodiff.models import checkpoint
from audiodiff.requirements import require
from audiodiff.training.config import compose, plain
from audiodiff.training.failure import in_a_line
from audiodiff.training.run import train

COLUMNS = ("SNR", "SI-SDR", "PESQ", "STOI", "LSD", "MR-STFT")


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps.", show_default="the recipe's")] = None,
    force: Annotated[bool, typer.Option(help="Replace an earlier demo in that folder.")] = False,
) -> None:
    """Train the quickstart vocoder on the embedded speech, vocode held-out sentences, and compare.

    \b
    Example:
      audiodiff demo -o demo
    """
    began = time.perf_counter()
    require("soundfile", "lightning_fabric", "librosa", "tensorboard", "matplotlib", *metrics.packages(METRICS))
    check_folder_name(out)
    if out.is_file():
        raise AudioFileError(f"--out: {out} is a file: give a folder")
    if out.exists() and any(out.iterdir()):
        if not force:
            raise AudioFileError(f"{out} is not empty: give --force to replace it, or another --out")
        for part in ("run", "wavs", "spectrograms"):
            shutil.rmtree(out / part, ignore_errors=True)
    overrides = ["recipes=quickstart/vocoder"] + ([] if steps is None else [f"train.steps={steps}"])
    run = out / "run"
    # As Hydra writes them: `audiodiff train train.resume=RUN` goes on from there.
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    (run / ".hydra" / "overrides.yaml").write_text(
        "".join(f"- {override}\n" for override in overrides), encoding="utf-8"
    )
    train(plain(compose(overrides)), run=run)
    trained = time.perf_counter() - began
    with _keeping(run):
        comparison = _compared(run, out=out)
        report = {"training_seconds": round(trained, 1), "systems": comparison.table, "no_value": comparison.reasons}
        (out / "metrics.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        _print(comparison)
        _draw(comparison, out=out)
    say(f"training took {trained:.0f} s, everything {time.perf_counter() - began:.0f} s")
    say(f"all of it is in {out}/: wavs, spectrograms, metrics.json, and the checkpoint in run/checkpoints")
    say(f"try: generate-wav YOUR.wav --model {run} --out vocoded.wav")


@contextmanager
def _keeping(run: Path) -> Iterator[None]:
    """If a stage after training fails, say where the model is kept and how to use it, and exit with 1."""
    try:
        yield
    except Exception as error:
        say(f"error: training is complete, and the comparison after it failed ({in_a_line(error)})")
        say(f"the trained model is kept in {run}: use it with `generate-wav YOUR.wav --model {run} --out vocoded.wav`")
        raise typer.Exit(1) from error


def _compared(run: Path, *, out: Path) -> Comparison:
    """Vocode the embedded test sentences by every system, write wavs, and measure them."""
    model, entries = checkpoint.load(run), load_entries(speech_folder(), split="test").entries
    systems = systems_of(model)
    with progress("vocoding and measuring", total=len(systems) * len(entries)) as bar:
        return compare(model, systems, entries, wavs=out / "wavs", on_step=bar.advance)


def _draw(comparison: Comparison, *, out: Path) -> None:
    """Draw a picture for each sentence, with the spectrograms of all systems."""
    for index, entry in enumerate(comparison.entries):
        draw_spectrograms(
            {name: signals[index][0] for name, signals in comparison.signals.items()},
            sample_rate=comparison.sample_rate,
            path=out / "spectrograms" / f"{entry.path.stem}.png",
            title=entry.text,
        )


def _print(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    view = Table(title="held-out sentences of the embedded speech (it.: iterations)", box=None, pad_edge=False)
    view.add_column("system", no_wrap=True)
    for column in (*COLUMNS, "speed"):
        view.add_column(column, justify="right", no_wrap=True)
    for system, values in comparison.table.items():
        shown = ["" if math.isnan(values[name]) else f"{values[name]:.2f}" for name in METRICS]
        speed = values["times_real_time"]
        view.add_row(system, *shown, "" if math.isnan(speed) else f"{speed:.0f}x")
    Console().print(view)
    for system, missing in comparison.reasons.items():
        for name, reason in missing.items():
            say(f"{system}: no value of {name}: {reason}")
    say("SNR, SI-SDR in dB compare sample by sample: vocoders choose their own phase, and are near 0 however good.")
    say("PESQ (wideband) 1 to 4.64 and STOI 0 to 1, higher is better; LSD, MR-STFT: lower. Speed is times real time.")
