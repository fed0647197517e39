"""Measure declip and inpaint on music, beside plain methods.

    python -m benchmarks.music_repairs FOLDER

FOLDER holds recordings of music; 3 s from the middle of each are clipped in a tenth of their samples, or get two gaps.
The SDR is that of the recording, for gaps that of their samples. draw: the network's, where inpaint takes music as
speech.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import audiodiff
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files
from audiodiff.metrics import snr_db
from audiodiff.tasks.restoration import inpainting
from audiodiff.tasks.restoration.windows import restore
from benchmarks.jobs import plain

SECONDS, CLIPPED_SHARE, GAPS_SECONDS = 3, 0.1, (0.02, 0.05, 0.1, 0.2, 0.4)


class Draw(inpainting.Inpaint):
    """Fill gaps by the network, whatever the recording."""

    def analyze(self, blocks, *, sample_rate: int) -> inpainting.Inpaint:
        return replace(super().analyze(blocks, sample_rate=sample_rate), is_music=False)


def main() -> None:
    """Print a row for every track."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    model = audiodiff.load("speech-prior-16k")
    print("| | clipped | cubic | declip | gaps: draw | gaps: inpaint |\n|---|---|---|---|---|---|")
    for path in find_files(parser.parse_args().folder):
        audio, rate = audio_io.read(path)
        mono = audio.mean(dim=0)[audio.shape[-1] // 3 :][: SECONDS * rate]
        limit = float(mono.abs().quantile(1.0 - CLIPPED_SHARE))
        clipped = mono.clamp(-limit, limit)
        known = (clipped.abs() < limit).double().numpy()
        cubic = torch.from_numpy(plain.cubic(clipped.double().numpy(), known)).float()
        made = audiodiff.declip(model, clipped, sample_rate=rate)
        drawn, filled = ([_filled(each, model, mono, rate, seconds=s) for s in GAPS_SECONDS] for each in (Draw, None))
        cells = [*(float(snr_db(each, mono)) for each in (clipped, cubic, made)), np.mean(drawn), np.mean(filled)]
        print(f"| {path.stem[:24]} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |", flush=True)


def _filled(kind: type[Draw] | None, model, mono: Tensor, rate: int, *, seconds: float) -> float:
    """Return the SDR in two gaps."""
    gaps = ((0.5, 0.5 + seconds), (1.5, 1.5 + seconds))
    repair = (kind or inpainting.Inpaint)(gaps=gaps)
    made = restore(model, mono, sample_rate=rate, repair=repair, sampling=inpainting.INPAINTING)
    lost = [slice(round(start * rate), round(end * rate)) for start, end in gaps]
    own, true = (torch.cat([each[part] for part in lost]) for each in (made, mono))
    return float(snr_db(own, true))


if __name__ == "__main__":
    main()
