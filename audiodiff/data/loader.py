"""Batch loading by worker processes, from any step on."""

import atexit
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audiodiff.data.dataset import Example
from audiodiff.errors import ParameterError

_PREFETCHED_PER_WORKER = 4
_GRACE_SECONDS = 30


class _WithMel(TypedDict, total=False):
    mel: Float[Tensor, "batch n_mels frames"]


class Batch(_WithMel):
    """Hold stacked examples, with the mels of another system where there are some.

    n_valid is the number of samples before the padding, index the numbers of the draws, labels are indices into the
    vocabularies, -1 if unknown.
    """

    audio: Float[Tensor, "batch channels time"]
    n_valid: Int[Tensor, "batch"]
    index: Int[Tensor, "batch"]
    path: list[str]
    text: list[str]
    label: list[str]
    speaker: list[str]
    labels: Int[Tensor, "batch labels"]


@dataclass(frozen=True)
class StepIndices:
    """Assign draws to steps: micro-batch m of step s on rank r starts at draw ((s A + m) W + r) B.

    A step consists of the same draws however they are divided into accumulated micro-batches A, ranks W and batch size
    B, and the number of the step is all that resuming needs.

    Args:
        batch_size: draws in one micro-batch of one rank.
        first_step: to begin with, from 0.
        world_size: number of ranks.
        rank: of this process.
        accumulate: micro-batches in one step.

    Example:
        >>> indices = iter(StepIndices(batch_size=2, first_step=1, world_size=2, rank=1, accumulate=1))
        >>> next(indices), next(indices)
        ([6, 7], [10, 11])
    """

    batch_size: int
    first_step: int = 0
    world_size: int = 1
    rank: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("batch_size", "world_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name}={getattr(self, name)} must be positive")
        if self.first_step < 0:
            raise ParameterError(f"first_step={self.first_step} must not be negative")
        if not 0 <= self.rank < self.world_size:
            raise ParameterError(f"rank={self.rank} must lie between 0 and world_size - 1 = {self.world_size - 1}")

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the draws of each micro-batch, without end."""
        micro_batch = self.first_step * self.accumulate
        while True:
            first = (micro_batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))
            micro_batch += 1


def batches(
    dataset: Dataset[Example],
    *,
    batch_size: int,
    first_step: int = 0,
    world_size: int = 1,
    rank: int = 0,
    n_workers: int = 0,
    accumulate: int = 1,
) -> Generator[Batch, None, None]:
    """Iterate over the micro-batches of a rank from first_step on, without end; a step has `accumulate` of them.

    The stream depends on the data set and on these numbers only: not on n_workers, nor on what was read before. No
    global random state is used. Closing or dropping the iterator ends the workers. Workers ignore Ctrl-C, and survive a
    SIGTERM to the whole process group for 30 s, so that the parent can finish.

    Args:
        dataset: has an example for every number from 0, as CropDataset does.
        n_workers: processes that each load up to 4 batches ahead; 0 loads on demand, in the caller.

    Raises:
        ParameterError: if an argument is out of range.
    """
    if n_workers < 0:
        raise ParameterError(f"n_workers={n_workers} must not be negative")
    indices = StepIndices(
        batch_size=batch_size, first_step=first_step, world_size=world_size, rank=rank, accumulate=accumulate
    )
    return _iterate(dataset, indices, n_workers)


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples of equal length."""
    batch = Batch(
        audio=torch.stack([example["audio"] for example in examples]),
        n_valid=torch.tensor([example["n_valid"] for example in examples]),
        index=torch.tensor([example["index"] for example in examples]),
        path=[example["path"] for example in examples],
        text=[example["text"] for example in examples],
        label=[example["label"] for example in examples],
        speaker=[example["speaker"] for example in examples],
        labels=torch.stack([example["labels"] for example in examples]),
    )
    mels = [example["mel"] for example in examples if "mel" in example]
    if mels:
        batch["mel"] = torch.stack(mels)
    return batch


def _iterate(dataset: Dataset[Example], indices: StepIndices, n_workers: int) -> Generator[Batch, None, None]:
    loader = DataLoader(
        dataset,
        batch_sampler=indices,
        collate_fn=collate,
        num_workers=n_workers,
        worker_init_fn=_prepare_worker,
        prefetch_factor=_PREFETCHED_PER_WORKER if n_workers else None,
        # By default, DataLoader draws a seed for its workers from the global generator, and the training noise would
        # depend on whether a run was resumed.
        generator=torch.Generator(),
    )
    with warnings.catch_warnings():
        # Python 3.12 warns about fork with threads; the workers only decode, and share nothing with those threads.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        # The only reference, in a list, so that it can be dropped and the workers ended before the interpreter exits:
        # DataLoader's own exit handler would wait for them forever.
        running = [iter(loader)]
    atexit.register(running.clear)
    try:
        while True:
            yield next(running[0])
    finally:
        running.clear()
        atexit.unregister(running.clear)


def _prepare_worker(worker: int) -> None:
    """Ignore signals: DataLoader ends its workers itself, and fails if one dies earlier."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _exit_later)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of a closed terminal, which the parent finishes its step for


def _exit_later(number: int, frame: object) -> None:
    signal.alarm(_GRACE_SECONDS)
