"""Measure the statistics by which `audiodiff mel --check` judges arrays, and how often it recognises others.

    python benchmarks/mel_levels.py speech=FOLDER music=FOLDER drums=FOLDER other=FOLDER --fit       # prints a table
    python benchmarks/mel_levels.py speech=FOLDER music=FOLDER drums=FOLDER other=FOLDER             # recognition

A kind may be given several times. Every second file, in the order of the names, is left out of --fit and is what is
recognised. Each recording is taken as it is, and quieter, rounded to 16 bits or band-limited.
"""

import argparse
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiodiff.dsp.dialect_text import format_dialect, log_of
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.dsp.mel_likelihood import TOP_BANDS, scale_of
from audiodiff.dsp.mel_recognition import EXCLUDED, IMPROBABLE, Reading, recognize
from audiodiff.dsp.mel_statistics import statistics
from audiodiff.dsp.resample import resample
from audiodiff.io.audio import read
from audiodiff.io.jobs import find_files

SECONDS, PER_FOLDER = 5.0, 200
FORMS = (
    "hifigan", "hifigan", "tacotron2", "fastdiff", "diffwave", "vocos", "wavegrad", "hifigan:n_mels=64",
    "hifigan:sample_rate=16000,hop_length=200", "hifigan:sample_rate=16000,hop_length=256", "vocos:sample_rate=16000",
    "hifigan:sample_rate=16000,hop_length=160,n_fft=512,win_length=400",
    "hifigan:sample_rate=44100,n_fft=2048,hop_length=512,n_mels=128,f_max=16000",
)  # fmt: skip
DIALECTS = ("hifigan", "fastdiff", "hifigan:log=10", "diffwave", "vocos", "rfwave", "wavegrad")
COLUMNS = ("ln", "log10", "dB", "none", "power", "power log10", "power ln", "normalised", "diffwave", "other")
OF_TABLE = {"speech": "speech", "music": "music", "drums": "other", "other": "other", "generated": "generated"}


@dataclass(frozen=True)
class Excerpt:
    """An excerpt of a recording: mono samples, their rate, and the kind of sound."""

    kind: str
    audio: Tensor
    rate: int


