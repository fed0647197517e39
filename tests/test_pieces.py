"""Long sounds: what is computed in pieces, or streamed, against what is computed at once."""

import itertools
from pathlib import Path

import pytest
import tiny
import torch
from sounds import vowel

import audiodiff
from audiodiff import pieces
from audiodiff.dsp.mel import dialect
from audiodiff.errors import MelError, ParameterError
from audiodiff.inverter import MelInverter
from audiodiff.pieces import Cut

FULL_SCALE = 1e-4
"""What a cut may change, of full scale."""


@pytest.mark.parametrize(("n_samples", "margin", "grain"), [(1, 0, 1), (100_000, 700, 256), (99_999, 0, 7), (5000, 9000, 3)])
def test_pieces_cover_everything_once_with_their_margins(n_samples, margin, grain):
    found = list(Cut(margin=margin, grain=grain).pieces(n_samples, sample_rate=1000))
    assert [found[0].start, found[-1].stop] == [0, n_samples]
    assert all(left.stop == right.start for left, right in itertools.pairwise(found))
    for piece in found:
        assert piece.first % grain == piece.start % grain == 0
        assert piece.start - piece.first >= min(margin, piece.start)
        assert piece.last - piece.stop >= min(margin, n_samples - piece.stop)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.3)
