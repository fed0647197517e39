"""Clustering of feature vectors with scikit-learn, and measures of its quality."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import OnProgress

MAX_CLUSTERS = 20
"""Largest number of clusters that is tried where none is given."""

_SILHOUETTE_SAMPLES = 5000
_N_RESTARTS = 10
_DIGITS = 9
"""Decimals, relative to the largest value, to which two points must be equal to count as copies."""

Vectors = Float[np.ndarray, "points features"]
Assignment = Int[np.ndarray, "points"]


@dataclass(frozen=True)
class Clustering:
    """Clusters of points, numbered by size from the largest, 0.

    Args:
        assignment: cluster of each point.
        distances: of each point from the mean of its cluster, in standard deviations of the features.
        silhouette: in [-1, 1], of at most 5000 points; NaN for one cluster, or as many as points.
        calinski_harabasz: variance between clusters over variance within, per degree of freedom; NaN likewise.
    """

    assignment: Assignment
    distances: Float[np.ndarray, "points"]
    silhouette: float
    calinski_harabasz: float

    @property
    def sizes(self) -> list[int]:
        """Number of points in each cluster."""
        return np.bincount(self.assignment).tolist()

    @property
    def medoids(self) -> list[int]:
        """Most typical point of each cluster: the nearest to its mean, of least squared distance to the others."""
        members = [np.flatnonzero(self.assignment == cluster) for cluster in range(len(self.sizes))]
        return [int(own[self.distances[own].argmin()]) for own in members]


@dataclass(frozen=True)
class Agreement:
    """Agreement of a clustering with known labels.

    Args:
        n: points with a label.
        nmi: normalised mutual information, 1 where each determines the other.
        ari: adjusted Rand index, 0 on average for a random clustering.
        accuracy: share of points whose cluster is matched with their label, in the best one-to-one matching.
    """

    n: int
    nmi: float
    ari: float
    accuracy: float


def standardize(
    vectors: Vectors, *, n_components: int | None = None, groups: Sequence[str] | None = None
) -> Float[np.ndarray, "points _"]:
    """Scale features to mean 0 and variance 1, or compute whitened principal components of them.

    Args:
        vectors: one row per recording.
        n_components: principal components; None keeps the features.
        groups: group of each point; the mean of each group is subtracted first.

    Raises:
        ParameterError: if n_components is not between 1 and the smaller side of the vectors.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    centered = vectors.astype(np.float64)
    for group in [] if groups is None else set(groups):
        own = np.array([value == group for value in groups or []])
        centered[own] -= centered[own].mean(axis=0)
    scaled = StandardScaler().fit_transform(centered)
    if n_components is None:
        return scaled
    check_whole(n_components, name="components", least=1)
    if n_components > min(vectors.shape):
        raise ParameterError(
            f"components={n_components} must be at most {min(vectors.shape)}, the smaller of {len(vectors)} recordings "
            f"and {vectors.shape[1]} features"
        )
    if _n_distinct(scaled) < 2:
        return np.zeros((len(scaled), n_components))
    return PCA(n_components, whiten=True, random_state=0).fit_transform(scaled)


def cluster(vectors: Vectors, *, k: int, algorithm: str = "kmeans") -> Clustering:
    """Cluster points into k clusters.

    Args:
        vectors: the points, for example from `standardize`.
        k: number of clusters.
        algorithm: kmeans (10 restarts from fixed seeds), agglomerative (Ward's) or mixture (of Gaussians with diagonal
            covariances).

    Raises:
        ParameterError: if there is no such algorithm, there are fewer than two points, or k is not between 1 and the
            number of distinct points.

    Example:
        >>> clustering = cluster(np.array([[0.0], [0.2], [9.0], [0.1]]), k=2)
        >>> clustering.assignment.tolist(), clustering.medoids
        ([0, 0, 1, 0], [3, 2])
    """
    if algorithm not in ALGORITHMS:
        raise ParameterError(f"algorithm={algorithm!r} must be one of {', '.join(ALGORITHMS)}")
    check_whole(k, name="k", least=1)
    if len(vectors) < 2:
        raise ParameterError(f"{len(vectors)} recordings are too few to be clustered: give two or more")
    if k > (n_distinct := _n_distinct(vectors)):
        raise ParameterError(f"k={k} must be at most {n_distinct}, the number of distinct recordings")
    raw = ALGORITHMS[algorithm](vectors, k)
    # By size, ties by the first point, so that numbers do not depend on the seeds.
    order = sorted(np.unique(raw), key=lambda number: (-np.sum(raw == number), np.argmax(raw == number)))
    assignment = np.empty(len(raw), dtype=np.int64)
    for new, old in enumerate(order):
        assignment[raw == old] = new
    means = np.stack([vectors[assignment == number].mean(axis=0) for number in range(len(order))])
    distances = np.linalg.norm(vectors - means[assignment], axis=1)
    silhouette, calinski_harabasz = _separation(vectors, assignment)
    return Clustering(assignment, distances, silhouette, calinski_harabasz)


