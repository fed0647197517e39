"""Manifests are read as they are meant, and each malformed line is named with its rule."""

from pathlib import Path

import pytest

from audiodiff.data import Entry, read_manifest, vocabulary, write_manifest
from audiodiff.errors import DataError


def _csv(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    return path


def _jsonl(folder: Path, text: str) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_jsonl_give_the_same_entries(tmp_path: Path):
    from_csv = read_manifest(
        _csv(
            tmp_path,
            "path,start,seconds,text,label,speaker,split,licence\n"
            'a/b.wav,0.5,2,"Yes, said Zoë.",7,ann,train,CC0\n'
            "c.wav,,,,,,,\n",
        )
    )
    from_jsonl = read_manifest(
        _jsonl(
            tmp_path,
            '{"path": "a/b.wav", "start": 0.5, "seconds": 2, "text": "Yes, said Zoë.", "label": 7, "speaker": "ann", '
            '"split": "train", "licence": "CC0"}\n\n{"path": "c.wav", "text": null, "licence": null}\n',
        )
    )
    whole = Entry(tmp_path / "c.wav")
    stretch = Entry(
        tmp_path / "a/b.wav",
        start=0.5,
        seconds=2.0,
        text="Yes, said Zoë.",
        label="7",
        speaker="ann",
        split="train",
        extra=(("licence", "CC0"),),
    )
    assert from_csv == from_jsonl == [stretch, whole]


def test_paths_are_relative_to_the_manifest_and_absolute_ones_stay(tmp_path: Path):
    entries = read_manifest(_csv(tmp_path, f"path\nx.wav\n{tmp_path}/elsewhere/y.wav\n"))
    assert [entry.path for entry in entries] == [tmp_path / "x.wav", tmp_path / "elsewhere" / "y.wav"]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path):
    entries = read_manifest(_csv(tmp_path, "path,text\r\nx.wav,hello\r\n", encoding="utf-8-sig"))
    assert entries == [Entry(tmp_path / "x.wav", text="hello")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",0,1,train", "path='' must name an audio file"),
        ("a.wav,-1,1,train", "start=-1 must not be negative"),
        ("a.wav,soon,1,train", "start='soon' must be a finite number"),
        ("a.wav,inf,1,train", "start='inf' must be a finite number"),
        ("a.wav,0,0,train", "seconds=0 must be positive"),
        ("a.wav,0,nan,train", "seconds='nan' must be a finite number"),
        ("a.wav,0,1", "3 values must be 4"),
        ("a.wav,0,1,train,more", "5 values must be 4"),
    ],
)
def test_a_bad_csv_line_is_named_with_its_value_and_rule(tmp_path: Path, line: str, words: str):
    path = _csv(tmp_path, f"path,start,seconds,split\ngood.wav,0,1,train\n{line}\n")
    with pytest.raises(DataError) as raised:
        read_manifest(path)
    assert f"{path}:3: {words}" in str(raised.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "a.wav"', "is not JSON"),
        ('["a.wav"]', "must be an object"),
        ('{"text": "a"}', "path='' must name an audio file"),
        ('{"path": ["a.wav"]}', "path=['a.wav'] must be text or a number"),
        ('{"path": "a.wav", "seconds": -2}', "seconds=-2 must be positive"),
    ],
)
def test_a_bad_jsonl_line_is_named_with_its_value_and_rule(tmp_path: Path, line: str, words: str):
    path = _jsonl(tmp_path, f'{{"path": "good.wav"}}\n{line}\n')
    with pytest.raises(DataError) as raised:
        read_manifest(path)
    assert f"{path}:2: " in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns (none) must include path"),
        ("file,text\na.wav,b\n", "columns file, text must include path"),
        ("path\n", "has no rows"),
        ('path,text\n"a.wav,b\n', "is not CSV"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(DataError, match=words.replace("(", r"\(").replace(")", r"\)")):
        read_manifest(_csv(tmp_path, text))


def test_a_missing_manifest_and_wrong_suffixes_or_encodings_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"must end in \.csv or \.jsonl"):
        read_manifest(tmp_path / "list.txt")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_manifest(_csv(tmp_path, "path,text\na.wav,Zoë\n", encoding="latin-1"))


def test_a_vocabulary_is_sorted_and_leaves_out_the_empty_value():
    entries = [Entry(Path("a"), label="b"), Entry(Path("b"), label="a"), Entry(Path("c")), Entry(Path("d"), label="b")]
    assert vocabulary(entries, "label") == ("a", "b")
    assert vocabulary(entries, "speaker") == ()


def test_numbers_in_a_vocabulary_are_sorted_as_numbers():
    values = ["b", "10", "take 2", "2", "take 10", "02", "take2b"]
    entries = [Entry(Path("a"), label=value) for value in values]
    assert vocabulary(entries, "label") == ("02", "2", "10", "b", "take2b", "take 2", "take 10")


def test_any_column_has_values_and_so_has_the_folder(tmp_path: Path):
    rows = "path,tempo,split,key\nkick/a.wav, 120 ,train,\nsnare/b.wav,90,val,A\nc.wav,,,\n"
    first, second, last = entries = read_manifest(_csv(tmp_path, rows))
    assert [first.value(name) for name in ("tempo", "key", "split", "folder", "path")] == [
        "120",
        "",
        "train",
        "kick",
        "",
    ]
    assert [second.value(name) for name in ("tempo", "key")] == ["90", "A"]
    assert (last.extra, last.value("folder")) == ((), tmp_path.name)
    assert vocabulary(entries, "tempo") == ("90", "120")
    assert vocabulary(entries, "folder") == tuple(sorted(("kick", "snare", tmp_path.name)))


def test_what_is_not_text_in_an_unknown_column_is_kept_as_json(tmp_path: Path):
    (entry,) = read_manifest(_jsonl(tmp_path, '{"path": "a.wav", "take": 7, "loud": true, "by": ["ann", "bob"]}\n'))
    assert entry.extra == (("take", "7"), ("loud", "true"), ("by", '["ann", "bob"]'))
    write_manifest([entry], tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv") == [entry]


def test_a_written_manifest_is_read_back_as_it_was(tmp_path: Path):
    inside = Entry(tmp_path / "a, b.wav", start=0.25, seconds=1.5, text='Say "yes",\nplease', label="ü", split="val")
    extra = Entry(tmp_path / "d.wav", extra=(("key", "A, minor"), ("tempo", "90")))
    other = Entry(tmp_path / "e.wav", extra=(("tempo", "120"),))
    for entries in (
        [inside, extra, other],
        [inside, Entry(tmp_path.parent / "other" / "c.wav", speaker="ann")],
        [Entry(tmp_path / "c.wav")],
    ):
        write_manifest(entries, tmp_path / "manifest.csv")
        assert read_manifest(tmp_path / "manifest.csv") == entries
    assert (tmp_path / "manifest.csv").read_text() == "path\nc.wav\n"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]
