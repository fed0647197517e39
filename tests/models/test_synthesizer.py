"""A trained model as a library: what it takes, what it gives, what it refuses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sounds
import tiny
import torch

import audiodiff
from audiodiff.diffusion.grid import GRIDS, Fixed, Karras, LogUniform
from audiodiff.diffusion.solvers import REGISTRY, Solver, solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import AudiodiffError, ParameterError
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer

pytestmark = pytest.mark.numeric

HIFIGAN = dialect("hifigan")


def mels(n: int = 1, *, n_frames: int = 12) -> torch.Tensor:
    """Make the mels of n recordings, (n, 80, n_frames)."""
    peaks = [0.2 + 0.6 * k / n for k in range(n)]
    return torch.cat([HIFIGAN.mel(sounds.tones(256 * n_frames, sample_rate=22050, peak=peak)) for peak in peaks])


def test_a_checkpoint_is_loaded_and_makes_float32_of_batch_channels_time(vocoder: Path):
    model = audiodiff.load(vocoder)
    assert model.sample_rate == 22050
    mel = model.mel(sounds.tones(256 * 12, sample_rate=22050)[None])
    audio = model.generate(mel=mel, steps=None, iterations=None, seed=0)
    assert audio.shape == (1, 1, 256 * 12)
    assert audio.dtype == torch.float32
    assert not audio.requires_grad
    assert torch.equal(audio, model.generate(mel))


@pytest.mark.parametrize("n_frames", [1, 2, 9])
def test_the_mel_of_what_was_made_has_the_shape_of_the_mel_it_was_made_from(vocoder: Path, n_frames: int):
    model = audiodiff.load(vocoder)
    mel = mels(2, n_frames=n_frames)
    assert model.mel(model.generate(mel)).shape == mel.shape


def test_a_batch_equals_its_examples_one_by_one(vocoder: Path):
    model = audiodiff.load(vocoder)
    mel = mels(3)
    together = model.generate(mel, items=[7, 1, 4])
    for k, item in enumerate((7, 1, 4)):
        alone = model.generate(mel[k : k + 1], items=[item])
        assert torch.equal(together[k], alone[0])
    assert torch.equal(model.generate(mel), model.generate(mel, items=range(3)))


@pytest.mark.parametrize("name", ["unconditional", "log_mel"])
def test_an_unconditional_model_makes_as_many_as_asked_and_as_long(name: str, request: pytest.FixtureRequest):
    model = audiodiff.load(request.getfixturevalue(name))
    audio = model.generate(batch=3, seconds=0.15, seed=5)
    assert audio.shape == (3, 1, round(0.15 * 22050))
    assert audio.dtype == torch.float32
    assert model.generate().shape == (1, 1, 22050)
    assert model.generate(n_samples=3001).shape == (1, 1, 3001)
    alone = model.generate(batch=1, seconds=0.15, seed=5, items=[2])
    assert torch.equal(audio[2], alone[0])
    assert float((audio[1] - audio[2]).abs().max()) > 1e-3
    assert float((model.generate(batch=3, seconds=0.15, seed=6) - audio).abs().max()) > 1e-3


def test_without_iterations_the_output_of_the_network_stays_and_with_more_the_mel_comes_closer(vocoder: Path):
    model = audiodiff.load(vocoder)
    assert isinstance(model, Synthesizer)
    mel = mels()
    network = Synthesizer(
        sample_rate=22050,
        representation=model.representation,
        conditioner=model.conditioner,
        denoiser=model.denoiser,
        sampler=model.sampler,
        dialect=model.dialect,
        n_iterations=0,
    )
    assert torch.equal(model.generate(mel, iterations=0), network.generate(mel))
    target = HIFIGAN.amplitude(mel)
    distances = [
        float((HIFIGAN.amplitude(model.mel(model.generate(mel, iterations=n))) - target).norm()) for n in (0, 4, 32)
    ]
    assert distances[0] > 2 * distances[1] > 2 * distances[2]


def test_the_condition_and_the_solver_and_the_steps_matter(vocoder: Path):
    model = audiodiff.load(vocoder)
    mel = mels()
    audio = model.generate(mel, iterations=0)
    for other in (
        model.generate(mel - 1, iterations=0),
        model.generate(mel, iterations=0, steps=5),
        model.generate(mel, iterations=0, solver="heun"),
        model.generate(mel, iterations=0, solver="euler_ancestral"),
        model.generate(mel, iterations=0, seed=1),
    ):
        assert float((other - audio).abs().max()) > 1e-4


def test_a_solver_may_be_given_with_its_options(vocoder: Path):
    model, mel = audiodiff.load(vocoder), mels()
    by_name = {name: model.generate(mel, iterations=0, solver=name) for name in ("euler", "euler_ancestral")}
    given = [model.generate(mel, iterations=0, solver=solver("euler_ancestral", eta=eta)) for eta in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(given[0], by_name["euler"], rtol=1e-5, atol=1e-6)
    assert torch.equal(given[2], by_name["euler_ancestral"])
    assert float((given[1] - given[0]).abs().max()) > 1e-4


def test_a_grid_may_be_named_or_given(vocoder: Path):
    """The tiny vocoder's own is the clock of the flow."""
    model, mel = audiodiff.load(vocoder), mels()
    assert isinstance(model, Synthesizer)
    own = model.generate(mel, iterations=0)
    torch.testing.assert_close(model.generate(mel, iterations=0, grid="flow"), own, rtol=1e-4, atol=1e-5)
    levels = model.sampler.grid(2).tolist()[:-1]
    assert torch.equal(model.generate(mel, iterations=0, grid=Fixed(levels)), own)
    for name, make in GRIDS.items():
        by_name = model.generate(mel, iterations=0, steps=4, grid=name)
        assert torch.equal(by_name, model.generate(mel, iterations=0, steps=4, grid=make(levels[-1], levels[0])))
        assert not torch.equal(by_name, model.generate(mel, iterations=0, steps=4))
    # A grid that is given has its own number of steps.
    assert torch.equal(
        model.generate(mel, iterations=0, grid=Fixed([9.0, 1.0, 0.1])),
        model.generate(mel, iterations=0, grid=Fixed([9.0, 1.0, 0.1]), steps=3),
    )


