"""Measure what stays of a stereo image: correlation, and the levels of left, right, mid and side.

    python benchmarks/stereo.py FOLDER [--seconds 3] [--jobs mel-inversion enhance ...]

FOLDER holds recordings; three of them are panned, delayed and mixed to stereo. Below 8 kHz, the greatest change over
the mixes is printed as a Markdown table. For enhance, edit and augment, which change the level, the mean change of the
four levels is subtracted.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import audiodiff
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files, plan_jobs
from audiodiff.io.readers import open_inputs
from audiodiff.models.vocoder import Vocoder
from audiodiff.tasks.editing.augment import augment
from audiodiff.tasks.editing.edit import edit
from audiodiff.tasks.generation.files import GenerationSettings, generate_from_inputs
from audiodiff.tasks.restoration import declip, enhance, extend, inpaint

RATE, BELOW_HZ = 22050, 8000.0
Job = Callable[[Tensor], Tensor]


def mixes(folder: Path, *, seconds: float) -> dict[str, Tensor]:
    """Return stereo mixes of three recordings, (2, time) each."""
    a, b, c = (_excerpt(path, seconds=seconds) for path in find_files(folder)[:3])
    return {
        "panned": torch.stack([0.8 * a, 0.4 * a]),
        "delayed by 7 samples": torch.stack([b, 0.8 * b.roll(7)]),
        "two panned": torch.stack([0.9 * b + 0.4 * c, 0.3 * b + 0.9 * c]),
        "wide": torch.stack([b + 0.3 * c, b - 0.3 * c]),
        "three, delayed": torch.stack([b + 0.5 * c + 0.2 * a.roll(11), b + 0.2 * c.roll(9) + 0.6 * a]),
        "apart": torch.stack([a, c]),
        "out of phase": torch.stack([a + 0.1 * b, 0.1 * b - a]),
    }


def _excerpt(path: Path, *, seconds: float) -> Tensor:
    audio, rate = audio_io.read(path)
    mono = resample(audio.mean(dim=0), from_rate=rate, to_rate=RATE)
    middle = mono[len(mono) // 3 :][: round(seconds * RATE) // 256 * 256]
    return 0.1 * middle / middle.square().mean().sqrt()


def by_command(model: Vocoder) -> Job:
    """Return what generate-wav makes of a recording."""

    def job(audio: Tensor) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.wav"), Path(folder, "out.wav")
            audio_io.write(source, audio, sample_rate=RATE, subtype="FLOAT")
            jobs = plan_jobs([str(source)], out=target, force=False, new_suffix=None)
            generate_from_inputs(model, jobs, open_inputs([source]), GenerationSettings(subtype="FLOAT"))
            return audio_io.read(target)[0]

    return job


def one_by_one(model: Any) -> Job:
    """Return what a model makes of the channels, each by itself."""
    return lambda audio: model.generate(model.mel(audio[:, None]), n_samples=audio.shape[-1])[:, 0]


def jobs() -> dict[str, Job]:
    """Return the jobs by name; those that repair get a damaged recording."""
    prior = audiodiff.load("speech-prior-16k")
    inversion, vocoder = audiodiff.load("mel-inversion"), audiodiff.load("speech-22k")
    gaps = [(0.5, 0.6), (1.5, 1.7)]

    def enhanced(audio: Tensor) -> Tensor:
        noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
        return enhance(prior, audio + 0.018 * noise, sample_rate=RATE)

    def extended(audio: Tensor) -> Tensor:
        return extend(prior, _below(audio, 4000.0), sample_rate=RATE, cutoff=4000.0)

    def inpainted(audio: Tensor) -> Tensor:
        return inpaint(prior, audio, sample_rate=RATE, gaps=gaps)

    def declipped(audio: Tensor) -> Tensor:
        return declip(prior, audio.clamp(-0.2, 0.2), sample_rate=RATE, threshold=0.2)

    def each(audio: Tensor) -> Tensor:
        return torch.cat([edit(prior, own[None], sample_rate=RATE) for own in audio])

    return {
        "mel-inversion, channel by channel": one_by_one(inversion),
        "speech-22k, channel by channel": one_by_one(vocoder),
        "mel-inversion": by_command(inversion),
        "speech-22k": by_command(vocoder),
        "griffin-lim": by_command(audiodiff.load("griffin-lim")),
        "enhance": enhanced,
        "extend": extended,
        "inpaint": inpainted,
        "declip": declipped,
        "edit, channel by channel": each,
        "edit": lambda audio: edit(prior, audio, sample_rate=RATE),
        "augment": lambda audio: augment(prior, audio, sample_rate=RATE, n=1)[0],
    }


def _below(audio: Tensor, frequency: float) -> Tensor:
    spectrum = torch.fft.rfft(audio.double())
    spectrum[..., round(frequency * audio.shape[-1] / RATE) :] = 0
    return torch.fft.irfft(spectrum, n=audio.shape[-1]).to(audio)


def image(audio: Tensor) -> tuple[float, Tensor]:
    """Return the correlation of two channels, and the levels of left, right, mid and side in dB."""
    left, right = _below(audio.double(), BELOW_HZ)
    norms = torch.stack([each.norm() for each in (left, right, (left + right) / 2, (left - right) / 2)])
    return float((left * right).sum() / (norms[0] * norms[1])), 20 * norms.clamp(min=1e-9).log10()


def main() -> None:
    """Print a row for every job."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--jobs", nargs="+")
    parser.add_argument("--each", action="store_true", help="print every mix")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| | correlation | left, right, dB | mid, side, dB |\n|---|---|---|---|")
    for name, job in jobs().items():
        if arguments.jobs and name not in arguments.jobs:
            continue
        rows = []
        for kind, audio in mixes(arguments.folder, seconds=arguments.seconds).items():
            (before, levels), (after, own) = image(audio), image(job(audio))
            change = own - levels
            if name.startswith(("enhance", "edit", "augment")):
                change = change - change.mean()
            rows.append(torch.tensor([abs(after - before), *change.abs().tolist()]))
            if arguments.each:
                print(kind, f"{before:.3f} {after:.3f}", change.tolist(), flush=True)
        worst = torch.stack(rows).amax(dim=0)
        print(f"| {name} | {worst[0]:.3f} | {worst[1:3].max():.2f} | {worst[3:].max():.2f} |", flush=True)


if __name__ == "__main__":
    main()
