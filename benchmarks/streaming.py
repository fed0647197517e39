"""Compare streams with generation: time, and the quality of what they give.

    python benchmarks/streaming.py [FOLDER] [--model MODEL] [--count 8]

Time: the processor time of a stream (chunks of 16 frames, 16 ahead, 4 iterations) divided by that of `generate` on the
same 2.3 s of sound, taken in turns in one process with one thread; medians of 20. Quality: PESQ-WB and the mean
difference of the mel, on the first seconds of recordings: those of the folder, or the embedded speech held out. Prints
Markdown tables.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

import audiodiff
from audiodiff.data import speech_folder
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.metrics.perceptual import pesq

SETTINGS = ((16, 16, 4), (16, 4, 4), (16, 0, 4), (8, 16, 4), (8, 4, 16), (16, 8, 16), (16, 16, 16))
N_RUNS = 20


def recordings(folder: Path, *, count: int, sample_rate: int) -> list[Tensor]:
    """Return the first four seconds of recordings, (1, 1, time)."""
    paths = sorted(folder.rglob("*.flac"))
    found: list[Tensor] = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        audio, rate = audio_io.read(path)
        found.append(resample(audio[:1, : 4 * rate], from_rate=rate, to_rate=sample_rate)[None])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=speech_folder() / "val")
    parser.add_argument("--model", default="mel-inversion")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    is_inversion = options.model == "mel-inversion"
    model = audiodiff.load(options.model, **({"dialect": "hifigan"} if is_inversion else {}))
    clips = recordings(options.folder, count=options.count, sample_rate=model.sample_rate)
    assert model.dialect is not None
    mels = [model.mel(clip) for clip in clips]

    mel = torch.cat(mels, dim=-1)[..., : round(2.3 * model.sample_rate / model.dialect.hop_length)]

    def streamed(size: int) -> None:
        list(model.stream(mel.split(size, dim=-1), chunk_frames=16, ahead_frames=16, iterations=4))

    jobs = [lambda: model.generate(mel, iterations=4), lambda: streamed(16), lambda: streamed(1)]
    seconds: list[list[float]] = [[] for _ in jobs]
    for run in range(N_RUNS + 1):
        for job, spent in zip(jobs, seconds, strict=True):
            start = time.process_time()
            job()
            if run:
                spent.append(time.process_time() - start)
    whole, *_ = seconds
    print("| frames pushed | ms | times generate |\n|---|---|---|")
    for name, spent in zip(("generate", "16 at once", "one by one"), seconds, strict=True):
        ratio = statistics.median(own / other for own, other in zip(spent, whole, strict=True))
        print(f"| {name} | {1e3 * statistics.median(spent):.0f} | {ratio:.2f} |")

    print("\n| chunk | ahead | iterations | PESQ-WB | mel error | of generate: PESQ-WB | mel error |")
    print("|---|---|---|---|---|---|---|")
    for chunk, ahead, n_iterations in SETTINGS:
        frames = {"chunk_frames": chunk, "ahead_frames": ahead}
        made = [torch.cat(list(model.stream([each], iterations=n_iterations, **frames)), dim=-1) for each in mels]
        wholes = [model.generate(each, iterations=n_iterations) for each in mels]
        cells: list[str] = []
        for results in (made, wholes):
            pairs = [(a[..., :n], b[..., :n]) for a, b in zip(results, clips, strict=True) for n in (a.shape[-1],)]
            quality = [float(pesq(a[0, 0, : b.shape[-1]], b[0, 0], sample_rate=model.sample_rate)) for a, b in pairs]
            errors = [float((model.mel(a) - each).abs().mean()) for a, each in zip(results, mels, strict=True)]
            cells += [f"{statistics.mean(quality):.2f}", f"{statistics.mean(errors):.3f}"]
        print(f"| {chunk} | {ahead} | {n_iterations} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
