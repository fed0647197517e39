"""Planning: which files are found, what they become, and what is refused before anything is read."""

from pathlib import Path

import pytest

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.jobs import Job, check_target, find_files, plan_jobs, plan_targets


def test_find_takes_a_file_a_folder_and_a_glob(tmp_path: Path):
    for name in ["b.wav", "a.FLAC", "sub/c.mp3", "sub/notes.txt", ".hidden.wav", ".git/d.wav", "x[1].wav"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern: str, **options) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in find_files(tmp_path / pattern, **options)]

    assert names("") == ["a.FLAC", "b.wav", "sub/c.mp3", "x[1].wav"]
    assert names("*.wav") == ["b.wav", "x[1].wav"]
    assert names("**/*") == ["a.FLAC", "b.wav", "sub/c.mp3", "x[1].wav"]
    assert names("x[1].wav") == ["x[1].wav"]
    assert names("sub/notes.txt") == ["sub/notes.txt"]
    assert names("", suffixes=(".txt",)) == ["sub/notes.txt"]
    for absent in ("nothing.wav", "*.opus"):
        with pytest.raises(AudioFileError):
            names(absent)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_is_planned_as_the_same_tree_with_keys_in_order(tmp_path: Path):
    touch(tmp_path / "in/a.wav", tmp_path / "in/sub/b.flac")
    jobs = plan_jobs([str(tmp_path / "in")], out=tmp_path / "out", force=False, new_suffix=".wav")
    assert jobs == [
        Job(tmp_path / "in/a.wav", tmp_path / "out/a.wav", 0),
        Job(tmp_path / "in/sub/b.flac", tmp_path / "out/sub/b.wav", 1),
    ]
    kept = plan_jobs([str(tmp_path / "in")], out=tmp_path / "out", force=False, new_suffix=None)
    assert [job.target.name for job in kept] == ["a.wav", "b.flac"]


def test_earlier_results_in_an_input_folder_are_left_out(tmp_path: Path):
    touch(tmp_path / "a.wav", tmp_path / "out/a.wav")
    jobs = plan_jobs([str(tmp_path)], out=tmp_path / "out", force=True, new_suffix=".wav")
    assert [job.source for job in jobs] == [tmp_path / "a.wav"]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(AudioFileError, match="all of its files lie in --out"):
        plan_jobs([str(tmp_path)], out=tmp_path / "out", force=True, new_suffix=".wav")


def test_results_without_an_input_are_one_file_or_a_folder_of_names(tmp_path: Path):
    assert plan_targets(["a", "b"], out=tmp_path, force=False) == [tmp_path / "a.wav", tmp_path / "b.wav"]
    assert plan_targets(["a"], out=tmp_path / "x.flac", force=False) == [tmp_path / "x.flac"]
    with pytest.raises(ParameterError, match="is one file, and 2 results"):
        plan_targets(["a", "b"], out=tmp_path / "x.flac", force=False)


def test_a_target_that_exists_needs_force_and_a_folder_never_goes(tmp_path: Path):
    touch(tmp_path / "a.csv")
    with pytest.raises(AudioFileError, match=r"--frames: .* exists: give --force to replace it, or another --frames"):
        check_target(tmp_path / "a.csv", force=False, option="--frames")
    check_target(tmp_path / "a.csv", force=True)
    with pytest.raises(AudioFileError, match="is a folder"):
        check_target(tmp_path, force=True)
