"""Measure bandwidth extension of speech that was cut off at 2 and 4 kHz.

    python -m benchmarks.jobs.extend --data shared/data --out docs/jobs

The low-pass is ideal. The mean high bands of the baselines are those of training recordings.
"""

from dataclasses import replace as replaced

import numpy as np
import torch
from torch import Tensor

from audiodiff.diffusion.operators import LowPass
from audiodiff.io.console import progress
from audiodiff.metrics import log_spectral_distance, pesq, snr_db
from audiodiff.tasks.restoration import Conditional, Projection
from audiodiff.tasks.restoration.extension import EXTENDING, extend
from benchmarks.jobs import plain, speech
from benchmarks.jobs.speech import RATE

CUTOFFS_HZ = (2000, 4000)
METHODS = ("do nothing", "shaped noise", "folding", "zero-shot", "ours, temperature 1", "ours")
COLUMNS = ("LSD", "LSD above the cutoff", "PESQ", "SNR, dB")


def scores(estimate: Tensor, truth: Tensor, *, cutoff: float) -> tuple[float, ...]:
    """Return the metrics of an extension."""
    return (
        float(log_spectral_distance(estimate, truth)),
        float(log_spectral_distance(estimate, truth, sample_rate=RATE, f_min=cutoff)),
        float(pesq(estimate, truth, sample_rate=RATE)),
        float(snr_db(estimate, truth)),
    )


def main() -> None:
    """Write the table and the figure."""
    given = speech.arguments(__doc__ or "", methods=METHODS)
    model = speech.load(given.model, posterior=Conditional())
    sampling = EXTENDING if given.steps is None else replaced(EXTENDING, steps=given.steps)
    variants = {
        "zero-shot": replaced(sampling, posterior=Projection()),
        "ours, temperature 1": replaced(sampling, temperature=1.0),
        "ours": sampling,
    }
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
            versus = ["-", "-", "-"]
            if name != "ours" and ours:
                versus = [speech.paired([a[k] for a in ours], [b[k] for b in own]) for k in (0, 1, 2)]
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
            "LSD, ours less this",
            "LSD above, ours less this",
            "PESQ, ours less this",
        ],
        rows=rows,
        notes=[
            "LSD: 0.1 is 1 dB; PESQ is wide band; brackets are 95 % bootstrap intervals. The SNR shows that what is "
            "drawn is plausible, and not the one high band that was lost: doing nothing has the best.",
            f"{sampling.steps} steps, at a temperature of {sampling.temperature:g} where no other is named. zero-shot: "
            "the same network, given nothing, by projection.",
        ],
    )


def _curve(axis, values) -> None:
    names = [name for name in METHODS if (name, CUTOFFS_HZ[0]) in values]
    for shift, cutoff in enumerate(CUTOFFS_HZ):
        heights = [np.mean([value[1] for value in values[name, cutoff]]) for name in names]
        axis.bar(np.arange(len(names)) + 0.4 * shift, heights, 0.4, label=f"{cutoff} Hz")
    axis.set_xticks(np.arange(len(names)) + 0.2, names, rotation=40, ha="right", fontsize=7)
    axis.set_title("LSD above the cutoff", fontsize=9)


if __name__ == "__main__":
    main()
