"""The model named none: mels inverted without training."""

import pytest
import sounds
import torch

import audiodiff
from audiodiff.dsp.inversion import DEFAULT_ITERATIONS
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.errors import AudiodiffError
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.sampling import SamplingOptions


def test_none_is_a_model_with_the_rate_and_the_analysis_of_its_dialect():
    model = audiodiff.load("none", dialect="vocos")
    own = dialect("vocos")
    audio = sounds.tones(5000, sample_rate=24000)
    assert (model.sample_rate, model.dialect, model.needs_mel) == (24000, own, True)
    assert torch.equal(model.mel(audio[None]), own.mel(audio))
    assert audiodiff.load("none").dialect == dialect("hifigan")
    assert audiodiff.load("none", dialect="hifigan:sample_rate=16000").sample_rate == 16000


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_the_mel_of_what_was_made_has_the_shape_of_the_mel_it_was_made_from(name: str, n_frames: int):
    own = dialect(name)
    mel = torch.full((2, own.n_mels, n_frames), own.floor + 0.4 * (own.ceil - own.floor))
    model = MelInverter(dialect=own, n_iterations=2)
    audio = model.generate(mel)
    assert model.mel(audio).shape == mel.shape
    assert bool(audio.isfinite().all())


def test_more_iterations_bring_the_mel_closer():
    own = dialect("hifigan")
    model = MelInverter(dialect=own)
    mel = own.mel(sounds.tones(256 * 30, sample_rate=22050))
    target = own.amplitude(mel)
    distances = [
        float((own.amplitude(model.mel(model.generate(mel, iterations=n))) - target).norm()) for n in (1, 8, 64)
    ]
    assert distances[0] > 2 * distances[1] > 2 * distances[2]
    assert distances[2] < 0.05 * float(target.norm())


def test_a_batch_equals_its_examples_and_the_seed_is_all_there_is_of_chance():
    own = dialect("hifigan")
    model = MelInverter(dialect=own, n_iterations=4)
    mel = own.mel(torch.cat([sounds.tones(256 * 10, sample_rate=22050, peak=peak) for peak in (0.2, 0.5, 0.9)]))
    together = model.generate(mel, seed=3)
    for k in range(3):
        assert torch.allclose(together[k], model.generate(mel[k : k + 1], seed=3, items=[k])[0], atol=1e-6)
    assert not torch.allclose(together, model.generate(mel, seed=4), atol=1e-3)
    assert together.dtype == torch.float32
    assert not together.requires_grad


def test_the_length_may_be_anything_that_has_these_frames():
    own = dialect("vocos")  # centred: 4 frames of 256
    mel = torch.full((1, own.n_mels, 4), own.floor + 0.3 * (own.ceil - own.floor))
    model = MelInverter(dialect=own, n_iterations=1)
    for n_samples in (768, 800, 1023):
        assert model.generate(mel, n_samples=n_samples).shape[-1] == n_samples
    for n_samples in (767, 1024):
        with pytest.raises(AudiodiffError, match="n_samples=768"):
            model.generate(mel, n_samples=n_samples)


def test_progress_counts_to_the_total():
    own = dialect("hifigan")
    calls: list[tuple[int, int]] = []
    mel = torch.full((3, 80, 4), -5.0)
    MelInverter(dialect=own).generate(mel, on_step=lambda done, of_all: calls.append((done, of_all)))
    assert calls == [(k, 3 * DEFAULT_ITERATIONS) for k in range(1, 3 * DEFAULT_ITERATIONS + 1)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mels": None}, "mels=None"),
        ({"labels": {"digit": "1"}}, "labels has no meaning"),
        ({"n_samples": [256]}, "n_samples has no meaning"),
        ({"options": SamplingOptions(steps=4)}, "steps=4 has no meaning"),
        ({"options": SamplingOptions(solver="heun")}, "solver=heun has no meaning"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
        ({"items": []}, "items has 0 numbers"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: dict, reason: str):
    options = {"mels": [torch.full((1, 80, 4), -5.0)], "n_samples": 1024, **options}
    with pytest.raises(AudiodiffError, match=reason):
        audiodiff.load("none").generate_chunks(**options)
