"""Measure data augmentation: the accuracy of a classifier of spoken digits that has few recordings of each.

    python -m benchmarks.jobs.augment --data DATA --out OUT

Logistic regression on log-mel statistics is trained on 2, 5 or 10 recordings of each digit, alone or with copies, and
tested on the 300 test recordings of the Free Spoken Digit Dataset, for ten draws of the training recordings. The
strength of a method is chosen on other training recordings, never on the test set.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

import audiodiff
from audiodiff.data import Entry, scan_folder
from audiodiff.dsp.mel import dialect
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.metrics import bootstrap_interval
from audiodiff.tasks.editing.augment import augment
from audiodiff.tasks.editing.edit import check_model

RATE = 8000
SIZES = (2, 5, 10)
N_SEGMENTS = 4
MEL = dialect("hifigan", sample_rate=RATE, n_fft=256, hop_length=80, win_length=200, n_mels=40, f_max=4000.0)
PLAIN_TIMES = 4
"""Copies by the plain method for one by a model."""
STRENGTHS = {"plain": (0.5, 1.0, 2.0), "digits": (0.8, 0.9, 1.0), "prior": (0.1, 0.3, 0.5)}
"""Strengths to choose from; for the plain method, a factor of its settings."""


@dataclass(frozen=True)
class Pool:
    """Recordings and their labels.

    Args:
        clips: (1, time) each, at 8 kHz.
        digits: what is said.
    """

    clips: Sequence[Tensor]
    digits: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """The statistics of each."""
        return np.stack([features(clip) for clip in self.clips])


def features(clip: Tensor) -> np.ndarray:
    """Return means of 40 log-mel bands over four quarters of a recording, their deviation, and the log duration."""
    mel = MEL.mel(F.pad(clip, (0, max(0, 1024 - clip.shape[-1]))).clamp(-1.0, 1.0))[0]
    mel = mel - mel.mean()
    quarters = [part.mean(-1) for part in mel.tensor_split(N_SEGMENTS, dim=-1)]
    return torch.cat([*quarters, mel.std(-1), torch.tensor([clip.shape[-1] / RATE]).log()]).double().numpy()


def plain(clip: Tensor, *, n: int, strength: float, seed: int) -> list[Tensor]:
    """Add white noise at 10 to 30 dB, a gain of up to 6 dB and a shift in time of up to 50 ms; more where stronger."""
    draw = np.random.default_rng(seed)
    copies = []
    for _ in range(n):
        snr_db = draw.uniform(10.0, 30.0) - 20.0 * np.log10(strength)
        gain = 10.0 ** (strength * draw.uniform(-6.0, 6.0) / 20.0)
        shift = round(strength * draw.uniform(-0.05, 0.05) * RATE)
        noise = torch.from_numpy(draw.standard_normal(clip.shape[-1])).float()
        noisy = clip + clip.square().mean().sqrt() * 10.0 ** (-snr_db / 20.0) * noise
        # Samples beyond one end are cut, and silence is added at the other.
        copies.append(gain * F.pad(noisy, (shift, -shift)))
    return copies


def recordings(data: Path, split: str) -> list[Entry]:
    """Return the recordings of a split, shuffled."""
    root = data / "fsdd" if (data / "fsdd").is_dir() else data
    entries = [entry for entry in scan_folder(root) if entry.split == split]
    random.Random(0).shuffle(entries)
    return entries


def pool(entries: Sequence[Entry], *, per_digit: int, skip: int = 0) -> Pool:
    """Return so many recordings of each digit, after so many others."""
    chosen = [
        entry
        for digit in "0123456789"
        for entry in [each for each in entries if each.label == digit][skip : skip + per_digit]
    ]
    return Pool([audio_io.read(entry.path)[0] for entry in chosen], np.array([entry.label for entry in chosen]))


Copies = Callable[[Pool, int, float], list[np.ndarray]]
"""(recordings, copies of each, strength) -> features of the copies of each recording."""


def copies_of(model_name: str, *, labelled: bool, steps: int, within: Callable[[], None]) -> Copies:
    """Return the function that makes copies with a model, conditioned on the digit or unconditional."""
    model = check_model(audiodiff.load(model_name, device="cpu"))

    def make(source: Pool, n: int, strength: float) -> list[np.ndarray]:
        made = []
        for index, (clip, digit) in enumerate(zip(source.clips, source.digits, strict=True)):
            copies = augment(
                model,
                clip[None],
                sample_rate=RATE,
                n=n,
                strength=strength,
                labels={"digit": str(digit)} if labelled else None,
                steps=steps,
                items=[index],
            )[0]
            made.append(np.stack([features(copy) for copy in copies]))
            within()
        return made

    return make


def plain_copies(source: Pool, n: int, strength: float) -> list[np.ndarray]:
    """Make copies by the plain method."""
    return [
        np.stack([features(copy) for copy in plain(clip, n=n, strength=strength, seed=index)])
        for index, clip in enumerate(source.clips)
    ]


def accuracy(train: np.ndarray, train_digits: np.ndarray, test: np.ndarray, test_digits: np.ndarray) -> float:
    """Return the share of test recordings that are recognised, in per cent."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return 100.0 * float(classifier.fit(train, train_digits).score(test, test_digits))


