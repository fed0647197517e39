"""Features of spoken digits by every method, for the benchmarks of features, clusters and maps.

Recordings of the Free Spoken Digit Dataset: takes 5 to 12 of its train split are for fitting, takes 15 to 17 for
choosing noise level, layer and strength of the probe, and the test split, takes 0 to 4, for the results.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import torch

from audiodiff.data import Entry, load_whole
from audiodiff.models import checkpoint, registry
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.features.extract import FeatureLayer, default_layer
from audiodiff.tasks.features.files import features_of_files, list_recordings, load_model
from audiodiff.tasks.features.probe import choose_layer

RATE = 8000
FIT_TAKES, CHOICE_TAKES = range(5, 13), range(15, 18)
DIGITS = "digits-8k"
N_CHOICE = 240
"""Recordings that noise level and layer are chosen on: two thirds to fit on, one to try."""
PLAIN, BASELINE = "MFCC", "MFCC with deltas"
_FRAMES = {"sr": RATE, "n_fft": 256, "hop_length": 80}


@dataclass(frozen=True)
class Set:
    """Recordings of a part: fit, choose or test.

    Args:
        entries: the recordings.
        vectors: their features, by method.
    """

    entries: Sequence[Entry]
    vectors: dict[str, np.ndarray]

    def truth(self, column: str) -> np.ndarray:
        """Return the values of a column."""
        return np.array([entry.value(column) for entry in self.entries])


def arguments(description: str) -> argparse.Namespace:
    """Read the command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and the figure")
    parser.add_argument("--model", default=SPEECH_PRIOR, help="the speech prior")
    parser.add_argument("--quick", action="store_true", help="a fifth of the recordings, for a look")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def parts(root: Path, *, quick: bool) -> dict[str, list[Entry]]:
    """List the recordings of every part; quick takes every fifth take of each."""
    entries = list_recordings([str(root / "fsdd")])
    takes = [int(entry.path.stem.split("_")[2]) for entry in entries]
    wanted = {"fit": FIT_TAKES, "choose": CHOICE_TAKES, "test": range(5)}
    found = {name: [e for e, take in zip(entries, takes, strict=True) if take in of] for name, of in wanted.items()}
    return {name: _fifth(own) if quick else own for name, own in found.items()}


def plain(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """Compute what needs no network: statistics of log-mel spectrograms and of cepstral coefficients."""
    found = {"log-mel": log_mel, PLAIN: mfcc, BASELINE: mfcc_with_deltas}
    return {name: _statistics(entries, frames) for name, frames in found.items()}


def models(prior: str) -> dict[str, Synthesizer]:
    """Return the networks, by the name of their row: trained, and of random weights."""
    found: dict[str, Synthesizer] = {}
    for name, where in (("speech prior", prior), (DIGITS, DIGITS)):
        found[f"{name}, random weights"] = random_weights(where)
        found[name] = load_model(where, device="cpu")
    return found


def random_weights(where: str) -> Synthesizer:
    """Build a model anew: its network as before the first step, its representation as it was fitted."""
    torch.manual_seed(0)
    folder = registry.find(where)
    fresh = checkpoint.build(checkpoint.read_config(folder)["model"], where=folder).eval()
    assert isinstance(fresh, Synthesizer)
    fresh.representation.load_state_dict(load_model(where, device="cpu").representation.state_dict())
    return fresh


def compute(
    model_of: str, found: dict[str, list[Entry]], *, choose_tap: bool
) -> tuple[dict[str, Set], dict[str, FeatureLayer]]:
    """Compute all features of recordings.

    Args:
        model_of: the speech prior.
        found: recordings by part.
        choose_tap: take features of each network where a probe tells digits best, fitted on part fit, tried on part
            choose; otherwise at the default of the package.

    Returns: the parts by name, and where features of each network were taken.
    """
    vectors = {part: plain(entries) for part, entries in found.items()}
    taps: dict[str, FeatureLayer] = {}
    for name, model in models(model_of).items():
        taps[name] = default_layer(model)
        if choose_tap:
            split = [replace(e, split="train") for e in found["fit"]] + [
                replace(e, split="val") for e in found["choose"]
            ]
            choice = choose_layer(model, split, column="label", n=N_CHOICE)
            print(f"{name}\n{choice.table()}", flush=True)
            taps[name] = choice.best
        for part, entries in found.items():
            vectors[part][name] = features_of_files(model, entries, name=name, at=taps[name]).vectors
    return {part: Set(entries, vectors[part]) for part, entries in found.items()}, taps


def log_mel(audio: np.ndarray) -> np.ndarray:
    """Return a log-mel spectrogram of 64 bands."""
    return np.log(librosa.feature.melspectrogram(y=audio, n_mels=64, **_FRAMES) + 1e-6)


def mfcc(audio: np.ndarray) -> np.ndarray:
    """Return 20 mel-frequency cepstral coefficients."""
    return librosa.feature.mfcc(y=audio, n_mfcc=20, n_mels=40, **_FRAMES)


def mfcc_with_deltas(audio: np.ndarray) -> np.ndarray:
    """Return 20 coefficients with their first and second differences over nine frames."""
    own = mfcc(audio)
    differences = [librosa.feature.delta(own, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([own, *differences])


def interval(value: float, low: float, high: float) -> str:
    """Show a value with its interval."""
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def notes(taps: dict[str, FeatureLayer]) -> list[str]:
    """Say what the rows are."""
    places = "; ".join(f"{name}: layer {tap.layer}, sigma {tap.noise_level:g}" for name, tap in taps.items())
    return [
        "All features are means and standard deviations over time. MFCC: librosa, 20 coefficients of 40 bands; deltas: "
        "first and second differences as well. log-mel: 64 bands.",
        f"The speech prior was not trained on this set. {DIGITS} was trained on its train split with labels, so "
        "that none of the six speakers is new to it, whatever the probe is fitted on; the test split is new to both.",
        f"Random weights: the same networks before training. Where features were taken: {places}.",
    ]


def _statistics(entries: Sequence[Entry], frames: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    found = [frames(load_whole(entry, sample_rate=RATE, n_channels=1)[0].numpy()) for entry in entries]
    return np.stack([np.concatenate([own.mean(axis=1), own.std(axis=1)]) for own in found]).astype(np.float32)


def _fifth(entries: Sequence[Entry]) -> list[Entry]:
    """Keep the first of every five takes, but two at least."""
    takes = sorted({int(entry.path.stem.split("_")[2]) for entry in entries})
    kept = takes[: max(2, len(takes) // 5)]
    return [entry for entry in entries if int(entry.path.stem.split("_")[2]) in kept]
