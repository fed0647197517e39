"""Sample formats: what a file can hold of what another had."""

from pathlib import Path

import pytest

from audiodiff.io.formats import check_format, nearest_subtype


@pytest.mark.parametrize(
    ("subtype", "target", "expected"),
    [
        ("MPEG_LAYER_III", "a.wav", None),
        ("MPEG_LAYER_III", "a.flac", None),
        ("MPEG_LAYER_III", "a.mp3", "MPEG_LAYER_III"),
        ("MPEG_LAYER_II", "a.mp3", None),
        ("VORBIS", "a.wav", None),
        ("VORBIS", "a.opus", "VORBIS"),
        ("PCM_24", "a.wav", "PCM_24"),
        ("PCM_16", "a.mp3", None),
        ("DOUBLE", "a.flac", "PCM_24"),
        ("GSM610", "a.wav", "GSM610"),
    ],
)
def test_a_format_that_can_only_be_read_falls_back(subtype: str, target: str, expected: str | None):
    found = nearest_subtype(Path(target), subtype)
    assert found == expected
    check_format(target, n_channels=1, sample_rate=16000, subtype=found)


def test_a_format_that_cannot_hold_the_channels_falls_back():
    assert nearest_subtype(Path("a.wav"), "GSM610", n_channels=2) is None
    assert nearest_subtype(Path("a.ogg"), "OPUS", sample_rate=44100) is None
