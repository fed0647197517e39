"""Compare training: seconds of audio processed per second, time spent waiting for data, and quality by wall time.

    python -m benchmarks.training FOLDER [--minutes 1 2 4 8] [--threads 2] [--out docs/img]

FOLDER holds recordings with a manifest.csv; those of its split train are trained on. Two recipes of this package are
stopped, evaluated and resumed after each of these numbers of minutes, including the start, at a constant learning rate.
The package `diffwave`, which must be installed, trains its model by its own training step on crops of the same
recordings. Evaluated are 4 held-out recordings: with `speech/vocoder` from 4 iterations of the mel constraint, with
`folder/vocoder` in 4 steps without iterations, and with diffwave in its 6 steps. Each is trained in a separate process.
Needs 24 GiB of memory for diffwave's batch.
"""

import argparse
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor, nn

import audiodiff
from audiodiff.data import load_entries
from audiodiff.data.dataset import CropDataset
from audiodiff.dsp.mel import dialect
from audiodiff.dsp.resample import resample
from audiodiff.io.console import progress
from audiodiff.metrics import score
from audiodiff.training.config import compose, plain
from audiodiff.training.datasets import crop_samples
from audiodiff.training.run import train
from benchmarks.apart import measured_apart
from benchmarks.mel_inversion import recordings

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METRICS = ("pesq_wb", "mr_stft")
N_JUDGED, JUDGED_SECONDS = 4, 3
RECIPES: dict[str, dict[str, int]] = {
    "speech/vocoder": {"iterations": 4},
    "folder/vocoder": {"steps": 4, "iterations": 0},
}
PEER = "pip's diffwave"
PEER_BATCH = 8  # its own is 16, for which 24 GiB are not enough


def judged(make: Callable[[Tensor], Tensor], folder: Path, sample_rate: int) -> dict[str, float]:
    """Score resynthesised recordings, (1, time) at the rate -> (1, time)."""
    found = []
    for audio, rate in recordings(folder, N_JUDGED):
        clip = resample(audio, from_rate=rate, to_rate=sample_rate)[:, : JUDGED_SECONDS * sample_rate]
        made = make(clip)
        length = min(made.shape[-1], clip.shape[-1])
        values = score(made[:, :length], clip[:, :length], sample_rate=sample_rate, names=METRICS)
        found.append({name: float(value) for name, value in values.items()})
    return {name: statistics.fmean(each[name] for each in found) for name in METRICS}


def so_far(steps: int, spent: float, *, processed_seconds: float, wait: float, network: nn.Module) -> dict[str, Any]:
    """Return the figures of a run so far, except for its quality."""
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    known = {"minutes": spent / 60.0, "steps": steps, "speed": processed_seconds / spent}
    return known | {"wait": wait, "parameters": parameters}


def ours(recipe: str, folder: Path, minutes: list[float], run: Path) -> list[dict[str, Any]]:
    """Train a recipe as the command does, stopped as by Ctrl-C."""
    rows: list[dict[str, Any]] = []
    spent = 0.0
    for until in minutes:
        overrides = [f"recipes={recipe}", f"data.root={folder / 'manifest.csv'}", "lr_schedule=constant", "logger=none"]
        overrides += ["train.steps=1000000", "train.save_every=0", "train.validate_every=0"]
        overrides += [f"train.resume={run}"] if rows else []
        config = plain(compose(overrides))
        stop = threading.Timer(60.0 * until - spent, os.kill, (os.getpid(), signal.SIGINT))
        began = time.perf_counter()
        stop.start()
        outcome = train(config, run=run)
        spent += time.perf_counter() - began
        model = audiodiff.load(run)
        seconds = config["train"]["batch_size"] * crop_samples(config) / model.sample_rate
        processed = outcome.step * seconds
        known = so_far(outcome.step, spent, processed_seconds=processed, wait=outcome.data_wait, network=model)
        rows.append(known | judged(partial(vocoded, model, **RECIPES[recipe]), folder, model.sample_rate))
    return rows


