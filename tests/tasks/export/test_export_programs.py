"""Export of models: written programs give what the model gives, at any length, and what cannot be is refused."""

import importlib.util
import json
import subprocess
import sys
import wave
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.preconditioning import Epsilon, Sample
from audiodiff.diffusion.process import DiscreteVP, Flow
from audiodiff.diffusion.process.discrete import linear_betas
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import euler
from audiodiff.dsp.mel import dialect
from audiodiff.errors import AudioFileError, PackageError, ParameterError
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.embedding import Sinusoidal, StepTable
from audiodiff.networks.refiner import SpectralRefiner
from audiodiff.networks.restorer import SpectralRestorer
from audiodiff.networks.wavenet import WaveNet
from audiodiff.tasks.export.programs import programs_of
from audiodiff.tasks.export.write import export_model
from audiodiff.tasks.restoration.enhancement import enhance

MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
MEL = dialect("hifigan", sample_rate=8000, hop_length=128, n_fft=512, n_mels=40, f_max=4000.0)
SMALL = {"channels": 8, "n_layers": 2, "dilation_cycle": 2}


@pytest.fixture(autouse=True)
def symbolic_sizes():
    """Let an int be a symbol, which the checks of types in the tests refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def filled(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def synthesizer(network: torch.nn.Module, **changed: object) -> Synthesizer:
    process = Flow(noise_scale=0.1)
    settings = {
        "sample_rate": 8000,
        "representation": WaveformRepresentation(),
        "conditioner": NoConditioner(),
        "denoiser": Denoiser(filled(network), Sample(process)),
        "sampler": Sampler(euler, TimeUniform(process), 2),
    }
    return Synthesizer(**(settings | changed)).eval()


def unconditional() -> Synthesizer:
    return synthesizer(WaveNet(Sinusoidal(), **SMALL))


def refiner() -> Synthesizer:
    process = Flow(noise_scale=0.1)
    return synthesizer(
        SpectralRefiner(Sinusoidal(), dialect=MEL, n_fft=512, hop_length=128, **SMALL),
        dialect=MEL,
        conditioner=MelConditioner(dialect=MEL),
        sampler=Sampler(euler, TimeUniform(process, t_start=0.002), 1),
        n_iterations=2,
        warm_start=True,
    )


def restorer() -> Synthesizer:
    network = SpectralRestorer(Sinusoidal(), sample_rate=8000, n_fft=256, hop_length=80, **SMALL)
    return synthesizer(network, conditioner=DegradedConditioner())


def diffwave() -> Synthesizer:
    process = DiscreteVP(linear_betas(1e-4, 0.05, 10))
    network = WaveNet(StepTable(10), **SMALL)
    return synthesizer(network, denoiser=Denoiser(filled(network), Epsilon(process)))


def test_the_vocoder_of_few_steps_equals_generation():
    model = refiner()
    program = programs_of(model)[1]
    mel, _ = program.example(9, torch.Generator().manual_seed(0))
    noise = noise_of(3, [0])
    n_samples = MEL.n_samples(mel.shape[-1])
    draws = torch.cat([noise(torch.zeros(1, 1, n_samples), step) for step in (-1, 0)], dim=1)
    with torch.no_grad():
        made = program.module(mel, draws)
    torch.testing.assert_close(made, model.generate(mel, seed=3), rtol=0, atol=1e-4)


def test_the_program_of_enhancement_equals_enhance():
    model = restorer()
    program = programs_of(model)[1]
    audio, _ = program.example(40, torch.Generator().manual_seed(0))
    noise = noise_of(5, [0])(torch.zeros_like(audio), 0)
    with torch.no_grad():
        made = program.module(audio, noise)
    torch.testing.assert_close(made, enhance(model, audio, sample_rate=8000, seed=5), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [unconditional, diffwave, pytest.param(restorer, marks=pytest.mark.slow)],
    ids=["unconditional", "diffwave", "restorer"],
)
def test_a_torch_program_equals_the_model_at_three_lengths(make, tmp_path: Path):
    for program in export_model(make(), tmp_path / "out", name="small", kind="torch").values():
        assert program["difference"] < 1e-4 < program["peak"]


@needs_onnx
@pytest.mark.parametrize("make", [unconditional, restorer, diffwave], ids=["unconditional", "restorer", "diffwave"])
def test_an_onnx_program_equals_the_model_at_three_lengths(make, tmp_path: Path):
    for program in export_model(make(), tmp_path / "out", name="small").values():
        assert program["difference"] < 1e-4 < program["peak"]


@needs_onnx
@pytest.mark.slow
def test_the_whole_of_a_vocoder_and_of_mel_inversion_equal_in_onnx(tmp_path: Path):
    for name, model in (("refiner", refiner()), ("inversion", MelInverter(dialect=MEL, n_iterations=2))):
        written = export_model(model, tmp_path / name, name=name)
        assert written["vocoder"]["difference"] < 1e-4 < written["vocoder"]["peak"]


@needs_onnx
def test_the_example_runs_an_export_with_numpy_and_onnxruntime(tmp_path: Path):
    export_model(unconditional(), tmp_path / "out", name="small")
    example = Path(__file__).parents[3] / "examples" / "run_onnx.py"
    subprocess.run([sys.executable, example, tmp_path / "out", "1000", "-o", tmp_path / "a.wav"], check=True)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 1000)


class Unknown(WaveNet):
    """A network with an operator that ONNX lacks."""

    def forward(self, x, c_noise, condition):
        return torch.special.bessel_j0(super().forward(x, c_noise, condition))


@needs_onnx
def test_an_operator_that_onnx_lacks_is_named_and_nothing_written(tmp_path: Path):
    with pytest.raises(ParameterError, match="bessel_j0"):
        export_model(synthesizer(Unknown(Sinusoidal(), **SMALL)), tmp_path / "out", name="small")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PackageError, match="onnx"):
        export_model(unconditional(), tmp_path / "out", name="small")


def test_what_cannot_be_exported_is_refused_before_work(tmp_path: Path):
    with pytest.raises(ParameterError, match="--format tflite must be one of onnx, torch"):
        export_model(unconditional(), tmp_path / "out", name="small", kind="tflite")
    (tmp_path / "out").mkdir()
    with pytest.raises(AudioFileError, match="exists"):
        export_model(unconditional(), tmp_path / "out", name="small", kind="torch", force=True)
    with pytest.raises(ParameterError, match="steps=3 has no meaning"):
        programs_of(MelInverter(dialect=MEL), steps=3)


def test_the_contents_say_what_a_program_takes(tmp_path: Path):
    export_model(unconditional(), tmp_path / "out", name="small", kind="torch")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["programs"]["denoiser"]["inputs"] == {"x": [1, 1, "time"], "sigma": [1]}
    assert np.all(np.diff(about["sigmas"]) < 0)
