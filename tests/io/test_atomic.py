import contextlib
import os
import stat
from pathlib import Path

import pytest

from audiodiff.io.atomic import atomic_file, atomic_folder


def test_a_file_that_fails_leaves_the_old_one_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with contextlib.suppress(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_fails_leaves_the_old_one_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with atomic_folder(target) as temporary:
        (temporary / "x").write_text("old")
    with contextlib.suppress(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "x").write_text("new")
        raise RuntimeError
    assert (target / "x").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("")
            temporary.chmod(0o600)
        with atomic_folder(tmp_path / "b") as temporary:
            (temporary / "c").write_text("")
            (temporary / "c").chmod(0o600)
    finally:
        os.umask(before)
    for file in (tmp_path / "a.txt", tmp_path / "b" / "c"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_the_temporary_file_has_the_suffix_and_is_hidden(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.name.startswith(".")
