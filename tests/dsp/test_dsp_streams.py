"""Resampling and analysis of what still comes, against those of the whole."""

import pytest
import torch

from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.mel_stream import MelStream
from audiodiff.dsp.resample import ResampleStream, resample
from audiodiff.errors import ParameterError

ROUNDING = 1e-6


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "rates", [(44100, 22050), (22050, 48000), (16000, 22050), (48000, 44100), (8010, 8000), (22051, 22050)]
)
@pytest.mark.parametrize("n_samples", [1, 300, 30_011])
def test_resampling_in_blocks_is_resampling_the_whole(rates: tuple[int, int], n_samples: int):
    from_rate, to_rate = rates
    audio = noise(2, n_samples)
    whole = resample(audio, from_rate=from_rate, to_rate=to_rate)
    for size in (97, 4096, 65536):
        stream = ResampleStream(from_rate=from_rate, to_rate=to_rate)
        blocks = torch.cat(list(stream.over(audio.split(size, dim=-1))), dim=-1)
        assert blocks.shape == whole.shape
        assert (blocks - whole).abs().max() < ROUNDING


def test_resampled_samples_arrive_within_the_latency():
    """Each block gives all but the last `latency_seconds` of the input."""
    stream = ResampleStream(from_rate=44100, to_rate=16000)
    given = 0
    for n in range(1, 40):
        given += stream.push(noise(1, 441)).shape[-1]
        assert given / 16000 > n * 0.01 - stream.latency_seconds
    assert stream.latency_seconds < 0.02


def test_an_equal_rate_passes_through_and_a_wrong_one_is_refused():
    stream = ResampleStream(from_rate=22050, to_rate=22050)
    audio = noise(1, 10)
    assert torch.equal(stream.push(audio), audio)
    assert stream.close() is None
    with pytest.raises(ParameterError, match="to_rate=22 Hz"):
        ResampleStream(from_rate=22050, to_rate=22)


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize("n_samples", [1, 100, 700, 1500, 20_007])
def test_a_mel_in_blocks_is_the_mel_of_the_whole(name: str, n_samples: int):
    own = dialect(name)
    audio = noise(2, n_samples)
    whole = own.mel(audio)
    for size in (1 if n_samples < 2000 else 50, 333, 65536):
        blocks = torch.cat(list(MelStream(own).over(audio.split(size, dim=-1))), dim=-1)
        assert blocks.shape == whole.shape
        assert (blocks - whole).abs().max() < 10 * ROUNDING  # of values up to 11.5, in float32


@pytest.mark.parametrize("hop_length", [200, 500, 1024])
@pytest.mark.parametrize("name", ["hifigan", "vocos"])
def test_hops_up_to_a_whole_frame_are_streamed(name: str, hop_length: int):
    own = dialect(name, hop_length=hop_length, n_fft=1024, win_length=1024)
    audio = noise(1, 9999)
    blocks = torch.cat(list(MelStream(own).over(audio.split(777, dim=-1))), dim=-1)
    assert torch.allclose(blocks, own.mel(audio), atol=10 * ROUNDING)


@pytest.mark.parametrize("name", ["hifigan", "vocos"])
def test_a_frame_is_emitted_with_its_last_sample(name: str):
    """The first one also waits for what is mirrored."""
    own = dialect(name)
    padding = own.stft.padding
    ends = [own.n_fft - padding + k * own.hop_length for k in range(8)]
    ends[0] = max(ends[0], padding + 1)
    stream = MelStream(own)
    came = [stream.push(audio).shape[-1] for audio in noise(1, ends[-1]).split(1, dim=-1)]
    assert came == [n + 1 in ends for n in range(ends[-1])]


def test_a_stream_without_audio_is_refused():
    with pytest.raises(ParameterError, match="no audio was pushed"):
        MelStream(dialect("hifigan")).close()
