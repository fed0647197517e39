"""Refusals of a trained model, before it computes: arguments, shapes, parts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sounds
import tiny
import torch

import audiodiff
from audiodiff.diffusion.grid import Fixed, Karras
from audiodiff.diffusion.solvers import solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import AudiodiffError, ParameterError
from audiodiff.models.synthesizer import Synthesizer

HIFIGAN = dialect("hifigan")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("vocoder", {}, "mel=None"),
        ("vocoder", {"mel": sounds.mels(), "batch": 2}, "batch=2 has no meaning"),
        ("vocoder", {"mel": sounds.mels(), "seconds": 2.0}, "seconds=2.0 has no meaning"),
        ("vocoder", {"mel": sounds.mels(), "n_samples": 256 * 12 + 1}, "n_samples=3073 does not belong to 12 frames"),
        ("vocoder", {"mel": sounds.mels(), "n_samples": -5}, "does not belong"),
        ("vocoder", {"mel": sounds.mels(), "items": [1, 2]}, "items has 2 numbers"),
        ("vocoder", {"mel": sounds.mels(), "steps": 0}, "steps=0 must be a whole number, at least 1"),
        ("vocoder", {"mel": sounds.mels(), "iterations": -1}, "iterations=-1 must be a whole number, at least 0"),
        ("vocoder", {"mel": sounds.mels(), "solver": "nuts"}, "dpmpp_2m"),
        ("vocoder", {"mel": sounds.mels() + 40}, "its values span"),
        ("vocoder", {"mel": sounds.mels(), "grid": "cubic"}, "grid='cubic' must be one of karras"),
        ("vocoder", {"mel": sounds.mels(), "grid": Fixed([4.0, 1.0]), "steps": 3}, "steps=3: n_steps=3 must be 2"),
        ("vocoder", {"mel": sounds.mels(), "grid": Karras(sigma_max=1e4)}, "grid starts at sigma=1e+04"),
        (
            "vocoder",
            {"mel": sounds.mels(), "solver": solver("euler_ancestral", eta=2.0)},
            "eta=2.0 must lie between 0 and 1",
        ),
        ("vocoder", {"mel": sounds.mels(), "guidance": 2.0}, "guidance=2.0 needs a guide"),
        ("vocoder", {"mel": sounds.mels(), "guidance": float("nan")}, "guidance=nan"),
        ("vocoder", {"mel": sounds.mels(), "guidance": 2.0, "guidance_interval": (2.0, 1.0)}, "interval=(2.0, 1.0)"),
        ("vocoder", {"mel": sounds.mels(), "guidance_interval": (0.0, 1.0)}, "no meaning without guidance"),
        ("unconditional", {"guide": tiny.synthesizer(tiny.UNCONDITIONAL)}, "a guide is given: say how strong"),
        ("unconditional", {"mel": sounds.mels()}, "generates from nothing"),
        ("unconditional", {"iterations": 3}, "this model has none"),
        ("unconditional", {"batch": 0}, "batch=0 must be a whole number, at least 1"),
        ("unconditional", {"seconds": 0.0}, "seconds=0.0 must be at least one sample"),
        ("unconditional", {"seconds": float("nan")}, "seconds=nan must be at least one sample"),
        ("unconditional", {"seconds": float("inf")}, "seconds=inf must be at least one sample"),
        ("unconditional", {"n_samples": 0}, "n_samples=0 must be at least 1"),
        ("unconditional", {"n_samples": 10, "seconds": 1.0}, "give one of them"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(name: str, options: dict, reason: str, request: pytest.FixtureRequest):
    model = audiodiff.load(request.getfixturevalue(name))
    with pytest.raises(AudiodiffError) as refused:
        model.generate(**options)
    assert reason in str(refused.value)


# In this process every signature is checked; a user's is not, and gets these words.
SHAPES = """
import json, sys, torch, audiodiff
mel = torch.full((1, 80, 6), -5.0)
audio = torch.zeros(1, 1, 2000)
cases = {
    "mel 4-D": lambda model: model.generate(mel[None]),
    "mel 1-D": lambda model: model.generate(mel[0, 0]),
    "mel numpy": lambda model: model.generate(mel.numpy()),
    "mel list": lambda model: model.generate(mel.tolist()),
    "mel integer": lambda model: model.generate(mel.int()),
    "mel empty": lambda model: model.generate(mel[:0]),
    "mel no frames": lambda model: model.generate(mel[..., :0]),
    "mel transposed": lambda model: model.generate(mel.mT),
    "mel n_mels": lambda model: model.generate(mel[:, :70]),
    "mel nan": lambda model: model.generate(mel * float("nan")),
    "audio 4-D": lambda model: model.mel(audio[None]),
    "audio numpy": lambda model: model.mel(audio.numpy()),
    "audio int16": lambda model: model.mel(audio.short()),
    "audio stereo": lambda model: model.mel(audio.expand(1, 2, -1)),
    "audio empty": lambda model: model.mel(audio[..., :0]),
    "audio nan": lambda model: model.mel(audio * float("nan")),
    "iterations": lambda model: model.generate(mel, iterations=2.5),
    "metric": lambda model: audiodiff.metrics.snr_db(audio.numpy(), audio),
}
said = []
for model in map(audiodiff.load, sys.argv[1:]):
    said.append({})
    for name, case in cases.items():
        try:
            case(model)
        except (audiodiff.errors.ParameterError, audiodiff.errors.MelError) as error:
            said[-1][name] = str(error)