def guided_pair(overrides: list[str]) -> tuple[Synthesizer, Synthesizer]:
    """Return two models of one kind with different weights."""
    return tiny.synthesizer(overrides), tiny.synthesizer(overrides, seed=1)


@pytest.mark.parametrize("overrides", [tiny.UNCONDITIONAL, tiny.VOCODER])
def test_in_one_step_autoguidance_extrapolates_from_the_guide_through_the_model(overrides: list[str]):
    """One step of euler returns D itself, and the waveform is what is diffused."""
    strong, weak = guided_pair(overrides)
    how: dict[str, Any] = {"steps": 1, "solver": "euler"}
    how |= {"mel": mels(), "iterations": 0} if strong.needs_mel else {"seconds": 0.05}
    a, b = strong.generate(**how), weak.generate(**how)
    for scale in (0.0, 1.0, 2.5):
        guided = strong.generate(**how, guide=weak, guidance=scale)
        torch.testing.assert_close(guided, b + scale * (a - b), rtol=1e-4, atol=1e-5)
    assert float((a - b).abs().max()) > 1e-3


def test_guidance_by_itself_at_scale_1_or_at_no_level_changes_no_bit():
    strong, weak = guided_pair(tiny.UNCONDITIONAL)
    plain = strong.generate(seconds=0.05)
    assert torch.equal(strong.generate(seconds=0.05, guide=strong, guidance=3.0), plain)
    assert torch.equal(strong.generate(seconds=0.05, guide=weak, guidance=1.0), plain)
    nowhere = strong.generate(seconds=0.05, guide=weak, guidance=3.0, guidance_interval=(1e6, 1e7))
    assert torch.equal(nowhere, plain)
    assert float((strong.generate(seconds=0.05, guide=weak, guidance=3.0) - plain).abs().max()) > 1e-4


