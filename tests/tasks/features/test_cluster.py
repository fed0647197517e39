"""Clustering on separated blobs, against scikit-learn's scores and brute force."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from audiodiff.errors import ParameterError
from audiodiff.tasks.features import cluster as clustering
from audiodiff.tasks.features.cluster import ALGORITHMS, agreement, best_clustering, cluster, standardize


def blobs(sizes=(12, 7, 5), *, distance=20.0, n_features=4):
    """Make clouds of unit variance around corners that are far from each other."""
    generator = np.random.default_rng(0)
    centres = distance * np.eye(max(len(sizes), n_features))[: len(sizes), :n_features]
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return centres[truth] + generator.standard_normal((len(truth), n_features)), truth


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_distant_blobs_are_found_and_numbered_by_size(algorithm):
    vectors, truth = blobs()
    found = cluster(vectors, k=3, algorithm=algorithm)
    assert np.array_equal(found.assignment, truth)
    assert found.sizes == [12, 7, 5]


def test_the_best_number_of_clusters_is_that_of_the_blobs():
    vectors, truth = blobs((10, 9, 8, 7))
    calls = []
    found = best_clustering(vectors, on_progress=lambda *call: calls.append(call))
    assert np.array_equal(found.assignment, truth)
    assert calls == [("clustering", done, 19) for done in range(1, 20)]
    assert found.silhouette == pytest.approx(silhouette_score(vectors, truth))


def test_medoids_have_the_least_sum_of_squared_distances():
    vectors, truth = blobs()
    found = cluster(vectors, k=3)
    for number, medoid in enumerate(found.medoids):
        own = np.flatnonzero(truth == number)
        sums = np.square(vectors[own][:, None] - vectors[own][None]).sum(axis=(1, 2))
        assert medoid == own[sums.argmin()]


def test_clustering_is_deterministic():
    vectors, _ = blobs(distance=1.0)
    assert np.array_equal(cluster(vectors, k=4).assignment, cluster(vectors, k=4).assignment)


def test_one_cluster_and_one_per_point_have_no_silhouette():
    vectors, _ = blobs((3, 2))
    for k in (1, 5):
        found = cluster(vectors, k=k)
        assert np.isnan(found.silhouette)
        assert np.isnan(found.calinski_harabasz)


def test_the_silhouette_of_many_points_is_estimated_on_a_sample(monkeypatch):
    monkeypatch.setattr(clustering, "_SILHOUETTE_SAMPLES", 400)
    vectors, truth = blobs((400, 400), distance=30.0)
    assert cluster(vectors, k=2).silhouette == pytest.approx(silhouette_score(vectors, truth), abs=0.01)


def test_accuracy_equals_the_best_of_all_matchings():
    generator = np.random.default_rng(2)
    assignment = generator.integers(0, 4, 60)
    truth = (assignment * 3 + generator.integers(0, 2, 60)) % 4
    names = np.array(["a", "b", "c", "d"])
    best = max(np.mean(np.array(order)[assignment] == truth) for order in permutations(range(4)))
    found = agreement(assignment, names[truth].tolist())
    assert found.accuracy == pytest.approx(best)
    assert found.ari == pytest.approx(adjusted_rand_score(truth, assignment))


def test_surplus_clusters_are_matched_with_no_label():
    found = agreement(np.array([0, 0, 1, 2]), ["x", "x", "x", "x"])
    assert found.accuracy == pytest.approx(0.5)
    assert found.n == 4


def test_points_without_a_label_are_left_out():
    found = agreement(np.array([0, 0, 1, 1, 1]), ["x", "x", "y", "y", ""])
    assert (found.n, found.accuracy, found.nmi) == (4, 1.0, pytest.approx(1.0))
    with pytest.raises(ParameterError, match="no recording has a label"):
        agreement(np.array([0]), [""])


def test_standardized_features_have_mean_0_and_variance_1():
    vectors, _ = blobs()
    vectors[:, 2] = 5.0
    found = standardize(1e3 * vectors)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0), [1.0, 1.0, 0.0, 1.0], atol=1e-9)


def test_whitened_components_are_uncorrelated():
    vectors, _ = blobs()
    found = standardize(vectors, n_components=3)
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=1e-9)


def test_centring_subtracts_the_mean_of_each_group():
    vectors, truth = blobs()
    names = [f"speaker {number}" for number in truth]
    shifted = vectors + 100.0 * truth[:, None]
    np.testing.assert_allclose(standardize(shifted, groups=names), standardize(vectors, groups=names), atol=1e-9)
    assert np.array_equal(vectors, blobs()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 25}, "k=25 must be at most 24"),
        ({"k": 2, "algorithm": "magic"}, "'magic' must be one of"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        cluster(blobs()[0], **arguments)


def test_too_many_components_are_refused():
    with pytest.raises(ParameterError, match="components=5 must be at most 4"):
        standardize(blobs()[0], n_components=5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_recording_cannot_be_clustered(algorithm):
    with pytest.raises(ParameterError, match="too few to be clustered"):
        cluster(np.ones((1, 3)), k=1, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_copies_always_share_a_cluster(algorithm):
    points = np.array([[0.0, 1.0], [5.0, 1.0], [0.1, 7.0]])
    copies = points[[0, 1, 1, 2, 0, 1]]
    assert cluster(copies, k=3, algorithm=algorithm).assignment.tolist() == [1, 0, 0, 2, 1, 0]
    with pytest.raises(ParameterError, match="k=4 must be at most 3, the number of distinct recordings"):
        cluster(copies, k=4, algorithm=algorithm)
    assert best_clustering(copies, algorithm=algorithm).sizes == [3, 2, 1]


def test_rounding_does_not_distinguish_copies():
    copies = np.repeat(blobs((2,))[0], 3, axis=0)
    copies[1] *= 1.0 + 1e-15
    with pytest.raises(ParameterError, match="k=3 must be at most 2"):
        cluster(copies, k=3)


@pytest.mark.parametrize("n_components", [None, 2])
def test_copies_of_one_recording_form_one_cluster(n_components):
    copies = standardize(np.full((5, 3), 0.1), n_components=n_components)
    with pytest.raises(ParameterError, match="the 5 recordings are all alike"):
        best_clustering(copies)
    assert cluster(copies, k=1).sizes == [5]


def test_two_recordings_are_too_few_to_choose_k():
    with pytest.raises(ParameterError, match="too few to choose k"):
        best_clustering(np.zeros((2, 3)))
