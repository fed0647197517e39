"""Compare vocoders side by side: quality, times real time, memory, size and operations.

    python -m benchmarks.vocoder FOLDER --model RUN [--count 8] [--threads 2] [--out docs/img]

FOLDER holds recordings; if it has a manifest.csv, those of its split test are taken. Rows are measured one after the
other in separate processes: MODEL with 1, 2, 4 and 8 steps and 0, 4, 16 and 64 iterations of the mel constraint (with a
warm start, in one step from 2, 4, 8 and 16 iterations); the constraint alone; Griffin-Lim; and, if installed, the
packages `diffwave` (6 steps) and `vocos`, which are only timed unless weights are given: --diffwave weights.pt, --vocos
FOLDER of its weights.

The recordings themselves are a row if the package `distillmos` is installed (pip install distillmos): DistillMOS (Stahl
and Gamper 2025) predicts listeners' ratings from the sound alone, at 16 kHz.

Times are from the mel to samples in memory, medians of three; memory is the peak of the whole process. Operations are
multiply-adds of convolutions and matrix products, without transforms.
"""

import argparse
import contextlib
import importlib.util
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import audiodiff
from audiodiff.dsp.mel import dialect
from audiodiff.dsp.resample import resample
from audiodiff.io.console import progress
from audiodiff.metrics import score
from benchmarks.apart import measured_apart
from benchmarks.mel_inversion import recordings

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

METRICS = ("pesq_wb", "stoi", "mr_stft", "lsd", "periodicity_rmse", "vuv_error")
STEPS, ITERATIONS, ALONE = (1, 2, 4, 8), (0, 4, 16, 64), (2, 4, 8, 16, 32)
N_REPEATS, BATCH, BATCH_SECONDS = 3, 16, 3.0


@dataclass(frozen=True)
class System:
    """A row.

    Args:
        kind: ours, none, griffin-lim, diffwave, vocos, or recording.
        steps: of sampling.
        iterations: of what follows.
        where: weights, or of an inversion the model whose mels it inverts; empty for none.
    """

    kind: str
    steps: int = 0
    iterations: int = 0
    where: str = ""

    @property
    def name(self) -> str:
        """Return the name of the row."""
        if self.kind == "ours":
            return f"{Path(self.where).name}, {self.steps} steps, {self.iterations} iterations"
        if self.kind in ("none", "griffin-lim"):
            return f"{'constraint alone' if self.kind == 'none' else self.kind}, {self.iterations} iterations"
        return f"{self.kind}, {self.steps} steps" if self.kind == "diffwave" else self.kind


@dataclass(frozen=True)
class Vocoder:
    """Something that makes audio of mels.

    Args:
        mel: (batch, time) -> its mel.
        vocode: the mel -> (batch, time).
        network: what has parameters, if anything has.
        sample_rate: in Hz.
        has_weights: whether what it makes is to be judged.
    """

    mel: Callable[[Tensor], Tensor]
    vocode: Callable[[Tensor], Tensor]
    network: nn.Module | None
    sample_rate: int
    has_weights: bool = True


def ours(system: System) -> Vocoder:
    """Load a model of this package, or an inversion."""
    options = {"iterations": system.iterations} | ({"steps": system.steps} if system.kind == "ours" else {})
    if system.kind == "ours":
        model = audiodiff.load(system.where)
    else:
        model = audiodiff.load(system.kind, dialect=audiodiff.load(system.where).dialect if system.where else None)
    return Vocoder(
        lambda audio: model.mel(audio[:, None]),
        lambda mel: model.generate(mel, **options)[:, 0],
        model if system.kind == "ours" else None,
        model.sample_rate,
    )


def diffwave(system: System) -> Vocoder:
    """Load the package diffwave, with its own function of six steps."""
    from diffwave import inference
    from diffwave.model import DiffWave
    from diffwave.params import AttrDict, params

    theirs = dialect("diffwave")
    model = DiffWave(AttrDict(params)).eval()
    if system.where:
        model.load_state_dict(torch.load(system.where, map_location="cpu")["model"])
    inference.models["benchmark"] = model
    return Vocoder(
        theirs.mel,
        lambda mel: inference.predict(mel, "benchmark", device=torch.device("cpu"), fast_sampling=True)[0],
        model,
        theirs.sample_rate,
        bool(system.where),
    )