def test_a_guided_batch_equals_its_examples_one_by_one():
    strong, weak = guided_pair(tiny.UNCONDITIONAL)
    how: dict[str, Any] = {"seconds": 0.05, "guide": weak, "guidance": 2.0, "grid": "karras", "solver": "heun"}
    together = strong.generate(batch=3, **how)
    for k in range(3):
        assert torch.equal(together[k : k + 1], strong.generate(items=[k], **how))


class DroppedMel(MelConditioner):
    """Say that training dropped the mel at random."""

    @property
    def can_drop(self) -> bool:
        return True


def test_without_a_guide_a_model_that_knows_the_null_condition_is_guided_by_it():
    model = tiny.synthesizer(tiny.VOCODER)
    model.conditioner = DroppedMel(dialect=HIFIGAN)
    mel, how = mels(2), {"steps": 1, "iterations": 0, "solver": "euler"}
    told, untold = model.generate(mel, **how), model.generate(torch.full_like(mel, HIFIGAN.floor), **how)
    guided = model.generate(mel, **how, guidance=3.0)
    torch.testing.assert_close(guided, untold + 3.0 * (told - untold), rtol=1e-4, atol=1e-5)
    assert float((told - untold).abs().max()) > 1e-3


def test_a_guide_of_another_kind_is_refused_with_what_differs(vocoder: Path):
    strong, mel_maker = tiny.synthesizer(tiny.UNCONDITIONAL), tiny.synthesizer(tiny.LOG_MEL)
    other_mel_maker = tiny.synthesizer(tiny.LOG_MEL, seed=1)
    for name, buffer in other_mel_maker.named_buffers():
        if name == "representation.mean":
            buffer.fill_(-5.0)
    low = tiny.synthesizer(tiny.UNCONDITIONAL)
    low.sampler = replace(low.sampler, grid=LogUniform(0.01, 3.0))
    for model, guide, reason in (
        (strong, tiny.synthesizer(tiny.VOCODER), "conditioner=MelConditioner"),
        (strong, mel_maker, "representation=LogMel"),
        (strong, audiodiff.load("none"), "guide is a MelInverter"),
        (strong, low, "levels up to sigma=3, and sampling starts at sigma="),
        (mel_maker, other_mel_maker, "mean of its representation differs"),
    ):
        with pytest.raises(ParameterError, match=reason):
            model.generate(seconds=0.05, guide=guide, guidance=2.0)  # pyright: ignore
    assert strong.generate(seconds=0.05, guide=low, guidance=2.0, grid=Fixed([2.0, 0.5])).isfinite().all()


def test_what_generate_refuses_is_refused_before():
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    model.check_sampling(SamplingOptions(steps=3, solver="heun", grid="karras", guide=model, guidance=2.0))
    for name in REGISTRY:
        model.check_sampling(SamplingOptions(solver=name))


@pytest.mark.parametrize("asks", [solver("shortcut"), solver("ddpm", variance="learned")])
def test_a_solver_that_asks_for_more_than_a_guided_denoiser_says_is_refused_before(asks: Solver):
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    model.check_sampling(SamplingOptions(solver=asks, guide=model, guidance=1.0))
    with pytest.raises(ParameterError, match="leave guidance out"):
        model.check_sampling(SamplingOptions(solver=asks, guide=model, guidance=2.0))


