"""Manifests: lists of recordings in CSV or JSONL."""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.errors import DataError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.paths import user_path

MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl")
"""Names of a folder's manifest; the first one found is used."""

TEXT_FIELDS = ("text", "label", "speaker", "split")


@dataclass(frozen=True)
class Entry:
    """Hold one recording: a file or a segment of one.

    Args:
        path: the audio file.
        start: of the segment, in seconds.
        seconds: length of the segment; None goes to the end of the file.
        text: transcript.
        label: class.
        speaker: name of the speaker.
        split: train, val, test or another name; empty if the manifest names none.
        extra: names and values of the manifest's other columns, where the recording has a value.
        n_samples: length of the segment at the file's own rate; 0 until the file was scanned.
        sample_rate: of the file, in Hz; 0 until it was scanned.
        n_channels: of the file; 0 until it was scanned.
    """

    path: Path
    start: float = 0.0
    seconds: float | None = None
    text: str = ""
    label: str = ""
    speaker: str = ""
    split: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    n_samples: int = 0
    sample_rate: int = 0
    n_channels: int = 0

    @property
    def first_sample(self) -> int:
        """The first sample of the segment, at the file's own rate."""
        return round(self.start * self.sample_rate)

    def value(self, column: str) -> str:
        """Return the value of a column, empty if there is none.

        Args:
            column: text, label, speaker, split, any other column of the manifest, or folder: the name of the folder
                that holds the file, unless the manifest has a column of that name.

        Example:
            >>> entry = Entry(Path("drums/kick/a.wav"), speaker="kit 2", extra=(("licence", "CC0"),))
            >>> entry.value("speaker"), entry.value("licence"), entry.value("folder"), entry.value("colour")
            ('kit 2', 'CC0', 'kick', '')
        """
        if column in TEXT_FIELDS:
            return getattr(self, column)
        return dict(self.extra).get(column) or (self.path.parent.name if column == "folder" else "")


_SURROGATES = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8: names of files may have them."""
_OPTIONAL = ("start", "seconds", *TEXT_FIELDS)
_EMPTY = Entry(Path())


def read_manifest(path: Path) -> list[Entry]:
    """Read a manifest: CSV with a header, or JSONL with one object a line.

    The column path is required; start, seconds, text, label, speaker and split are optional, and others are
    kept (`Entry.extra`). Relative paths are resolved against the manifest's folder. Audio files are not opened.

    Raises:
        DataError: if the file is missing, empty or of another type, or a row is invalid; the message has file:line.
    """
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path}: a manifest must end in {' or '.join(_READERS)}")
    try:
        entries = [
            _entry(row, folder=path.parent, where=f"{path}:{line}") for line, row in _READERS[path.suffix.lower()](path)
        ]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such manifest") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not entries:
        raise DataError(f"{path}: has no rows")
    return entries


def write_manifest(entries: Sequence[Entry], path: Path) -> None:
    """Write a CSV manifest, without its empty columns, that `read_manifest` reads back.

    Paths below the manifest's folder are written relative to it, others absolute.

    Raises:
        DataError: if there are no entries.
    """
    if not entries:
        raise DataError(f"{path}: there are no entries to write")
    folder = path.resolve().parent
    own = [name for name in _OPTIONAL if any(getattr(e, name) != getattr(_EMPTY, name) for e in entries)]
    others = list(dict.fromkeys(name for entry in entries for name, _ in entry.extra))
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", *own, *others])
        for entry in entries:
            # Absolute, not resolved: a link inside the folder is part of the data set.
            place = Path(os.path.abspath(entry.path))
            inside = place.is_relative_to(folder)
            text = (place.relative_to(folder) if inside else place).as_posix()
            values = [*(_format(getattr(entry, name)) for name in own), *map(dict(entry.extra).get, others)]
            writer.writerow([text, *values])


def vocabulary(entries: Sequence[Entry], column: str) -> tuple[str, ...]:
    """Collect the values of a column, without the empty one, in natural order: 2 before 10.

    Example:
        >>> vocabulary([Entry(Path("a.wav"), label="dog"), Entry(Path("b.wav"), label="cat")], "label")
        ('cat', 'dog')
    """
    return tuple(sorted({entry.value(column) for entry in entries} - {""}, key=_natural))


def _natural(value: str) -> tuple[list[str | int], str]:
    """Return a key by which runs of digits sort as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", value)], value


def _format(value: str | float | None) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else f"{value:.6f}"


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if "path" not in header:
                raise DataError(f"{path}:1: columns {', '.join(header) or '(none)'} must include path")
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    raise DataError(
                        f"{path}:{reader.line_num}: {len(values)} values must be {len(header)}, one for each column; "
                        "a value with a comma needs double quotes around it"
                    )
                yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: is not CSV ({error})") from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line, content in enumerate(file, start=1):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{line}: {content.strip()[:60]!r} is not JSON ({error.msg})") from error
            if not isinstance(row, dict):
                raise DataError(f'{path}:{line}: {content.strip()[:60]!r} must be an object like {{"path": "a.wav"}}')
            yield line, row


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows}


def _entry(row: Mapping[str, object], *, folder: Path, where: str) -> Entry:
    path = _text(row, "path", where=where)
    if not path:
        raise DataError(f"{where}: path={path!r} must name an audio file")
    start = _number(row, "start", where=where)
    if start is not None and start < 0:
        raise DataError(f"{where}: start={start:g} must not be negative")
    seconds = _number(row, "seconds", where=where)
    if seconds is not None and seconds <= 0:
        raise DataError(f"{where}: seconds={seconds:g} must be positive; leave it empty for the whole file")
    found = folder / user_path(path)
    if any(_SURROGATES.search(str(value)) for name, value in row.items() if name != "path" or not found.exists()):
        raise DataError(f"{where}: is not UTF-8; save the manifest as UTF-8")
    return Entry(
        path=found,
        start=start or 0.0,
        seconds=seconds,
        text=_text(row, "text", where=where),
        label=_text(row, "label", where=where),
        speaker=_text(row, "speaker", where=where),
        split=_text(row, "split", where=where),
        extra=_extra(row),
    )


def _extra(row: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Return the other columns that have a value, which is JSON unless it is text."""
    others = {name: value for name, value in row.items() if name not in ("path", *_OPTIONAL) and value is not None}
    texts = {name: value.strip() if isinstance(value, str) else json.dumps(value) for name, value in others.items()}
    return tuple((name, value) for name, value in texts.items() if value)


def _text(row: Mapping[str, object], name: str, *, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise DataError(f"{where}: {name}={value!r} must be text or a number")
    return str(value).strip()


def _number(row: Mapping[str, object], name: str, *, where: str) -> float | None:
    text = _text(row, name, where=where)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: {name}={text!r} must be a finite number of seconds")
    return number
