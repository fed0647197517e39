"""Shared parts of the benchmarks of restoration: recordings, tables with intervals, pictures."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.metrics import bootstrap_interval
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import PosteriorSampler, check_model

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

RATE = 16000
Clip = tuple[str, Tensor]
"""The name of a recording, and its samples, (time,)."""


def arguments(doc: str, *, methods: Sequence[str]) -> argparse.Namespace:
    """Read the command line of a benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds librispeech and kathleen")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech-prior-16k")
    parser.add_argument("--quick", action="store_true", help="a few recordings alone")
    parser.add_argument("--tune", action="store_true", help="on recordings that settings are chosen with")
    parser.add_argument("--steps", type=int, help="of the sampler, where not the default")
    parser.add_argument("--methods", nargs="*", choices=methods, default=methods)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def load(name: str, *, posterior: PosteriorSampler) -> Synthesizer:
    """Load a model that can restore."""
    return check_model(checkpoint.load(name), posterior=posterior)


def clips(data: Path, splits: Mapping[str, str], *, seconds: float, most: int) -> list[Clip]:
    """Read the beginnings of recordings at 16 kHz: of each folder its split, as many of each."""
    found: list[Clip] = []
    for folder, split in splits.items():
        with (data / folder / "manifest.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        for row in rows[:: max(1, len(rows) // most)][:most]:
            audio, rate = audio_io.read(data / folder / row["path"])
            whole = resample(audio, from_rate=rate, to_rate=RATE)[0]
            found.append((Path(row["path"]).stem, whole[: round(seconds * RATE)].clone()))
    return found


def test_splits(*, tune: bool) -> dict[str, str]:
    """Return the recordings of a benchmark: speakers outside the training data, and a speaker of the training data."""
    return {"librispeech": "train", "kathleen": "val"} if tune else {"librispeech": "val", "kathleen": "test"}


def cell(values: Sequence[float], *, digits: int = 2, signed: bool = False) -> str:
    """Write a mean and its 95 % interval, of the values that exist."""
    finite = torch.tensor([value for value in values if math.isfinite(value)])
    if len(finite) == 0:
        return "-"
    low, high = bootstrap_interval(finite)
    sign = "+" if signed else ""
    return f"{float(finite.mean()):{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def paired(ours: Sequence[float], theirs: Sequence[float], *, digits: int = 2) -> str:
    """Write the mean difference over the examples that both have a value of, and its 95 % interval."""
    return cell([a - b for a, b in zip(ours, theirs, strict=True)], digits=digits, signed=True)


def write(
    name: str, out: Path, *, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> None:
    """Write the report and print its table."""
    flags = [argument for argument in sys.argv[1:] if argument in ("--quick", "--tune")]
    command = " ".join([f"python -m benchmarks.jobs.{name} --data DATA --out OUT", *flags])
    report: dict[str, Any] = {
        "title": title,
        "commands": [command],
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "notes": list(notes),
        "figures": [f"{name}.png"],
    }
    (out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{title}\n")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    for note in notes:
        print(f"\n{note}")


def picture(
    path: Path,
    sounds: Mapping[str, Tensor],
    curve: Callable[[Any], None],
    *,
    title: str,
    marks: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw the spectrograms of sounds of one second or so, and a curve beside them."""
    figure, axes = plt.subplots(1, len(sounds) + 1, figsize=(2.3 * len(sounds) + 3.4, 2.9), layout="constrained")
    window = torch.hann_window(400)
    for axis, (name, sound) in zip(axes, sounds.items(), strict=False):
        spectrum = torch.stft(sound.float(), 512, 80, 400, window=window, return_complex=True).abs()
        level = (20.0 * torch.log10(spectrum + 1e-4)).numpy()
        axis.imshow(
            level, origin="lower", aspect="auto", vmin=-50, vmax=25, extent=(0, len(sound) / RATE, 0, RATE / 2000)
        )
        for start, end in marks:
            axis.axvline(start, color="w", lw=0.6, ls=":")
            axis.axvline(end, color="w", lw=0.6, ls=":")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("s", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("kHz", fontsize=8)
    curve(axes[-1])
    axes[-1].tick_params(labelsize=7)
    axes[-1].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    # Spectrograms of noise do not compress in full colour.
    reduced = Image.open(path).convert("RGB").quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def numbers(sound: Tensor) -> np.ndarray:
    """Return samples as the baselines take them."""
    return sound.double().numpy()
