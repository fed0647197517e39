"""Measure speech enhancement by input SNR, in seen and unseen noise, beside spectral subtraction and a Wiener filter.

    python -m benchmarks.jobs.enhance --data shared/data --out docs/img/jobs
    python -m benchmarks.jobs.enhance --data shared/data --out . --tune    # settings, on other speech and noise

Speech: 4 s of each validation speaker of librispeech and of as many test prompts of kathleen, at 16 kHz. Noise: fold 5
of esc10 (recordings of classes of the training data, except for helicopter) and white noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.corruption import mixed_at_snr
from audiodiff.data import scan_folder
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.metrics import bootstrap_interval, pesq, si_sdr_db, stoi
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Conditional, Denoising, Sampling
from audiodiff.tasks.restoration.enhancement import ENHANCING, enhance
from benchmarks.jobs.speech import RATE, arguments, cell, clips, load, paired, picture, test_splits, write

SECONDS = 4.0
SNRS = (-5, 0, 5, 10, 15)
MIDDLE = 5
UNHEARD = "helicopter"
N_FFT, HOP = 512, 128
TELEPHONE = 8000
METRICS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "PESQ-WB": lambda estimate, clean, rate: pesq(
        estimate, clean, sample_rate=rate, band="nb" if rate == TELEPHONE else "wb"
    ),
    "ESTOI": lambda estimate, clean, rate: stoi(estimate, clean, sample_rate=rate, extended=True),
    "SI-SDR, dB": lambda estimate, clean, rate: si_sdr_db(estimate, clean),
}
ZERO_SHOT = Sampling(posterior=Denoising(), steps=1)
DIGITS = {"PESQ-WB": 2, "ESTOI": 3, "SI-SDR, dB": 1}


@dataclass(frozen=True)
class Clip:
    """Clean speech and noise, of the same length, (time,)."""

    clean: Float[Tensor, "time"]
    noise: Float[Tensor, "time"]
    kind: str

    def noisy(self, snr: float) -> Float[Tensor, "time"]:
        """Return their mixture at a ratio in dB."""
        return mixed_at_snr(self.clean[None, None], self.noise[None, None], torch.tensor([float(snr)]))[0, 0]


def recording(path: Path) -> Tensor:
    """Read a recording at 16 kHz, (time,)."""
    audio, sample_rate = audio_io.read(path)
    return resample(audio, from_rate=sample_rate, to_rate=RATE)[0]


def stretch(recordings: Sequence[Tensor], n_samples: int, generator: np.random.Generator) -> Tensor:
    """Cut noise from a drawn recording, of which half at least sounds."""
    while True:
        recording = recordings[int(generator.integers(len(recordings)))]
        first = int(generator.integers(max(1, len(recording) - n_samples)))
        cut = recording.repeat(-(-n_samples // len(recording)) + 1)[first : first + n_samples]
        if float((cut.abs() > 1e-4).float().mean()) > 0.5:
            return cut


def mixtures(data: Path, *, n: int, tune: bool) -> list[Clip]:
    """Return n clips: of the splits for testing, or of others, to choose settings with."""
    splits = test_splits(tune=tune).items()
    by_folder = [clips(data, {folder: split}, seconds=SECONDS, most=n // 2) for folder, split in splits]
    voices = [clip for pair in zip(*by_folder, strict=True) for _, clip in pair]
    recorded = [entry for entry in scan_folder(data / "esc10") if entry.split == ("fold4" if tune else "fold5")]
    heard, unheard = (
        [recording(entry.path) for entry in recorded if (entry.label == UNHEARD) == is_unheard]
        for is_unheard in (False, True)
    )
    generator = np.random.default_rng(int(tune))
    made = []
    for number, clean in enumerate(voices):
        # Of every four: two of heard classes, one unheard, one white; each for both data sets of speech.
        turn = (number // 2) % 4
        if turn == 1 and not tune:
            made.append(Clip(clean, stretch(unheard, len(clean), generator), f"unheard class ({UNHEARD})"))
        elif turn == 3:
            white = torch.from_numpy(generator.standard_normal(len(clean)).astype(np.float32))
            made.append(Clip(clean, white, "white"))
        else:
            made.append(Clip(clean, stretch(heard, len(clean), generator), "heard classes"))
    return made


def spectrum(noisy: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the STFT, (bins, frames), and the power of the noise in each bin.

    The noise is what a bin holds in its quietest 30 % of frames, corrected for noise whose power is exponential.

    Source: Stahl, Fischer and Bippus 2000 (quantile based noise estimation).
    """
    _, _, bins = scipy.signal.stft(noisy.double().numpy(), nperseg=N_FFT, noverlap=N_FFT - HOP)
    power = np.abs(bins) ** 2
    share = 0.3
    return bins, np.quantile(power, share, axis=1, keepdims=True) / -np.log(1.0 - share)


