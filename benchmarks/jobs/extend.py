"""Measure bandwidth extension of speech that was cut off at 2 and 4 kHz.

    python -m benchmarks.jobs.extend --data shared/data --out docs/jobs

The low-pass is ideal. The mean high bands of the baselines are those of training recordings. DistillMOS is measured if
the package `distillmos` is installed.
"""

import math
from dataclasses import replace as replaced

import numpy as np
import torch
from torch import Tensor

from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.operators import LowPass
from audiodiff.dsp.level import gain_to
from audiodiff.io.console import progress
from audiodiff.metrics import log_spectral_distance, pesq, snr_db
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Conditional, Problem, Projection, Sampling, draw
from audiodiff.tasks.restoration.extension import EXTENDING, extend
from benchmarks.jobs import plain, speech
from benchmarks.jobs.speech import RATE
from benchmarks.vocoder import listener

CUTOFFS_HZ = (2000, 4000)
DRAWN = {"as drawn, temperature 0": 0.0, "as drawn, temperature 0.5": 0.5, "as drawn, temperature 1": 1.0}
METHODS = (
    "do nothing",
    "shaped noise",
    "folding",
    *DRAWN,
    "zero-shot",
    "ours, temperature 0",
    "ours, temperature 0.5",
    "ours",
)
COLUMNS = ("level, dB", "LSD", "LSD above the cutoff", "PESQ", "DistillMOS", "SNR, dB")
COMPARED = ("LSD", "PESQ", "DistillMOS")
N_FFT = 512
LOUD_SHARE = 0.2


