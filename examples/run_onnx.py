"""Run what `audiodiff export` wrote, with numpy and onnxruntime alone.

python run_onnx.py FOLDER mel.npy -o speech.wav      a vocoder: mel (n_mels, frames) to sound
python run_onnx.py FOLDER noisy.wav -o clean.wav     an enhancer: 16-bit mono at the model's rate
python run_onnx.py FOLDER 22050 -o sound.wav         a denoiser without a condition: samples to make, by Euler steps
"""

import argparse
import itertools
import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("input")
parser.add_argument("-o", "--out", required=True)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

about = json.loads((options.folder / "export.json").read_text())
name = next(name for name in ("vocoder", "enhance", "denoiser") if name in about["programs"])
program = about["programs"][name]
session = onnxruntime.InferenceSession(options.folder / program["file"])
rng = np.random.default_rng(options.seed)


def noise(n_samples: int) -> np.ndarray:
    return rng.standard_normal((1, program["inputs"].get("noise", [1, 1])[1], n_samples), dtype=np.float32)


if name == "vocoder":
    mel = np.load(options.input).astype(np.float32).reshape([*program["inputs"]["mel"][:2], -1])
    n_frames = mel.shape[-1] - (1 if about["centred"] else 0)
    audio = session.run(None, {"mel": mel, "noise": noise(about["hop_length"] * n_frames)})[0]
elif name == "enhance":
    with wave.open(options.input) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (about["sample_rate"], 1, 2)
        noisy = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768
    audio = session.run(None, {"audio": noisy[None, None], "noise": noise(len(noisy))})[0]
else:
    sigmas = np.array(about["sigmas"])
    audio = sigmas[0].astype(np.float32) * noise(int(options.input))
    for sigma, following in itertools.pairwise(sigmas):
        denoised = session.run(None, {"x": audio, "sigma": np.array([sigma], dtype=np.float32)})[0]
        audio = denoised + np.float32(following / sigma) * (audio - denoised)

with wave.open(options.out, "wb") as file:
    file.setparams((1, 2, about["sample_rate"], 0, "NONE", ""))
    file.writeframes((np.clip(audio.reshape(-1), -1, 1) * 32767).round().astype("<i2").tobytes())
