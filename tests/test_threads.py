"""Pieces on one thread each: order, torch's own setting, other threads of a program, errors, and what ends early."""

import threading
import time

import pytest
import torch

from audiodiff import threads
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.threads import num_workers, one_thread, set_num_workers, spread


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", 3)


@pytest.fixture(autouse=True)
def of_torch(threads):
    """Let torch have four threads, which none of these tests may change."""
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    assert in_a_new_thread() == 4


def in_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_results_come_in_order_from_several_threads():
    together = threading.Barrier(3)

    def piece(k: int) -> tuple[int, int, int]:
        if k < 3:
            together.wait(30.0)  # three workers are needed at once
        time.sleep(0.01 * (5 - k))
        return k, torch.get_num_threads(), threading.get_ident()

    results = list(spread(piece, range(6)))
    assert [k for k, _, _ in results] == list(range(6))
    assert {n for _, n, _ in results} == {1}
    assert len({ident for _, _, ident in results}) == 3


@pytest.mark.parametrize("options", [{"workers": 1}, {}], ids=["one worker", "one piece"])
def test_one_piece_at_a_time_stays_in_the_callers_thread(options):
    pieces = range(3) if options else range(1)
    for k in spread(lambda k: (threading.get_ident(), torch.get_num_threads()), pieces, **options):
        assert k == (threading.get_ident(), 1)
        assert torch.get_num_threads() == 4


def test_pieces_of_pieces_are_computed_in_the_worker_of_the_whole():
    def outer(_: int) -> bool:
        return set(spread(lambda _: threading.get_ident(), range(4))) == {threading.get_ident()}

    assert all(spread(outer, range(3)))


def test_other_threads_keep_their_number_meanwhile():
    with one_thread():
        assert torch.get_num_threads() == 1
        assert in_a_new_thread() == 4
        begun = threading.Barrier(3)  # each worker takes its number as it begins

        def piece(_: int) -> int:
            begun.wait(30.0)
            return in_a_new_thread()

        assert list(spread(piece, range(3))) == [4, 4, 4]


def test_gradients_are_recorded_as_in_the_caller():
    with torch.no_grad():
        assert list(spread(lambda _: torch.is_grad_enabled(), range(3))) == [False] * 3
    assert list(spread(lambda _: torch.is_grad_enabled(), range(3))) == [True] * 3


def test_an_error_ends_the_others_and_arrives():
    ended = threading.Event()

    def piece(k: int) -> int:
        if k == 1:
            raise ParameterError("k=1")
        assert k == 0 or ended.wait(30.0)  # the others run until they are ended
        return k

    with pytest.raises(ParameterError, match="k=1"):
        list(spread(piece, range(9), on_end=ended.set))
    assert ended.is_set()


def test_a_caller_that_stops_ends_what_still_runs():
    ended, begun = threading.Event(), threading.Event()

    def piece(k: int) -> int:
        if k > 1:
            begun.set()
            assert ended.wait(30.0)
        return k

    results = spread(piece, range(9), on_end=ended.set)
    assert next(results) == 0
    assert begun.wait(30.0)
    results.close()
    assert ended.is_set()


@pytest.mark.parametrize("n", [0, -1])
def test_a_number_of_workers_that_cannot_be_is_refused(n):
    with pytest.raises(ParameterError, match="must be a whole number, at least 1"):
        set_num_workers(n)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    set_num_workers(None)
    quota = threads._quota
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(threads, "_quota", lambda: quota(tmp_path))
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert num_workers() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert num_workers() == 64
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert num_workers() == 64


def test_samples_do_not_depend_on_the_workers():
    model = MelInverter(dialect=dialect("hifigan"), n_iterations=2)
    mel = model.mel(0.1 * torch.randn(2, 1, 30 * 22050, generator=torch.Generator().manual_seed(0)))
    whole = []
    for n in (1, 2, 3):
        set_num_workers(n)
        whole.append(model.generate(mel))
    assert torch.equal(whole[0], whole[1])
    assert torch.equal(whole[0], whole[2])
