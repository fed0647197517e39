"""Augmentation: copies are edits with noise of their own, and the transform replaces as many as it says."""

import math
from typing import Any

import jaxtyping
import pytest
import sounds
import tiny
import torch

from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.editing.augment import COPIES_PER_ITEM, DiffusionAugment, augment
from audiodiff.tasks.editing.edit import edit

RATE = 22050
LABELS = ["conditioner=labels", "conditioner.vocabularies={digit: [a, b]}", "network.vector_features=2"]


@pytest.fixture(scope="module")
def waves() -> Synthesizer:
    return tiny.synthesizer([*tiny.UNCONDITIONAL, "sampler.n_steps=1"])


@pytest.fixture(scope="module")
def labelled() -> Synthesizer:
    return tiny.synthesizer([*tiny.UNCONDITIONAL, *LABELS, "sampler.n_steps=1"])


def _batch(n: int, n_samples: int = 600) -> torch.Tensor:
    return torch.stack([sounds.tones(n_samples, sample_rate=RATE) * (0.5 + k / (2 * n)) for k in range(n)])


def test_a_copy_is_an_edit_and_does_not_depend_on_other_copies(waves: Synthesizer):
    audio = _batch(2)
    few = augment(waves, audio, sample_rate=RATE, n=2, strength=0.5, seed=3)
    many = augment(waves, audio, sample_rate=RATE, n=4, strength=0.5, seed=3)
    assert few.shape == (2, 2, 1, 600)
    assert torch.equal(few, many[:, :2])
    own = edit(waves, audio[1:], sample_rate=RATE, strength=0.5, seed=3, items=[COPIES_PER_ITEM + 3])
    assert torch.equal(own, many[1:, 3])
    assert len({tuple(copy.flatten().tolist()) for copy in many.flatten(0, 1)}) == 8


def test_copies_of_strength_zero_are_the_recording(waves: Synthesizer):
    audio = _batch(2)
    copies = augment(waves, audio, sample_rate=RATE, n=3, strength=0.0)
    torch.testing.assert_close(copies, audio[:, None].expand_as(copies), rtol=0, atol=1e-6)


def test_each_recording_uses_its_own_labels(labelled: Synthesizer):
    audio = _batch(2)
    rows = [{"digit": "a"}, {"digit": "b"}]
    copies = augment(labelled, audio, sample_rate=RATE, n=2, labels=rows, strength=0.9)
    for index, row in enumerate(rows):
        own = augment(
            labelled, audio[index : index + 1], sample_rate=RATE, n=2, labels=row, strength=0.9, items=[index]
        )
        assert torch.equal(own, copies[index : index + 1])
    assert not torch.equal(copies, augment(labelled, audio, sample_rate=RATE, n=2, strength=0.9))


def _transform(model: Synthesizer, *, seed: int = 0, p: float = 0.5) -> DiffusionAugment:
    generator = torch.Generator().manual_seed(seed)
    return DiffusionAugment(model, sample_rate=RATE, strength=0.5, p=p, generator=generator)


def test_the_transform_replaces_recordings_with_its_probability(waves: Synthesizer):
    audio = _batch(4, 64)
    transform = _transform(waves, p=0.3)
    n_batches = 30
    changed = sum(int((transform(audio) != audio).flatten(1).any(1).sum()) for _ in range(n_batches))
    n = 4 * n_batches
    assert changed / n == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / n))