def excerpts(folder: str, *, held_out: bool, at_most: int) -> Iterator[Excerpt]:
    """Yield about as many excerpts of every second recording of a folder, evenly spread."""
    kind, _, path = folder.partition("=")
    files = [path for path in find_files(Path(path)) if path.suffix == ".flac"][int(held_out) :: 2]
    per_file = max(1, at_most // len(files))
    for path in files[:: max(1, len(files) // at_most)]:
        audio, rate = read(path)
        parts = audio.mean(dim=0).split(round(SECONDS * rate))
        for part in parts[:: max(1, len(parts) // per_file)][:per_file]:
            if len(part) > 0.2 * rate:
                yield Excerpt(kind, part, rate)


def varied(audio: Tensor, rate: int, draw: random.Random) -> Tensor:
    """Return a sound quieter, band-limited and rounded to 16 bits, each by chance."""
    audio = audio * 10 ** (draw.choice([0, 0, 0, -6, -12, -20, -30, -40]) / 20)
    cutoff = draw.choice([None, None, None, 3400, 4000, 5500, 7000])
    if cutoff is not None:
        spectrum = torch.fft.rfft(audio)
        spectrum[torch.fft.rfftfreq(len(audio), 1 / rate) > cutoff] = 0
        audio = torch.fft.irfft(spectrum, n=len(audio))
    return (audio * 32768).round() / 32768 if draw.random() < 0.7 else audio


def blurred(mel: Tensor, draw: random.Random) -> Tensor:
    """Return a mel as smooth as those of acoustic models: blurred by a Gaussian in time and across bands."""
    kernel = torch.exp(-0.5 * (torch.arange(-4, 5) / draw.uniform(0.5, 1.5)) ** 2)
    kernel = (kernel / kernel.sum()).to(mel)
    padded = torch.nn.functional.pad(mel[None, None], (4, 4, 4, 4), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel.outer(kernel)[None, None])[0, 0]


def fit(folders: list[str]) -> None:
    """Print the table of `dsp/mel_levels.py`."""
    draw = random.Random(0)
    rows: dict[str, list[Tensor]] = defaultdict(list)
    tilts: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for excerpt in (each for folder in folders for each in excerpts(folder, held_out=False, at_most=PER_FOLDER)):
        for form in ("hifigan", "fastdiff", draw.choice(FORMS)):
            own = dialect(form, log="db")
            audio = resample(excerpt.audio, from_rate=excerpt.rate, to_rate=own.sample_rate)
            mel = own.mel(varied(audio, own.sample_rate, draw))
            kinds = [(OF_TABLE[excerpt.kind], mel)]
            if excerpt.kind == "speech":
                kinds.append(("generated", blurred(mel, draw)))
            scale = scale_of(own)
            for kind, values in kinds:
                found = statistics(values)
                if found is None:
                    continue
                top = (found.band_tops + scale.offset).quantile(TOP_BANDS)
                rows[kind].append(torch.cat([found.shape, top[None]]))
                means = found.band_means + scale.offset
                if form in ("hifigan", "fastdiff"):
                    tilts[kind, form == "fastdiff"].append(float(means[:2].mean() - means[4:8].mean()))
    for kind, found in rows.items():
        table = torch.stack(found)
        print(f'    # {len(found)} mels\n    Kind(\n        "{kind}",\n        weight=0.25,')
        print(f"        mean=({', '.join(f'{value:.2f}' for value in table.mean(dim=0))}),\n        covariance=(")
        for i, row in enumerate(table.T.cov().tolist()):
            print(f"            ({', '.join(f'{value:.3f}' for value in row[: i + 1])}{',' if i == 0 else ''}),")
        print("        ),")
        for name, starts_higher in (("tilt", False), ("tilt_80", True)):
            values = torch.tensor(tilts[kind, starts_higher])
            print(f"        {name}=({values.mean():.1f}, {values.std():.1f}),")
        print("    ),")


def scales(excerpt: Excerpt, own: MelDialect) -> dict[str, Tensor]:
    """Return mels of an excerpt with the filters of a dialect, on the scales that are in use."""
    audio = resample(excerpt.audio, from_rate=excerpt.rate, to_rate=own.sample_rate)
    amplitude = own.amplitude_bands(audio).clamp(min=own.amplitude_min)
    power = own.filters().float() @ own.stft.forward(audio).abs().square()
    log = amplitude.log()
    power_db = 10 * power.clamp(min=1e-10).log10()
    return {
        "ln": log,
        "log10": amplitude.log10(),
        "dB": 20 * amplitude.log10(),
        "none": amplitude,
        "power": power,
        "power log10": power.clamp(min=1e-10).log10(),
        "power dB to 0": (power_db - power_db.max()).clamp(min=-80),
        "mean and std": (log - log.mean()) / log.std(),
        "0 to 1": (log - log.min()) / (log.max() - log.min()),
        "-4 to 4": (8 * (20 * amplitude.log10() + 100) / 100 - 4).clamp(-4, 4),
    }


def named(reading: Reading) -> str:
    """Return the scale of a reading in the words of `scales`."""
    if reading.dialects:
        log = log_of(reading.dialects[0])
        if reading.dialects[0].power == 2:
            return {"e": "power ln", "10": "power log10", "db": "dB", "none": "power", None: "other"}[log]
        return {"e": "ln", "10": "log10", "db": "dB", "none": "none", None: "diffwave"}[log]
    words = reading.description
    return "normalised" if "normalised" in words else "other"


def evaluate(folder: str, *, at_most: int, only: list[str]) -> None:
    """Print how often each scale and dialect is recognised in recordings of one kind, in percent.

    Args:
        folder: and the kind.
        at_most: excerpts.
        only: scales of hifigan's filters to look at, and no dialects; all where it is empty.
    """
    truths = {"power dB to 0": "dB", "mean and std": "normalised", "0 to 1": "normalised", "-4 to 4": "normalised"}
    scale_counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    dialect_counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    least, most = defaultdict[tuple[str, str], float](lambda: 1.0), defaultdict[tuple[str, str], float](float)
    draw, hifigan = random.Random(1), dialect("hifigan")
    for excerpt in excerpts(folder, held_out=True, at_most=at_most):
        changed = varied(excerpt.audio, excerpt.rate, draw)
        for form, audio in (("as it is", excerpt.audio), ("varied", changed)):
            arrays = scales(Excerpt(excerpt.kind, audio, excerpt.rate), hifigan)
            if excerpt.kind == "speech":
                log = blurred(arrays["ln"], draw)
                arrays |= {"blurred ln": log, "blurred log10": log / math.log(10)}
            for scale, mel in arrays.items():
                if only and scale not in only:
                    continue
                found = recognize(mel)
                truth = truths.get(scale, scale.removeprefix("blurred "))
                alike = {named(reading) for reading, _ in found.alike}
                row = scale_counts[form, scale]
                row[named(found.readings[0][0])] += 1
                row["listed"] += truth in alike
                row["silent"] += truth not in alike and len(alike) == 1
                probability = 0.0 if hifigan.objection(mel) else found.probability(hifigan)
                row["doubted"] += probability < IMPROBABLE
                row["refused"] += probability < EXCLUDED
                most[form, scale] = max(most[form, scale], probability)
                least[form, scale] = min(least[form, scale], probability)
            for name in () if only else DIALECTS:
                own = dialect(name)
                found = recognize(own.mel(resample(audio, from_rate=excerpt.rate, to_rate=own.sample_rate)))
                alike = [{format_dialect(each) for each in reading.dialects} for reading, _ in found.alike]
                row = dialect_counts[form, name]
                row["first" if name in alike[0] else "listed" if name in set().union(*alike) else "wrong"] += 1
                row["doubted"] += found.probability(own) < IMPROBABLE
    n = sum(next(iter(scale_counts.values()))[column] for column in COLUMNS)
    print(f"\n{folder.partition('=')[0]}, {n} excerpts")
    columns = (*COLUMNS, "listed", "silent", "doubted", "refused")
    ends = ("least probability of hifigan", "greatest")
    print(f"\n| | true scale | {' | '.join((*columns, *ends))} |\n|---|---{'|---' * (len(columns) + 2)}|")
    for key, row in scale_counts.items():
        cells = [*key, *(f"{100 * row[column] / n:.0f}" for column in columns), f"{least[key]:.1g}", f"{most[key]:.1g}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    if only:
        return
    columns = ("first", "listed", "wrong", "doubted")
    print(f"\n| | true dialect | {' | '.join(columns)} |\n|---|---{'|---' * len(columns)}|")
    for (form, name), row in dialect_counts.items():
        print(f"| {form} | {name} | {' | '.join(f'{100 * row[column] / n:.0f}' for column in columns)} |", flush=True)


def main() -> None:
    """Fit, or evaluate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", metavar="KIND=FOLDER")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--at-most", type=int, default=PER_FOLDER, help="excerpts of a folder that are recognised")
    parser.add_argument("--scales", nargs="+", default=[], metavar="SCALE", help="scales alone, as ln none log10")
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.folders)
    else:
        for folder in arguments.folders:
            evaluate(folder, at_most=arguments.at_most, only=arguments.scales)


if __name__ == "__main__":
    main()