def accuracies(
    source: Pool,
    own: np.ndarray,
    copies: Sequence[Sequence[np.ndarray]],
    test: Pool,
    tested: np.ndarray,
    *,
    size: int,
    seeds: int,
) -> Tensor:
    """Return the accuracy of each draw of the training recordings, with all copies of those that were drawn."""
    results = []
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        places = np.concatenate(
            [draw.permutation(np.flatnonzero(source.digits == digit))[:size] for digit in sorted(set(source.digits))]
        )
        parts = [own[places]] + [method[place] for method in copies for place in places]
        digits = [source.digits[places]] + [
            np.repeat(source.digits[place], len(method[place])) for method in copies for place in places
        ]
        results.append(accuracy(np.concatenate(parts), np.concatenate(digits), tested, test.digits))
    return torch.tensor(results)


def interval(values: Tensor) -> str:
    """Show a mean with its bootstrap interval."""
    low, high = bootstrap_interval(values)
    return f"{float(values.mean()):.1f} ({low:.1f} to {high:.1f})"


def figure(path: Path, results: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Draw accuracy over the number of recordings."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(6, 4))
    width = 0.8 / len(results)
    for number, (name, of_sizes) in enumerate(results.items()):
        x = np.arange(len(of_sizes)) + (number - (len(results) - 1) / 2) * width
        means = [float(values.mean()) for values in of_sizes.values()]
        ends = np.array([bootstrap_interval(values) for values in of_sizes.values()]).T
        axis.bar(x, means, width, yerr=np.abs(ends - means), label=name, capsize=2)
    axis.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
    axis.set(xlabel="recordings of each digit", ylabel="accuracy on test, %", ylim=(30, 100))
    axis.legend(fontsize=7, loc="upper left")
    axis.grid(axis="y", alpha=0.3)
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)


def main() -> None:
    """Write augment.json and augment.png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech-prior-16k", help="the model that was not trained on digits")
    parser.add_argument("--digits", default="digits-8k")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    n_copies, per_digit, held, seeds, steps = (1, 10, 2, 3, 4) if arguments.quick else (3, 20, 5, 10, 6)
    train = recordings(arguments.data, "train")
    source = pool(train, per_digit=per_digit)
    tuning = pool(train, per_digit=held, skip=per_digit)
    judged = pool(train, per_digit=20, skip=per_digit + held)
    test_entries = recordings(arguments.data, "test")
    test = pool(test_entries, per_digit=30)
    own, tested, judged_features, tuning_features = (each.features for each in (source, test, judged, tuning))
    n_edits = 2 * (len(tuning.clips) * 3 + len(source.clips))
    with progress("copying", total=n_edits) as bar:
        makers: dict[str, Copies] = {
            "plain": plain_copies,
            "digits": copies_of(arguments.digits, labelled=True, steps=steps, within=bar.advance),
            "prior": copies_of(arguments.model, labelled=False, steps=steps, within=bar.advance),
        }
        copies: dict[str, list[np.ndarray]] = {}
        best: dict[str, float] = {}
        for name, make in makers.items():
            n = PLAIN_TIMES * n_copies if name == "plain" else n_copies
            scores = {}
            for strength in STRENGTHS[name]:
                tried = make(tuning, n, strength)
                # Half of the held-out recordings at a time, so that the choice does not rest on one fit.
                scores[strength] = float(
                    accuracies(
                        tuning, tuning_features, [tried], judged, judged_features, size=max(1, held // 2), seeds=5
                    ).mean()
                )
            best[name] = max(scores, key=lambda strength: scores[strength])
            copies[name] = make(source, n, best[name])
    rows_of: dict[str, list[str]] = {
        "none": [],
        "noise, gain, shift": ["plain"],
        "speech prior": ["prior"],
        "noise, gain, shift and speech prior": ["plain", "prior"],
        "digits-8k": ["digits"],
        "noise, gain, shift and digits-8k": ["plain", "digits"],
    }
    results: dict[str, dict[int, Tensor]] = {}
    rows: list[list[str]] = []
    for name, parts in rows_of.items():
        for size in SIZES:
            values = accuracies(source, own, [copies[part] for part in parts], test, tested, size=size, seeds=seeds)
            results.setdefault(name, {})[size] = values
            compared = [
                results[base][size] for base in ("none", "noise, gain, shift") if base in results and base != name
            ]
            differences = [interval(values - base) for base in compared]
            rows.append([name, str(size), interval(values), *differences, *[""] * (2 - len(differences))])
    figure(arguments.out / "augment.png", results)
    document = {
        "title": "Data augmentation: a digit classifier from few recordings",
        "commands": [
            "python -m benchmarks.jobs.augment --data DATA --out OUT",
            f"audiodiff augment digits/ -n {n_copies} --strength {best['prior']} -o more",
        ],
        "columns": [
            "copies by",
            "recordings of each digit",
            "accuracy on test, %",
            "minus none, points",
            "minus noise, gain, shift, points",
        ],
        "rows": rows,
        "notes": [
            f"n = {len(test.clips)} test recordings of FSDD, {seeds} draws of the training recordings out of "
            f"{per_digit} of each digit; 95 % bootstrap intervals over the draws, paired for differences.",
            f"{n_copies} copies of each recording by a model, {PLAIN_TIMES * n_copies} by the plain method, which cost "
            "nothing, besides the recording. Logistic regression on means of 40 log-mel bands over quarters of a "
            "recording, their deviation, and the duration.",
            "digits-8k was trained on all 2700 training recordings: its rows show what a model of the domain passes "
            "on, not what can be had of the few recordings alone. The speech prior was trained on read speech and has "
            "was not trained on this set.",
            "Strengths, chosen on other training recordings: "
            + ", ".join(f"{name} {best[name]:g}" for name in ("plain", "digits", "prior"))
            + " (of the plain method, a factor on its own settings).",
        ],
        "figures": ["augment.png"],
    }
    (arguments.out / "augment.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
