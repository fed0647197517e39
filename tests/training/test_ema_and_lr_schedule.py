"""The average of the weights and the learning rate, against their closed forms."""

import math

import pytest
import torch
from torch import nn

from audiodiff.errors import ParameterError
from audiodiff.training.ema import Ema
from audiodiff.training.lr_schedule import Constant, Cosine


def test_the_average_is_its_closed_form():
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(module.weight, 5.0)
    ema = Ema(module, decay=0.5)
    decays = [min(0.5, (1 + n) / (10 + n)) for n in range(12)]
    for step in range(12):
        nn.init.constant_(module.weight, float(step))
        ema.update(step)
    expected = 5.0 * math.prod(decays)
    for step in range(12):
        expected += step * (1 - decays[step]) * math.prod(decays[step + 1 :])
    assert float(ema.shadow["weight"]) == pytest.approx(expected, rel=1e-12)


def test_the_average_of_constant_weights_is_those_weights():
    module = nn.Linear(3, 3)
    ema = Ema(module, decay=0.999)
    for step in range(5):
        ema.update(step)
    torch.testing.assert_close(ema.state_dict(), dict(module.state_dict()))


def test_no_decay_keeps_the_last_weights():
    module = nn.Linear(3, 3)
    ema = Ema(module, decay=0.0)
    nn.init.normal_(module.weight)
    ema.update(0)
    assert torch.equal(ema.shadow["weight"], module.weight)


def test_the_weights_return_unchanged_after_the_average_was_used():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, decay=0.9)
    nn.init.constant_(module.weight, 7.0)
    own = module.weight

    def inside() -> None:
        with ema.in_place():
            assert module.weight is own
            assert module.weight.tolist() == [1.0, 1.0]
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        inside()
    assert module.weight.tolist() == [7.0, 7.0]


def test_buffers_are_taken_as_they_are():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, decay=0.9)
    module.running_mean.fill_(3.0)
    assert ema.state_dict()["running_mean"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_0_to_1_is_refused(decay: float):
    with pytest.raises(ParameterError, match="ema_decay"):
        Ema(nn.Linear(1, 1), decay=decay)


def test_the_rate_rises_evenly_and_never_starts_at_0():
    assert [Constant(3)(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert Constant()(0) == 1.0


def test_cosine_is_its_closed_form():
    schedule = Cosine(total_steps=110, warmup_steps=10, final=0.1)
    for step in range(10, 110):
        expected = 0.1 + 0.9 * math.cos(math.pi * (step - 10) / 200) ** 2
        assert schedule(step) == pytest.approx(expected, rel=1e-12)
    assert schedule(110) == schedule(500) == pytest.approx(0.1)
    assert schedule(4) == pytest.approx(5 / 11)


def test_a_new_cosine_is_the_first_one_later():
    first, again = Cosine(total_steps=60, warmup_steps=10, final=0.1), Cosine(160, 10, 0.1, first_step=100)
    for step in range(70):
        assert again(100 + step) == first(step)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(-1),
        lambda: Cosine(total_steps=5, warmup_steps=-1),
        lambda: Cosine(total_steps=0),
        lambda: Cosine(total_steps=5, final=1.5),
        lambda: Cosine(total_steps=5, first_step=5),
        lambda: Cosine(total_steps=5, first_step=-1),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make):
    with pytest.raises(ParameterError):
        make()
