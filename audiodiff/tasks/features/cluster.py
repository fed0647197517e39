"""Groups of recordings that sound alike: clusterings of feature vectors, and how good they are. By scikit-learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audiodiff.errors import ParameterError, check_whole

MOST_CLUSTERS = 20
"""The most that are tried where nobody says how many."""

_SILHOUETTE_SAMPLES = 5000
_N_RESTARTS = 10
_DIGITS = 9
"""In which two points differ, of those of the largest value."""

Vectors = Float[np.ndarray, "points features"]
Assignment = Int[np.ndarray, "points"]


@dataclass(frozen=True)
class Clustering:
    """Hold a clustering; the largest cluster is 0.

    Args:
        assignment: the cluster of each point.
        distances: of each point to the mean of its cluster, in standard deviations of the features.
        silhouette: in [-1, 1], of at most 5000 points; NaN where it has no meaning, with one cluster or n of them.
        calinski_harabasz: variance between over variance within, per degree of freedom; NaN likewise.
    """

    assignment: Assignment
    distances: Float[np.ndarray, "points"]
    silhouette: float
    calinski_harabasz: float

    @property
    def sizes(self) -> list[int]:
        """Points in each cluster."""
        return np.bincount(self.assignment).tolist()

    @property
    def medoids(self) -> list[int]:
        """The point of each cluster whose squared distances to the others have the least sum: nearest to the mean."""
        members = [np.flatnonzero(self.assignment == cluster) for cluster in range(len(self.sizes))]
        return [int(own[self.distances[own].argmin()]) for own in members]


@dataclass(frozen=True)
class Agreement:
    """How far a clustering is a known division.

    Args:
        n: points of which the division is known.
        nmi: normalised mutual information, 1 where either tells the other.
        ari: adjusted Rand index, 0 in the mean for a division by chance.
        accuracy: share that is right when every cluster is given one value of its own, in the best way.
    """

    n: int
    nmi: float
    ari: float
    accuracy: float


def standardised(
    vectors: Vectors, *, n_components: int | None = None, groups: Sequence[str] | None = None
) -> Float[np.ndarray, "points _"]:
    """Bring every feature to mean 0 and variance 1, and then to whitened principal components if any are asked for.

    Args:
        vectors: of the recordings.
        n_components: principal components; None keeps the features.
        groups: of each point, to be brought to mean 0 each by itself, so that what it has in common is taken off.

    Raises:
        ParameterError: if n_components is not between 1 and the smaller side of the vectors.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    centred = vectors.astype(np.float64)
    for group in [] if groups is None else set(groups):
        own = np.array([value == group for value in groups or []])
        centred[own] -= centred[own].mean(axis=0)
    scaled = StandardScaler().fit_transform(centred)
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


def cluster(vectors: Vectors, *, k: int, method: str = "kmeans") -> Clustering:
    """Divide points into k clusters.

    Args:
        vectors: as they are to be compared, `standardised` for one.
        k: clusters.
        method: kmeans (10 restarts from fixed seeds), agglomerative (Ward's) or mixture (of Gaussians with diagonal
            covariances).

    Raises:
        ParameterError: if there is no such method, there are fewer than two points, or k is not between 1 and the
            number of points that differ.

    Example:
        >>> found = cluster(np.array([[0.0], [0.2], [9.0], [0.1]]), k=2)
        >>> found.assignment.tolist(), found.medoids
        ([0, 0, 1, 0], [3, 2])
    """
    if method not in METHODS:
        raise ParameterError(f"method={method!r} must be one of {', '.join(METHODS)}")
    check_whole(k, name="k", least=1)
    if len(vectors) < 2:
        raise ParameterError(f"{len(vectors)} recordings are too few to be divided: two or more are needed")
    if k > (n_distinct := _n_distinct(vectors)):
        raise ParameterError(f"k={k} must be at most {n_distinct}, the number of recordings that differ")
    found = METHODS[method](vectors, k)
    present = np.unique(found)
    # By size, ties by who comes first: numbers do not depend on the seeds alone.
    order = sorted(present, key=lambda cluster: (-np.sum(found == cluster), np.argmax(found == cluster)))
    assignment = np.empty(len(found), dtype=np.int64)
    for new, old in enumerate(order):
        assignment[found == old] = new
    means = np.stack([vectors[assignment == number].mean(axis=0) for number in range(len(order))])
    distances = np.linalg.norm(vectors - means[assignment], axis=1)
    silhouette, calinski_harabasz = _separation(vectors, assignment)
    return Clustering(assignment, distances, silhouette, calinski_harabasz)