def level_db(estimate: Tensor, truth: Tensor, *, cutoff: float) -> float:
    """Return the level of the band above a cutoff relative to the truth's, in the truth's loudest fifth of frames."""
    window = torch.hann_window(N_FFT)
    powers = [
        torch.stft(audio, N_FFT, N_FFT // 4, window=window, return_complex=True).abs().square()
        for audio in (estimate, truth)
    ]
    whole = powers[1].sum(dim=0)
    loud = whole >= whole.quantile(1.0 - LOUD_SHARE)
    first = math.ceil((cutoff + 100.0) * N_FFT / RATE)
    own, true = (float(power[first:, loud].sum()) for power in powers)
    return 10.0 * math.log10((own + 1e-12) / true)


def as_drawn(model: Synthesizer, narrow: Tensor, *, cutoff: float, sampling: Sampling, seed: int) -> Tensor:
    """Return what the model draws, without the estimate of the level."""
    gain = gain_to(model.conditioner.level, narrow, sample_rate=RATE)
    measured = (gain * narrow)[None, None]
    problem = Problem(measured, torch.ones_like(measured), LowPass(cutoff / RATE))
    return draw(model, problem, sampling=sampling, noise=noise_of(seed, [0], offset=0))[0, 0] / gain


def main() -> None:
    """Write the table and the figure."""
    given = speech.arguments(__doc__ or "", methods=METHODS)
    model = speech.load(given.model, posterior=Conditional())
    sampling = EXTENDING if given.steps is None else replaced(EXTENDING, steps=given.steps)
    variants = {
        "zero-shot": replaced(sampling, posterior=Projection()),
        "ours, temperature 0": replaced(sampling, temperature=0.0),
        "ours, temperature 0.5": replaced(sampling, temperature=0.5),
        "ours": sampling,
    }
    rate = listener()

    def scores(estimate: Tensor, truth: Tensor, *, cutoff: float) -> tuple[float, ...]:
        with torch.no_grad():
            return (
                level_db(estimate, truth, cutoff=cutoff),
                float(log_spectral_distance(estimate, truth)),
                float(log_spectral_distance(estimate, truth, sample_rate=RATE, f_min=cutoff)),
                float(pesq(estimate, truth, sample_rate=RATE)),
                math.nan if rate is None else rate(estimate[None], RATE),
                float(snr_db(estimate, truth)),
            )

    most = 3 if given.quick else 15
    clips = speech.clips(given.data, speech.test_splits(tune=given.tune), seconds=3.0, most=most)
    training = speech.clips(given.data, {"librispeech": "train", "kathleen": "train"}, seconds=6.0, most=30)
    values: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    shown: dict[str, Tensor] = {}
    given.out.mkdir(parents=True, exist_ok=True)
    with progress("extending", total=len(CUTOFFS_HZ) * len(clips)) as bar:
        for cutoff in CUTOFFS_HZ:
            mean = plain.MeanBand([speech.numbers(clip) for _, clip in training], cutoff=cutoff, sample_rate=RATE)
            for number, (_, clip) in enumerate(clips):
                narrow = LowPass(cutoff / RATE)(clip[None, None])[0, 0]
                audio = speech.numbers(narrow)
                results = {"do nothing": narrow}
                if "shaped noise" in given.methods:
                    noise = mean.noise(audio, rng=np.random.default_rng(number))
                    results["shaped noise"] = torch.from_numpy(noise).float()
                if "folding" in given.methods:
                    results["folding"] = torch.from_numpy(mean.folded(audio)).float()
                for name, temperature in DRAWN.items():
                    if name in given.methods:
                        each = replaced(sampling, temperature=temperature)
                        results[name] = as_drawn(model, narrow, cutoff=cutoff, sampling=each, seed=number)
                for name, each in variants.items():
                    if name in given.methods:
                        results[name] = extend(
                            model,
                            narrow[None],
                            sample_rate=RATE,
                            cutoff=cutoff,
                            sampling=each,
                            seed=number,
                        )[0]
                for name, result in results.items():
                    values.setdefault((name, cutoff), []).append(scores(result, clip, cutoff=cutoff))
                if cutoff == 4000 and not shown:
                    shown = {**results, "truth": clip}
                bar.advance()
    rows = []
    for cutoff in CUTOFFS_HZ:
        ours = values.get(("ours", cutoff), [])
        for name in METHODS:
            own = values.get((name, cutoff), [])
            if not own:
                continue
            cells = [speech.cell([value[k] for value in own]) for k in range(len(COLUMNS))]
            versus = ["-"] * len(COMPARED)
            if name != "ours" and ours:
                places = [COLUMNS.index(column) for column in COMPARED]
                versus = [speech.paired([a[k] for a in ours], [b[k] for b in own]) for k in places]
            rows.append([f"{cutoff} Hz", name, str(len(own)), *cells, *versus])
    names = {"do nothing": "cut off", "shaped noise": "shaped noise", "ours": "ours", "truth": "truth"}
    speech.picture(
        given.out / "extend.png",
        {label: shown[name][: 2 * RATE] for name, label in names.items() if name in shown},
        lambda axis: _curve(axis, values),
        title="Cut off at 4 kHz, and the distance above the cutoff",
    )
    speech.write(
        "extend",
        given.out,
        title="Bandwidth extension of speech to 8 kHz",
        columns=[
            "cutoff",
            "method",
            "n",
            *COLUMNS,
            *(f"{column}, ours less this" for column in COMPARED),
        ],
        rows=rows,
        notes=[
            "level: of the band above the cutoff relative to the truth's, in the truth's loudest fifth of frames. "
            "LSD: 0.1 is 1 dB; PESQ is wide band; brackets are 95 % bootstrap intervals. PESQ prefers silence to any "
            "band that is not the lost one, as the rows as drawn show: the lower the temperature, the quieter the "
            "band. The SNR shows the same: doing nothing has the best.",
            f"{sampling.steps} steps, at a temperature of {sampling.temperature:g} where no other is named. as drawn: "
            "without the estimate of the level. zero-shot: the same network, given nothing, by projection.",
        ],
    )


def _curve(axis, values) -> None:
    names = [name for name in METHODS if (name, CUTOFFS_HZ[0]) in values]
    for shift, cutoff in enumerate(CUTOFFS_HZ):
        heights = [
            np.mean([value[COLUMNS.index("LSD above the cutoff")] for value in values[name, cutoff]]) for name in names
        ]
        axis.bar(np.arange(len(names)) + 0.4 * shift, heights, 0.4, label=f"{cutoff} Hz")
    axis.set_xticks(np.arange(len(names)) + 0.2, names, rotation=40, ha="right", fontsize=7)
    axis.set_title("LSD above the cutoff", fontsize=9)


if __name__ == "__main__":
    main()
