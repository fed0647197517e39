"""Compare mel inversions without training: quality by time, and the stability of the constraint.

    python benchmarks/mel_inversion.py FOLDER [--dialect hifigan] [--count 8] [--methods NAME ...] [--out docs/img]

FOLDER holds recordings; if it has a manifest.csv, those of its split "test" are taken. Prints Markdown tables.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from audiodiff.dsp import excitation, mel_constraint
from audiodiff.dsp.inversion import constrain, griffin_lim, invert
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files
from audiodiff.metrics import log_spectral_distance, multi_resolution_stft, pesq

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Method = Callable[..., Tensor]


def constraint(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    return invert(start, mel, dialect=d, n_iterations=n_iterations)


def from_noise(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    return constrain(start, mel, dialect=d, n_iterations=n_iterations)


def in_phase(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    """The constraint from harmonics that add up to pulses."""
    spread = excitation._SPREAD
    try:
        _start_anew(math.inf)
        return invert(start, mel, dialect=d, n_iterations=n_iterations)
    finally:
        _start_anew(spread)


def _start_anew(spread: float) -> None:
    excitation._SPREAD = spread
    excitation._harmonics.cache_clear()


def at_one_rate(method: Method, **options: float) -> Method:
    """Return a method without the iterations on the low bands alone."""

    def invert_at_one_rate(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
        kept, mel_constraint.low_bands = mel_constraint.low_bands, lambda *_: None
        try:
            return method(start, mel, d, n_iterations, **options)
        finally:
            mel_constraint.low_bands = kept

    return invert_at_one_rate


def of_constants(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int, **options: float) -> Tensor:
    return constrain(start, mel, dialect=d, n_iterations=n_iterations, **options)


def arithmetic(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    """The constraint with the arithmetic mean of the ratios, and feedback into every bin that a filter touches."""
    stft, length, target = d.stft, start.shape[-1], d.amplitude(mel)
    filters = d.filters().to(mel)
    spread = (filters / filters.sum(0).clamp(min=1e-30)).T
    previous = start
    for _ in range(n_iterations):
        spectrum = stft.forward(start + 0.99 * (start - previous))
        amplitude = (filters @ spectrum.abs()).clamp(min=d.amplitude_min)
        ratio = (target / amplitude).pow(1.2).clamp(0.05, 20)
        previous, start = start, stft.inverse(spectrum * (spread @ ratio), length=length)
    return start


def plain_griffin_lim(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    return griffin_lim(mel, start, dialect=d, n_iterations=n_iterations, momentum=0.0)


def fast_griffin_lim(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    """Perraudin et al. 2013 with alpha = 0.99; t + alpha (t - t_previous) has the phase of torchaudio's iteration."""
    return griffin_lim(mel, start, dialect=d, n_iterations=n_iterations, momentum=0.99)


