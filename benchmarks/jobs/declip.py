"""Measure declipping of speech and music by the signal-to-distortion ratio of the clipped recording.

    python -m benchmarks.jobs.declip --data shared/data --out docs/jobs

The clipping limit is set to give this ratio; our method detects the limit. Of music, excerpts from all over each track
are taken at their own rate.
"""

import math
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.io.jobs import find_files
from audiodiff.metrics import pesq, si_sdr_db, snr_db
from audiodiff.tasks.restoration import Conditional
from audiodiff.tasks.restoration.declipping import DECLIPPING, declip
from benchmarks.jobs import plain, speech
from benchmarks.jobs.speech import RATE

LEVELS_DB = (1, 3, 7, 15, 20)
SECONDS = 2.5
METHODS = ("do nothing", "cubic", "ours")
COLUMNS = ("SI-SDR, dB", "PESQ")


def clipped(clip: Tensor, *, sdr_db: float) -> tuple[Tensor, float]:
    """Clip a recording to a signal-to-distortion ratio; return it and the limit."""
    low, high = 0.0, float(clip.abs().max())
    for _ in range(40):
        limit = 0.5 * (low + high)
        if float(snr_db(clip.clamp(-limit, limit), clip)) < sdr_db:
            low = limit
        else:
            high = limit
    return clip.clamp(-high, high), high


def excerpts(folder: Path, *, per_track: int) -> list[tuple[Tensor, int]]:
    """Return excerpts from all over each track, mono, with their rates; silent ones are left out."""
    found = []
    for path in find_files(folder):
        audio, rate = audio_io.read(path)
        mono, n_samples = audio.mean(dim=0), round(SECONDS * rate)
        starts = [round((len(mono) - n_samples) * (place + 0.5) / per_track) for place in range(per_track)]
        found += [(mono[start : start + n_samples].clone(), rate) for start in starts]
    return [each for each in found if float(each[0].std()) > 1e-3]


def main() -> None:
    """Write the table and the figure."""
    given = speech.arguments(__doc__ or "", methods=METHODS)
    model = speech.load(given.model, posterior=Conditional())
    sampling = DECLIPPING if given.steps is None else replaced(DECLIPPING, steps=given.steps)
    most = 3 if given.quick else 15
    clips = speech.clips(given.data, speech.test_splits(tune=given.tune), seconds=SECONDS, most=most)
    sounds = [("speech", clip, RATE) for _, clip in clips]
    sounds += [("music", *each) for each in excerpts(given.data / "music", per_track=1 if given.quick else 5)]
    values: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    shown: dict[str, Tensor] = {}
    given.out.mkdir(parents=True, exist_ok=True)
    with progress("declipping", total=len(LEVELS_DB) * len(sounds)) as bar:
        for level in LEVELS_DB:
            for number, (kind, clip, rate) in enumerate(sounds):
                damaged, limit = clipped(clip, sdr_db=level)
                results = {"do nothing": damaged}
                if "cubic" in given.methods:
                    known = speech.numbers(damaged.abs() < limit)
                    results["cubic"] = torch.from_numpy(plain.cubic(speech.numbers(damaged), known)).float()
                if "ours" in given.methods:
                    made = declip(model, damaged[None], sample_rate=rate, sampling=sampling, seed=number)
                    results["ours"] = made[0]
                for name, result in results.items():
                    quality = float(pesq(result, clip, sample_rate=rate)) if kind == "speech" else math.nan
                    values.setdefault((kind, name, level), []).append((float(si_sdr_db(result, clip)), quality))
                if level == 3 and not shown:
                    shown = {**results, "truth": clip}
                bar.advance()
    rows = []
    for kind in ("speech", "music"):
        for level in LEVELS_DB:
            ours = values.get((kind, "ours", level), [])
            for name in METHODS:
                own = values.get((kind, name, level), [])
                if not own:
                    continue
                cells = [speech.cell([value[k] for value in own]) for k in range(len(COLUMNS))]
                versus = ["-", "-"]
                if name != "ours" and ours:
                    versus = [speech.paired([a[k] for a in ours], [b[k] for b in own]) for k in (0, 1)]
                rows.append([kind, f"{level} dB", name, str(len(own)), *cells, *versus])
    names = {"do nothing": "clipped", "cubic": "cubic", "ours": "ours", "truth": "truth"}
    speech.picture(
        given.out / "declip.png",
        {label: shown[name][:RATE] for name, label in names.items() if name in shown},
        lambda axis: _curve(axis, values),
        title="Clipped to 3 dB, and SI-SDR by the clipping level",
    )
    speech.write(
        "declip",
        given.out,
        title="Declipping of speech and music",
        columns=["recordings", "input SDR", "method", "n", *COLUMNS, "SI-SDR, ours less this", "PESQ, ours less this"],
        rows=rows,
        notes=[
            "Brackets are 95 % bootstrap intervals. Speech at 16 kHz; music at 22.05 kHz, five excerpts of each of "
            "five tracks. cubic: a cubic spline through the samples that are not clipped, of "
            "which what lies beyond the limit is kept; it is given the limit, ours finds it.",
            "ours: within 20 ms of known samples, and so nearly everywhere, the sound beyond the limit whose "
            f"short-time spectra are sparsest; {sampling.steps} steps of the network farther away.",
        ],
    )


def _curve(axis, values) -> None:
    for name in METHODS:
        levels = [level for level in LEVELS_DB if ("speech", name, level) in values]
        means = [np.mean([v[0] for v in values["speech", name, level]]) for level in levels]
        axis.plot(levels, means, "o-", ms=3, label=name)
    axis.set_xlabel("SDR of the input, dB", fontsize=8)
    axis.set_title("SI-SDR of speech, dB", fontsize=9)


if __name__ == "__main__":
    main()
