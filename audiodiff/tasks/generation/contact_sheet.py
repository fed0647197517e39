"""Contact sheet: the mel spectrograms of many sounds on one page.

All pictures have the same scale of time, frequency and level. The mel scale shows the harmonics of speech and of music;
the window, of 32 to 46 ms, separates their partials.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.io.audio import info, read

MAX_SOUNDS = 64
RANGE_DB = 80.0
"""Range below the loudest level; less is black."""

_N_BANDS = 80
_MAX_COLUMNS = 10
_COLUMNS_OF_LONGEST = 400
"""Spectra of the longest sound, about two for each pixel of its picture."""
_FRAMES_AT_ONCE = 1024
_TICKS_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
_PANEL_INCHES = (2.2, 1.5)
_MARGIN_INCHES = (0.6, 0.8, 0.5, 0.6)
"""Left, right, bottom, top."""
_TITLE_CHARACTERS = 40


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet.

    Args:
        path: of the sound.
        title: above it.
    """

    path: Path
    title: str


def choose_panels(shape: Sequence[int]) -> tuple[list[int], int]:
    """Choose the sounds of a grid that are shown, the same number of each cell, and the number of columns.

    Args:
        shape: of the grid; the last axis is the sounds of a cell, which vary fastest.

    Returns: the places of the sounds in the list of all, and the number of columns.

    Example:
        >>> places, n_columns = choose_panels((10, 100))
        >>> len(places), places[5:8], n_columns
        (60, [5, 100, 101], 6)
    """
    n_cells, count = math.prod(shape[:-1]), shape[-1]
    n_cells_shown = min(n_cells, MAX_SOUNDS)
    n_each = min(count, MAX_SOUNDS // n_cells_shown)
    cells = [k * n_cells // n_cells_shown for k in range(n_cells_shown)]
    places = [cell * count + k for cell in cells for k in range(n_each)]
    in_a_row = n_each if n_each > 1 or n_cells_shown < n_cells else next((n for n in reversed(shape) if n > 1), 1)
    fits = 1 < in_a_row <= _MAX_COLUMNS
    return places, in_a_row if fits else min(_MAX_COLUMNS, math.ceil(math.sqrt(len(places))))


def contact_sheet(
    panels: Sequence[Panel], *, n_columns: int, note: str = "", on_panel: Callable[[], None] = lambda: None
) -> bytes:
    """Draw the mel spectrograms of files.

    Args:
        panels: row by row, at most MAX_SOUNDS; the files have one sample rate.
        n_columns: pictures in a row.
        note: above all of them.
        on_panel: called after each analysed file.

    Returns: a PNG.

    Raises:
        ParameterError: if there are none, or too many, or of several sample rates.
        AudioFileError: if one cannot be read.
    """
    if not 1 <= len(panels) <= MAX_SOUNDS:
        raise ParameterError(f"{len(panels)} sounds do not fit on a contact sheet: give 1 to {MAX_SOUNDS}")
    infos = [info(panel.path) for panel in panels]
    rates = sorted({about.sample_rate for about in infos})
    if len(rates) > 1:
        raise ParameterError(f"sample rates {rates} must be one: resample the files first")
    longest = max(about.seconds for about in infos)
    pictures = []
    for panel, about in zip(panels, infos, strict=True):
        width = max(1, round(_COLUMNS_OF_LONGEST * about.seconds / longest))
        pictures.append(level_db(panel.path, n_columns=width))
        on_panel()
    return _draw(
        pictures,
        titles=[panel.title for panel in panels],
        seconds=[about.seconds for about in infos],
        sample_rate=rates[0],
        n_columns=n_columns,
        note=note,
    )


def level_db(path: Path, *, n_columns: int) -> Float[Tensor, "bands columns"]:
    """Measure the level of a file in mel bands, in dB, as the mean over its channels and over the time of a column.

    Args:
        n_columns: at most; a sound of fewer frames has one for each.
    """
    about = info(path)
    dialect = _analysis(about.sample_rate, hop_below=about.n_samples / n_columns)
    powers = torch.cat(list(_powers(path, dialect, n_samples=about.n_samples)), dim=-1)
    pooled = F.adaptive_avg_pool1d(powers, min(n_columns, powers.shape[-1]))
    return 10.0 * pooled.clamp(min=1e-14).log10()


def band_of(hz: float, *, sample_rate: int) -> float:
    """Return where a frequency lies on the axis of bands, the middle of band k at k + 0.5."""
    import librosa

    top, own = librosa.hz_to_mel([sample_rate / 2, hz])
    return float(own / top * (_N_BANDS + 1) - 0.5)


def _analysis(sample_rate: int, *, hop_below: float) -> MelDialect:
    """Return the mel analysis of the pictures, with a hop of about the time of a column, up to one window."""
    window = 2 ** round(math.log2(0.04 * sample_rate))
    hop = min(window, max(window // 8, 2 ** int(math.log2(max(1.0, hop_below)))))
    return MelDialect(
        name="contact sheet",
        sample_rate=sample_rate,
        # Longer than the window, so that the lowest filters have a bin.
        n_fft=max(2 * window, 1024),
        hop_length=hop,
        win_length=window,
        n_mels=_N_BANDS,
        f_min=0.0,
        f_max=sample_rate / 2,
        scale="slaney",
        area_normalised=False,
        window_normalised=True,
        centred=False,
        pad_mode="reflect",
        power_offset=0.0,
        amplitude_min=1e-7,
        amplitude_max=1e7,
        log_gain=1.0,
        log_offset=0.0,
    )


def _powers(path: Path, dialect: MelDialect, *, n_samples: int) -> Iterator[Float[Tensor, "bands _"]]:
    """Yield the mean power of the channels in each band, in blocks of frames."""
    at_once = _FRAMES_AT_ONCE * dialect.hop_length
    for start in range(0, n_samples, at_once):
        audio, _ = read(path, start=start, n_samples=at_once)
        audio = F.pad(audio, (0, -audio.shape[-1] % dialect.hop_length))
        yield dialect.amplitude_bands(audio).square().mean(0)


def _draw(
    pictures: Sequence[Float[Tensor, "bands _"]],
    *,
    titles: Sequence[str],
    seconds: Sequence[float],
    sample_rate: int,
    n_columns: int,
    note: str,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = min(n_columns, len(pictures))
    n_rows = math.ceil(len(pictures) / n_columns)
    left, right, bottom, top = _MARGIN_INCHES
    width, height = left + n_columns * _PANEL_INCHES[0] + right, bottom + n_rows * _PANEL_INCHES[1] + top
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    grid = {
        "left": left / width,
        "right": 1.0 - right / width,
        "bottom": bottom / height,
        "top": 1.0 - top / height,
        "wspace": 0.06,
        "hspace": 0.22,
    }
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw=grid)
    loudest = max(float(picture.max()) for picture in pictures)
    ticks = {hz: band_of(hz, sample_rate=sample_rate) for hz in _TICKS_HZ if hz < sample_rate / 2}
    for place, (axes, picture) in enumerate(zip(all_axes.flat, pictures, strict=False)):
        # Limits are set before the picture, which otherwise sets them; shared axes would take seconds.
        axes.set(xlim=(0.0, max(seconds)), ylim=(0.0, _N_BANDS), facecolor="0.85")
        image = axes.imshow(
            (picture - loudest).numpy(),
            cmap="magma",
            vmin=-RANGE_DB,
            vmax=0.0,
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds[place], 0.0, _N_BANDS),
        )
        title = titles[place]
        short = title if len(title) <= _TITLE_CHARACTERS else f"{title[: _TITLE_CHARACTERS - 1]}…"
        axes.set_title(short, fontsize=7, pad=2.0, parse_math=False)
        axes.tick_params(labelsize=6, length=2.0)
        if place % n_columns:
            axes.set_yticks([])
        else:
            axes.set_yticks(list(ticks.values()), [f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}" for hz in ticks])
            axes.set_ylabel("Hz", fontsize=7)
        if place + n_columns < len(pictures):
            axes.set_xticks([])
        else:
            axes.set_xlabel("seconds", fontsize=7)
    for axes in all_axes.flat[len(pictures) :]:
        axes.remove()
    bar = figure.add_axes((1.0 - 0.65 * right / width, bottom / height, 0.12 / width, 1.0 - (top + bottom) / height))
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=6)
    bar.set_title("dB", fontsize=7)
    figure.text(left / width, 1.0 - 0.2 / height, note, fontsize=9, va="center", parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Labels may be in any script; letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
