"""What a network is told of labels, what of it training leaves out, and how long sounds of them are."""

import math

import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.labels import LabelConditioner

VOCABULARIES = {"digit": ["0", "1", "2"], "speaker": ["ann", "bob"]}


def test_labels_are_left_out_as_often_as_asked_all_of_them_or_each_by_itself():
    conditioner = LabelConditioner(VOCABULARIES, dropout=0.2, dropout_each=0.3)
    n = 20_000
    told = conditioner(torch.zeros(n, 1, 1), torch.tensor([[2, 1]]).expand(n, 2))
    vector = conditioner.dropped(told, torch.Generator().manual_seed(0)).vector
    assert vector is not None
    assert vector.unique().tolist() == [0.0, 1.0]
    digit, speaker = vector[:, :3].sum(dim=1) == 0, vector[:, 3:].sum(dim=1) == 0
    for left_out, expected in (
        (digit, 0.2 + 0.8 * 0.3),
        (speaker, 0.2 + 0.8 * 0.3),
        (digit & speaker, 0.2 + 0.8 * 0.3**2),
    ):
        # Five standard errors of a proportion.
        assert abs(float(left_out.double().mean()) - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


def test_an_unknown_label_and_a_null_condition_are_zeros():
    conditioner = LabelConditioner(VOCABULARIES)
    told = conditioner(torch.zeros(2, 1, 1), torch.tensor([[-1, 0], [1, -1]])).vector
    assert told is not None
    assert told.tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]
    null = conditioner.null(2).vector
    assert null is not None
    assert not null.any()
    untold = conditioner(torch.zeros(2, 1, 1)).vector
    assert untold is not None
    assert torch.equal(untold, null)


def test_durations_are_drawn_from_the_distribution_that_they_were_drawn_from():
    """log(seconds) = -1 + effect of the digit + effect of the speaker + N(0, 0.1^2)."""
    conditioner = LabelConditioner(VOCABULARIES)
    effects = torch.tensor([-0.2, 0.0, 0.2, -0.1, 0.1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    n = 6000
    indices = torch.stack([torch.randint(3, (n,), generator=generator), torch.randint(2, (n,), generator=generator)], 1)
    vectors = conditioner.labels.one_hot(indices)
    logs = -1.0 + vectors.double() @ effects + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    conditioner.fit_durations(logs.exp().float(), indices, longest=10.0)

    told = conditioner.labels.vectors([{"digit": "0", "speaker": "ann"}, {"digit": "2", "speaker": "bob"}, {}])
    zero = torch.zeros(3)
    typical = conditioner.seconds(told, zero)
    assert typical is not None
    # The standard error of a mean of log(seconds) over n / 6 sounds is 0.1 / sqrt(1000) = 0.003; of an effect that is
    # shared by more, less. What trust in no effect takes away is 0.3 / 1000 of it.
    torch.testing.assert_close(typical[:2].log(), torch.tensor([-1.3, -0.7]).double(), rtol=0.0, atol=0.015)
    longer = conditioner.seconds(told, zero + 1.0)
    assert longer is not None
    # Of all that is left open, the effects' own variances add: 0.08 / 3 of the digit, 0.01 of the speaker.
    deviations = torch.tensor([0.1, 0.1, math.sqrt(0.01 + 0.08 / 3 + 0.01)]).double()
    torch.testing.assert_close((longer / typical).log(), deviations, rtol=0.06, atol=0.0)
    assert abs(float(typical[2].log()) + 1.0) < 0.015
    # Nothing is longer or shorter than what was heard.
    for draw in (-50.0, 50.0):
        extreme = conditioner.seconds(told, zero + draw)
        assert extreme is not None
        end = logs.min() if draw < 0 else logs.max()
        torch.testing.assert_close(extreme.log(), end.expand(3), rtol=1e-5, atol=1e-5)


def test_durations_are_those_that_training_hears():
    conditioner = LabelConditioner(VOCABULARIES)
    conditioner.fit_durations(torch.tensor([0.5, 4.0, 8.0]), torch.tensor([[0, 0], [1, 1], [2, 0]]), longest=1.0)
    longest = conditioner.seconds(torch.zeros(1, 5), torch.tensor([100.0]))
    assert longest is not None
    assert math.isclose(float(longest), 1.0, rel_tol=1e-6)


def test_without_durations_nothing_is_said_of_them():
    assert LabelConditioner(VOCABULARIES).seconds(torch.zeros(1, 5), torch.zeros(1)) is None


@pytest.mark.parametrize(
    ("vocabularies", "options", "said"),
    [
        (None, {}, "data.labels={digit: label}"),
        ({}, {}, "data.labels={digit: label}"),
        ({"digit": []}, {}, "one or more different values"),
        ({"digit": ["1", "1"]}, {}, "one or more different values"),
        (VOCABULARIES, {"dropout": 1.0}, "dropout=1.0 must lie in"),
        (VOCABULARIES, {"dropout_each": -0.1}, "dropout_each=-0.1 must lie in"),
    ],
)
def test_what_makes_no_conditioner_is_refused(vocabularies, options, said):
    with pytest.raises(ParameterError) as refusal:
        LabelConditioner(vocabularies, **options)
    assert said in str(refusal.value)
