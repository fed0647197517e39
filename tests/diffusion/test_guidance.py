"""Guidance on data whose conditional and unconditional denoisers are known in closed form."""

import math
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian, Mixture
from scipy.integrate import quad
from torch import Tensor

from audiodiff.diffusion.guidance import autoguidance, classifier_free, classifier_guidance
from audiodiff.diffusion.solvers import dpmpp_2m
from audiodiff.errors import ParameterError

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.5], [0.3, -0.2], [2.0, 1.0]], dtype=torch.float64)
VARIANCES = torch.tensor([0.3, 0.05, 0.2], dtype=torch.float64)
ALL = Mixture(WEIGHTS, MEANS, VARIANCES)
CLASSES = [Mixture(torch.ones(1, dtype=torch.float64), MEANS[k : k + 1], VARIANCES[k : k + 1]) for k in range(3)]
SIGMA = torch.tensor([0.02, 0.1, 0.4, 1.0, 3.0, 20.0], dtype=torch.float64)


def points(n: int, *, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return spread * torch.randn(n, 2, 1, generator=generator, dtype=torch.float64)


def classifier(k: int):
    """Return log p(class k | x, sigma), exactly: Bayes' rule on the mixture."""
    return lambda x, sigma: WEIGHTS[k].log() + CLASSES[k].log_prob(x, sigma) - ALL.log_prob(x, sigma)


def counted(denoise):
    def call(x: Tensor, sigma: Tensor) -> Tensor:
        call.n += 1
        return denoise(x, sigma)

    call.n = 0
    return call


def gaussian(mean: float, variance: float) -> Gaussian:
    return Gaussian(*(torch.full((2, 1), value, dtype=torch.float64) for value in (mean, variance)))


@pytest.mark.parametrize("k", range(3))
def test_the_exact_classifier_gives_the_exact_conditional_denoiser(k):
    x = points(6)
    guided = classifier_guidance(ALL.denoise, classifier(k), scale=1.0)(x, SIGMA)
    torch.testing.assert_close(guided, CLASSES[k].denoise(x, SIGMA), rtol=1e-10, atol=1e-10)


def test_both_kinds_of_guidance_are_equal_for_exact_denoisers():
    """Its gradient is the difference of the two scores."""
    x = points(6)
    for scale in (0.0, 0.5, 3.0):
        by_classifier = classifier_guidance(ALL.denoise, classifier(1), scale=scale)(x, SIGMA)
        without = classifier_free(CLASSES[1].denoise, ALL.denoise, scale=scale)(x, SIGMA)
        torch.testing.assert_close(by_classifier, without, rtol=1e-10, atol=1e-10)


def test_classifier_guidance_works_with_gradients_off_and_leaves_none():
    x = points(6)
    with torch.no_grad():
        guided = classifier_guidance(ALL.denoise, classifier(0), scale=1.0)(x, SIGMA)
    assert not guided.requires_grad
    assert not x.requires_grad


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_classifier_free_guidance_has_the_score_of_the_tilted_density(scale):
    """p_c^scale p_u^(1 - scale) of two Gaussians has the precision and the mean that their weighted sums give."""
    told, untold, x = gaussian(0.7, 0.1), gaussian(-0.2, 0.5), points(6)
    guided = classifier_free(told.denoise, untold.denoise, scale=scale)(x, SIGMA)
    power = SIGMA[:, None, None] ** 2
    precisions = scale / (0.1 + power), (1.0 - scale) / (0.5 + power)
    precision = sum(precisions)
    mean = (precisions[0] * 0.7 + precisions[1] * -0.2) / precision
    torch.testing.assert_close(guided, x - power * precision * (x - mean), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_guided_samples_of_equal_variances_have_the_extrapolated_mean(scale):
    """Both denoisers have one gain, so that the guided one is exact for N(m_u + scale (m_c - m_u), v)."""
    told, untold = gaussian(0.7, 0.2), gaussian(-0.2, 0.2)
    start, sigmas = points(3, spread=10.0), torch.logspace(1.0, -2.0, 400, dtype=torch.float64)
    result = dpmpp_2m(classifier_free(told.denoise, untold.denoise, scale=scale), start, sigmas)
    same = dpmpp_2m(gaussian(-0.2 + 0.9 * scale, 0.2).denoise, start, sigmas)
    torch.testing.assert_close(result, same, rtol=1e-12, atol=1e-12)
    exact = gaussian(-0.2 + 0.9 * scale, 0.2).flow(start, 10.0, 0.01)
    assert (result - exact).abs().max() < 1e-3  # the solver's error at this step, of order two


def test_guided_samples_of_two_gaussians_follow_their_closed_form_flow():
    """dx / d sigma = sigma sum_i s_i (x - m_i) / (v_i + sigma^2), solved with the integrating factor prod (v_i +
    sigma^2)^(s_i / 2)."""
    scale, parts = 3.0, ((3.0, 0.7, 0.1), (-2.0, -0.2, 0.5))

    def factor(sigma: float) -> float:
        return math.prod((variance + sigma**2) ** (0.5 * share) for share, _, variance in parts)

    def pull(sigma: float) -> float:
        return -sum(s * sigma * mean / (variance + sigma**2) for s, mean, variance in parts) / factor(sigma)

    start = points(3, spread=10.0)
    drift, _ = quad(pull, 10.0, 0.01, epsabs=1e-12, epsrel=1e-12, limit=200)
    exact = factor(0.01) * (start / factor(10.0) + drift)
    guided = classifier_free(gaussian(0.7, 0.1).denoise, gaussian(-0.2, 0.5).denoise, scale=scale)
    errors = [
        (dpmpp_2m(guided, start, torch.logspace(1.0, -2.0, n + 1, dtype=torch.float64)) - exact).abs().max().item()
        for n in (200, 400, 800)
    ]
    assert [math.log2(coarse / fine) for coarse, fine in pairwise(errors)] == pytest.approx([2.0, 2.0], abs=0.15)
    assert errors[-1] < 1e-3


def test_scale_1_is_the_conditional_denoiser_itself():
    told = ALL.denoise
    assert classifier_free(told, CLASSES[0].denoise, scale=1.0, rescale=0.7) is told
    assert autoguidance(told, CLASSES[0].denoise, scale=1.0) is told


def test_outside_the_interval_it_is_the_conditional_denoiser():
    told, untold, x = counted(CLASSES[0].denoise), counted(ALL.denoise), points(1)
    guided = classifier_free(told, untold, scale=3.0, interval=(0.4, 3.0))
    for sigma, acts in ((0.1, False), (0.4, False), (0.41, True), (3.0, True), (3.01, False)):
        told.n = untold.n = 0
        level = torch.tensor([sigma], dtype=torch.float64)
        result = guided(x, level)
        assert (told.n, untold.n) == (1, int(acts))
        assert torch.equal(result, CLASSES[0].denoise(x, level)) != acts


def test_each_example_of_a_batch_is_guided_by_its_own_level():
    x = points(6)
    guided = classifier_free(CLASSES[0].denoise, ALL.denoise, scale=3.0, interval=(0.1, 1.0), rescale=0.5)
    together = guided(x, SIGMA)
    for k in range(6):
        assert torch.equal(together[k : k + 1], guided(x[k : k + 1], SIGMA[k : k + 1]))


def test_rescale_gives_the_standard_deviation_of_the_conditional_estimate():
    x = points(6)
    told = CLASSES[0].denoise(x, SIGMA)
    whole = classifier_free(CLASSES[0].denoise, ALL.denoise, scale=4.0, rescale=1.0)(x, SIGMA)
    none = classifier_free(CLASSES[0].denoise, ALL.denoise, scale=4.0)(x, SIGMA)
    half = classifier_free(CLASSES[0].denoise, ALL.denoise, scale=4.0, rescale=0.5)(x, SIGMA)
    torch.testing.assert_close(whole.std(dim=(1, 2)), told.std(dim=(1, 2)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(half, 0.5 * (whole + none), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole / none, (whole / none)[:, :1].expand_as(x), rtol=1e-10, atol=1e-10)


def test_rescale_leaves_a_constant_as_it_is():
    guided = classifier_free(lambda x, _: 0 * x + 1, lambda x, _: 0 * x, scale=2.0, rescale=1.0)
    assert torch.equal(guided(points(1), SIGMA[:1]), torch.full((1, 2, 1), 2.0, dtype=torch.float64))


def test_autoguidance_removes_the_blur_of_the_weak_model():
    """Two models that blur the data's variance v by b and 2 b: at sigma >> v, scale 2 restores the exact denoiser."""
    exact, strong, weak = (gaussian(0.0, variance) for variance in (0.1, 0.15, 0.2))
    x, sigma = points(6, spread=30.0), torch.full((6,), 30.0, dtype=torch.float64)
    guided = autoguidance(strong.denoise, weak.denoise, scale=2.0)(x, sigma)
    # The gain v / (v + sigma^2) is linear in v up to (v / sigma^2)^2 = 5e-8 of x.
    torch.testing.assert_close(guided, exact.denoise(x, sigma), rtol=0.0, atol=1e-5)
    assert (strong.denoise(x, sigma) - exact.denoise(x, sigma)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": math.nan}, "scale=nan"),
        ({"scale": math.inf}, "scale=inf"),
        ({"scale": 2.0, "interval": (1.0, 1.0)}, r"interval=\(1.0, 1.0\)"),
        ({"scale": 2.0, "interval": (-1.0, 1.0)}, r"interval=\(-1.0, 1.0\)"),
        ({"scale": 2.0, "rescale": 1.5}, "rescale=1.5"),
    ],
)
def test_invalid_guidance_is_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        classifier_free(ALL.denoise, ALL.denoise, **options)
