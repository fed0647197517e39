"""A model that is told labels, as a library: what it takes, what it gives, what it refuses."""

from typing import Any

import pytest
import tiny
import torch

from audiodiff.diffusion.noise import BlockNoise
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.window_sampler import WindowSampler

VOCABULARIES = "{digit: ['0', '1', '2'], speaker: [ann, bob]}"
LABELS = ["conditioner=labels", f"conditioner.vocabularies={VOCABULARIES}", "network.vector_features=5"]
WAVEFORM = [*tiny.UNCONDITIONAL, *LABELS]
LOG_MEL = [*tiny.LOG_MEL, *LABELS]


def model(overrides: list[str]) -> Synthesizer:
    made = tiny.synthesizer(overrides)
    conditioner = made.conditioner
    assert isinstance(conditioner, LabelConditioner)
    # The larger, the more of what is made depends on the labels.
    seconds, labels = torch.tensor([0.05, 0.07, 0.12, 0.04]), torch.tensor([[0, 0], [1, 1], [2, 0], [0, 1]])
    conditioner.fit_durations(seconds, labels, longest=1.0)
    return made


@pytest.fixture(scope="module", params=[WAVEFORM, LOG_MEL], ids=["waveform", "log_mel"])
def synthesizer(request: pytest.FixtureRequest) -> Synthesizer:
    return model(request.param)


def test_labels_are_heard_and_any_way_of_saying_them_is_the_same(synthesizer: Synthesizer):
    one = {"digit": "1", "speaker": "bob"}
    made = synthesizer.generate(labels=one, seconds=0.05)
    for same in ([one], {"speaker": {"bob": 1.0}, "digit": "1"}):
        assert torch.equal(made, synthesizer.generate(labels=same, seconds=0.05))
    for other in ({"digit": "2", "speaker": "bob"}, {"digit": "1"}, None, {"digit": {"1": 0.5, "2": 0.5}}):
        assert not torch.equal(made, synthesizer.generate(labels=other, seconds=0.05))
    assert torch.equal(synthesizer.generate(seconds=0.05), synthesizer.generate(labels={"digit": None}, seconds=0.05))


def test_sounds_of_drawn_lengths_are_those_of_each_alone_and_end_in_zeros(synthesizer: Synthesizer):
    rows = [{"digit": str(k % 3)} for k in range(4)]
    lengths = synthesizer.lengths(rows, seed=3)
    assert len(set(lengths)) > 1
    together = synthesizer.generate(labels=rows, seed=3)
    assert together.shape == (4, 1, max(lengths))
    for item, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        alone = synthesizer.generate(labels=row, seed=3, items=[item])
        assert alone.shape[-1] == length
        assert torch.equal(alone, synthesizer.generate(labels=row, n_samples=length, seed=3, items=[item]))
        assert torch.equal(together[item, :, :length], alone[0])
        assert not together[item, :, length:].any()


def test_sounds_of_unequal_lengths_computed_together_are_those_of_each_alone(synthesizer: Synthesizer):
    """As a GPU computes them: in one padded batch."""
    hop = synthesizer.representation.hop_length
    lengths, rows = [4 * hop, 12 * hop, 7 * hop], [{"digit": "0"}, {"digit": "1"}, {"speaker": "ann"}]
    if hop == 1:
        lengths = [800, 1600, 1203]
    together = rendered(synthesizer, rows, lengths, items=[0, 1, 2])(None, n_samples=max(lengths), first_sample=0)
    for item, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        alone = synthesizer.generate(labels=row, n_samples=length, items=[item])
        # Batched convolutions round by the size of their batch, and the mel constraint amplifies that.
        torch.testing.assert_close(together[item, :, :length], alone[0], rtol=0.0, atol=1e-4)
        assert not together[item, :, length:].any()


def rendered(synthesizer: Synthesizer, rows: list[Any], lengths: list[int], *, items: list[int]):
    return WindowSampler(
        synthesizer,
        synthesizer.sampler,
        n_iterations=synthesizer.checked_iterations(None),
        seed=0,
        items=items,
        labels=rows,
        lengths=lengths,
    )


def test_classifier_free_guidance_extrapolates_from_the_null_condition():
    """One step of euler returns D itself, and the waveform is what is diffused: D = D_u + scale (D_c - D_u)."""
    synthesizer = model(WAVEFORM)
    how: dict[str, Any] = {"steps": 1, "solver": "euler", "seconds": 0.05}
    told = synthesizer.generate(labels={"digit": "2"}, **how)
    untold = synthesizer.generate(**how)
    guided = synthesizer.generate(labels={"digit": "2"}, guidance=3.0, **how)
    torch.testing.assert_close(guided, untold + 3.0 * (told - untold), rtol=1e-4, atol=1e-6)
    assert torch.equal(told, synthesizer.generate(labels={"digit": "2"}, guidance=1.0, **how))
    nowhere = synthesizer.generate(labels={"digit": "2"}, guidance=3.0, guidance_interval=(1e6, 1e7), **how)
    assert torch.equal(told, nowhere)


def test_a_duration_is_a_pure_function_of_seed_item_and_labels():
    synthesizer = model(WAVEFORM)
    rows = [{"digit": "1"}] * 3
    lengths = synthesizer.lengths(rows, seed=5)
    assert lengths == synthesizer.lengths(rows, seed=5)
    assert lengths[2:] == synthesizer.lengths(rows[:1], seed=5, items=[2])
    assert lengths != synthesizer.lengths(rows, seed=6)
    # What keys a duration keys none of the noise: that of a solver's steps begins at -1.
    like = torch.zeros(1, 1, 1)
    assert float(BlockNoise(5, [0])(like, -1)) != float(BlockNoise(5, [0])(like, -2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": {"digit": "7"}}, "digit=7 is not known; it must be one of: 0, 1, 2"),
        ({"labels": {"colour": "red"}}, "'colour' is not known; there are: digit, speaker"),
        ({"labels": [{"digit": "1"}], "batch": 2}, "batch=2, and there are labels of 1"),
        ({"labels": []}, "labels=[] must be"),
        ({"labels": {"digit": {"1": 0.7, "2": 0.7}}}, "weights of a mixture"),
        ({"labels": {"digit": "1"}, "batch": 0}, "batch=0 must be"),
    ],
)
def test_labels_that_mean_nothing_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(ParameterError) as refusal:
        model(WAVEFORM).generate(**options)
    assert said in str(refusal.value)


def test_a_model_without_labels_refuses_them():
    with pytest.raises(ParameterError, match="trained without"):
        tiny.synthesizer(tiny.UNCONDITIONAL).generate(labels={"digit": "1"})


def test_a_guide_that_knows_other_labels_is_refused():
    other = tiny.synthesizer(
        [*tiny.UNCONDITIONAL, "conditioner=labels", "conditioner.vocabularies={a: [b]}", "network.vector_features=1"]
    )
    with pytest.raises(ParameterError, match="guide has labels="):
        model(WAVEFORM).generate(labels={"digit": "1"}, guide=other, guidance=2.0)
