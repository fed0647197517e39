"""Measure how fast jobs are with one and with two workers, on an idle machine and beside a busy program.

    python benchmarks/threads.py

Prints a Markdown table: seconds of audio per second, median of three runs. Settings take turns within one process, so
that all of them meet the same machine. The last column of each half lets torch use two threads of its own inside every
operation, as a plain torch program does.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import audiodiff
from audiodiff.data import speech_folder
from audiodiff.dsp.inversion import invert
from audiodiff.models.synthesizer import Synthesizer

N_RUNS = 3


def jobs() -> dict[str, tuple[float, Callable[[], object], Callable[[], object] | None]]:
    """Return jobs by name: seconds of audio, the job, and the same on torch's threads where that is simple."""
    paths = sorted((speech_folder() / "train").glob("*.flac"))
    recordings = [audiodiff.read(path) for path in paths[:12]]
    speech, rate = torch.cat([audio for audio, _ in recordings], dim=-1), recordings[0][1]
    inverter, vocoder = audiodiff.load("mel-inversion"), audiodiff.load("speech-22k")
    digits = audiodiff.load("digits-8k")
    rows = [{"digit": str(digit)} for digit in range(8)]
    short, long = (speech.repeat(1, 3)[:, : seconds * rate] for seconds in (5, 30))

    def on_torchs_threads(audio: torch.Tensor) -> Callable[[], object]:
        mel, noise = inverter.mel(audio)[None], torch.randn(1, audio.shape[-1])
        return lambda: invert(noise, mel, dialect=inverter.dialect, n_iterations=16)

    def vocoding(model: Synthesizer | audiodiff.MelInverter, audio: torch.Tensor) -> Callable[[], object]:
        mel = model.mel(audio)
        return lambda: model.generate(mel)

    return {
        "mel-inversion, 5 s": (5.0, vocoding(inverter, short), on_torchs_threads(short)),
        "mel-inversion, 30 s": (30.0, vocoding(inverter, long), None),
        "mel-inversion, 5 s, four at once": (20.0, vocoding(inverter, short.repeat(4, 1)[:, None]), None),
        "speech-22k, 5 s": (5.0, vocoding(vocoder, short), None),
        "digits-8k, eight digits of 0.5 s": (4.0, lambda: digits.generate(labels=rows, seconds=0.5), None),
    }


def main() -> None:
    """Measure every job, idle and busy."""
    torch.set_num_threads(2)
    found: dict[tuple[str, str, bool], float] = {}
    everything = jobs()
    for busy in (False, True):
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            for name, (seconds, job, plain) in everything.items():
                spent: dict[str, list[float]] = {}
                for _ in range(N_RUNS + 1):
                    for setting, workers, run in (("1", 1, job), ("2", 2, job), ("torch", None, plain)):
                        if run is None:
                            continue
                        audiodiff.set_num_workers(workers)
                        began = time.perf_counter()
                        run()
                        spent.setdefault(setting, []).append(time.perf_counter() - began)
                for setting, each in spent.items():
                    found[name, setting, busy] = seconds / statistics.median(each[1:])
        finally:
            if other is not None:
                other.kill()
    heads = ["1 worker", "2 workers", "torch's 2 threads"]
    print("| |", " | ".join(f"{head}, {state}" for state in ("idle", "one core taken") for head in heads), "|")
    print("|---" * 7 + "|")
    for name in everything:
        cells = [found.get((name, setting, busy)) for busy in (False, True) for setting in ("1", "2", "torch")]
        print(f"| {name} |", " | ".join("" if cell is None else f"{cell:.3g}" for cell in cells), "|")


if __name__ == "__main__":
    main()
