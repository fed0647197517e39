"""Measure gaps in music, filled by inpaint and by plain methods.

    python -m benchmarks.music_repairs FOLDER

FOLDER holds recordings of music; stretches of 3 s from all over each get a gap in their middle. Printed are means with
95 % intervals over the gaps: the level in the gap beside the truth's, its absolute value and the SNR in the gap, in dB,
and the log-spectral distance of the stretch.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import audiodiff
from audiodiff.dsp.autoregression import interpolate_gaps
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files
from audiodiff.metrics import log_spectral_distance, snr_db
from audiodiff.tasks.restoration import inpaint, inpainting
from audiodiff.tasks.restoration.windows import restore
from benchmarks.jobs import plain
from benchmarks.jobs.speech import cell, paired

SECONDS, PER_TRACK, GAPS_SECONDS = 3, 6, (0.05, 0.1, 0.2, 0.4, 0.8)
COLUMNS = ("level", "level, absolute", "SNR", "LSD")


class Draw(inpainting.Inpaint):
    """Fill gaps by the network, whatever the recording."""

    def analyze(self, blocks, *, sample_rate: int) -> inpainting.Inpaint:
        return replace(super().analyze(blocks, sample_rate=sample_rate), is_music=False)


def main() -> None:
    """Print a row for every length and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    model = audiodiff.load("speech-prior-16k")
    stretches = [each for path in find_files(folder) for each in _stretches(path)]
    print(f"| gap | method | n | {' | '.join(COLUMNS)} | LSD, inpaint less this |\n|---|---|---|---|---|---|---|---|")
    for seconds in GAPS_SECONDS:
        values: dict[str, list[tuple[float, ...]]] = {}
        for audio, rate in stretches:
            first = len(audio) // 2
            gap = slice(first, first + round(seconds * rate))
            for name, filled in _fillings(model, audio, gap, rate).items():
                values.setdefault(name, []).append(_scores(filled, audio, gap))
        for name, own in values.items():
            cells = [cell([each[k] for each in own]) for k in range(len(COLUMNS))]
            versus = "-" if name == "inpaint" else paired([a[-1] for a in values["inpaint"]], [a[-1] for a in own])
            print(f"| {1000 * seconds:.0f} ms | {name} | {len(own)} | {' | '.join(cells)} | {versus} |", flush=True)


def _stretches(path: Path) -> list[tuple[Tensor, int]]:
    audio, rate = audio_io.read(path)
    mono, n_samples = audio.mean(dim=0), SECONDS * rate
    starts = [round((len(mono) - n_samples) * (place + 0.5) / PER_TRACK) for place in range(PER_TRACK)]
    found = [mono[start : start + n_samples] for start in starts if start >= 0]
    return [(each, rate) for each in found if float(each[n_samples // 2 :][: rate // 20].std()) > 1e-3]


def _fillings(model, audio: Tensor, gap: slice, rate: int) -> dict[str, Tensor]:
    known = torch.ones_like(audio)
    known[gap] = 0.0
    own, mask, where = audio.double().numpy(), known.double().numpy(), ((gap.start / rate, gap.stop / rate),)
    rng = np.random.default_rng(0)
    return {
        "shaped noise": torch.from_numpy(plain.shaped_noise(own, mask, rng=rng)).to(audio),
        "interpolation": torch.from_numpy(interpolate_gaps(own, mask, sample_rate=rate)).to(audio),
        "network": restore(model, audio, sample_rate=rate, repair=Draw(where), sampling=inpainting.INPAINTING),
        "inpaint": inpaint(model, audio, sample_rate=rate, gaps=where),
    }


def _scores(filled: Tensor, audio: Tensor, gap: slice) -> tuple[float, ...]:
    level = 20.0 * float((filled[gap].norm() / audio[gap].norm()).log10())
    return level, abs(level), float(snr_db(filled[gap], audio[gap])), float(log_spectral_distance(filled, audio))


if __name__ == "__main__":
    main()