def test_a_model_of_mels_ends_in_their_inversion(log_mel: Path):
    """The more iterations, the less the mel of the sound still changes: it comes to the mel that was sampled."""
    model = audiodiff.load(log_mel)
    last = HIFIGAN.amplitude(model.mel(model.generate(seconds=0.2, iterations=64)))
    distances = [
        float((HIFIGAN.amplitude(model.mel(model.generate(seconds=0.2, iterations=n))) - last).norm()) for n in (1, 32)
    ]
    assert distances[0] > 2 * distances[1]
    with pytest.raises(ParameterError, match="still to be inverted"):
        model.generate(seconds=0.2, iterations=0)


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("vocoder", {"steps": 3, "iterations": 4}, 7),
        ("vocoder", {"iterations": 0}, 2),
        ("vocoder", {"solver": "heun"}, 5),
        ("unconditional", {"seconds": 0.1}, 3),
        ("log_mel", {"seconds": 0.1, "steps": 1}, 4),
    ],
)
def test_progress_counts_to_the_total(name: str, options: dict[str, float], total: int, request: pytest.FixtureRequest):
    model = audiodiff.load(request.getfixturevalue(name))
    calls: list[tuple[int, int]] = []
    mel = mels() if model.needs_mel else None
    model.generate(mel, on_step=lambda done, of_all: calls.append((done, of_all)), **options)  # pyright: ignore
    assert calls == [(k, total) for k in range(1, total + 1)]


def test_double_precision_is_taken_as_float32(vocoder: Path):
    model = audiodiff.load(vocoder)
    audio = sounds.tones(3000, sample_rate=22050)[None]
    mel = model.mel(audio)
    assert torch.equal(model.mel(audio.double()), mel)
    assert torch.equal(model.generate(mel.double()), model.generate(mel))


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("vocoder", {}, "mel=None"),
        ("vocoder", {"mel": mels(), "batch": 2}, "batch=2 has no meaning"),
        ("vocoder", {"mel": mels(), "seconds": 2.0}, "seconds=2.0 has no meaning"),
        ("vocoder", {"mel": mels(), "n_samples": 256 * 12 + 1}, "n_samples=3073 does not belong to 12 frames"),
        ("vocoder", {"mel": mels(), "n_samples": -5}, "does not belong"),
        ("vocoder", {"mel": mels(), "items": [1, 2]}, "items has 2 numbers"),
        ("vocoder", {"mel": mels(), "steps": 0}, "steps=0 must be a whole number, at least 1"),
        ("vocoder", {"mel": mels(), "iterations": -1}, "iterations=-1 must be a whole number, at least 0"),
        ("vocoder", {"mel": mels(), "solver": "nuts"}, "dpmpp_2m"),
        ("vocoder", {"mel": mels() + 40}, "its values span"),
        ("vocoder", {"mel": mels(), "grid": "cubic"}, "grid='cubic' must be one of karras"),
        ("vocoder", {"mel": mels(), "grid": Fixed([4.0, 1.0]), "steps": 3}, "steps=3: n_steps=3 must be 2"),
        ("vocoder", {"mel": mels(), "grid": Karras(sigma_max=1e4)}, "grid starts at sigma=1e+04"),
        ("vocoder", {"mel": mels(), "solver": solver("euler_ancestral", eta=2.0)}, "eta=2.0 must lie between 0 and 1"),
        ("vocoder", {"mel": mels(), "guidance": 2.0}, "guidance=2.0 needs a guide"),
        ("vocoder", {"mel": mels(), "guidance": float("nan")}, "guidance=nan"),
        ("vocoder", {"mel": mels(), "guidance": 2.0, "guidance_interval": (2.0, 1.0)}, "interval=(2.0, 1.0)"),
        ("vocoder", {"mel": mels(), "guidance_interval": (0.0, 1.0)}, "no meaning without guidance"),
        ("unconditional", {"guide": tiny.synthesizer(tiny.UNCONDITIONAL)}, "a guide is given: say how strong"),
        ("unconditional", {"mel": mels()}, "generates from nothing"),
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


@pytest.mark.parametrize("name", ["none", "vocoder"])
def test_one_sound_is_taken_and_returned_without_a_batch_axis(name: str, vocoder: Path):
    model = audiodiff.load(vocoder if name == "vocoder" else name)
    audio = 0.1 * torch.randn(1, 1, 2560, generator=torch.Generator().manual_seed(0))
    mel = model.mel(audio)
    assert torch.equal(model.mel(audio[0]), mel[0])
    assert torch.equal(model.mel(audio[0, 0]), mel[0])
    assert torch.equal(model.generate(mel[0]), model.generate(mel)[0])


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