print(json.dumps(said))
"""


def test_tensors_of_another_shape_or_kind_are_refused_in_words(vocoder: Path):
    done = subprocess.run(
        [sys.executable, "-c", SHAPES, "none", str(vocoder)], check=True, capture_output=True, text=True
    )
    of_none, of_vocoder = json.loads(done.stdout)
    assert of_none == of_vocoder
    for case, reasons in {
        "mel 4-D": ("(1, 1, 80, 6)", "(n_mels, frames) or (batch, n_mels, frames)"),
        "mel 1-D": ("(6,)", "(n_mels, frames) or (batch, n_mels, frames)"),
        "mel numpy": ("ndarray", "torch.from_numpy"),
        "mel list": ("list", "torch tensor"),
        "mel integer": ("torch.int32", "floating point"),
        "mel empty": ("(0, 80, 6)", "empty"),
        "mel no frames": ("(1, 80, 0)", "empty"),
        "mel transposed": ("transposed", "(n_mels, frames)"),
        "mel n_mels": ("n_mels=70", "n_mels=80"),
        "mel nan": ("NaN",),
        "audio 4-D": ("(1, 1, 1, 2000)", "(time,), (channels, time) or (batch, channels, time)"),
        "audio numpy": ("ndarray", "torch.from_numpy"),
        "audio int16": ("torch.int16", "floating point"),
        "audio stereo": ("channels=2", "one by one"),
        "audio empty": ("(1, 1, 0)", "no samples"),
        "audio nan": ("NaN",),
        "iterations": ("iterations=2.5 must be a whole number",),
        "metric": ("estimate is a ndarray; give a torch tensor",),
    }.items():
        for reason in reasons:
            assert reason in of_vocoder[case], case


def test_a_model_without_mels_analyses_none(unconditional: Path):
    with pytest.raises(ParameterError, match="knows no mel spectrogram"):
        audiodiff.load(unconditional).mel(torch.zeros(1, 1, 1000))


def test_parts_that_need_a_dialect_are_not_built_without_one():
    model = tiny.synthesizer(tiny.VOCODER)
    parts = {
        "representation": model.representation,
        "conditioner": model.conditioner,
        "denoiser": model.denoiser,
        "sampler": model.sampler,
    }
    with pytest.raises(ParameterError, match="dialect=None"):
        Synthesizer(sample_rate=22050, **parts)  # pyright: ignore
    with pytest.raises(ParameterError, match="sample_rate=16000 must be that of the mel dialect, 22050"):
        Synthesizer(sample_rate=16000, dialect=HIFIGAN, **parts)  # pyright: ignore
    with pytest.raises(ParameterError, match="n_iterations=-1"):
        Synthesizer(sample_rate=22050, dialect=HIFIGAN, n_iterations=-1, **parts)  # pyright: ignore