def sound(bins: np.ndarray, n_samples: int) -> Tensor:
    """Return the signal of an STFT."""
    _, audio = scipy.signal.istft(bins, nperseg=N_FFT, noverlap=N_FFT - HOP)
    return torch.from_numpy(audio[:n_samples]).float()


def spectral_subtraction(noisy: Tensor) -> Tensor:
    """Take the noise's power from every bin; what is left is at least 2 % of it.

    Source: Berouti, Schwartz and Makhoul 1979, with oversubtraction by 2.
    """
    bins, noise = spectrum(noisy)
    power = np.abs(bins) ** 2
    left = np.maximum(power - 2.0 * noise, 0.02 * noise)
    return sound(bins * np.sqrt(np.minimum(left / np.maximum(power, 1e-20), 1.0)), len(noisy))


def wiener(noisy: Tensor) -> Tensor:
    """Weigh every bin by xi / (1 + xi), the a-priori SNR xi being decision-directed.

    Source: Ephraim and Malah 1984, eq. 51; Scalart and Filho 1996 for the Wiener gain.
    """
    bins, noise = spectrum(noisy)
    posterior = np.abs(bins) ** 2 / np.maximum(noise, 1e-20)
    gains = np.empty_like(posterior)
    before = np.ones(len(bins))
    for frame in range(bins.shape[1]):
        prior = 0.98 * before + 0.02 * np.maximum(posterior[:, frame] - 1.0, 0.0)
        gains[:, frame] = np.maximum(prior / (1.0 + prior), 10 ** (-25 / 20))
        before = gains[:, frame] ** 2 * posterior[:, frame]
    return sound(gains * bins, len(noisy))


PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "noisy": lambda noisy: noisy,
    "spectral subtraction": spectral_subtraction,
    "Wiener, decision-directed": wiener,
}


def named(sampling: Sampling) -> str:
    """Name a setting as a row does."""
    begin = "from noise" if sampling.start is None else f"from noisy + {sampling.start:g}"
    who = "ours" if sampling.posterior.is_conditional else "zero-shot"
    return f"{who}, {sampling.steps} step{'' if sampling.steps == 1 else 's'}, {begin}"


def ours(model: Synthesizer, sampling: Sampling, *, rate: int = RATE) -> Callable[[Tensor], Tensor]:
    """Return the model with a setting as a function of noisy speech."""
    return lambda noisy: enhance(model, noisy[None], sample_rate=rate, sampling=sampling)[0]


def on_the_telephone(mixed: Sequence[Clip]) -> list[Clip]:
    """Return the clips at 8 kHz."""
    return [
        Clip(
            *(resample(sound[None], from_rate=RATE, to_rate=TELEPHONE)[0] for sound in (clip.clean, clip.noise)),
            clip.kind,
        )
        for clip in mixed
    ]


@dataclass(frozen=True)
class Scores:
    """Compute the metrics of each clip."""

    values: dict[str, Float[Tensor, "n"]]

    def of(self, chosen: Sequence[bool]) -> "Scores":
        """Return those of some clips."""
        return Scores({name: value[torch.tensor(chosen)] for name, value in self.values.items()})


def scored(method: Callable[[Tensor], Tensor], mixed: Sequence[Clip], *, snr: float, rate: int = RATE) -> Scores:
    """Enhance every clip, and compare it with the clean speech."""
    made = [method(clip.noisy(snr)) for clip in mixed]
    return Scores(
        {
            name: torch.stack([metric(one, clip.clean, rate) for one, clip in zip(made, mixed, strict=True)])
            for name, metric in METRICS.items()
        }
    )


def row(snr: float, kind: str, name: str, scores: Scores, noisy: Scores) -> list[str]:
    """Return a row of the table."""
    parts = [str(len(scores.values["ESTOI"]))]
    for metric, digits in DIGITS.items():
        ours, before = scores.values[metric].tolist(), noisy.values[metric].tolist()
        parts += [cell(ours, digits=digits), paired(ours, before, digits=digits)]
    return [f"{snr:g}", kind, name, *parts]


def print_settings(model: Synthesizer, mixed: Sequence[Clip]) -> None:
    """Print what settings give, over the SNRs of 0 and 10 dB."""
    settings = [Sampling(steps=steps, start=start) for steps in (1, 2, 4, 8) for start in (None, 0.05, 0.1, 0.2)]
    settings += [Sampling(posterior=Denoising(), steps=steps) for steps in (1, 2, 4, 8)]
    for name, method in (PLAIN | {named(sampling): ours(model, sampling) for sampling in settings}).items():
        parts = [scored(method, mixed, snr=snr).values for snr in (0, 10)]
        means = {metric: torch.stack([part[metric] for part in parts]).nanmean() for metric in METRICS}
        print(f"{name:40s}", "  ".join(f"{metric} {float(mean):6.3f}" for metric, mean in means.items()), flush=True)


