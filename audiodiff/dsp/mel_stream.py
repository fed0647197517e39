"""Streaming mel analysis, of audio that arrives in blocks."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError


class MelStream:
    """Analyse audio that arrives in blocks, with the frames of `MelDialect.mel`, each as early as its samples allow.

    Args:
        dialect: of the mel.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> stream = MelStream(dialect("hifigan"))
        >>> [mel.shape[-1] for mel in stream.over(torch.zeros(1, 256 * 20).split(256 * 8, dim=-1))]
        [6, 8, 4, 2]
    """

    def __init__(self, dialect: MelDialect) -> None:
        self._dialect = dialect
        self._stft = dialect.stft
        self._short: Tensor | None = None  # all audio, while it is too short to be mirrored
        self._padded: Tensor | None = None  # from the first sample of the next frame
        self._tail: Tensor | None = None  # the end, to be mirrored on closing
        self._n_emitted = 0

    def push(self, audio: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch n_mels _"]:
        """Add samples and return the frames that are ready."""
        padding = self._stft.padding
        if self._padded is None:
            self._short = audio if self._short is None else torch.cat([self._short, audio], dim=-1)
            if self._short.shape[-1] <= padding:
                return audio.new_empty(*audio.shape[:-1], self._dialect.n_mels, 0)
            self._tail, audio, self._short = self._short, self._short, None
            self._padded = self._stft.pad(audio)[..., : padding + audio.shape[-1]]
        else:
            assert self._tail is not None
            self._padded = torch.cat([self._padded, audio], dim=-1)
            self._tail = torch.cat([self._tail, audio], dim=-1)
        self._tail = self._tail[..., -(padding + 1) :].clone()
        return self._ready()

    def close(self) -> Float[Tensor, "*batch n_mels _"]:
        """End the stream and return the remaining frames.

        Raises:
            ParameterError: if there was no audio.
        """
        if self._padded is None and self._short is None:
            raise ParameterError("no audio was pushed: there is nothing to analyse")
        if self._padded is None:
            assert self._short is not None
            return self._dialect.mel(self._short)
        assert self._tail is not None
        padding = self._stft.padding
        if self._n_emitted == 0 and self._padded.shape[-1] + padding < self._stft.n_fft:
            return self._dialect.mel(self._padded[..., padding:])
        end = self._stft.pad(self._tail)[..., padding + self._tail.shape[-1] :][..., :padding]
        self._padded = torch.cat([self._padded, end], dim=-1)
        return self._ready()

    def over(self, blocks: Iterable[Float[Tensor, "*batch _"]]) -> Iterator[Float[Tensor, "*batch n_mels _"]]:
        """Push every block and yield the frames that are ready, then the rest."""
        for block in blocks:
            yield self.push(block)
        yield self.close()

    def _ready(self) -> Tensor:
        assert self._padded is not None
        stft = self._stft
        n_frames = max(0, 1 + (self._padded.shape[-1] - stft.n_fft) // stft.hop_length)
        if n_frames == 0:
            return self._padded.new_empty(*self._padded.shape[:-1], self._dialect.n_mels, 0)
        mel = self._dialect.mel_of_padded(self._padded)
        self._padded = self._padded[..., n_frames * stft.hop_length :].clone()
        self._n_emitted += n_frames
        return mel