def default_ks(vectors: Vectors) -> range:
    """Return the numbers of clusters to try: 2 to 20, fewer than points and at most as many as distinct points.

    Raises:
        ParameterError: if there are fewer than three points, or all are alike.
    """
    if len(vectors) < 3:
        raise ParameterError(
            f"{len(vectors)} recordings are too few to choose k by the silhouette: give k, or three recordings"
        )
    n_distinct = _n_distinct(vectors)
    if n_distinct < 2:
        raise ParameterError(f"the {len(vectors)} recordings are all alike, and cannot be clustered")
    return range(2, min(MAX_CLUSTERS, len(vectors) - 1, n_distinct) + 1)


def best_clustering(
    vectors: Vectors,
    *,
    algorithm: str = "kmeans",
    ks: Sequence[int] | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Clustering:
    """Return the clustering with the highest silhouette, of several that with the fewest clusters.

    Args:
        vectors: as for `cluster`.
        algorithm: as for `cluster`.
        ks: numbers of clusters to try; None tries `default_ks`.
        on_progress: called after each number of clusters.

    Raises:
        ParameterError: if there are fewer than three points, or all are alike.
    """
    default = default_ks(vectors)
    ks = default if ks is None else ks
    clusterings: list[Clustering] = []
    for k in ks:
        clusterings.append(cluster(vectors, k=k, algorithm=algorithm))
        on_progress("clustering", len(clusterings), len(ks))
    return max(clusterings, key=lambda each: each.silhouette)


def agreement(assignment: Assignment, truth: Sequence[str]) -> Agreement:
    """Compare a clustering with known labels; points without a label, "", are left out.

    Raises:
        ParameterError: if no point has a label.

    Example:
        >>> known = agreement(np.array([1, 1, 0, 0]), ["dog", "dog", "cat", "cat"])
        >>> known.nmi, known.ari, known.accuracy
        (1.0, 1.0, 1.0)
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    known = [index for index, value in enumerate(truth) if value]
    if not known:
        raise ParameterError("no recording has a label")
    values, own = [truth[index] for index in known], assignment[known]
    table = contingency_matrix(values, own)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return Agreement(
        n=len(known),
        nmi=float(normalized_mutual_info_score(values, own)),
        ari=float(adjusted_rand_score(values, own)),
        accuracy=float(table[rows, columns].sum() / len(known)),
    )


def _n_distinct(vectors: Vectors) -> int:
    """Count the points that differ by more than rounding."""
    scale = np.abs(vectors).max() or 1.0
    # Adding 0.0 turns -0.0, which has other bytes, into 0.0.
    rounded = np.round(vectors / scale, _DIGITS) + 0.0
    return len({point.tobytes() for point in rounded})


def _separation(vectors: Vectors, assignment: Assignment) -> tuple[float, float]:
    from sklearn.metrics import calinski_harabasz_score, silhouette_score

    if not 1 < assignment.max() + 1 < len(vectors):
        return float("nan"), float("nan")
    sample = np.arange(len(vectors))
    if len(vectors) > _SILHOUETTE_SAMPLES:
        sample = np.random.default_rng(0).choice(len(vectors), _SILHOUETTE_SAMPLES, replace=False)
    return float(silhouette_score(vectors[sample], assignment[sample])), float(
        calinski_harabasz_score(vectors, assignment)
    )


def _kmeans(vectors: Vectors, k: int) -> Assignment:
    from sklearn.cluster import KMeans

    # pyright infers the type of n_init from its default, "auto".
    return KMeans(k, n_init=_N_RESTARTS, random_state=0).fit_predict(vectors)  # pyright: ignore[reportArgumentType]


def _agglomerative(vectors: Vectors, k: int) -> Assignment:
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(k).fit_predict(vectors)


def _mixture(vectors: Vectors, k: int) -> Assignment:
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(k, covariance_type="diag", n_init=_N_RESTARTS, reg_covar=1e-3, random_state=0)
    return mixture.fit_predict(vectors)


ALGORITHMS: dict[str, Callable[[Vectors, int], Assignment]] = {
    "kmeans": _kmeans,
    "agglomerative": _agglomerative,
    "mixture": _mixture,
}
"""Clustering algorithms by name: (points, k) -> assignment."""
