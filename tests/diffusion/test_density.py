import math

import pytest
import torch

from audiodiff.diffusion.density import (
    DiscreteSteps,
    LogitNormal,
    LogNormal,
    LogUniform,
    UniformTime,
    independent,
    stratified,
)
from audiodiff.diffusion.process import DiscreteVP, Flow, SubVP, VPCosine, VPLinear, linear_betas
from audiodiff.errors import ParameterError

DISCRETE = DiscreteVP(linear_betas(1e-4, 0.05, 50))
N = 40_000
# The Kolmogorov-Smirnov distance of N draws is below this with probability 1 - 1e-6.
KS_LIMIT = math.sqrt(-0.5 * math.log(5e-7) / N)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def distance_to_uniform(values: torch.Tensor) -> float:
    ranks = (torch.arange(len(values), dtype=torch.float64) + 0.5) / len(values)
    return (values.double().sort().values - ranks).abs().max().item()


@pytest.mark.parametrize("draw", [independent, stratified])
@pytest.mark.parametrize("process", [Flow(), VPCosine(), DISCRETE], ids=["flow", "cosine", "discrete"])
def test_uniform_time_is_uniform_on_the_clock(process, draw):
    density = UniformTime(process, t_min=0.1, t_max=0.9, draw=draw)
    t = process.time(density(N, generator=generator()).double()) / process.last
    assert distance_to_uniform((t - 0.1) / 0.8) < KS_LIMIT


@pytest.mark.parametrize("draw", [independent, stratified])
def test_uniform_time_gives_its_end_the_share_that_it_is_asked_to(draw):
    density = UniformTime(Flow(), t_max=0.9, last_share=0.25, draw=draw)
    t = Flow().time(density(N, generator=generator()).double())
    at_end = t > 0.9 - 1e-5
    assert at_end.double().mean().item() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / N))
    assert distance_to_uniform((t[~at_end] - 0.001) / 0.899) < 1.2 * KS_LIMIT
    uniform = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)
    ranks = torch.tensor([0.1, 0.6, 0.875], dtype=torch.float64)
    torch.testing.assert_close(density.cdf(density.icdf(uniform)), ranks)


@pytest.mark.parametrize("draw", [independent, stratified])
def test_log_normal_has_its_quantiles(draw):
    log_sigma = LogNormal(mean=-1.2, std=1.2, draw=draw)(N, generator=generator()).double().log()
    assert distance_to_uniform(torch.special.ndtr((log_sigma + 1.2) / 1.2)) < KS_LIMIT


@pytest.mark.parametrize("draw", [independent, stratified])
def test_logit_normal_on_the_straight_path_is_log_normal_in_sigma(draw):
    # log(t / (1 - t)) is log(sigma / noise_scale) there.
    density = LogitNormal(Flow(noise_scale=0.1), mean=0.5, std=0.8, draw=draw)
    log_sigma = density(N, generator=generator()).double().log()
    assert distance_to_uniform(torch.special.ndtr((log_sigma - math.log(0.1) - 0.5) / 0.8)) < KS_LIMIT


@pytest.mark.parametrize("process", [VPLinear(), DISCRETE], ids=["linear", "discrete"])
def test_logit_normal_has_its_quantiles_on_the_clock(process):
    density = LogitNormal(process, mean=-0.3, std=1.5)
    t = process.time(density(N, generator=generator()).double()) / process.last
    assert distance_to_uniform(torch.special.ndtr((torch.logit(t) + 0.3) / 1.5)) < KS_LIMIT


@pytest.mark.parametrize("draw", [independent, stratified])
def test_log_uniform_is_uniform_in_log_snr(draw):
    sigma = LogUniform(sigma_min=0.01, sigma_max=10.0, draw=draw)(N, generator=generator())
    log_snr = -2.0 * sigma.double().log()
    assert distance_to_uniform((log_snr + 2.0 * math.log(10.0)) / (2.0 * math.log(1000.0))) < KS_LIMIT


DISTRIBUTIONS = {
    "uniform_time": UniformTime(SubVP()),
    "discrete": DiscreteSteps(DISCRETE),
    "log_normal": LogNormal(),
    "logit_normal": LogitNormal(VPCosine()),
    "log_uniform": LogUniform(),
}


@pytest.mark.parametrize("density", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
def test_the_cdf_inverts_the_inverse_cdf(density):
    # The middles of 50 strata: the cdf of discrete steps is defined there.
    uniform = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
    torch.testing.assert_close(density.cdf(density.icdf(uniform)), uniform, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformTime(Flow(), t_min=0.5, t_max=0.5), "t_min=0.5"),
        (lambda: LogNormal(std=0.0), "std=0.0"),
        (lambda: LogitNormal(Flow(), std=-1.0), "std=-1.0"),
        (lambda: LogUniform(sigma_min=0.0), "sigma_min=0.0"),
    ],
)
def test_a_density_that_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_discrete_steps_are_whole_and_equally_likely():
    t = DISCRETE.time(DiscreteSteps(DISCRETE)(N, generator=generator()).double())
    # float32 rounds sigma to 6e-8 of itself, which is 1e-5 of the narrowest step.
    torch.testing.assert_close(t, t.round(), rtol=0.0, atol=1e-4)
    counts = torch.bincount(t.round().long(), minlength=50)
    assert len(counts) == 50
    # Five standard deviations of a count of N / 50.
    assert (counts - N / 50).abs().max() < 5.0 * math.sqrt(N / 50)


def test_strata_hold_one_draw_each():
    draws = stratified(64, generator=generator())
    assert torch.equal((draws * 64).floor().sort().values, torch.arange(64.0, dtype=torch.float64))


@pytest.mark.parametrize("density", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
def test_the_same_generator_gives_the_same_positive_float32_levels(density):
    first, second = density(1000, generator=generator()), density(1000, generator=generator())
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert (first > 0.0).all()
    assert first.isfinite().all()
