"""Recognition of mel arrays: the dialects and scales that an array can have, ranked by likelihood."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.dialect_text import format_dialect, log_of, with_log, with_named_values
from audiodiff.dsp.dialects import LOGARITHMS
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect, dialect
from audiodiff.dsp.mel_likelihood import (
    log_likelihood,
    log_likelihood_of_shape,
    log_normal,
    normalization_guess,
    scale_of,
)
from audiodiff.dsp.mel_statistics import MelStatistics, statistics
from audiodiff.errors import ParameterError

IMPROBABLE = 0.02
"""A dialect of a lower probability is doubted."""
EXCLUDED = 1e-4
"""A dialect of a lower probability is refused. Held-out mels of their own dialect have at least 0.1, those without a
logarithm at most 1e-10 (`benchmarks/mel_levels.py`)."""
ALIKE = 0.05
"""Probability, relative to that of the likeliest reading, from which on another reading is listed beside it."""
# Prior weights: a dialect as it is defined, with another logarithm, squared amplitudes, normalised
# to a range or by mean and deviation, and any other scale.
_AS_DEFINED, _OTHER_LOG, _SQUARED, _NORMALISED, _OTHER = 1.0, 0.3, 0.1, 0.1, 0.01
# Fields of which the values show nothing, or too little: names, rate, hop, and what happens at the ends and in silence.
_UNSEEN = ("name", "sample_rate", "hop_length", "centred", "pad_mode", "power_offset", "frames_first")
_LOG_WORDS = {
    "e": "natural logarithm",
    "10": "log10",
    "db": "decibels",
    "none": "no logarithm",
    "own": "its own logarithm",
}
_RANGES = {"0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 1.0), "-4 to 4": (-4.0, 4.0)}
_RANGE_DB, _DEVIATION_DB = (100.0, 0.35), (17.0, 0.35)  # of the whole range and of one deviation, and log spreads
_GAINS = torch.logspace(-2, 3, 100, dtype=torch.float64)  # dB per unit
_COMMON_BANDS = {20, 32, 40, 60, 64, 80, 96, 100, 120, 128, 160, 192, 256}
_BLOCKS, _BLOCK_FRAMES = 8, 512  # of a long mel, that are looked at
_BY_DEVIATION = "values normalised by mean and standard deviation"
_REMEDY = "state the mean and std that it was made with, value = (mel - mean) / std, which the array does not show"


@dataclass(frozen=True)
class Reading:
    """A way to read an array.

    Args:
        description: what the array is.
        dialects: that it can have and that it does not distinguish; none where the array has to
            be converted.
        remedy: what to do with the array where it has to be converted.
        log_density: logarithm of the prior weight times the likelihood.
    """

    description: str
    dialects: tuple[MelDialect, ...]
    remedy: str
    log_density: float

    def dialect(self, name: str) -> MelDialect | None:
        """Return the dialect of that name, or else the likeliest."""
        return next((each for each in self.dialects if each.name == name), next(iter(self.dialects), None))


@dataclass(frozen=True)
class Recognition:
    """Ranked readings of an array.

    Args:
        readings: with the probability of each, the likeliest first.
        objections: why it cannot be of a dialect as it is defined.
        is_transposed: the readings are those of the transposed array, (frames, n_mels).
        unit_db: estimated decibels of one unit of the values; None where they have no logarithm or show nothing.
        guess: a dialect of the array where it was normalised, with a guess of mean and std.
    """

    readings: tuple[tuple[Reading, float], ...]
    objections: dict[str, str]
    is_transposed: bool
    unit_db: float | None
    guess: MelDialect | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a dialect among the likeliest readings reads the array as it is."""
        return any(reading.dialects for reading, _ in self.alike)

    @property
    def alike(self) -> tuple[tuple[Reading, float], ...]:
        """The likeliest reading, and those whose probability is at least `ALIKE` of it."""
        return tuple(each for each in self.readings if each[1] >= ALIKE * self.readings[0][1])

    def probability(self, of: MelDialect) -> float:
        """Return the probability of a dialect, together with those that it is not distinguished from."""
        key = _seen(of)
        return sum((p for reading, p in self.readings if any(_seen(each) == key for each in reading.dialects)), 0.0)


