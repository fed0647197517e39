"""Noise levels drawn by the size of their losses."""

import math

import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.adaptive_density import LossSecondMoment
from audiodiff.diffusion.density import DiscreteSteps, InvertibleDistribution, LogNormal, UniformTime, stratified
from audiodiff.diffusion.process import DiscreteVP, Flow, Variational, linear_betas
from audiodiff.errors import ParameterError

TABLE = DiscreteVP(linear_betas(1e-4, 0.05, 50))
BASES = {"flow": UniformTime(Flow()), "log_normal": LogNormal(), "steps": DiscreteSteps(TABLE)}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
N = 40_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(rank: Tensor) -> Tensor:
    """A loss that is great where there is little noise."""
    return 0.05 + torch.exp(-8.0 * rank)


def taught(base: InvertibleDistribution, *, draw=stratified) -> LossSecondMoment:
    """Return a density that has seen enough losses in every bin."""
    density, source = LossSecondMoment(base, n_bins=25, draw=draw), generator(1)
    while bool((density.probabilities == 1.0 / 25).all()):
        sigma = density(100, generator=source)
        density.update(sigma, loss(base.cdf(sigma.double())))
    return density


@every_base
def test_the_base_is_drawn_from_until_every_bin_is_full(base):
    density, source = LossSecondMoment(base, n_bins=25, history=3, draw=stratified), generator(1)
    for _ in range(2):
        sigma = density(25, generator=source)
        density.update(sigma, loss(base.cdf(sigma.double())))
        assert torch.equal(density.weight(sigma), torch.ones_like(sigma))
    same = type(base)(**{name: getattr(base, name) for name in base.__dataclass_fields__} | {"draw": stratified})
    # The uniform number goes by way of its bin, which rounds it.
    torch.testing.assert_close(
        density(1000, generator=generator()), same(1000, generator=generator()), rtol=1e-6, atol=0.0
    )
    density.update(sigma, loss(base.cdf(sigma.double())))
    assert not torch.equal(density.weight(sigma), torch.ones_like(sigma))


def test_the_probabilities_are_those_of_nichol_and_dhariwal():
    density, remembered = LossSecondMoment(UniformTime(Flow()), n_bins=5, history=4), [[] for _ in range(5)]
    source = generator()
    for _ in range(30):
        numbers = torch.randint(5, (7,), generator=source)
        losses = torch.rand(7, generator=source)
        density.update(density.base.icdf((numbers + 0.5).double() / 5), losses)
        for number, value in zip(numbers.tolist(), losses.tolist(), strict=True):
            remembered[number] = [*remembered[number], value][-4:]
    roots = [math.sqrt(sum(value**2 for value in values) / 4) for values in remembered]
    expected = [0.999 * root / sum(roots) + 0.001 / 5 for root in roots]
    torch.testing.assert_close(density.probabilities, torch.tensor(expected, dtype=torch.float64))


@every_base
def test_levels_are_drawn_by_their_probabilities_and_evenly_within_a_bin(base):
    density = taught(base)
    ranks = base.cdf(density(N, generator=generator()).double())
    bins = torch.floor(25 * ranks).long()
    shares = torch.bincount(bins, minlength=25) / N
    # Strata leave a count uncertain by one at either end of a bin; float32's rounding of sigma, by a few at its edges.
    assert (shares - density.probabilities).abs().max() < 10 / N
    if base is not BASES["steps"]:
        within = (25 * ranks - bins).sort().values
        even = (torch.arange(N, dtype=torch.float64) + 0.5) / N
        assert (within - even).abs().max() < math.sqrt(-0.5 * math.log(5e-7) / N)


@every_base
def test_the_weights_keep_the_expectation_and_lower_the_variance(base):
    density = taught(base)
    ranks = (torch.arange(25_000, dtype=torch.float64) + 0.5) / 25_000
    exact = loss(base.cdf(base.icdf(ranks)))
    mean, even = exact.mean(), exact.square().mean()
    squares = exact.square().reshape(25, -1).mean(dim=1)
    second = (squares / density.probabilities).sum() / 25**2

    sigma = density(N, generator=generator())
    counted = (density.weight(sigma) * loss(base.cdf(sigma.double()))).double()
    standard_error = torch.sqrt((second - mean**2) / N)
    # Strata only lower it.
    assert (counted.mean() - mean).abs() < 4.0 * standard_error
    fourth = counted.pow(4).mean() - second**2
    assert (counted.square().mean() - second).abs() < 4.0 * torch.sqrt(fourth / N)
    assert second - mean**2 < 0.05 * (even - mean**2)


def test_a_restored_history_draws_the_same_levels():
    density, other = taught(BASES["flow"]), LossSecondMoment(BASES["flow"], n_bins=25, draw=stratified)
    other.restore(density.state())
    assert torch.equal(density(100, generator=generator()), other(100, generator=generator()))
    for each in (density, other):
        sigma = each(100, generator=generator(2))
        each.update(sigma, loss(sigma))
    assert torch.equal(density.probabilities, other.probabilities)
    with pytest.raises(ParameterError, match="set density as it was"):
        LossSecondMoment(BASES["flow"], n_bins=10).restore(density.state())
    with pytest.raises(ParameterError, match="set density as it was"):
        other.restore({})


def test_what_was_saved_does_not_change_while_training_goes_on():
    density = taught(BASES["flow"])
    state = density.state()
    before = {name: value.clone() for name, value in state.items()}
    density.update(density(10, generator=generator()), torch.ones(10))
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize("n_bins", [50, 25, 10, 1])
def test_bins_that_hold_whole_steps_are_taken(n_bins):
    assert LossSecondMoment(BASES["steps"], n_bins=n_bins).n_bins == n_bins


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossSecondMoment(BASES["steps"], n_bins=40), "n_bins=40"),
        (lambda: LossSecondMoment(BASES["steps"], n_bins=100), "n_bins=100"),
        (lambda: LossSecondMoment(BASES["flow"], n_bins=0), "n_bins=0"),
        (lambda: LossSecondMoment(BASES["flow"], history=0), "history=0"),
        (lambda: LossSecondMoment(BASES["flow"], share=0.0), "share=0.0"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_losses_that_are_all_zero_leave_the_levels_even():
    density = LossSecondMoment(BASES["flow"], n_bins=2, history=1)
    density.update(density.base.icdf(torch.tensor([0.25, 0.75], dtype=torch.float64)), torch.zeros(2))
    assert density.probabilities.tolist() == [0.5, 0.5]


def test_a_base_may_be_a_learnt_schedules_clock():
    density = LossSecondMoment(UniformTime(Variational(), t_min=0.0, t_max=1.0), n_bins=10)
    assert density(100, generator=generator()).isfinite().all()
