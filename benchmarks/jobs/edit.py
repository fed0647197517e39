"""Measure voice and digit translation by strength: what is kept of a recording, and what a classifier recognises.

    python -m benchmarks.jobs.edit --data DATA --out OUT

Test recordings of the Free Spoken Digit Dataset become another speaker's, or another digit's, at strengths from 0 to 1.
A classifier that was trained on real recordings recognises digit and speaker. Without --classifier it is trained first,
in about two minutes.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scipy.fft
import torch
from torch import Tensor

import audiodiff
from audiodiff.data import Entry, scan_folder
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.metrics import bootstrap_interval
from audiodiff.metrics.generative import wilson_interval
from audiodiff.models import classifier
from audiodiff.models.classifier import Classifier
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.editing.edit import check_model, edit

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
N_CEPSTRA = 13
"""Coefficients of the smoothed envelope: the vocal tract's, without the harmonics of the pitch."""


@dataclass(frozen=True)
class Way:
    """A method of editing, with its name in the table and the figure."""

    name: str
    method: str
    steps: int
    guidance: float
    strengths: Sequence[float]


@dataclass(frozen=True)
class Task:
    """Recordings, and what each is to become.

    Args:
        name: of the task.
        changed: the label that changes.
        kept: the label that is to stay, on which the model is not conditioned.
        targets: the new value for each recording.
    """

    name: str
    changed: str
    kept: str
    targets: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """Results of the edits, one number for each recording.

    Args:
        lsd: between the envelopes of the recording and the result, dB.
        changed: 1 where the new value is recognised.
        kept: 1 where the other label is recognised unchanged.
    """

    lsd: Tensor
    changed: Tensor
    kept: Tensor

    @property
    def both(self) -> Tensor:
        """1 where the new value is recognised, and the other label unchanged."""
        return self.changed * self.kept


def value(entry: Entry, label: str) -> str:
    """Return what a recording is."""
    return {"digit": entry.label, "speaker": entry.speaker}[label]


def chosen(data: Path, *, n: int) -> list[Entry]:
    """Return n test recordings, every digit and speaker among them as evenly as it goes."""
    root = data / "fsdd" if (data / "fsdd").is_dir() else data
    entries = [entry for entry in scan_folder(root) if entry.split == "test"]
    random.Random(0).shuffle(entries)
    return entries[:n]


def others(entries: Sequence[Entry], label: str, *, seed: int) -> list[str]:
    """Return another value of a label for each recording."""
    known = sorted({value(entry, label) for entry in entries})
    draw = random.Random(seed)
    return [draw.choice([other for other in known if other != value(entry, label)]) for entry in entries]


def envelope_db(model: Synthesizer, audio: Tensor) -> Tensor:
    """Return the cepstrally smoothed log-mel, (bands, frames), in dB."""
    mel = 20.0 / math.log(10.0) * model.mel(audio[None].clamp(-1.0, 1.0))[0].double()
    cepstrum = scipy.fft.dct(mel.numpy(), axis=0, norm="ortho")
    cepstrum[N_CEPSTRA:] = 0.0
    return torch.from_numpy(scipy.fft.idct(cepstrum, axis=0, norm="ortho"))


def lsd_db(model: Synthesizer, estimate: Tensor, reference: Tensor) -> float:
    """Return the log-spectral distance of two envelopes: RMS over bands, mean over frames."""
    difference = envelope_db(model, estimate) - envelope_db(model, reference)
    return float(difference.square().mean(0).sqrt().mean())


def outcome(
    model: Synthesizer,
    judge: Classifier,
    clips: Sequence[Tensor],
    made: Sequence[Tensor],
    entries: Sequence[Entry],
    task: Task,
) -> Outcome:
    """Compare results with their recordings, and listen to them."""
    recognised = classifier.classify(judge, made).log_probabilities
    names = {
        label: [judge.labels.vocabularies[label][place] for place in log_p.argmax(-1).tolist()]
        for label, log_p in recognised.items()
    }
    return Outcome(
        torch.tensor([lsd_db(model, own, clip) for own, clip in zip(made, clips, strict=True)]),
        torch.tensor([float(name == to) for name, to in zip(names[task.changed], task.targets, strict=True)]),
        torch.tensor(
            [float(name == value(entry, task.kept)) for name, entry in zip(names[task.kept], entries, strict=True)]
        ),
    )


def edited(
    model: Synthesizer, clips: Sequence[Tensor], entries: Sequence[Entry], task: Task, way: Way, *, strength: float
) -> list[Tensor]:
    """Edit each recording; only an inversion is conditioned on the old value, and never on the label that stays."""
    inverts = way.method == "inversion"
    return [
        edit(
            model,
            clip[None],
            sample_rate=model.sample_rate,
            strength=strength,
            labels={task.changed: target},
            source_labels={task.changed: value(entry, task.changed)} if inverts else None,
            algorithm=way.method,
            steps=way.steps,
            guidance=None if way.guidance == 1.0 else way.guidance,
            items=[index],
        )[0]
        for index, (clip, entry, target) in enumerate(zip(clips, entries, task.targets, strict=True))
    ]


