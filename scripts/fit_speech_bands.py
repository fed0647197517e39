"""Fit the mixture of Gaussians over band powers of speech, audiodiff/dsp/speech_bands.npz.

    python scripts/fit_speech_bands.py /path/to/librispeech /path/to/kathleen

Each folder has a manifest.csv; its split train is used, the first 8 s of each recording and at most 240 recordings of a
folder. 80 000 frames are drawn of them.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from audiodiff.dsp import speech_bands
from audiodiff.dsp.level import active_rms
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io

RATE, SECONDS, N_RECORDINGS, N_FRAMES, N_GAUSSIANS = 16000, 8, 240, 80_000, 16
LEAST_VARIANCE = 0.05
"""Added to the variances of the logarithms."""


def bands(path: Path) -> torch.Tensor:
    """Return the log band powers of a recording at the level of the fit, (frames, bands)."""
    audio, rate = audio_io.read(path)
    audio = resample(audio, from_rate=rate, to_rate=RATE)[0, : SECONDS * RATE]
    audio = audio * speech_bands.LEVEL / active_rms(audio, sample_rate=RATE)
    stft = speech_bands.stft(RATE)
    return speech_bands.log_band_power(stft.analyse(audio), bin_hz=RATE / stft.n_fft)


def main() -> None:
    frames = []
    for folder in map(Path, sys.argv[1:]):
        with (folder / "manifest.csv").open(newline="") as file:
            paths = [folder / row["path"] for row in csv.DictReader(file) if row["split"] == "train"]
        frames += [bands(path) for path in paths[:: max(1, len(paths) // N_RECORDINGS)][:N_RECORDINGS]]
    everything = torch.cat(frames)
    chosen = everything[torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))[:N_FRAMES]]
    fit = GaussianMixture(N_GAUSSIANS, reg_covar=LEAST_VARIANCE, random_state=0, max_iter=60).fit(
        chosen.double().numpy()
    )
    names = {"weights": fit.weights_, "means": fit.means_, "covariances": fit.covariances_}
    target = Path(speech_bands.__file__).with_suffix(".npz")
    np.savez_compressed(target, **{name: np.asarray(value, dtype=np.float32) for name, value in names.items()})
    print(f"{target.name}: {N_GAUSSIANS} Gaussians from {len(chosen)} frames, log-likelihood {fit.lower_bound_:.2f}")


if __name__ == "__main__":
    main()