def vocos(system: System) -> Vocoder:
    """Load vocos; without weights, its published 24 kHz configuration with random ones."""
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    from vocos.pretrained import Vocos

    features = MelSpectrogramFeatures(sample_rate=24000, n_fft=1024, hop_length=256, n_mels=100)
    model = Vocos(
        features,
        VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8),
        ISTFTHead(dim=512, n_fft=1024, hop_length=256),
    ).eval()
    if system.where:
        model.load_state_dict(torch.load(Path(system.where) / "pytorch_model.bin", map_location="cpu"))
    return Vocoder(features, model.decode, model, 24000, bool(system.where))


LOADERS: dict[str, Callable[[System], Vocoder]] = {
    "ours": ours,
    "none": ours,
    "griffin-lim": ours,
    "diffwave": diffwave,
    "vocos": vocos,
}


def listener() -> Callable[[Tensor, int], float] | None:
    """Return the no-reference metric of (1, time) at a rate, if it is installed."""
    if importlib.util.find_spec("distillmos") is None:
        return None
    import distillmos

    with contextlib.redirect_stdout(sys.stderr):
        model = distillmos.ConvTransformerSQAModel().eval()
    return lambda audio, rate: float(model(resample(audio, from_rate=rate, to_rate=16000)))


def timed(vocode: Callable[[Tensor], Tensor], mel: Tensor) -> tuple[Tensor, float]:
    """Return the result, and the median time in seconds."""
    spent = []
    for _ in range(N_REPEATS):
        began = time.perf_counter()
        made = vocode(mel)
        spent.append(time.perf_counter() - began)
    return made, statistics.median(spent)


def clips_at(sample_rate: int, folder: Path, count: int) -> list[Tensor]:
    """Return recordings, (1, time) of at most ten seconds each."""
    return [
        resample(audio, from_rate=rate, to_rate=sample_rate)[:, : 10 * sample_rate]
        for audio, rate in recordings(folder, count)
    ]


@torch.no_grad()
def rated(system: System, folder: Path, *, count: int) -> dict[str, Any]:
    """Rate the recordings, at the rate of a model if one is named."""
    rate, sample_rate = listener(), audiodiff.load(system.where or "none").sample_rate
    assert rate is not None
    clips = clips_at(sample_rate, folder, count)
    return {"name": system.name, "distillmos": statistics.fmean(rate(clip, sample_rate) for clip in clips)}