def percent(hits: Tensor) -> str:
    """Show a share with its Wilson interval."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return f"{100 * float(hits.mean()):.0f} ({100 * low:.0f} to {100 * high:.0f})"


def mean(values: Tensor, *, scale: float = 1.0, digits: int = 2) -> str:
    """Show a mean with its bootstrap interval."""
    low, high = bootstrap_interval(values)
    return f"{scale * float(values.mean()):.{digits}f} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def figure(path: Path, curves: dict[str, dict[str, dict[float, Outcome]]], *, floors: dict[str, Outcome]) -> None:
    """Plot new and kept labels by strength, a column for each task."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, len(curves), figsize=(5 * len(curves), 6.5), sharex=True, squeeze=False)
    for column, (task, of_task) in enumerate(curves.items()):
        rates, distances = axes[0][column], axes[1][column]
        for colour, (way, outcomes) in zip(("tab:blue", "tab:orange", "tab:green"), of_task.items(), strict=False):
            x = list(outcomes)
            for style, part, what in (("-", "changed", "new label heard"), (":", "kept", "other label kept")):
                y = [100 * float(getattr(each, part).mean()) for each in outcomes.values()]
                rates.plot(x, y, style, color=colour, marker=".", label=f"{way}: {what}")
            low, high = zip(*(bootstrap_interval(each.lsd) for each in outcomes.values()), strict=True)
            distances.plot(
                x, [float(each.lsd.mean()) for each in outcomes.values()], color=colour, marker=".", label=way
            )
            distances.fill_between(x, low, high, color=colour, alpha=0.15)
        distances.axhline(float(floors[task].lsd.mean()), color="grey", ls="--", label="vocoder round trip")
        rates.set(title=task, ylabel="heard, %", ylim=(-3, 103))
        distances.set(xlabel="strength", ylabel="LSD of the envelope, dB")
        for axis in (rates, distances):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=6, framealpha=0.5)
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)


def trained_classifier(data: Path) -> Classifier:
    """Train the classifier of the repository."""
    root = data / "fsdd" if (data / "fsdd").is_dir() else data
    with tempfile.TemporaryDirectory() as run:
        arguments = ["recipes=fsdd/classifier", f"data.root={root.resolve()}", f"hydra.run.dir={run}/classifier"]
        program = Path(sys.executable).with_name("audiodiff")
        subprocess.run([program, "train", *arguments], check=True, stdout=subprocess.DEVNULL)
        return classifier.load(f"{run}/classifier")


def main() -> None:
    """Write edit.json and edit.png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="digits-8k")
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = check_model(audiodiff.load(arguments.model, device="cpu"))
    if arguments.classifier is None:
        judge = trained_classifier(arguments.data)
    else:
        judge = classifier.load(arguments.classifier)
    entries = chosen(arguments.data, n=8 if arguments.quick else 30)
    clips = [audio_io.read(entry.path)[0] for entry in entries]
    strengths = (0.9, 1.0) if arguments.quick else STRENGTHS
    ways = [
        Way("SDEdit", "sdedit", 8, 1.0, strengths),
        Way("SDEdit, guidance 2", "sdedit", 8, 2.0, [s for s in strengths if 0.8 <= s <= 0.9]),
        Way("inversion", "inversion", 6, 1.0, [s for s in strengths if s >= 0.7]),
    ]
    tasks = [
        Task("another speaker", "speaker", "digit", others(entries, "speaker", seed=1)),
        Task("another digit", "digit", "speaker", others(entries, "digit", seed=2)),
    ]
    round_trip = [edit(model, clip[None], sample_rate=model.sample_rate, strength=0.0)[0] for clip in clips]
    rows: list[list[str]] = []
    curves: dict[str, dict[str, dict[float, Outcome]]] = {}
    floors: dict[str, Outcome] = {}

    def row(task: Task, way: str, strength: str, result: Outcome, floor: Outcome) -> list[str]:
        shown = [percent(result.changed), percent(result.kept), percent(result.both)]
        gain = mean(result.both - floor.both, scale=100, digits=0)
        return [task.name, way, strength, *shown, gain, mean(result.lsd)]

    with progress("editing", total=len(tasks) * sum(len(way.strengths) for way in ways)) as bar:
        for task in tasks:
            floor = outcome(model, judge, clips, round_trip, entries, task)
            floors[task.name] = floor
            rows.append(row(task, "nothing done", "", outcome(model, judge, clips, clips, entries, task), floor))
            rows.append(row(task, "vocoder round trip", "0", floor, floor))
            for way in ways:
                for strength in way.strengths:
                    made = edited(model, clips, entries, task, way, strength=strength)
                    result = outcome(model, judge, clips, made, entries, task)
                    curves.setdefault(task.name, {}).setdefault(way.name, {})[strength] = result
                    what = "from noise" if strength == 1.0 and way.method == "sdedit" else way.name
                    rows.append(row(task, what, f"{strength:g}", result, floor))
                    bar.advance()
    figure(arguments.out / "edit.png", curves, floors=floors)
    document = {
        "title": "Editing: voice and digit translation",
        "commands": [
            "python -m benchmarks.jobs.edit --data DATA --out OUT",
            "audiodiff edit seven.wav --label speaker=theo -o theo.wav",
        ],
        "columns": [
            "task",
            "method",
            "strength",
            "new label heard, %",
            "other label kept, %",
            "both, %",
            "both, minus round trip, points",
            "LSD of the envelope, dB",
        ],
        "rows": rows,
        "notes": [
            f"n = {len(entries)} test recordings of FSDD in every row, with 95 % intervals: Wilson's for shares, "
            "paired bootstrap for differences, bootstrap for the LSD. Model digits-8k, trained on the train split.",
            "The model is conditioned on the new value alone: the other label is kept from the recording. An inversion "
            "is also conditioned on the old value.",
            f"LSD of the envelope: cepstrally smoothed log-mels ({N_CEPSTRA} of 64 coefficients) of result and "
            "recording, RMS over bands, mean over frames; level counts.",
            "SDEdit takes 8 steps, an inversion 6 of the midpoint rule up and 6 down.",
            "The classifier is recipes=fsdd/classifier; the row `nothing done` shows its accuracy.",
        ],
        "figures": ["edit.png"],
    }
    (arguments.out / "edit.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
