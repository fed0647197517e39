"""A trained model as a library: what it takes, what it gives, what it refuses."""

from pathlib import Path

import pytest
import sounds
import torch

import audiodiff
from audiodiff.diffusion.grid import GRIDS, Fixed
from audiodiff.diffusion.solvers import solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer

pytestmark = pytest.mark.numeric

HIFIGAN = dialect("hifigan")


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
    mel = sounds.mels(2, n_frames=n_frames)
    assert model.mel(model.generate(mel)).shape == mel.shape


def test_a_batch_equals_its_examples_one_by_one(vocoder: Path):
    model = audiodiff.load(vocoder)
    mel = sounds.mels(3)
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
    mel = sounds.mels()
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
    mel = sounds.mels()
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
    model, mel = audiodiff.load(vocoder), sounds.mels()
    by_name = {name: model.generate(mel, iterations=0, solver=name) for name in ("euler", "euler_ancestral")}
    given = [model.generate(mel, iterations=0, solver=solver("euler_ancestral", eta=eta)) for eta in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(given[0], by_name["euler"], rtol=1e-5, atol=1e-6)
    assert torch.equal(given[2], by_name["euler_ancestral"])
    assert float((given[1] - given[0]).abs().max()) > 1e-4


def test_a_grid_may_be_named_or_given(vocoder: Path):
    """The tiny vocoder's own is the clock of the flow."""
    model, mel = audiodiff.load(vocoder), sounds.mels()
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
    mel = sounds.mels() if model.needs_mel else None
    model.generate(mel, on_step=lambda done, of_all: calls.append((done, of_all)), **options)  # pyright: ignore
    assert calls == [(k, total) for k in range(1, total + 1)]


def test_double_precision_is_taken_as_float32(vocoder: Path):
    model = audiodiff.load(vocoder)
    audio = sounds.tones(3000, sample_rate=22050)[None]
    mel = model.mel(audio)
    assert torch.equal(model.mel(audio.double()), mel)
    assert torch.equal(model.generate(mel.double()), model.generate(mel))


@pytest.mark.parametrize("name", ["none", "vocoder"])
def test_one_sound_is_taken_and_returned_without_a_batch_axis(name: str, vocoder: Path):
    model = audiodiff.load(vocoder if name == "vocoder" else name)
    audio = 0.1 * torch.randn(1, 1, 2560, generator=torch.Generator().manual_seed(0))
    mel = model.mel(audio)
    assert torch.equal(model.mel(audio[0]), mel[0])
    assert torch.equal(model.mel(audio[0, 0]), mel[0])
    assert torch.equal(model.generate(mel[0]), model.generate(mel)[0])
