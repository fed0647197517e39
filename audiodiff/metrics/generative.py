"""Metrics of generated sounds from the embeddings and probabilities of a classifier: FID, inception scores, diversity.

Probabilities are given as logarithms, which keeps the smallest ones of a confident classifier: the modified inception
score depends on them.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiodiff.errors import ParameterError

_SUM_TOLERANCE = 1e-4
_ROWS_AT_ONCE = 1024


def frechet_distance(first: Float[Tensor, "n features"], second: Float[Tensor, "m features"]) -> float:
    """Compute |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of the embeddings of two sets, the FID.

    With S_i = R_i^T R_i, the trace of the square root is the sum of the singular values of R_1 R_2^T, which neither
    squares a condition number nor leaves the real numbers. Computed in float64, with covariances over n - 1.

    It is biased: the distance between two sets from the same distribution grows as n falls. Compare it only at equal n,
    and with the distance of real to real sounds; for n <= features the covariances are singular as well.

    Raises:
        ParameterError: if a set has fewer than two embeddings, or one of them is not finite.

    Example:
        >>> a = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(a, a + 3.0), 6)
        36.0

    Source:
        Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", eq. 6;
        Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    means, factors = [], []
    for name, embeddings in (("first", first), ("second", second)):
        if len(embeddings) < 2 or not bool(torch.isfinite(embeddings).all()):
            raise ParameterError(f"{name}: {len(embeddings)} embeddings must be two or more, and all finite")
        wide = embeddings.detach().cpu().double()
        means.append(wide.mean(0))
        factors.append(torch.linalg.qr(wide - means[-1], mode="r").R / math.sqrt(len(wide) - 1))
    cross = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    spread = factors[0].square().sum() + factors[1].square().sum()
    return max(0.0, ((means[0] - means[1]).square().sum() + spread - 2.0 * cross).item())


def inception_score(log_probabilities: Float[Tensor, "n classes"]) -> float:
    """Compute exp(mean_x KL(p(y|x) || p(y))), p(y) the mean over the same sounds: 1 to the number of classes.

    High if every sound is clearly of one class, and all classes are equally frequent. It measures neither the diversity
    within a class nor the similarity to real sounds.

    Raises:
        ParameterError: if the rows are not logarithms of probabilities.

    Example:
        >>> round(inception_score(torch.tensor([[0.99, 0.01], [0.01, 0.99]]).log()), 4)
        1.8911

    Source:
        Salimans et al. 2016, "Improved techniques for training GANs", section 4.
    """
    log_p = _checked(log_probabilities, least=1)
    mean = log_p.exp().mean(0).clamp(min=torch.finfo(torch.float64).tiny).log()
    return math.exp((log_p.exp() * (log_p - mean)).sum(-1).mean().item())


def modified_inception_score(log_probabilities: Float[Tensor, "n classes"]) -> float:
    """Compute exp(E_x E_x' KL(p(y|x) || p(y|x'))) over all pairs of different sounds x, x'.

    It also counts diversity within a class. Its size depends on the logarithms of the smallest probabilities, that is,
    on the confidence of the classifier: compare only values of the same classifier.

    Raises:
        ParameterError: if there are fewer than two rows, or they are not finite logarithms of probabilities.

    Source:
        Gurumurthy et al. 2017, "DeLiGAN: generative adversarial networks for diverse and limited data", section 5,
        within each class; over all pairs as Kong et al. 2021 (DiffWave) give it.
    """
    log_p = _checked(log_probabilities, least=2)
    n = len(log_p)
    own = (log_p.exp() * log_p).sum()
    crossed = torch.dot(log_p.exp().sum(0), log_p.sum(0))
    return math.exp(((n * own - crossed) / (n * (n - 1))).item())


def am_score(log_probabilities: Float[Tensor, "n classes"], real: Float[Tensor, "m real_classes"]) -> float:
    """Compute KL(p_real(y) || p(y)) + mean_x H(p(y|x)), in nats: 0 is best.

    Args:
        log_probabilities: of the generated sounds.
        real: of the training data, which define how frequent each class should be.

    Raises:
        ParameterError: if the rows are not logarithms of probabilities, or of another number of classes.

    Source:
        Zhou et al. 2018, "Activation maximization generative adversarial nets", eq. 21.
    """
    log_p, log_real = _checked(log_probabilities, least=1), _checked(real, least=1)
    if log_p.shape[1] != log_real.shape[1]:
        raise ParameterError(f"{log_p.shape[1]} classes must be those of the real data, {log_real.shape[1]}")
    p_real, p = log_real.exp().mean(0), log_p.exp().mean(0)
    divergence = (torch.special.xlogy(p_real, p_real) - torch.special.xlogy(p_real, p)).sum()
    return (divergence + torch.special.entr(log_p.exp()).sum(-1).mean()).item()