def vocoded(model: Any, audio: Tensor, **options: int) -> Tensor:
    """Resynthesise (1, time) from its mel with a model of this package."""
    return model.generate(model.mel(audio[None]), **options)[0]


def peer(folder: Path, minutes: list[float], run: Path) -> list[dict[str, Any]]:
    """Train the package diffwave by its own step, on crops of its own length."""
    from diffwave import inference
    from diffwave.learner import DiffWaveLearner
    from diffwave.model import DiffWave
    from diffwave.params import AttrDict, params

    theirs, settings = dialect("diffwave"), dict(params)
    torch.manual_seed(0)
    model = DiffWave(AttrDict(params))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    n_frames = settings["crop_mel_frames"]
    n_samples = n_frames * settings["hop_samples"]
    began = time.perf_counter()
    entries = load_entries(folder / "manifest.csv", split="train").entries
    crops = CropDataset(entries, sample_rate=theirs.sample_rate, n_channels=1, crop_samples=n_samples, seed=0)
    learner = DiffWaveLearner(str(run), model, crops, optimizer, AttrDict(params))
    rows: list[dict[str, Any]] = []
    spent, step, waited = time.perf_counter() - began, 0, 0.0

    def vocode(audio: Tensor) -> Tensor:
        mel = theirs.mel(audio)
        return inference.predict(mel, "benchmark", device=torch.device("cpu"), fast_sampling=True)[0]

    for until in minutes:
        model.train()
        while spent < 60.0 * until:
            began = time.perf_counter()
            audio = torch.cat([crops[step * PEER_BATCH + k]["audio"] for k in range(PEER_BATCH)])
            spectrogram = theirs.mel(audio)[..., :n_frames]
            waited += time.perf_counter() - began
            learner.train_step({"audio": audio, "spectrogram": spectrogram})
            spent, step = spent + time.perf_counter() - began, step + 1
        inference.models["benchmark"] = model.eval()
        processed = step * PEER_BATCH * n_samples / theirs.sample_rate
        known = so_far(step, spent, processed_seconds=processed, wait=waited / spent, network=model)
        rows.append(known | judged(vocode, folder, theirs.sample_rate))
    return rows


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return a Markdown table."""
    columns = {
        "minutes": "minutes",
        "steps": "steps",
        "speed": "audio s per s",
        "wait": "waits for data",
        "parameters": "parameters, M",
        **{name: name for name in METRICS},
    }
    lines = [f"| | {' | '.join(columns.values())} |", "|" + "---|" * (len(columns) + 1)]
    lines += [
        f"| {name} | {' | '.join(f'{row[key]:.3g}' for key in columns)} |"
        for name, rows in found.items()
        for row in rows
    ]
    return "\n".join(lines)


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw PESQ over minutes."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, rows in found.items():
        axis.plot([row["minutes"] for row in rows], [row["pesq_wb"] for row in rows], marker="o", label=name)
    axis.set_xscale("log")
    axis.set_xlabel("minutes of training")
    axis.set_ylabel("PESQ-WB")
    axis.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Train each, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recordings, with a manifest.csv")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="of wall time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for training.png")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        torch.set_num_threads(options.threads)
        with tempfile.TemporaryDirectory() as scratch:
            arguments = options.folder, sorted(options.minutes), Path(scratch) / "run"
            print(json.dumps(peer(*arguments) if options.row == PEER else ours(options.row, *arguments)))
        return
    found: dict[str, list[dict[str, Any]]] = {}
    with progress("training", total=len(RECIPES) + 1) as bar:
        for name in (*RECIPES, PEER):
            arguments = [str(options.folder), "--row", name, "--threads", str(options.threads)]
            arguments += ["--minutes", *map(str, options.minutes)]
            found[name] = measured_apart("benchmarks.training", *arguments, name=name)
            bar.advance()
    print(table(found))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(found, options.out / "training.png")


if __name__ == "__main__":
    main()