def projection(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    """Alternate |S| + pinv(W) (target - W |S|), the nearest magnitudes of that mel, with the iSTFT; accelerated.

    Momentum 0, 0.5, 0.9 and 0.99 were tried; 0.9 was best.
    """
    stft, length, target = d.stft, start.shape[-1], d.amplitude(mel)
    filters = d.filters().to(mel)
    inverse = torch.linalg.pinv(filters.double()).to(mel)
    previous = start
    for _ in range(n_iterations):
        spectrum = stft.forward(start + 0.9 * (start - previous))
        magnitude = spectrum.abs()
        wanted = (magnitude + inverse @ (target - filters @ magnitude)).clamp(min=0)
        wanted[..., filters.sum(0) == 0, :] = 0
        spectrum *= wanted / magnitude.clamp(min=1e-12)
        previous, start = start, stft.inverse(spectrum, length=length)
    return start


def admm(start: Tensor, mel: Tensor, d: MelDialect, n_iterations: int) -> Tensor:
    """Split magnitudes that fit the mel from spectra that are an STFT's, after Masuyama et al. 2023.

    Minimise |W |X| - target|^2 over X = Z, Z an STFT, by X <- argmin with the phase of Z - U, Z <- STFT(iSTFT(X + U)),
    U <- U + X - Z. The fit's weight was tried at 0.1, 1, 10, 100 and 1e4 times the filters' own scale; 10 was best.
    """
    stft, length, target = d.stft, start.shape[-1], d.amplitude(mel)
    filters = d.filters().to(mel)
    weight = ADMM_WEIGHT / float(filters.square().sum(1).mean())
    # (I + weight W^T W)^-1 through the small matrix of bands (Woodbury)
    small = torch.eye(d.n_mels).to(mel) / weight + filters @ filters.T
    gain = torch.linalg.solve(small.double(), filters.double()).T.to(mel)
    # One plain step of the constraint brings the noise to the mel's level.
    consistent = stft.forward(constrain(start, mel, dialect=d, n_iterations=1, momentum=0.0))
    dual = torch.zeros_like(consistent)
    for _ in range(n_iterations):
        point = consistent - dual
        magnitude = point.abs()
        fitted = (magnitude + gain @ (target - filters @ magnitude)).clamp(min=0)
        fitted[..., filters.sum(0) == 0, :] = 0
        split = point * (fitted / magnitude.clamp(min=1e-12))
        consistent = stft.forward(stft.inverse(split + dual, length=length))
        dual = dual + split - consistent
    return stft.inverse(consistent, length=length)


ADMM_WEIGHT = 10.0
METHODS: dict[str, tuple[Method, tuple[int, ...]]] = {
    "mel constraint": (constraint, (2, 4, 8, 16, 32)),
    "from harmonics in phase": (in_phase, (4, 8, 16)),
    "at one rate": (at_one_rate(constraint), (8, 16, 32, 64)),
    "from noise": (from_noise, (4, 8, 16, 32)),
    "from noise, at one rate": (at_one_rate(from_noise), (16, 32, 64, 128)),
    "the same, momentum 0.99": (at_one_rate(of_constants, momentum=0.99), (16, 64)),
    "the same, no momentum": (at_one_rate(of_constants, momentum=0.0), (64,)),
    "the same, arithmetic mean": (arithmetic, (64,)),
    "Griffin-Lim": (plain_griffin_lim, (64,)),
    "fast Griffin-Lim": (fast_griffin_lim, (16, 64)),
    "accelerated projection": (projection, (64,)),
    "ADMM": (admm, (64,)),
}


def recordings(folder: Path, count: int) -> list[tuple[Tensor, int]]:
    manifest = folder / "manifest.csv"
    if manifest.exists():
        with manifest.open(newline="") as file:
            rows = list(csv.DictReader(file))
        chosen = [row for row in rows if row["split"] == "test"] or [row for row in rows if row["split"] == "val"]
        paths = [folder / row["path"] for row in chosen]
    else:
        paths = find_files(folder)
    clips = [audio_io.read(path) for path in paths[:count]]
    return [(audio[:1, : 10 * rate], rate) for audio, rate in clips]


def measure(method: Method, clips: list[tuple[Tensor, int]], name: str, n_iterations: int) -> dict[str, float]:
    rows: list[dict[str, float]] = []
    for index, (audio, rate) in enumerate(clips):
        d = dialect(name, sample_rate=rate, f_max=None if rate >= 16000 else rate / 2)
        mel = d.mel(audio)
        start = torch.randn(audio.shape, generator=torch.Generator().manual_seed(index))
        began = time.perf_counter()
        result = method(start, mel, d, n_iterations)
        seconds = time.perf_counter() - began
        rows.append(
            {
                "pesq": float(pesq(result, audio, sample_rate=rate)),
                "lsd": float(log_spectral_distance(result, audio, sample_rate=rate)),
                "mstft": float(multi_resolution_stft(result, audio)),
                "peak": float(result.abs().max() / audio.abs().max()),
                "seconds": seconds,
                "audio_seconds": audio.shape[-1] / rate,
            }
        )
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return mean | {"speed": mean["audio_seconds"] / mean["seconds"], "peak": max(row["peak"] for row in rows)}


def compare(clips: list[tuple[Tensor, int]], name: str, out: Path, methods: list[str]) -> None:
    print("| method | iterations | PESQ-WB | LSD | M-STFT | peak, times the truth's | x real time |")
    print("|---|---|---|---|---|---|---|")
    figure, axes = plt.subplots(figsize=(6, 4))
    for label in methods:
        method, iterations = METHODS[label]
        points: list[tuple[float, float]] = []
        for n in iterations:
            m = measure(method, clips, name, n)
            points.append((m["seconds"] / m["audio_seconds"], m["pesq"]))
            print(
                f"| {label} | {n} | {m['pesq']:.2f} | {m['lsd']:.2f} | {m['mstft']:.2f} | {m['peak']:.2f} "
                f"| {m['speed']:.0f} |",
                flush=True,
            )
        axes.plot(*zip(*points, strict=True), "o-", label=label)
    axes.set(xscale="log", xlabel="seconds per second of audio", ylabel="PESQ-WB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    if len(methods) == len(METHODS):
        figure.savefig(out / f"mel_inversion_{name}.png", dpi=80, bbox_inches="tight")


def stability(clips: list[tuple[Tensor, int]], name: str, out: Path) -> None:
    momenta, exponents = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999), (0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.9)
    print("\n| momentum | " + " | ".join(f"exponent {exponent}" for exponent in exponents) + " |")
    print("|---" * (len(exponents) + 1) + "|")
    table: list[list[float]] = []
    for momentum in momenta:
        row: list[float] = []
        for exponent in exponents:
            method = at_one_rate(of_constants, momentum=momentum, exponent=exponent)
            row.append(measure(method, clips, name, 32)["pesq"])
        table.append(row)
        print(f"| {momentum} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)
    figure, axes = plt.subplots(figsize=(6, 3.5))
    image = axes.imshow(table, origin="lower", aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(exponents)), [str(e) for e in exponents])
    axes.set_yticks(range(len(momenta)), [str(m) for m in momenta])
    axes.set(xlabel="exponent", ylabel="momentum", title="PESQ-WB after 32 iterations")
    figure.colorbar(image)
    figure.savefig(out / f"mel_inversion_stability_{name}.png", dpi=80, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recordings, with or without a manifest.csv")
    parser.add_argument("--dialect", default="hifigan")
    parser.add_argument("--count", type=int, default=8, help="number of recordings for the comparison")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="leave out the others"
    )
    parser.add_argument(
        "--stability-count", type=int, default=3, help="number of recordings for the stability; 0: none"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/img"), help="folder for the plots")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    clips = recordings(options.folder, max(options.count, options.stability_count))
    compare(clips[: options.count], options.dialect, options.out, options.methods)
    if options.stability_count:
        stability(clips[: options.stability_count], options.dialect, options.out)


if __name__ == "__main__":
    main()
