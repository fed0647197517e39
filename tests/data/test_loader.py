"""Batches are one stream: the same from any step, for any number of workers, cut disjointly among ranks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from audiodiff.data import Batch, CropDataset, Example, StepIndices, batches, load_entries, speech_folder
from audiodiff.errors import ParameterError


@pytest.fixture(scope="module")
def crops() -> CropDataset:
    entries = load_entries(speech_folder(), split="test").entries
    return CropDataset(entries, sample_rate=22050, n_channels=1, crop_samples=2048, seed=3)


def _take(stream: Iterator[Batch], n: int) -> list[Batch]:
    return list(islice(stream, n))


def _assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a["audio"], b["audio"])
        assert torch.equal(a["n_valid"], b["n_valid"])
        assert torch.equal(a["index"], b["index"])
        assert torch.equal(a["labels"], b["labels"])
        assert all(a[name] == b[name] for name in ("path", "text", "label", "speaker"))


def test_a_batch_stacks_its_items(crops: CropDataset):
    (batch,) = _take(batches(crops, batch_size=3, first_step=2), 1)
    assert batch["index"].tolist() == [6, 7, 8]
    for row, k in enumerate((6, 7, 8)):
        assert torch.equal(batch["audio"][row], crops[k]["audio"])
        assert batch["text"][row] == crops[k]["text"]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_do_not_change_the_stream(crops: CropDataset, n_workers: int):
    stream = batches(crops, batch_size=4, n_workers=n_workers)
    _assert_same(_take(stream, 6), _take(batches(crops, batch_size=4), 6))


@pytest.mark.parametrize("n_workers", [0, 1])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_stream_is_the_rest_of_the_stream(crops: CropDataset, n_workers: int, accumulate: int):
    whole = _take(batches(crops, batch_size=2, accumulate=accumulate), 6 * accumulate)
    rest = batches(crops, batch_size=2, accumulate=accumulate, first_step=4, n_workers=n_workers)
    _assert_same(_take(rest, 2 * accumulate), whole[4 * accumulate :])


@pytest.mark.parametrize(("batch_size", "world_size", "accumulate"), [(12, 1, 1), (3, 4, 1), (2, 2, 3), (1, 3, 4)])
def test_a_step_has_the_same_items_however_it_is_divided(batch_size: int, world_size: int, accumulate: int):
    for step in (0, 1, 7):
        seen: list[int] = []
        for rank in range(world_size):
            indices = StepIndices(batch_size, step, world_size, rank, accumulate)
            seen += [k for micro_batch in islice(indices, accumulate) for k in micro_batch]
        assert sorted(seen) == list(range(12 * step, 12 * step + 12))


def test_no_global_random_state_is_touched(crops: CropDataset):
    before = torch.get_rng_state()
    for n_workers in (0, 1):
        _take(batches(crops, batch_size=2, n_workers=n_workers), 2)
    assert torch.equal(torch.get_rng_state(), before)


class _WorkerReport(Dataset[Example]):
    """Say in the text of every example how its process is set up."""

    def __getitem__(self, k: int) -> Example:
        handler = signal.getsignal(signal.SIGINT)
        text = f"{os.getpid()} {torch.get_num_threads()} {handler is signal.SIG_IGN}"
        none = torch.empty(0, dtype=torch.int64)
        return Example(
            audio=torch.zeros(1, 1), n_valid=1, index=k, path="", text=text, label="", speaker="", labels=none
        )


def test_workers_ignore_ctrl_c_and_use_one_thread():
    (batch,) = _take(batches(_WorkerReport(), batch_size=1, n_workers=1), 1)
    pid, n_threads, ignores = batch["text"][0].split()
    assert int(pid) != os.getpid()
    assert (n_threads, ignores) == ("1", "True")


def test_workers_survive_both_signals_and_end_with_the_iterator():
    stream = batches(_WorkerReport(), batch_size=1, n_workers=1)
    pid = int(next(stream)["text"][0].split()[0])
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert len(_take(stream, 12)) == 12
    stream.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_script_that_never_closes_its_iterator_ends_at_once():
    script = (
        "from audiodiff.data import *\n"
        "crops = CropDataset(load_entries(speech_folder(), split='val').entries, sample_rate=22050, n_channels=1, "
        "crop_samples=512, seed=0)\n"
        "if __name__ == '__main__':\n"
        "    stream = batches(crops, batch_size=2, n_workers=1)\n"
        "    print(next(stream)['index'].tolist())\n"
    )
    # DataLoader's own exit handler would waX
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("[0, 1]\n", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("first_step", -1), ("world_size", 0), ("rank", 1), ("n_workers", -1), ("accumulate", 0)],
)
def test_numbers_out_of_range_are_refused_when_the_stream_is_made(crops: CropDataset, name: str, value: int):
    with pytest.raises(ParameterError, match=f"{name}={value}"):
        batches(crops, **{"batch_size": 1, name: value})  # type: ignore[arg-type]


def test_importing_data_loads_nothing_heavy():
    heavy = "('librosa', 'torchaudio', 'scipy', 'matplotlib', 'lightning_fabric', 'hydra', 'rich')"
    script = f"import sys, audiodiff.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout == "[]\n"
