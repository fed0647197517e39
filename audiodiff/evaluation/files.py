"""Pairs of audio files: pairing by name, resampling and trimming, and scoring in several processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from audiodiff.dsp.resample import resample
from audiodiff.errors import AudiodiffError, AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files
from audiodiff.metrics.registry import select
from audiodiff.metrics.report import Pair, Row, evaluate_pair, refused

_SECONDS_PER_WORKER = 300.0
_MAX_WORKERS = 4
_N_NAMED = 5


@dataclass(frozen=True)
class FilePair:
    """Hold two files to compare.

    Args:
        name: common name, without folder and suffix.
        reference: the true recording.
        estimate: the recording to evaluate.
    """

    name: str
    reference: Path
    estimate: Path


def pair_files(reference: Path, estimate: Path) -> tuple[list[FilePair], list[str], list[str]]:
    """Pair two files of any names, or the files of two folders by relative path without suffix.

    Returns:
        The pairs, the references without an estimate, and the estimates without a reference, all sorted by name.

    Raises:
        ParameterError: if one is a file and the other a folder, two files of a folder have the same name, or
            there is no pair.
        AudioFileError: if a path is missing, or a folder has no audio.
    """
    for path in (reference, estimate):
        if not path.exists():
            raise AudioFileError(f"{path}: no such file or folder")
    if reference.is_dir() != estimate.is_dir():
        folder, file = (reference, estimate) if reference.is_dir() else (estimate, reference)
        raise ParameterError(f"{folder} is a folder and {file} a file: give two files or two folders")
    if not reference.is_dir():
        return [FilePair(name=estimate.stem, reference=reference, estimate=estimate)], [], []
    references, estimates = _by_name(reference), _by_name(estimate)
    common = sorted(references.keys() & estimates.keys())
    missing, extra = sorted(references.keys() - estimates.keys()), sorted(estimates.keys() - references.keys())
    if not common:
        raise ParameterError(
            f"nothing to compare: no name is in both folders; {format_names(f'are in {reference}', missing)}; "
            f"{format_names(f'are in {estimate}', extra)}"
        )
    pairs = [FilePair(name=name, reference=references[name], estimate=estimates[name]) for name in common]
    return pairs, missing, extra


def evaluate_files(pair: FilePair, *, names: Sequence[str], max_length_difference_seconds: float) -> Row:
    """Read and score a pair of files; a pair that cannot be compared gives a row with the reason."""
    metrics = select(names)
    try:
        reference, sample_rate = audio_io.read(pair.reference)
        estimate, estimate_rate = audio_io.read(pair.estimate)
        if estimate.shape[0] != reference.shape[0]:
            raise ParameterError(
                f"{pair.estimate}: has {estimate.shape[0]} channels and its reference {reference.shape[0]}"
            )
        notes: list[str] = []
        if estimate_rate != sample_rate:
            try:
                estimate = resample(estimate, from_rate=estimate_rate, to_rate=sample_rate)
            except ParameterError as error:
                raise ParameterError(f"{pair.estimate} and {pair.reference}: {error}") from error
            notes.append(f"estimate resampled from {estimate_rate} to {sample_rate} Hz")
        excess = estimate.shape[-1] - reference.shape[-1]
        if abs(excess) > max_length_difference_seconds * sample_rate:
            raise ParameterError(
                f"{pair.estimate}: is {abs(excess) / sample_rate:.3f} s {'longer' if excess > 0 else 'shorter'} than "
                f"its reference, more than the {max_length_difference_seconds:g} s that may be trimmed"
            )
    except AudiodiffError as error:
        return refused(pair.name, str(error), metrics=metrics)
    if excess:
        notes.append(f"{'estimate' if excess > 0 else 'reference'} trimmed by {abs(excess)} samples")
    n_samples = min(estimate.shape[-1], reference.shape[-1])
    signals = Pair(pair.name, estimate[:, :n_samples], reference[:, :n_samples], sample_rate)
    return replace(evaluate_pair(signals, metrics=metrics), notes=tuple(notes))


def evaluate_all(
    pairs: Sequence[FilePair], *, names: Sequence[str], max_length_difference_seconds: float, n_workers: int
) -> Iterator[Row]:
    """Yield the rows in the order of the pairs, computed in this process or in several.

    Raises:
        AudiodiffError: if a process ends unexpectedly.
    """
    if n_workers == 1:
        for pair in pairs:
            yield evaluate_files(pair, names=names, max_length_difference_seconds=max_length_difference_seconds)
        return
    # Not fork, which breaks the threads of torch.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [
            pool.submit(evaluate_files, pair, names=names, max_length_difference_seconds=max_length_difference_seconds)
            for pair in pairs
        ]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            raise AudiodiffError("a worker process ended (out of memory?); try again with --workers 1") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def default_workers(pairs: Sequence[FilePair]) -> int:
    """Return how many processes to use: one for about every 5 minutes of audio, since each has to import torch."""
    seconds = 0.0
    for pair in pairs:
        try:
            about = audio_io.info(pair.reference)
        except AudioFileError:
            continue
        seconds += about.seconds * about.n_channels
    return max(1, min(_MAX_WORKERS, os.cpu_count() or 1, int(seconds / _SECONDS_PER_WORKER) + 1, len(pairs)))


def _by_name(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in find_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise ParameterError(f"{named[name]} and {path} have the same name, so pairs are ambiguous: remove one")
        named[name] = path
    return named


def format_names(what: str, names: Sequence[str]) -> str:
    """Return the number of names and the first few of them, empty if there are none."""
    if not names:
        return ""
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:_N_NAMED])}{more})"