def test_the_transform_is_a_function_of_its_generator(waves: Synthesizer):
    audio = _batch(3)
    first, again, other = (_transform(waves, seed=seed, p=1.0)(audio) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    transform = _transform(waves, seed=1, p=1.0)
    assert not torch.equal(transform(audio), transform(audio))


def test_the_transform_keeps_its_argument_and_recordings_not_chosen(waves: Synthesizer):
    audio = _batch(6)
    before = audio.clone()
    made = _transform(waves, seed=4)(audio)
    assert made.shape == audio.shape
    assert torch.equal(audio, before)
    kept = (made == audio).flatten(1).all(1)
    assert 0 < int(kept.sum()) < 6


def test_the_transform_does_nothing_in_evaluation_or_at_probability_zero(waves: Synthesizer):
    audio = _batch(3)
    assert torch.equal(_transform(waves, p=1.0).eval()(audio), audio)
    assert torch.equal(_transform(waves, p=0.0)(audio), audio)


def test_the_transform_uses_labels_and_leaves_no_graph(labelled: Synthesizer):
    audio = _batch(2)
    labelled_result, other = (_transform(labelled, p=1.0)(audio, {"digit": value}) for value in "ab")
    assert not torch.equal(labelled_result, other)
    assert not labelled_result.requires_grad


@pytest.mark.parametrize(("options", "named"), [({"n": 0}, "n=0"), ({"n": 1, "strength": 2.0}, "strength=2")])
def test_what_cannot_be_is_refused(waves: Synthesizer, options: dict[str, float], named: str):
    with pytest.raises(ParameterError, match=named):
        augment(waves, _batch(1), sample_rate=RATE, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ParameterError, match=r"p=1\.5"):
        DiffusionAugment(waves, sample_rate=RATE, p=1.5)


WRONG = [
    (lambda audio: audio.numpy(), RATE, "audio is a ndarray; give a torch tensor"),
    (lambda audio: audio.tolist(), RATE, "audio is a list"),
    (lambda audio: audio[None], RATE, r"shape \(1, 2, 1, 64\) and must have .*\(batch, channels, time\)"),
    (lambda audio: audio[0, 0, 0], RATE, r"shape \(\) and must have \(time,\)"),
    (lambda audio: audio[:, :0], RATE, "no samples"),
    (lambda audio: (100 * audio).short(), RATE, "dtype torch.int16"),
    (lambda audio: audio * math.nan, RATE, "NaN"),
    (lambda audio: audio, 16000.5, "sample_rate=16000.5"),
    (lambda audio: audio, "16000", "sample_rate='16000'"),
    (lambda audio: audio, None, "sample_rate=None"),
]
"""Change of a recording, its rate, and the refusal."""
MAKERS = [
    lambda model, audio, rate: edit(model, audio, sample_rate=rate),
    lambda model, audio, rate: augment(model, audio, sample_rate=rate, n=1),
    lambda model, audio, rate: DiffusionAugment(model, sample_rate=rate, p=1.0)(audio),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("wrong", "rate", "named"), WRONG)
def test_invalid_recordings_are_refused(
    waves: Synthesizer, monkeypatch: pytest.MonkeyPatch, make: Any, wrong: Any, rate: Any, named: str
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    audio = wrong(_batch(2, 64))
    with pytest.raises(ParameterError, match=named):
        make(waves, audio, rate)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_results_have_the_axes_of_the_recording(waves: Synthesizer, n_axes: int):
    batch = _batch(1)
    audio = batch[(0,) * (3 - n_axes)]
    edited = edit(waves, audio, sample_rate=RATE, strength=0.3)
    assert torch.equal(edited, edit(waves, batch, sample_rate=RATE, strength=0.3).reshape(audio.shape))
    copies = augment(waves, audio, sample_rate=RATE, n=2)
    assert copies.shape == (*audio.shape[: n_axes - 2 if n_axes == 3 else 0], 2, *audio.shape[max(0, n_axes - 2) :])
    assert torch.equal(copies.reshape(1, 2, 1, -1), augment(waves, batch, sample_rate=RATE, n=2))
    assert _transform(waves, p=1.0)(audio).shape == audio.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_transform_keeps_the_dtype(waves: Synthesizer, dtype: torch.dtype):
    audio = _batch(2).to(dtype)
    made = _transform(waves, p=1.0)(audio)
    assert made.dtype == dtype
    torch.testing.assert_close(made, _transform(waves, p=1.0)(audio.float()).to(dtype))


def test_the_transform_does_not_make_the_model_a_part_of_a_users_network(waves: Synthesizer):
    network = torch.nn.Sequential(_transform(waves), torch.nn.Conv1d(1, 1, 1))
    assert list(network.state_dict()) == ["1.weight", "1.bias"]
    assert sum(parameter.numel() for parameter in network.parameters()) == 2
    network.train()
    assert not waves.training