@torch.no_grad()
def measure(system: System, folder: Path, *, count: int, threads: int, batched: bool) -> dict[str, Any]:
    """Measure one row, in a separate process."""
    torch.set_num_threads(threads)
    vocoder = LOADERS[system.kind](system)
    clips = clips_at(vocoder.sample_rate, folder, count)
    vocoder.vocode(vocoder.mel(clips[0][:, : vocoder.sample_rate]))
    speeds, values, rate = [], [], listener()
    for clip in clips:
        made, seconds = timed(vocoder.vocode, vocoder.mel(clip))
        speeds.append(clip.shape[-1] / vocoder.sample_rate / seconds)
        length = min(made.shape[-1], clip.shape[-1])
        if not vocoder.has_weights:
            continue
        alone = {} if rate is None else {"distillmos": rate(made[:, :length], vocoder.sample_rate)}
        found = score(made[:, :length], clip[:, :length], sample_rate=vocoder.sample_rate, names=METRICS)
        values.append(alone | {name: float(value) for name, value in found.items()})
    judged = values[0] if values else {}
    row: dict[str, Any] = {name: statistics.fmean(value[name] for value in values) for name in judged}
    row |= {"name": system.name, "speed": statistics.median(speeds), "n": len(clips)}
    if batched:
        n_samples = round(BATCH_SECONDS * vocoder.sample_rate)
        batch = torch.cat([clip.repeat(1, -(-n_samples // clip.shape[-1]))[:, :n_samples] for clip in clips])
        mel = vocoder.mel(batch.repeat(-(-BATCH // len(batch)), 1)[:BATCH])
        row["speed_16"] = BATCH * BATCH_SECONDS / timed(vocoder.vocode, mel)[1]
    if vocoder.network is not None:
        with FlopCounterMode(display=False) as counter:
            vocoder.vocode(vocoder.mel(clips[0]))
        row["gmac"] = counter.get_total_flops() / 2e9 / (clips[0].shape[-1] / vocoder.sample_rate)
        row["parameters"] = sum(parameter.numel() for parameter in vocoder.network.parameters()) / 1e6
    row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def systems(options: argparse.Namespace) -> list[System]:
    """Return the rows of the table."""
    found: list[System] = []
    for where in options.model:
        mends = getattr(audiodiff.load(where), "warm_start", False)
        steps, iterations = ((1,), ALONE[:-1]) if mends else (STEPS, ITERATIONS)
        found += [System("ours", k, n, where) for k in steps for n in iterations]
    rate_of = options.model[0] if options.model else ""
    found += [System("none", iterations=n, where=rate_of) for n in ALONE]
    found.append(System("griffin-lim", iterations=64, where=rate_of))
    if importlib.util.find_spec("distillmos") is not None:
        found.append(System("recording", where=rate_of))
    for kind, steps in (("diffwave", 6), ("vocos", 1)):
        if importlib.util.find_spec(kind) is not None:
            found.append(System(kind, steps, where=getattr(options, kind)))
    return [system for system in found if not options.kinds or system.kind in options.kinds]


def measured(system: System, options: argparse.Namespace) -> dict[str, Any]:
    """Start the separate process of a row."""
    arguments = [str(options.folder), "--row", json.dumps(asdict(system))]
    arguments += ["--count", str(options.count), "--threads", str(options.threads)]
    arguments += ["--unbatched"] if options.unbatched else []
    return measured_apart("benchmarks.vocoder", *arguments, name=system.name)


COLUMNS = {
    "speed": "x real time",
    "speed_16": f"batch of {BATCH}",
    "memory": "memory, MiB",
    "parameters": "parameters, M",
    "gmac": "GMAC/s",
    **{name: name for name in METRICS},
    "distillmos": "DistillMOS",
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (len(COLUMNS) + 1)]
    lines += [
        f"| {row['name']} | {' | '.join(f'{row[key]:.3g}' if key in row else '' for key in COLUMNS)} |" for row in rows
    ]
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot quality by times real time, a line for each number of steps, and that of the recordings as a level."""
    shown = [name for name in ("pesq_wb", "mr_stft", "distillmos") if any(name in row for row in rows)]
    figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 3.5), layout="constrained", squeeze=False)
    for axis, metric in zip(axes[0], shown, strict=True):
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if metric in row and "speed" in row:
                lines.setdefault(row["name"].rsplit(", ", 1)[0], []).append(row)
            elif metric in row:
                axis.axhline(row[metric], color="grey", linestyle=":", label=row["name"])
        for name, points in lines.items():
            axis.plot([each["speed"] for each in points], [each[metric] for each in points], marker="o", label=name)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("x real time")
        axis.set_ylabel(COLUMNS[metric])
    axes[0][-1].legend(fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Measure every row, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recordings")
    parser.add_argument("--model", action="append", default=[], help="a vocoder of this package; several if need be")
    parser.add_argument("--diffwave", default="", help="weights of pip's diffwave")
    parser.add_argument("--vocos", default="", help="folder of vocos's weights")
    parser.add_argument("--kinds", nargs="+", choices=[*LOADERS, "recording"], help="leave out the others")
    parser.add_argument("--count", type=int, default=8, help="recordings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--unbatched", action="store_true", help=f"leave out batches of {BATCH}")
    parser.add_argument("--out", type=Path, help="folder for vocoder.png")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        system, count = System(**json.loads(options.row)), options.count
        if system.kind == "recording":
            found = rated(system, options.folder, count=count)
        else:
            batched = not options.unbatched
            found = measure(system, options.folder, count=count, threads=options.threads, batched=batched)
        print(json.dumps(found))
        return
    rows = []
    chosen = systems(options)
    with progress("vocoding", total=len(chosen)) as bar:
        for system in chosen:
            rows.append(measured(system, options))
            bar.advance()
    print(table(rows))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(rows, options.out / "vocoder.png")


if __name__ == "__main__":
    main()
