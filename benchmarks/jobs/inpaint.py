"""Measure inpainting of gaps of 20 to 300 ms in speech.

    python -m benchmarks.jobs.inpaint --data shared/data --out docs/jobs

Each recording has gaps 1.2 s apart, in speech and not in pauses, of all lengths in turn. Every gap is evaluated with
half a second around it.
"""

from dataclasses import dataclass
from dataclasses import replace as replaced

import numpy as np
import torch
from torch import Tensor

from audiodiff.dsp.level import active_rms
from audiodiff.io.console import progress
from audiodiff.metrics import log_spectral_distance, pesq, snr_db
from audiodiff.tasks.restoration import Conditional, Projection
from audiodiff.tasks.restoration.inpainting import INPAINTING, inpaint
from benchmarks.jobs import plain, speech
from benchmarks.jobs.speech import RATE

LENGTHS_MS = (20, 50, 100, 200, 300)
AROUND = RATE // 2
APART = round(1.2 * RATE)
METHODS = ("do nothing", "shaped noise", "Janssen", "zero-shot", "ours")
COLUMNS = ("LSD", "PESQ", "SNR in the gap, dB", "step at the seams")


@dataclass(frozen=True)
class Gap:
    """A gap in a recording, in samples, and its nominal length."""

    first: int
    last: int
    length_ms: int


def gaps_of(clip: Tensor, *, turn: int) -> list[Gap]:
    """Place gaps where there is speech: within 20 dB of its level."""
    loud = float(active_rms(clip, sample_rate=RATE))
    gaps: list[Gap] = []
    place = AROUND
    while True:
        length_ms = LENGTHS_MS[(turn + len(gaps)) % len(LENGTHS_MS)]
        n_samples = length_ms * RATE // 1000
        if place + n_samples + AROUND > len(clip):
            return gaps
        if float(clip[place : place + n_samples].square().mean().sqrt()) < 0.1 * loud:
            place += RATE // 50
            continue
        gaps.append(Gap(place, place + n_samples, length_ms))
        place += n_samples + APART


def scores(estimate: Tensor, truth: Tensor, gap: Gap) -> tuple[float, ...]:
    """Return LSD and PESQ in context, SNR in the gap, and the mean step at its seams over the RMS step around."""
    around = slice(gap.first - AROUND, gap.last + AROUND)
    inside = slice(gap.first, gap.last)
    steps = (truth[1:] - truth[:-1])[gap.first - RATE // 50 : gap.last + RATE // 50].square().mean().sqrt()
    seam = sum(float((estimate[k] - estimate[k - 1]).abs()) for k in (gap.first, gap.last)) / 2.0
    return (
        float(log_spectral_distance(estimate[around], truth[around])),
        float(pesq(estimate[around], truth[around], sample_rate=RATE)),
        float(snr_db(estimate[inside], truth[inside])),
        seam / max(float(steps), 1e-9),
    )


def main() -> None:
    """Write the table and the figure."""
    given = speech.arguments(__doc__ or "", methods=METHODS)
    model = speech.load(given.model, posterior=Conditional())
    sampling = INPAINTING if given.steps is None else replaced(INPAINTING, steps=given.steps)
    splits = speech.test_splits(tune=given.tune)
    most = 3 if given.quick else 15
    clips = speech.clips(given.data, {"librispeech": splits["librispeech"]}, seconds=6.0, most=most)
    clips += speech.clips(given.data, {"kathleen": splits["kathleen"]}, seconds=6.0, most=2 * most)
    values: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    shown: tuple[Gap, dict[str, Tensor]] | None = None
    turn = 0
    given.out.mkdir(parents=True, exist_ok=True)
    with progress("inpainting", total=len(clips)) as bar:
        for number, (_, clip) in enumerate(clips):
            gaps = gaps_of(clip, turn=turn)
            turn += len(gaps)
            known = torch.ones_like(clip)
            for gap in gaps:
                known[gap.first : gap.last] = 0.0
            audio, mask = speech.numbers(clip), speech.numbers(known)
            results = {"truth": clip, "do nothing": clip * known}
            if "shaped noise" in given.methods:
                rng = np.random.default_rng(number)
                results["shaped noise"] = torch.from_numpy(plain.shaped_noise(audio, mask, rng=rng)).float()
            if "Janssen" in given.methods:
                results["Janssen"] = torch.from_numpy(plain.janssen(audio, mask)).float()
            for name, posterior in (("zero-shot", Projection()), ("ours", Conditional())):
                if name in given.methods and gaps:
                    results[name] = inpaint(
                        model,
                        (clip * known)[None],
                        sample_rate=RATE,
                        mask=known,
                        sampling=replaced(sampling, posterior=posterior),
                        seed=number,
                    )[0]
            for gap in gaps:
                for name, result in results.items():
                    values.setdefault((name, gap.length_ms), []).append(scores(result, clip, gap))
                if shown is None and gap.length_ms == 200:
                    cut = slice(gap.first - 6400, gap.last + 6400)
                    shown = gap, {name: result[cut] for name, result in results.items()}
            bar.advance()
    rows = []
    for length in LENGTHS_MS:
        ours = values.get(("ours", length), [])
        for name in ("truth", *METHODS):
            own = values.get((name, length), [])
            if not own:
                continue
            cells = [speech.cell([value[k] for value in own]) for k in range(len(COLUMNS))]
            cells[2] = "-" if name in ("truth", "do nothing") else cells[2]
            versus = ["-", "-"]
            if name not in ("truth", "ours") and ours:
                versus = [speech.paired([a[k] for a in ours], [b[k] for b in own]) for k in (0, 1)]
            rows.append([f"{length} ms", name, str(len(own)), *cells, *versus])
    if shown is not None:
        names = {"do nothing": "gap", "Janssen": "Janssen", "ours": "ours", "truth": "truth"}
        seconds = 6400 / RATE
        speech.picture(
            given.out / "inpaint.png",
            {label: shown[1][name] for name, label in names.items() if name in shown[1]},
            lambda axis: _curve(axis, values),
            title="A gap of 200 ms, and the distance by the length of gaps",
            marks=[(seconds, seconds + 0.2)],
        )
    speech.write(
        "inpaint",
        given.out,
        title="Inpainting: gaps in speech at 16 kHz",
        columns=["gap", "method", "n", *COLUMNS, "LSD, ours less this", "PESQ, ours less this"],
        rows=rows,
        notes=[
            "LSD (0.1 is 1 dB) and PESQ-WB over the gap and half a second on either side; brackets are 95 % bootstrap "
            "intervals. The step at the seams is relative to the RMS difference of neighbouring samples around.",
            f"{sampling.steps} steps. zero-shot: the same network, given nothing, by projection. Both follow the "
            "autoregressive interpolation, which Janssen is, within 60 ms of the edges, ever less.",
        ],
    )


def _curve(axis, values) -> None:
    for name in METHODS:
        places = [length for length in LENGTHS_MS if (name, length) in values]
        axis.plot(places, [np.mean([v[0] for v in values[name, length]]) for length in places], "o-", ms=3, label=name)
    axis.set_xlabel("gap, ms", fontsize=8)
    axis.set_title("LSD in context", fontsize=9)


if __name__ == "__main__":
    main()
