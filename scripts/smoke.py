"""Use an installed audiodiff once, from an empty directory: generate, resample, train two steps, evaluate.

Run with the Python of the environment: PYTHON scripts/smoke.py
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(sys.executable).parent
TRAIN = "train recipes=quickstart/vocoder debug=two_steps hydra.run.dir=run"
RESAMPLE = """
import torch, audiodiff
from audiodiff.dsp.resample import resample
tone = torch.sin(2 * torch.pi * 440 * torch.arange(22050) / 22050)[None]
expected = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)[None]
error = (resample(tone, from_rate=22050, to_rate=16000) - expected)[:, 1000:-1000].abs().max()
assert error < 1e-3, f"a resampled tone is {error} from the tone at the new rate"
"""


def run(*command: str | Path, cwd: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parts = [str(part) for part in command]
    done = subprocess.run(parts, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(parts)[:200]} failed:\n{done.stdout}{done.stderr}")


def loads(name: str) -> str:
    """Return the version of a package, and whether it can be imported."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} absent"
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True)
    return f"{name} {version}" + ("" if done.returncode == 0 else " (does not load)")


def main() -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        code = "import audiodiff.data as data; print(sorted(data.speech_folder().rglob('*.flac'))[0])"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"audiodiff cannot be imported:\n{done.stderr}")
        speech = done.stdout.strip()
        run(sys.executable, "-c", RESAMPLE, cwd=folder)
        run(HERE / "generate-wav", speech, "--model", "none", "--out", "copy.wav", cwd=folder)
        run(HERE / "audiodiff", *TRAIN.split(), cwd=folder)
        run(HERE / "generate-wav", speech, "--model", "run", "--out", "vocoded.wav", cwd=folder)
        run(HERE / "audiodiff", "evaluate", speech, "copy.wav", "--metrics", "pesq_wb,stoi,lsd", cwd=folder)
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"used: Python {python}, {loads('torch')}, {loads('torchaudio')}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