def measure(
    model: Synthesizer, mixed: Sequence[Clip], *, more: Sequence[Sampling]
) -> tuple[list[list[str]], dict[str, dict[float, Scores]]]:
    """Return the rows, and the curves of the figure."""
    methods = PLAIN | {named(sampling): ours(model, sampling) for sampling in (ZERO_SHOT, ENHANCING)}
    curves: dict[str, dict[float, Scores]] = {name: {} for name in methods}
    rows: list[list[str]] = []
    with progress("enhancing", total=len(SNRS) * len(methods) + len(more)) as bar:
        for snr in SNRS:
            for name, method in methods.items():
                curves[name][snr] = scored(method, mixed, snr=snr)
                rows.append(row(snr, "all", name, curves[name][snr], curves["noisy"][snr]))
                bar.advance()
        noisy = curves["noisy"][MIDDLE]
        for sampling in more:
            rows.append(row(MIDDLE, "all", named(sampling), scored(ours(model, sampling), mixed, snr=MIDDLE), noisy))
            bar.advance()
    narrow = on_the_telephone(mixed)
    by_name = {
        name: scored(
            PLAIN["noisy"] if sampling is None else ours(model, sampling, rate=TELEPHONE),
            narrow,
            snr=MIDDLE,
            rate=TELEPHONE,
        )
        for name, sampling in (("noisy", None), (named(ZERO_SHOT), ZERO_SHOT), (named(ENHANCING), ENHANCING))
    }
    rows += [row(MIDDLE, "all, at 8 kHz", name, scores, by_name["noisy"]) for name, scores in by_name.items()]
    for kind in sorted({clip.kind for clip in mixed}):
        chosen = [clip.kind == kind for clip in mixed]
        for name in methods:
            rows.append(row(MIDDLE, kind, name, curves[name][MIDDLE].of(chosen), noisy.of(chosen)))
    return rows, curves


def drawn(axis: Any, curves: dict[str, dict[float, Scores]]) -> None:
    """Draw PESQ over the input SNR."""
    for name, by_snr in curves.items():
        values = [scores.values["PESQ-WB"] for scores in by_snr.values()]
        values = [value[value.isfinite()] for value in values]
        axis.plot(list(by_snr), [float(value.mean()) for value in values], marker=".", label=name)
        low, high = zip(*(bootstrap_interval(value) for value in values), strict=True)
        axis.fill_between(list(by_snr), low, high, alpha=0.15)
    axis.set(xlabel="input SNR, dB", ylabel="PESQ-WB")


def main() -> None:
    """Write enhance.json and enhance.png, or print a table of settings."""
    given = arguments(__doc__ or "", methods=())
    model = load(given.model, posterior=Conditional())
    if given.tune:
        print_settings(model, mixtures(given.data, n=4 if given.quick else 12, tune=True))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    mixed = mixtures(given.data, n=8 if given.quick else 30, tune=False)
    settings = ((1, None), (1, 0.1), (4, None), (4, 0.1), (16, None))
    more = [Sampling(steps=steps, start=start) for steps, start in settings]
    rows, curves = measure(model, mixed, more=[each for each in more if each != ENHANCING])
    noisy = mixed[0].noisy(MIDDLE)
    sounds = {"noisy, 5 dB": noisy, "enhanced": ours(model, ENHANCING)(noisy), "clean": mixed[0].clean}
    picture(
        given.out / "enhance.png",
        {name: sound[RATE : round(2.5 * RATE)] for name, sound in sounds.items()},
        lambda axis: drawn(axis, curves),
        title="Speech enhancement",
    )
    write(
        "enhance",
        given.out,
        title="Speech enhancement",
        columns=[
            "input SNR, dB",
            "noise",
            "method",
            "n",
            *(name for metric in METRICS for name in (metric, f"{metric.split(',')[0]} minus noisy")),
        ],
        rows=rows,
        notes=[
            f"n = {len(mixed)} clips of {SECONDS:g} s, each with one noise at every SNR: librispeech's unseen speakers "
            "and kathleen's test prompts; noise of esc10's fold 5 and white. Means over clips with 95 % bootstrap "
            "intervals, of paired differences as well.",
            "At 8 kHz: the same clips in half the band, and PESQ is that of narrow bands, P.862.1.",
            f"Unheard: {UNHEARD}, a class that no training noise is of. White is one of training's noise colours.",
            "Spectral subtraction and Wiener filter know the noise from the quietest 30 % of the frames in each bin, "
            "as zero-shot does: the same network as ours, given nothing (`audiodiff enhance --posterior denoising`).",
        ],
    )


if __name__ == "__main__":
    main()