def recognize(mel: Float[Tensor, "n_mels frames"], *, own: MelDialect | None = None) -> Recognition:
    """Return what an array can be, ranked.

    Args:
        mel: the array.
        own: a dialect to consider besides the named ones.

    Example:
        >>> mel = dialect("vocos").mel(0.1 * torch.randn(24000))
        >>> format_dialect(recognize(20 / math.log(10) * mel).readings[0][0].dialects[0])
        'vocos:log=db'
    """
    if not bool(torch.isfinite(mel).all()):
        return Recognition((), dict.fromkeys(DIALECT_NAMES, "it holds NaN or infinite values"), False, None)
    # The first of a family is named where an array has to be converted.
    named = list(dict.fromkeys([own or dialect("hifigan"), *map(dialect, DIALECT_NAMES)]))
    counts = {each.n_mels for each in named}
    n, n_frames = mel.shape
    known = counts if n_frames in counts else _COMMON_BANDS
    is_transposed = n not in known and n_frames in known
    if is_transposed:
        mel = mel.T
    if mel.shape[1] > 2 * _BLOCKS * _BLOCK_FRAMES:
        starts = torch.linspace(0, mel.shape[1] - _BLOCK_FRAMES, _BLOCKS).long().tolist()
        mel = torch.cat([mel[:, start : start + _BLOCK_FRAMES] for start in starts], dim=1)
    if mel.shape[0] not in counts:
        named = list(_derived(mel.shape[0]))
    reasons = ((each, each.objection(mel)) for each in named)
    objections = {format_dialect(of) if of.is_normalised else of.name: why for of, why in reasons if why is not None}
    found = statistics(mel)
    grouped: dict[object, list[Reading]] = {}
    families: dict[object, list[MelDialect]] = {}
    for each in named:
        if each.n_mels == mel.shape[0]:
            families.setdefault(_seen(each), []).append(each)
    for key, reading in _readings(mel, found, list(families.values())):
        grouped.setdefault(key, []).append(reading)
    readings = sorted(map(_joined, grouped.values()), key=lambda reading: -reading.log_density)
    weights = [math.exp(reading.log_density - readings[0].log_density) for reading in readings]
    ranked = tuple((reading, weight / sum(weights)) for reading, weight in zip(readings, weights, strict=True))
    unit_db = None if found is None else float(_GAINS[log_likelihood_of_shape(found, _GAINS).argmax()])
    if unit_db in (float(_GAINS[0]), float(_GAINS[-1])) or (ranked and "no log" in ranked[0][0].description):
        unit_db = None
    guess = None
    if found is not None and unit_db is not None and families:
        plain = with_log(next(iter(families.values()))[0], "e")
        mean, std = normalization_guess(found, unit_db=unit_db, scale=scale_of(plain))
        guess = replace(plain, mean=round(mean, 1), std=float(f"{std:.2g}"))
    return Recognition(ranked, objections, is_transposed, unit_db, guess)


def doubt(mel: Float[Tensor, "n_mels frames"], of: MelDialect) -> Recognition | None:
    """Return what an array is likelier to be than a mel of a dialect, or None where the dialect is plausible."""
    found = recognize(mel, own=of)
    return found if found.readings and found.probability(of) < IMPROBABLE else None


def _derived(n_mels: int) -> Iterator[MelDialect]:
    for name in DIALECT_NAMES:
        with suppress(ParameterError):  # too many bands for its frame
            yield dialect(name, n_mels=n_mels)


def _readings(
    mel: Tensor, found: MelStatistics | None, families: list[list[MelDialect]]
) -> Iterator[tuple[object, Reading]]:
    """Yield all ways to read an array with a key that those share which cannot be distinguished.

    Args:
        mel: the array.
        found: its statistics.
        families: dialects, those together that cannot be distinguished.
    """
    is_positive = float(mel.min()) >= -1e-4 * float(mel.max())
    found_log = statistics(mel.clamp(min=1e-10).log()) if is_positive else None
    for family in families:
        for prior, group in _variants(family):
            variant, is_linear = group[0], group[0].log_gain == 0
            if (is_linear and not is_positive) or (found is None and group is not family):
                continue
            density = math.log(len(family) * prior)
            if variant.is_normalised:
                own = statistics(variant.unnormalised(mel))
                # From the density of values before the normalisation: four of the statistics scale with std.
                density += log_likelihood(own, scale_of(variant)) + 4 * float(torch.tensor(variant.std).log().mean())
            else:
                density += log_likelihood(found_log if is_linear else found, scale_of(variant))
            if variant.objection(mel) is None:
                yield _seen(variant), Reading(described(variant), tuple(group), "", density)
            elif not is_linear and variant.objection(mel.clamp(min=variant.floor)) is None:
                words = _LOG_WORDS[log_of(variant) or "own"]
                what = f"{words}, with values below the {variant.floor:g} that silence has in {format_dialect(variant)}"
                remedy = f"save np.maximum(mel, {variant.floor:g}) and read it as {format_dialect(variant)}"
                yield ("lower", words), Reading(what, (), remedy, density)
    if found is not None:
        # A stated normalisation explains values of mean 0 and deviation 1.
        is_stated = any(family[0].is_normalised and family[0].objection(mel) is None for family in families)
        yield from ((key, each) for key, each in _normalised(mel, found) if key != _BY_DEVIATION or not is_stated)