def usual_ks(vectors: Vectors) -> range:
    """Return the numbers of clusters to try: 2 to 20, as far as there are more points, and as many that differ.

    Raises:
        ParameterError: if there are fewer than three points, or all are alike.
    """
    if len(vectors) < 3:
        raise ParameterError(f"{len(vectors)} recordings are too few to choose k by the silhouette: give k, or three")
    n_distinct = _n_distinct(vectors)
    if n_distinct < 2:
        raise ParameterError(f"the {len(vectors)} recordings are all alike: there is nothing to tell them apart by")
    return range(2, min(MOST_CLUSTERS, len(vectors) - 1, n_distinct) + 1)


def best_clustering(
    vectors: Vectors,
    *,
    method: str = "kmeans",
    ks: Sequence[int] | None = None,
    on_each: Callable[[], None] = lambda: None,
) -> Clustering:
    """Return the clustering of the greatest silhouette, the one of fewest clusters among equals.

    Args:
        vectors: as for `cluster`.
        method: as for `cluster`.
        ks: numbers of clusters to try; None tries `usual_ks`.
        on_each: called after each.

    Raises:
        ParameterError: if there are fewer than three points, or all are alike.
    """
    usual = usual_ks(vectors)
    ks = usual if ks is None else ks
    best: Clustering | None = None
    for k in ks:
        found = cluster(vectors, k=k, method=method)
        if best is None or found.silhouette > best.silhouette:
            best = found
        on_each()
    assert best is not None
    return best


def agreement(assignment: Assignment, truth: Sequence[str]) -> Agreement:
    """Compare a clustering with a known division; points of which it is not known, "", are left out.

    Raises:
        ParameterError: if it is known of no point.

    Example:
        >>> found = agreement(np.array([1, 1, 0, 0]), ["dog", "dog", "cat", "cat"])
        >>> found.nmi, found.ari, found.accuracy
        (1.0, 1.0, 1.0)
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    known = [index for index, value in enumerate(truth) if value]
    if not known:
        raise ParameterError("truth is known of no recording")
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
    """Count the points that differ by more than rounding does."""
    scale = np.abs(vectors).max() or 1.0
    # -0.0 has other bytes than 0.0, which the sum makes of it.
    rounded = np.round(vectors / scale, _DIGITS) + 0.0
    return len({point.tobytes() for point in rounded})


def _separation(vectors: Vectors, assignment: Assignment) -> tuple[float, float]:
    from sklearn.metrics import calinski_harabasz_score, silhouette_score

    if not 1 < assignment.max() + 1 < len(vectors):
        return float("nan"), float("nan")
    shown = np.arange(len(vectors))
    if len(vectors) > _SILHOUETTE_SAMPLES:
        shown = np.random.default_rng(0).choice(len(vectors), _SILHOUETTE_SAMPLES, replace=False)
    return float(silhouette_score(vectors[shown], assignment[shown])), float(
        calinski_harabasz_score(vectors, assignment)
    )


def _kmeans(vectors: Vectors, k: int) -> Assignment:
    from sklearn.cluster import KMeans

    # Its type is read off its default, "auto".
    return KMeans(k, n_init=_N_RESTARTS, random_state=0).fit_predict(vectors)  # pyright: ignore[reportArgumentType]


def _agglomerative(vectors: Vectors, k: int) -> Assignment:
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(k).fit_predict(vectors)


def _mixture(vectors: Vectors, k: int) -> Assignment:
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(k, covariance_type="diag", n_init=_N_RESTARTS, reg_covar=1e-3, random_state=0)
    return mixture.fit_predict(vectors)


METHODS: dict[str, Callable[[Vectors, int], Assignment]] = {
    "kmeans": _kmeans,
    "agglomerative": _agglomerative,
    "mixture": _mixture,
}
"""By name, what divides points into k clusters."""
