"""Measure the cost of threads that spin while they wait, on an idle and on a busy machine.

    python benchmarks/threads.py

Prints a Markdown table: times real time of 64 iterations of the mel constraint on ten seconds of the embedded speech,
median of seven runs, on the machine as it is and beside a process in an endless loop.
"""

import os
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads, as torch comes": {"OMP_NUM_THREADS": "2"},
    "two threads, `GOMP_SPINCOUNT=1000`": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000"},
    "two threads, `OMP_WAIT_POLICY=PASSIVE`": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
}
N_ITERATIONS, N_RUNS = 16, 7


def measure() -> None:
    """Print the times real time of 64 iterations, in a process whose environment sets how threads wait."""
    import torch

    from audiodiff.data import speech_folder
    from audiodiff.dsp.inversion import constrain
    from audiodiff.dsp.mel import dialect
    from audiodiff.io import audio as audio_io

    hifigan = dialect("hifigan")
    audio, sample_rate = audio_io.read(speech_folder() / "train" / "us_f_00.flac")
    audio = audio.repeat(1, 4)[:, : 860 * hifigan.hop_length]
    mel, noise = hifigan.mel(audio), torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    constrain(noise, mel, dialect=hifigan, n_iterations=2)
    spent = []
    for _ in range(N_RUNS):
        began = time.perf_counter()
        constrain(noise, mel, dialect=hifigan, n_iterations=N_ITERATIONS)
        spent.append(time.perf_counter() - began)
    print(audio.shape[-1] / sample_rate / (statistics.median(spent) * 64 / N_ITERATIONS))


def main() -> None:
    """Measure every setting, idle and busy."""
    print("| | idle machine | one core taken |\n|---|---|---|")
    for name, settings in SETTINGS.items():
        speeds = []
        for busy in (False, True):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
            try:
                command = [sys.executable, __file__, "--measure"]
                done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
            finally:
                if other is not None:
                    other.kill()
            speeds.append(float(done.stdout))
        print(f"| {name} | {speeds[0]:.2g} | {speeds[1]:.2g} |", flush=True)


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
