"""Scores of generated sets against closed forms and other implementations."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from audiodiff.errors import ParameterError
from audiodiff.metrics import generative

CLASSES = 10


def embeddings(seed: int, n: int, features: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(features, features, generator=generator, dtype=torch.float64)
    return torch.randn(n, features, generator=generator, dtype=torch.float64) @ mixed + mixed[0]


def log_p(seed: int, n: int, *, sharpness: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(n, CLASSES, generator=generator, dtype=torch.float64)).log_softmax(-1)


def almost_certain(classes: list[int], *, rest: float = 1e-12) -> torch.Tensor:
    p = torch.full((len(classes), CLASSES), rest / (CLASSES - 1), dtype=torch.float64)
    p[torch.arange(len(classes)), torch.tensor(classes)] = 1.0 - rest
    return p.log()


@pytest.mark.parametrize(("n", "m"), [(40, 60), (7, 30)])
def test_frechet_distance_is_the_formula_with_scipys_matrix_root(n: int, m: int):
    a, b = embeddings(0, n).numpy(), embeddings(1, m).numpy()
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)
    found = generative.frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_has_its_closed_form_where_covariances_commute():
    rotation = torch.linalg.qr(embeddings(3, 6))[0]
    # Whitened exactly, so that the covariances of the samples are what they are given.
    base = embeddings(4, 50)
    white = torch.linalg.qr(base - base.mean(0))[0] * math.sqrt(49)
    first, second = torch.arange(1.0, 7.0).double(), torch.tensor([2.0, 0.5, 3.0, 0.0, 1.0, 9.0]).double()
    shift = torch.tensor([0.0, 1.0, 0.0, -2.0, 0.0, 0.5]).double()
    expected = (first - second).square().sum() + shift.square().sum()
    found = generative.frechet_distance((white * first) @ rotation, (white * second + shift) @ rotation)
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_distance_of_a_set_to_itself_is_zero_even_if_singular():
    few = embeddings(5, 4, features=20)
    scale = few.square().sum().item()
    assert generative.frechet_distance(few, few) < 1e-12 * scale
    assert generative.frechet_distance(few, few.flip(0)) < 1e-12 * scale


def test_frechet_distance_is_symmetric_and_falls_with_n():
    a, b = embeddings(6, 30), embeddings(7, 31)
    assert generative.frechet_distance(a, b) == pytest.approx(generative.frechet_distance(b, a), rel=1e-12)
    generator = torch.Generator().manual_seed(8)
    # Of one distribution: the bias of the mean alone is features (1/n + 1/m), and the rest falls alike.
    means = []
    for n in (20, 80, 320):
        sets = torch.randn(20, 2, n, 8, generator=generator)
        means.append(sum(generative.frechet_distance(*pair) for pair in sets) / 20)
    assert means[0] > 3 * means[1] > 9 * means[2] > 0


@pytest.mark.parametrize("n_used", [1, 4, 10])
def test_inception_score_of_certain_sounds_is_the_number_of_equal_classes(n_used: int):
    certain = almost_certain([k % n_used for k in range(20)])
    assert generative.inception_score(certain) == pytest.approx(n_used, rel=1e-8)


def test_inception_score_is_one_where_all_sounds_are_alike():
    assert generative.inception_score(log_p(0, 1).expand(9, -1)) == pytest.approx(1.0, abs=1e-12)


def test_inception_score_is_the_mean_divergence_of_scipy():
    p = log_p(1, 50).exp().numpy()
    expected = math.exp(np.mean([scipy.stats.entropy(row, p.mean(0)) for row in p]))
    assert generative.inception_score(log_p(1, 50)) == pytest.approx(expected, rel=1e-10)


def test_modified_inception_score_is_the_mean_divergence_of_all_pairs():
    p = log_p(2, 20).exp().numpy()
    pairs = [scipy.stats.entropy(p[i], p[j]) for i in range(20) for j in range(20) if i != j]
    assert generative.modified_inception_score(log_p(2, 20)) == pytest.approx(math.exp(np.mean(pairs)), rel=1e-9)


def test_modified_inception_score_does_not_depend_on_the_number():
    """An unbiased mean over pairs: the logarithm at n = 10 and at n = 1000 agree within the error of the mean."""
    many = log_p(3, 20_000)
    small = torch.tensor([math.log(generative.modified_inception_score(part)) for part in many.split(10)])
    large = math.log(generative.modified_inception_score(many))
    standard_error = small.std().item() / math.sqrt(len(small))
    assert abs(small.mean().item() - large) < 4 * standard_error
    # With sounds paired with themselves it would be a tenth less, far outside of that.
    assert 0.1 * large > 20 * standard_error


def test_am_score_is_the_divergence_of_the_means_and_the_mean_entropy():
    p, q = log_p(4, 30).exp().numpy(), log_p(5, 40).exp().numpy()
    expected = scipy.stats.entropy(q.mean(0), p.mean(0)) + scipy.stats.entropy(p, axis=1).mean()
    assert generative.am_score(log_p(4, 30), log_p(5, 40)) == pytest.approx(expected, rel=1e-10)


def test_am_score_is_zero_in_real_proportions_and_grows_with_lost_classes():
    real = almost_certain(list(range(10)))
    assert generative.am_score(almost_certain([*range(10), *range(10)]), real) == pytest.approx(0.0, abs=1e-9)
    half_lost = generative.am_score(almost_certain(list(range(5)), rest=1e-6), real)
    # Half of the real classes have p = 1e-6 / 9 instead of 0.1, the others 0.2.
    assert half_lost == pytest.approx(0.5 * math.log(0.1 / (1e-6 / 9)) + 0.5 * math.log(0.5), rel=1e-4)


def test_values_that_are_not_log_probabilities_are_refused():
    for wrong in (log_p(0, 3).exp(), log_p(0, 3) - math.inf, log_p(0, 0)):
        with pytest.raises(ParameterError):
            generative.inception_score(wrong)
    with pytest.raises(ParameterError, match="at least 2"):
        generative.modified_inception_score(log_p(0, 1))
    with pytest.raises(ParameterError, match="10 classes"):
        generative.am_score(log_p(0, 3), log_p(0, 3)[:, :9].log_softmax(-1))
    with pytest.raises(ParameterError, match="two or more"):
        generative.frechet_distance(embeddings(0, 1), embeddings(0, 5))


@pytest.mark.parametrize(("n_right", "n"), [(0, 10), (3, 10), (297, 300), (300, 300)])
def test_wilson_interval_is_scipys(n_right: int, n: int):
    expected = scipy.stats.binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    assert generative.wilson_interval(n_right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_confusions_are_counted_by_expected_and_predicted_class():
    requested, predicted = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 2, 1, 2, 2, 0])
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for r, p in zip(requested, predicted, strict=True):
        expected[r, p] += 1
    assert torch.equal(generative.confusion_matrix(requested, predicted, n_classes=3), expected)
    with pytest.raises(ParameterError, match="between 0 and 1"):
        generative.confusion_matrix(requested, predicted, n_classes=2)


def test_nearest_distances_are_those_of_a_search():
    a, b = embeddings(9, 1100), embeddings(10, 30)
    expected = scipy.spatial.KDTree(b.numpy()).query(a.numpy())[0]
    assert torch.allclose(generative.nearest_distances(a, b), torch.from_numpy(expected), rtol=1e-12)
    others = scipy.spatial.KDTree(a.numpy()).query(a.numpy(), k=2)[0][:, 1]
    assert torch.allclose(generative.nearest_other_distances(a), torch.from_numpy(others), rtol=1e-12)


def test_copies_are_closer_than_new_sounds_and_new_sounds_are_not():
    train, test, fresh = embeddings(11, 600).split(200)
    generator = torch.Generator().manual_seed(12)
    copies = train + 0.01 * torch.randn(train.shape, generator=generator, dtype=torch.float64)
    real = generative.nearest_distances(test, train)
    assert generative.closer_p_value(generative.nearest_distances(copies, train), real) < 1e-6
    # Under the hypothesis the p value is uniform: 5e-3 would be one seed in 200.
    assert generative.closer_p_value(generative.nearest_distances(fresh, train), real) > 5e-3
    # One-sided: what lies farther off is no copy.
    assert generative.closer_p_value(generative.nearest_distances(fresh + 5.0, train), real) > 0.9


def test_diversity_is_the_mean_distance_within_classes():
    points = embeddings(13, 12)
    classes = [0] * 5 + [1] * 6 + [2]
    expected = [
        np.mean([np.linalg.norm(points[i] - points[j]) for i in members for j in members if i < j])
        for members in (range(5), range(5, 11))
    ]
    assert generative.within_class_distance(points, classes) == pytest.approx(np.mean(expected), rel=1e-12)
    assert math.isnan(generative.within_class_distance(points, list(range(12))))
