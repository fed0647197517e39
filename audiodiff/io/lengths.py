"""Lengths of audio files: what a header states, and whether it is there."""

import os
import re
import zlib
from pathlib import Path

import soundfile

# Off by so much, a length is that of another part of the file: some writers count the header, or leave it out.
_HEADER_BYTES = 64
# From here on, a writer that could not go back stated "unknown": ffmpeg and sox do, into a pipe.
_UNKNOWN_BYTES = 0x7FFF0000
_OGG_PAGE_BYTES = 65307
_OGG_HEADER_BYTES = 27
_OGG_LAST = 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_KBIT_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # of MPEG 1
_KBIT_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG 2 and 2.5
_MP3_ESTIMATE_SLACK = 2304  # two frames, which the estimate for a constant bit rate may be off
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
    if file.format == "OGG" and (reason := _ogg_damage(path, file.subtype)) is not None:
        return f"{reason}, and {file.frames} can be decoded: {_REMEDY}"
    if not states_length(file, path) and (there := _mp3_samples(path)) > file.frames + _MP3_ESTIMATE_SLACK:
        return (
            f"its header states no length, which is estimated as {file.frames} samples, and its frames hold "
            f"{there}: let ffmpeg state it: ffmpeg -i FILE -c copy NEW.mp3"
        )
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
            content.seek(_id3_bytes(head))
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


def _ogg_damage(path: Path, codec: str) -> str | None:
    """Describe what is wrong with the last page of an Ogg file; None for nothing.

    Source: RFC 3533, section 6.
    """
    with path.open("rb") as content:
        content.seek(-min(path.stat().st_size, _OGG_PAGE_BYTES), os.SEEK_END)
        tail = content.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < _OGG_HEADER_BYTES or not page[5] & _OGG_LAST:
        return "its stream has no end"
    # Opus counts at another rate.
    stated = f"{int.from_bytes(page[6:14], 'little')} samples" if codec == "VORBIS" else "more samples"
    n_segments = page[26]
    n_bytes = _OGG_HEADER_BYTES + n_segments + sum(page[_OGG_HEADER_BYTES:][:n_segments])
    if len(page) < n_bytes:
        return f"its last page, up to {stated}, has {len(page)} bytes of {n_bytes}"
    # The check sum is that of zlib with the bits of every byte, and of the result, in reverse order.
    checked = (page[:22] + bytes(4) + page[26:n_bytes]).translate(_REVERSED)
    found = int(f"{zlib.crc32(checked, 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)
    return None if found == int.from_bytes(page[22:26], "little") else f"its last page, up to {stated}, is damaged"


def _mp3_samples(path: Path) -> int:
    """Count the samples of the frames of an MP3 file, from their headers.

    Source: ISO 11172-3, 2.4.2.3, and ISO 13818-3 for the lower rates.
    """
    content, position, total = path.read_bytes(), 0, 0
    if content[:3] == b"ID3":
        position = _id3_bytes(content[:10])
    while (position := content.find(b"\xff", position)) >= 0 and position + 4 <= len(content):
        _, second, third, _ = content[position : position + 4]
        version, bit_rate, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
        if second & 0xE6 != 0xE2 or version == 1 or bit_rate in (0, 15) or rate == 3:
            position += 1  # no header of a frame of layer III
            continue
        n_samples = 1152 if version == 3 else 576
        kbit = (_KBIT_1 if version == 3 else _KBIT_2)[bit_rate - 1]
        hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        position += n_samples * kbit * 125 // hz + (third >> 1 & 1)
        total += n_samples
    return total


def _id3_bytes(head: bytes) -> int:
    """Return the length of an ID3 tag, of which these are the first 10 bytes."""
    return 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
