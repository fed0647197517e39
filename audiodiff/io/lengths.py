"""Lengths of audio files: what a header states, and whether it is there."""

import os
import re
from pathlib import Path

import soundfile

# Off by so much, a length is that of another part of the file: some writers count the header, or leave it out.
_HEADER_BYTES = 64
# From here on, a writer that could not go back stated "unknown": ffmpeg and sox do, into a pipe.
_UNKNOWN_BYTES = 0x7FFF0000
_OGG_PAGE_BYTES = 65307
_OGG_LAST = 4
_REMEDY = "it is cut off or damaged; copy it again, or keep what is there: ffmpeg -i FILE NEW.wav"
_HEAD_BYTES = 8192
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_DATA_SIZE = re.compile(r"^\s*(data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_SSND_HEADER_BYTES = 8


def missing_samples(file: soundfile.SoundFile, path: Path) -> str | None:
    """Describe what a file lacks of the samples that it states, as far as its structure shows; None for nothing.

    Args:
        file: open for reading.
        path: of the file.
    """
    if file.format == "OGG" and not _ends_as_ogg(path):
        return f"its stream has no end, and stops after {file.frames} samples: {_REMEDY}"
    if file.frames < 1:
        return _unfinished(path) or "has a header but no samples; replace or remove it"
    if (found := _DATA_SIZE.search(file.extra_info)) is not None:
        header = _SSND_HEADER_BYTES if found[1] == "SSND" else 0
        stated, there = int(found[2]) - header, int(found[3]) - header
        if there + _HEADER_BYTES < stated < _UNKNOWN_BYTES:
            frame_bytes = there // file.frames or there / file.frames
            return cut_off(stated=round(stated / frame_bytes), there=file.frames)
    return None


def cut_off(*, stated: int, there: int) -> str:
    """Describe a file that ends before its stated length."""
    return f"its header states {stated} samples, and it ends after {there}: {_REMEDY}"


def states_length(file: soundfile.SoundFile, path: Path) -> bool:
    """Return whether the number of samples is stated, not estimated, as it is for MP3 without a Xing or VBRI tag."""
    if not file.subtype.startswith("MPEG"):
        return True
    with path.open("rb") as content:
        head = content.read(10)
        if head[:3] == b"ID3":
            size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            content.seek(10 + size)
        first = content.read(_HEAD_BYTES)
    return any(tag in first for tag in _LENGTH_TAGS)


def _unfinished(path: Path) -> str | None:
    """Describe a recording whose writer never stated its length."""
    with path.open("rb") as content:
        head = content.read(_HEAD_BYTES)
    start = head.find(b"data") + 8
    n_bytes = path.stat().st_size - start
    if head[:4] != b"RIFF" or start < 8 or n_bytes < _HEADER_BYTES:
        return None
    return (
        f"its header says 0 bytes of samples, and {n_bytes} bytes follow: the recorder did not finish it; mend it: "
        "ffmpeg -ignore_length 1 -i FILE NEW.wav, or sox --ignore-length FILE NEW.wav"
    )


def _ends_as_ogg(path: Path) -> bool:
    """Return whether the last page of an Ogg file is marked as the last of its stream."""
    with path.open("rb") as content:
        content.seek(-min(path.stat().st_size, _OGG_PAGE_BYTES), os.SEEK_END)
        tail = content.read()
    last = tail.rfind(b"OggS")
    return last >= 0 and len(tail) > last + 5 and bool(tail[last + 5] & _OGG_LAST)
