"""Writers: audio that is written to a file whole, scaled to fit its format.

The audio is kept on disk until its peak is known, which decides the level in the file.
"""

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.loudness import Normalization, measure
from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.audio import write_blocks
from audiodiff.io.formats import UNLIMITED_SUBTYPES

_BLOCK_SAMPLES = 65536
_ROUNDING = 1e-9


@dataclass(frozen=True)
class WrittenFile:
    """One row of the record of a command's results.

    Args:
        path: the file.
        sample_rate: in Hz.
        n_channels: of the audio.
        n_samples: per channel.
        peak: of the audio before its level was changed; 1 is full scale.
        is_scaled: whether the level was lowered to fit, below what was asked for.
        level_db: of the file, relative to the level that was asked for, or else to that of the audio.
        is_unmeasured: whether the audio is too quiet for the level that was asked for.
    """

    path: Path
    sample_rate: int
    n_channels: int
    n_samples: int
    peak: float
    is_scaled: bool
    level_db: float = 0.0
    is_unmeasured: bool = False


@contextlib.contextmanager
def open_writer(
    target: Path,
    *,
    n_samples: int,
    sample_rate: int,
    from_rate: int | None = None,
    level: float = 1.0,
    subtype: str | None = None,
    normalization: Normalization | None = None,
) -> Iterator["AudioWriter"]:
    """Open a writer of audio that comes in blocks; the file appears when `finish` is called.

    Args:
        target: the file.
        n_samples: to write, per channel; audio beyond is left out, missing audio is silence.
        sample_rate: of the file, Hz.
        from_rate: of the blocks, Hz; None is that of the file.
        level: factor of the blocks.
        subtype: of the samples, as soundfile names it; None is the default of the suffix.
        normalization: level that the whole is brought to; None leaves it.

    Raises:
        AudioFileError: if the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=target.parent))
        except OSError as error:
            raise _refused(target, error) from error
        resampler = ResampleStream(from_rate=sample_rate if from_rate is None else from_rate, to_rate=sample_rate)
        yield AudioWriter(
            target,
            spool,
            resampler,
            n_samples=n_samples,
            sample_rate=sample_rate,
            level=level,
            subtype=subtype,
            normalization=normalization,
        )


class AudioWriter:
    """A writer of audio that comes in blocks, as `open_writer` opens it.

    Args:
        target: the file.
        spool: keeps the samples until their peak is known.
        resampler: from the rate of the blocks to that of the file.
        n_samples: to write, per channel.
        sample_rate: of the file, Hz.
        level: factor of the blocks.
        subtype: of the samples, as soundfile names it.
        normalization: level that the whole is brought to.
    """

    def __init__(
        self,
        target: Path,
        spool: IO[bytes],
        resampler: ResampleStream,
        *,
        n_samples: int,
        sample_rate: int,
        level: float,
        subtype: str | None,
        normalization: Normalization | None,
    ) -> None:
        self._target = target
        self._spool = spool
        self._resampler = resampler
        self._n_samples = self._n_left = n_samples
        self._sample_rate = sample_rate
        self._level = level
        self._subtype = subtype
        self._normalization = normalization
        self._n_channels = 1
        self._peak = 0.0

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Take the next block.

        Raises:
            ParameterError: if it is not finite.
            AudioFileError: if there is no disk space for it.
        """
        if not torch.isfinite(audio).all():
            raise ParameterError(f"{self._target}: the model's output is not finite")
        self._n_channels = len(audio)
        self._keep(self._resampler.push(audio.cpu()))

    def finish(self) -> WrittenFile:
        """Write the file. Audio above full scale is scaled down to fit, unless the sample format holds it.

        Raises:
            AudioFileError: if it cannot be written.
        """
        rest = self._resampler.close()
        if rest is not None:
            self._keep(rest)
        self._keep(torch.zeros(self._n_channels, self._n_left))
        found = 1.0 if self._normalization is None else self._normalizing_gain(self._normalization)
        wanted = 1.0 if found is None else found
        limit = math.inf if self._subtype in UNLIMITED_SUBTYPES else 1.0
        is_scaled = wanted * self._peak > limit * (1.0 + _ROUNDING)
        gain = (1 - 2**-15) / self._peak if is_scaled else wanted
        write_blocks(
            self._target,
            (block if gain == 1.0 else (gain * block).clamp(-limit, limit) for block in self._kept()),
            n_channels=self._n_channels,
            sample_rate=self._sample_rate,
            subtype=self._subtype,
        )
        return WrittenFile(
            self._target,
            self._sample_rate,
            self._n_channels,
            self._n_samples,
            self._peak,
            is_scaled,
            20.0 * math.log10(gain / wanted),
            is_unmeasured=found is None,
        )

    def _normalizing_gain(self, normalization: Normalization) -> float | None:
        level = measure(self._kept(), sample_rate=self._sample_rate) if normalization.is_loudness else -math.inf
        return normalization.gain(loudness=level, peak=self._peak)

    def _keep(self, audio: Float[Tensor, "channels _"]) -> None:
        audio = self._level * audio[:, : self._n_left]
        self._n_left -= audio.shape[-1]
        if audio.shape[-1] == 0:
            return
        self._peak = max(self._peak, float(audio.abs().max()))
        try:
            self._spool.write(audio.T.contiguous().numpy().tobytes())
        except OSError as error:
            raise _refused(self._target, error) from error

    def _kept(self) -> Iterator[Float[Tensor, "channels _"]]:
        self._spool.seek(0)
        while data := self._spool.read(4 * self._n_channels * _BLOCK_SAMPLES):
            yield torch.frombuffer(bytearray(data), dtype=torch.float32).unflatten(0, (-1, self._n_channels)).T


def copy_file(source: Path, target: Path) -> None:
    """Copy a file byte by byte, whole or not at all.

    Raises:
        AudioFileError: if it cannot be written.
    """
    try:
        with atomic_file(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise _refused(target, error) from error


def _refused(target: Path, error: OSError) -> AudioFileError:
    return AudioFileError(f"{target}: cannot be written ({error}); check the folder and its free space")