def _variants(family: list[MelDialect]) -> Iterator[tuple[float, list[MelDialect]]]:
    """Yield a family as it is defined, with other logarithms, and with squared amplitudes, and the prior weights."""
    first = family[0]
    yield _AS_DEFINED, family
    if first.is_normalised:
        return
    for log in LOGARITHMS:
        group = [with_log(each, log) for each in family]
        if _seen(group[0]) != _seen(first):
            yield _OTHER_LOG, group
        if first.power == 1 and log != "db":  # 10 log10 of squared amplitudes is log=db but for the level
            yield _SQUARED / len(family), [with_log(replace(each, power=2), log) for each in family]


def _normalised(mel: Tensor, found: MelStatistics) -> Iterator[tuple[object, Reading]]:
    """Yield scales of unknown gain and level: normalised to a range, by mean and deviation, and any other."""
    low, high, top = float(mel.min()), float(mel.max()), float(found.quantiles[-1])
    mean, std = float(mel.mean()), float(mel.std())
    densities = log_likelihood_of_shape(found, _GAINS)

    def density(unit_db: float, spread: float) -> float:
        prior = log_normal(_GAINS.log(), math.log(unit_db), spread)
        return float((densities + prior - prior.logsumexp(0)).logsumexp(0))

    for text, (lowest, highest) in _RANGES.items():
        width = highest - lowest
        if not (-0.05 <= (low - lowest) / width <= 0.15 and -0.05 <= (highest - high) / width <= 0.4):
            continue
        is_exact = max(abs(low - lowest), abs(high - highest)) < 1e-5 * width
        log_weight = math.log(_NORMALISED * (30.0 if is_exact else 0.3) * 2 / width)
        unit_db, spread = _RANGE_DB
        what = f"values normalised to {text}"
        yield what, Reading(what, (), _REMEDY, log_weight + density(unit_db / width, spread))
    # Exact for one file, near by for the numbers of a corpus. The prior of the gain holds for the deviation, loosely.
    log_std = math.log(std + 1e-9)
    parts = [log_normal(mean, 0.0, s) + log_normal(log_std, 0.0, s) - math.log(2) for s in (0.001, 0.1)]
    log_weight = math.log(_NORMALISED) + max(parts) - log_normal(log_std, 0.0, 0.4)
    yield _BY_DEVIATION, Reading(_BY_DEVIATION, (), _REMEDY, log_weight + density(*_DEVIATION_DB))
    log_weight = math.log(_OTHER) - math.log(20 * math.pi * (1 + (top / 20) ** 2))
    yield "other", Reading("a scale that no dialect has", (), _REMEDY, log_weight + density(10.0, 3.0))


def _joined(readings: list[Reading]) -> Reading:
    """Return one reading for several that cannot be distinguished."""
    dialects = tuple(dict.fromkeys(each for reading in readings for each in reading.dialects))
    densities = torch.tensor([reading.log_density for reading in readings], dtype=torch.float64)
    return replace(readings[0], dialects=dialects, log_density=float(densities.logsumexp(0)))


def described(of: MelDialect) -> str:
    """Return the name of a dialect, and its logarithm where that is not the name's."""
    if with_named_values(of) == of == dialect(of.name, power=of.power):
        words = "" if of == dialect(of.name) else " with squared amplitudes (power)"
        return of.name + words
    words = [] if of.power == dialect(of.name).power else ["squared amplitudes (power)"]
    words += [_LOG_WORDS[log_of(of) or "own"]] + ["mean and std"] * of.is_normalised
    return f"{of.name} with {', '.join(words)}"


def _seen(of: MelDialect) -> tuple[object, ...]:
    return tuple(getattr(of, field.name) for field in fields(MelDialect) if field.name not in _UNSEEN)
