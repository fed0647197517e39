"""`audiodiff demo`: the main job from end to end, on the embedded speech, in minutes."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from audiodiff import metrics
from audiodiff.data import Entry, load_entries, load_whole, speech_folder
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.dsp.inversion import DEFAULT_ITERATIONS, griffin_lim
from audiodiff.errors import AudioFileError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.models import checkpoint
from audiodiff.requirements import require
from audiodiff.training.config import compose, plain
from audiodiff.training.failure import in_a_line
from audiodiff.training.run import train
from audiodiff.types import Mel

METRICS = ("snr_db", "si_sdr_db", "pesq_wb", "stoi", "lsd", "mr_stft")
COLUMNS = ("SNR", "SI-SDR", "PESQ", "STOI", "LSD", "MR-STFT")
GRIFFIN_LIM_ITERATIONS = 64

Vocode = Callable[[Mel, int], Tensor]


@dataclass(frozen=True)
class System:
    """One way from a mel to sound.

    Args:
        name: in the table.
        folder: of its wavs.
        vocode: (mel, n_samples) -> audio (1, n_samples); None is the recording itself.
    """

    name: str
    folder: str
    vocode: Vocode | None


@dataclass(frozen=True)
class Comparison:
    """What came of the systems on the test sentences.

    Args:
        table: by system and metric, the mean over the sentences; NaN where no sentence has a value.
        reasons: by system and metric, why sentences have no value; only where some have none.
        signals: by system, the sentences as it made them.
        entries: the sentences.
        sample_rate: in Hz, of the signals.
    """

    table: Mapping[str, Mapping[str, float]]
    reasons: Mapping[str, Mapping[str, str]]
    signals: Mapping[str, Sequence[Tensor]]
    entries: Sequence[Entry]
    sample_rate: int


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
    if out.exists() and any(out.iterdir()):
        if not force:
            raise AudioFileError(f"{out} is not empty: give --force to replace it, or another --out")
        for part in ("run", "wavs", "spectrograms"):
            shutil.rmtree(out / part, ignore_errors=True)
    overrides = ["recipes=quickstart/vocoder"] + ([] if steps is None else [f"train.steps={steps}"])
    run = out / "run"
    # As Hydra writes them: `audiodiff train train.resume=RUN` goes on from there.
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    (run / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))
    train(plain(compose(overrides)), run=run)
    trained = time.perf_counter() - began
    with _keeping(run):
        comparison = compare(run, out=out)
        report = {"training_seconds": round(trained, 1), "systems": comparison.table, "no_value": comparison.reasons}
        (out / "metrics.json").write_text(json.dumps(report, indent=2))
        _print(comparison)
        draw(comparison, out=out)
    say(f"training took {trained:.0f} s, everything {time.perf_counter() - began:.0f} s")
    say(f"all of it is in {out}/: wavs, spectrograms, metrics.json, and the checkpoint in run/checkpoints")
    say(f"try: generate-wav YOUR.wav --model {run} --out vocoded.wav")


@contextmanager
def _keeping(run: Path) -> Iterator[None]:
    """Where a stage after training fails, say that the model is kept and how to use it, and exit with 1."""
    try:
        yield
    except Exception as error:
        say(f"error: training is complete, and the comparison after it failed ({in_a_line(error)})")
        say(f"the trained model is kept in {run}: use it with `generate-wav YOUR.wav --model {run} --out vocoded.wav`")
        raise typer.Exit(1) from error


def compare(run: Path, *, out: Path) -> Comparison:
    """Vocode the embedded test sentences in every way, write wavs, and measure them."""
    model = checkpoint.load(run)
    dialect = model.dialect
    assert dialect is not None
    inverter = checkpoint.load("none", dialect=dialect)

    def of_network(iterations: int) -> Vocode:
        return lambda mel, n_samples: model.generate(mel, n_samples=n_samples, iterations=iterations)[0]

    def of_constraint(iterations: int) -> Vocode:
        return lambda mel, n_samples: inverter.generate(mel, n_samples=n_samples, iterations=iterations)[0]

    def of_griffin_lim(mel: Mel, n_samples: int) -> Tensor:
        start = BlockNoise(0, [0])(torch.zeros(1, 1, n_samples), 0)[:, 0]
        return griffin_lim(mel, start, dialect=dialect, n_iterations=GRIFFIN_LIM_ITERATIONS)

    few, many = model.n_iterations, DEFAULT_ITERATIONS
    systems = (
        System("network alone", "network", of_network(0)),
        System(f"network, {few} it.", "network_constraint", of_network(few)),
        System(f"constraint, {few} it.", "constraint_few", of_constraint(few)),
        System(f"constraint, {many} it.", "constraint", of_constraint(many)),
        System(f"Griffin-Lim, {GRIFFIN_LIM_ITERATIONS} it.", "griffin_lim", of_griffin_lim),
        System("ground truth", "truth", None),
    )
    entries = load_entries(speech_folder(), split="test").entries
    table: dict[str, dict[str, float]] = {}
    reasons: dict[str, dict[str, str]] = {}
    made: dict[str, list[Tensor]] = {}
    truths = []
    for entry in entries:
        audio = load_whole(entry, sample_rate=model.sample_rate, n_channels=1)
        truths.append(audio[:, : audio.shape[-1] // dialect.hop_length * dialect.hop_length])
    of_network(1)(model.mel(truths[0][None]), truths[0].shape[-1])  # the first call of anything is slow
    with progress("vocoding and measuring", total=len(systems) * len(entries)) as bar:
        for system in systems:
            pairs, spent = [], 0.0
            for entry, truth in zip(entries, truths, strict=True):
                estimate = truth
                if system.vocode is not None:
                    mel = model.mel(truth[None])
                    asked = time.perf_counter()
                    estimate = system.vocode(mel, truth.shape[-1]).cpu()
                    spent += time.perf_counter() - asked
                made.setdefault(system.name, []).append(estimate)
                audio_io.write(
                    out / "wavs" / system.folder / f"{entry.path.stem}.wav",
                    estimate / estimate.abs().max().clamp(min=1.0) * (1 - 2**-15),
                    sample_rate=model.sample_rate,
                )
                pairs.append(metrics.Pair(entry.path.stem, estimate, truth, model.sample_rate))
                bar.advance()
            summaries = metrics.summarise(metrics.evaluate(pairs, names=METRICS))
            seconds = sum(truth.shape[-1] for truth in truths) / model.sample_rate
            table[system.name] = {name: summaries[name].mean for name in METRICS}
            table[system.name]["times_real_time"] = seconds / spent if spent else float("nan")
            missing = {name: _listed(summaries[name].reasons) for name in METRICS if summaries[name].reasons}
            if missing:
                reasons[system.name] = missing
    return Comparison(table=table, reasons=reasons, signals=made, entries=entries, sample_rate=model.sample_rate)


def draw(comparison: Comparison, *, out: Path) -> None:
    """Draw the spectrograms of each sentence, every system's in one picture."""
    for index, entry in enumerate(comparison.entries):
        draw_spectrograms(
            {name: signals[index][0] for name, signals in comparison.signals.items()},
            sample_rate=comparison.sample_rate,
            path=out / "spectrograms" / f"{entry.path.stem}.png",
            title=entry.text,
        )


def draw_spectrograms(signals: Mapping[str, Tensor], *, sample_rate: int, path: Path, title: str) -> None:
    """Draw the log-magnitude spectrograms of signals under each other, on one scale of 80 dB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 * len(signals)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, signal) in zip(axes, signals.items(), strict=True):
        window = torch.hann_window(1024)
        level = torch.stft(signal, 1024, 256, window=window, return_complex=True).abs().clamp(min=1e-6).log10() * 20
        extent = (0.0, signal.shape[-1] / sample_rate, 0.0, sample_rate / 2000.0)
        image = axis.imshow(
            level.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-50, vmax=30, extent=extent
        )
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=list(axes), label="dB", shrink=0.6)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count} sentences)" for reason, count in reasons.items())


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
