"""Mels that another system made of recordings, paired with them by name and aligned in frames."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.data.manifest import Entry
from audiodiff.dsp.dialect_checks import converted, ensure_same, with_values_of
from audiodiff.dsp.dialect_text import format_dialect
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import DataError, MelError
from audiodiff.io.mel import MEL_KEY, MEL_SUFFIXES, load_mel
from audiodiff.io.paths import file_text

N_SHOWN = 5
"""Files that a refusal names."""


@dataclass(frozen=True)
class PairedMels:
    """Mels of recordings: frame m of a mel belongs to the samples of frame m of its recording.

    Args:
        files: of the entries, in their order.
        n_frames: of each recording, in frames of `dialect`; a mel may have a few more or less.
        dialect: that frames are given in.
        own: dialect of bare arrays; None is `dialect`.
        key: name of the array in a file that holds several.
    """

    files: Sequence[Path]
    n_frames: Sequence[int]
    dialect: MelDialect
    own: MelDialect | None = None
    key: str = MEL_KEY

    def window(self, index: int, *, first: int, n_frames: int) -> Float[Tensor, "n_mels frames"]:
        """Return frames first to first + n_frames of a recording's mel; after its end the last frame is repeated."""
        given = self.own or self.dialect
        mel, stated = load_mel(self.files[index], key=self.key, frames_first=given.frames_first)
        last = min(self.n_frames[index], mel.shape[-1])
        kept = mel[:, min(first, last - 1) : min(first + n_frames, last)]
        kept = converted(kept, stated or given, self.dialect)
        return F.pad(kept[None], (0, n_frames - kept.shape[-1]), mode="replicate")[0]

    def digest(self) -> str:
        """Return a short digest of the names and sizes of the files."""
        found = hashlib.sha256()
        for path in self.files:
            found.update(file_text(f"{path.name}|{path.stat().st_size}\n"))
        return found.hexdigest()[:16]


def best_lag(
    mel: Float[Tensor, "n_mels frames"], truth: Float[Tensor, "n_mels frames"], *, most: int = 20
) -> tuple[int, float]:
    """Return the lag in frames at which a mel fits that of its recording best, and the correlation there.

    The means over the bands are correlated. A positive lag says that the mel is late.

    Example:
        >>> truth = torch.rand(80, 200, generator=torch.Generator().manual_seed(0)).cumsum(dim=1).sin()
        >>> lag, correlation = best_lag(truth.roll(3, dims=1), truth)
        >>> lag, correlation > 0.9
        (3, True)
    """
    n_frames = min(mel.shape[1], truth.shape[1])
    a, b = mel[:, :n_frames].mean(dim=0), truth[:, :n_frames].mean(dim=0)
    most = min(most, n_frames // 4)
    found = {
        lag: float(torch.corrcoef(torch.stack([a[max(0, lag) :][:kept], b[max(0, -lag) :][:kept]]))[0, 1])
        for lag in range(-most, most + 1)
        for kept in [n_frames - abs(lag)]
    }
    best = max(found, key=lambda lag: found[lag] if found[lag] == found[lag] else -1.0)
    return best, found[best]


def pair_mels(
    entries: Sequence[Entry],
    folder: Path,
    *,
    lengths: Sequence[int],
    dialect: MelDialect,
    own: MelDialect | None = None,
    key: str = MEL_KEY,
    tolerance: int = 2,
) -> PairedMels:
    """Find the mel of each recording, and check all of them.

    A mel has the name of its recording: of `a/b/c.flac` it is `a/b/c.npy`, `b/c.npy` or `c.npy` in the folder, also
    .npz or .pt; the longest of these names that is there counts.

    Args:
        entries: scanned recordings.
        folder: of the mels.
        lengths: samples of each recording at the dialect's rate.
        dialect: of the model.
        own: dialect of bare arrays, which may differ in logarithm, mean, std and order; None is that of the model.
        key: name of the array in a file that holds several.
        tolerance: frames by which the length of a mel may differ from that of its recording.

    Raises:
        DataError: if mels are missing or belong to two recordings, or their lengths differ by more than the tolerance.
        MelError: if a mel cannot be of its dialect, or has another one than the model.
        AudioFileError: if a file cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"data.mels={folder} is no folder: give the one that holds a mel for each recording")
    given = own or dialect
    ensure_same(with_values_of(given, dialect), dialect, name="data.mels_dialect")
    known: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEL_SUFFIXES):
        known.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    found = [_named_like(entry.path, known) for entry in entries]
    missing = [entry.path for entry, path in zip(entries, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"data.mels={folder}: {len(missing)} of {len(entries)} recordings have no mel there: {_listed(missing)}; "
            f"a mel has the name of its recording, as {missing[0].with_suffix('.npy').name}"
        )
    files = [path for path in found if path is not None]
    n_frames = [dialect.n_frames(length) for length in lengths]
    users: dict[Path, Entry] = {}
    unequal = []
    for entry, path, wanted in zip(entries, files, n_frames, strict=True):
        if path in users:
            raise DataError(
                f"data.mels={folder}: {path.name} is the mel of two recordings, {users[path].path} and {entry.path}: "
                "put mels into folders as the recordings are, and give each recording a file of its own"
            )
        users[path] = entry
        mel, stated = load_mel(path, key=key, frames_first=given.frames_first)
        if stated is not None:
            ensure_same(with_values_of(stated, dialect), dialect, name=str(path))
        elif (reason := given.objection(mel)) is not None:
            raise MelError(
                f"{path} is no mel of dialect {format_dialect(given)}: {reason}; state what the arrays are with "
                f"data.mels_dialect, as audiodiff mel --check {path.name} shows it"
            )
        if abs(mel.shape[-1] - wanted) > tolerance:
            unequal.append(f"{path} has {mel.shape[-1]} frames, {entry.path} {wanted}")
    if unequal:
        raise DataError(
            f"data.mels={folder}: the lengths of {len(unequal)} of {len(files)} mels differ from their recordings' by "
            f"more than data.mels_tolerance={tolerance} frames:\n  " + "\n  ".join(unequal[:N_SHOWN]) + "\n"
            "make mels with the durations of the recordings (teacher forcing), and check rate and hop of the dialect "
            f"({dialect.sample_rate} Hz, hop {dialect.hop_length})"
        )
    return PairedMels(files, n_frames, dialect, own, key)


def _named_like(recording: Path, known: Mapping[str, Sequence[Path]]) -> Path | None:
    parts = recording.with_suffix("").parts
    for first in range(len(parts)):
        paths = known.get("/".join(parts[first:]))
        if paths:
            if len(paths) > 1:
                raise DataError(f"{recording} has several mels: {_listed(paths)}; keep one")
            return paths[0]
    return None


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - N_SHOWN} more" if len(paths) > N_SHOWN else ""
    return ", ".join(map(str, paths[:N_SHOWN])) + more
