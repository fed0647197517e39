"""A sound on its way to a file: kept on disk until its peak is known, which says how loud it is written."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io

FLOAT = "FLOAT"
_BLOCK_SAMPLES = 65536


def check_float(target: Path) -> None:
    """Refuse the option `--float` for a file that cannot hold such samples.

    Raises:
        AudioFileError: with the suffixes of those that can.
    """
    if not audio_io.takes(target, subtype=FLOAT):
        able = ", ".join(suffix for suffix in audio_io.AUDIO_SUFFIXES if audio_io.takes(f"a{suffix}", subtype=FLOAT))
        raise AudioFileError(
            f"--float: {target} cannot hold 32-bit float samples: give an --out that ends in one of {able}, or leave "
            "--float out"
        )


@contextlib.contextmanager
def open_result(target: Path, *, n_samples: int, from_rate: int, to_rate: int, level: float) -> Iterator["AudioWriter"]:
    """Open what takes a sound in pieces and writes it whole; what it took is gone when it is closed.

    Args:
        target: the file.
        n_samples: to be written; what is missing at the end is silence.
        from_rate: of the sound, Hz.
        to_rate: of the file, Hz.
        level: what the sound is multiplied by.

    Raises:
        AudioFileError: if nothing can be written beside the file.
    """
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=target.parent))
        except OSError as error:
            raise _refused(target, error) from error
        resampler = ResampleStream(from_rate=from_rate, to_rate=to_rate)
        yield AudioWriter(target, spool, resampler, n_samples=n_samples, rate=to_rate, level=level)


class AudioWriter:
    """A sound that comes in pieces, as `open_result` opens it.

    Args:
        target: the file.
        spool: keeps the samples until their peak is known.
        resampler: from the rate of the sound to that of the file.
        n_samples: to be written.
        rate: of the file, Hz.
        level: what the sound is multiplied by.
    """

    def __init__(
        self, target: Path, spool: IO[bytes], resampler: ResampleStream, *, n_samples: int, rate: int, level: float
    ) -> None:
        self._target = target
        self._spool = spool
        self._resampler = resampler
        self._left = n_samples
        self._rate = rate
        self._level = level
        self._n_channels = 1
        self._peak = 0.0

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Take the next piece.

        Raises:
            ParameterError: if it is not finite.
            AudioFileError: if there is no room for it.
        """
        if not torch.isfinite(audio).all():
            raise ParameterError(f"{self._target}: the model's output is not finite")
        self._n_channels = len(audio)
        self._keep(self._resampler.push(audio.cpu()))

    def write(self, *, subtype: str | None) -> bool:
        """Write the file; return whether the level had to be lowered to fit.

        Args:
            subtype: of the samples, as soundfile names it; FLOAT and DOUBLE keep the level.

        Raises:
            AudioFileError: if it cannot be written.
        """
        rest = self._resampler.close()
        if rest is not None:
            self._keep(rest)
        self._keep(torch.zeros(self._n_channels, self._left))
        scaled = subtype not in audio_io.UNLIMITED_SUBTYPES and self._peak > 1.0
        audio_io.write_blocks(
            self._target,
            (block / self._peak * (1 - 2**-15) if scaled else block for block in self._kept()),
            n_channels=self._n_channels,
            sample_rate=self._rate,
            subtype=subtype,
        )
        return scaled

    def _keep(self, audio: Float[Tensor, "channels _"]) -> None:
        audio = self._level * audio[:, : self._left]
        self._left -= audio.shape[-1]
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


def _refused(target: Path, error: OSError) -> AudioFileError:
    return AudioFileError(f"{target}: cannot be written ({error}); check the folder and its free space")