def wilson_interval(n_right: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval of a share, which stays within 0 and 1 even if all are correct.

    Raises:
        ParameterError: if n_right is not within 0 and n, n is 0, or confidence is outside (0, 1).

    Example:
        >>> low, high = wilson_interval(297, 300)
        >>> round(low, 3), round(high, 3)
        (0.971, 0.997)

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    from scipy.stats import norm

    if n < 1 or not 0 <= n_right <= n:
        raise ParameterError(f"n_right={n_right} must lie between 0 and n={n}, which must be positive")
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence={confidence} must lie between 0 and 1")
    z = float(norm.ppf((1 + confidence) / 2))
    share, scale = n_right / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(
    expected: Int[Tensor, "n"], predicted: Int[Tensor, "n"], *, n_classes: int
) -> Int[Tensor, "classes classes"]:
    """Count how often each class was predicted (columns) for each expected class (rows).

    Raises:
        ParameterError: if a class is not below n_classes.

    Example:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), n_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    both = torch.cat([expected, predicted])
    if len(both) and not 0 <= int(both.min()) <= int(both.max()) < n_classes:
        raise ParameterError(f"classes {int(both.min())} to {int(both.max())} must lie between 0 and {n_classes - 1}")
    return torch.bincount(expected * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def nearest_distances(
    embeddings: Float[Tensor, "n features"], among: Float[Tensor, "m features"]
) -> Float[Tensor, "n"]:
    """Compute the Euclidean distance from each embedding to the nearest of a set that does not contain it."""
    return torch.cat([_distances(some, among).amin(-1) for some in embeddings.split(_ROWS_AT_ONCE)])


def nearest_other_distances(embeddings: Float[Tensor, "n features"]) -> Float[Tensor, "n"]:
    """Compute the Euclidean distance from each embedding to the nearest of the others."""
    if len(embeddings) < 2:
        raise ParameterError(f"{len(embeddings)} embeddings must be two or more")
    # The nearest is the embedding itself, at 0.
    parts = [_distances(some, embeddings).topk(2, largest=False).values for some in embeddings.split(_ROWS_AT_ONCE)]
    return torch.cat(parts)[:, 1]


def closer_p_value(distances: Float[Tensor, "n"], real: Float[Tensor, "m"]) -> float:
    """Compute the p value of the one-sided two-sample Kolmogorov-Smirnov test that `distances` are smaller than `real`.

    Small if generated sounds are closer to the training set than held-out real sounds: they are then copies, or blends
    of few recordings. A large value means that no such effect is visible at this n.

    Raises:
        ParameterError: if one of the sets is empty.

    Source:
        Hodges 1958, "The significance probability of the Smirnov two-sample test"; computed by scipy.stats.ks_2samp.
    """
    from scipy.stats import ks_2samp

    if not len(distances) or not len(real):
        raise ParameterError(f"{len(distances)} and {len(real)} distances must be at least one each")
    # "greater": the distribution function of the first is greater, so its values are smaller.
    tested = ks_2samp(distances.cpu().numpy(), real.cpu().numpy(), alternative="greater", method="asymp")
    return float(tested.pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def within_class_distance(embeddings: Float[Tensor, "n features"], classes: Sequence[object]) -> float:
    """Compute the mean distance between two different sounds of a class, averaged over classes with at least two.

    NaN if there is no such class.

    Example:
        >>> within_class_distance(torch.tensor([[0.0], [2.0], [10.0], [14.0]]), ["a", "a", "b", "b"])
        3.0
    """
    if len(classes) != len(embeddings):
        raise ParameterError(f"{len(classes)} classes must be one for each of {len(embeddings)} embeddings")
    wide = embeddings.double()
    members = [[k for k, each in enumerate(classes) if each == known] for known in dict.fromkeys(classes)]
    means = [torch.nn.functional.pdist(wide[chosen]).mean() for chosen in members if len(chosen) > 1]
    return torch.stack(means).mean().item() if means else math.nan


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # Not by matrix products, which are inaccurate for small distances.
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _checked(log_probabilities: Tensor, *, least: int) -> Tensor:
    log_p = log_probabilities.detach().cpu().double()
    if len(log_p) < least:
        raise ParameterError(f"{len(log_p)} rows of probabilities must be at least {least}")
    if not bool(torch.isfinite(log_p).all()) or float((log_p.logsumexp(-1)).abs().max()) > _SUM_TOLERANCE:
        raise ParameterError("log_probabilities must be finite, and each row's probabilities sum to 1")
    return log_p
