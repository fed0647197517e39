"""Splits are deterministic, disjoint, and not empty where that is possible."""

from functools import partial
from pathlib import Path

import pytest

from audiodiff.data import Entry, divide


def _listed(n: int, *, folder: Path = Path("set"), split: str = "") -> list[Entry]:
    return [Entry(folder / f"{index}.wav", split=split) for index in range(n)]


def _val(entries: list[Entry]) -> set[str]:
    return {entry.path.name for entry in entries if entry.split == "val"}


def test_splits_do_not_depend_on_the_folder_the_order_or_other_files():
    few = divide(_listed(300), folder=Path("set"), val_fraction=0.1)
    many = divide(_listed(900)[::-1], folder=Path("set"), val_fraction=0.1)
    moved = divide(_listed(300, folder=Path("/else")), folder=Path("/else"), val_fraction=0.1)
    assert _val(few) == _val(moved) == {name for name in _val(many) if int(name[:-4]) < 300}
    # 90 expected of 900, with a standard deviation of 9.
    assert 54 <= len(_val(many)) <= 126
    assert {entry.split for entry in many} == {"train", "val"}


@pytest.mark.parametrize("n", [2, 3, 5, 9])
@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_two_or_more_files_give_at_least_one_to_each_split(n: int, val_fraction: float):
    divided = divide(_listed(n), folder=Path("set"), val_fraction=val_fraction)
    assert 1 <= len(_val(divided)) < n


def test_every_value_of_a_label_keeps_a_training_file():
    # One file of class 0, two of class 1, ... ten of class 9; two segments of each; speakers in pairs of classes.
    entries = [
        Entry(Path(f"set/{label}/{take}.wav"), start=start, seconds=1.0, label=str(label), speaker=f"s{label // 2}")
        for label in range(10)
        for take in range(label + 1)
        for start in (0.0, 1.0)
    ]
    for val_fraction in (0.01, 0.3, 0.99):
        of_columns = partial(divide, entries, folder=Path("set"), val_fraction=val_fraction)
        plain, divided = of_columns(), of_columns(columns=["label", "folder"])
        train, val = ([entry for entry in divided if entry.split == split] for split in ("train", "val"))
        assert val
        assert {entry.label for entry in train} == {str(label) for label in range(10)}
        assert not {entry.path for entry in train} & {entry.path for entry in val}
        assert of_columns(columns=["mood"]) == plain
    # At 0.99 all but one file of each class.
    assert len({entry.path for entry in val}) == 55 - 10


def test_files_that_are_each_a_class_of_their_own_all_stay_in_train():
    entries = [Entry(Path(f"set/{index}.wav"), label=str(index)) for index in range(5)]
    divided = divide(entries, folder=Path("set"), val_fraction=0.4, columns=["label"])
    assert {entry.split for entry in divided} == {"train"}


def test_given_splits_are_kept_and_a_missing_val_is_taken_from_train():
    given = [
        *_listed(50, split="train"),
        *_listed(3, folder=Path("v"), split="val"),
        Entry(Path("t.wav"), split="test"),
    ]
    assert divide(given, folder=Path("set"), val_fraction=0.2) == given
    without = [entry for entry in given if entry.split != "val"]
    divided = divide(without, folder=Path("set"), val_fraction=0.2)
    assert divided[-1] == without[-1]
    assert 1 <= len(_val(divided)) < 50


def test_segments_of_one_file_stay_in_one_split():
    entries = [Entry(Path(f"set/{i % 10}.wav"), start=float(i), seconds=1.0, split="all") for i in range(100)]
    divided = divide(entries, folder=Path("set"), val_fraction=0.3)
    splits = {entry.path: {e.split for e in divided if e.path == entry.path} for entry in divided}
    assert all(len(split) == 1 for split in splits.values())
    assert {entry.split for entry in divided} == {"train", "val"}
