"""Chunked and streaming generation: the result equals the unchunked one."""

import itertools
import math
from collections.abc import Callable

import pytest
import tiny
import torch

from audiodiff.diffusion.grid import grid_named
from audiodiff.dsp.mel import dialect
from audiodiff.errors import MelError, ParameterError
from audiodiff.models import chunking
from audiodiff.models.chunking import Chunk, ChunkPlan, SlidingBuffer, overlap_add
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import ReceptiveField

FULL_SCALE = 1e-4
"""Largest difference that chunking may make, of full scale."""


@pytest.mark.parametrize(
    ("n_samples", "before", "after", "alignment"),
    [(1, 0, 0, 1), (100_000, 700, 700, 256), (99_999, 0, 0, 7), (5000, 9000, 9000, 3), (100_000, 700, 20, 256)],
)
def test_chunks_cover_everything_once_with_their_margins(n_samples, before, after, alignment):
    found = list(
        ChunkPlan(margin=ReceptiveField(before, after), alignment=alignment).chunks(n_samples, sample_rate=1000)
    )
    assert [found[0].start, found[-1].stop] == [0, n_samples]
    assert all(left.stop == right.start for left, right in itertools.pairwise(found))
    for chunk in found:
        assert chunk.first % alignment == chunk.start % alignment == 0
        assert min(before, chunk.start) <= chunk.start - chunk.first < before + alignment
        assert min(after, n_samples - chunk.stop) <= chunk.last - chunk.stop < after + alignment


def test_windows_that_agree_are_joined_to_the_bit_and_others_fade():
    audio = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    chunks = [Chunk(0, 0, 400, 0, 500), Chunk(1, 300, 700, 200, 800), Chunk(2, 700, 1000, 650, 1000)]
    joined = torch.cat(list(overlap_add((audio[:, chunk.first : chunk.last] for chunk in chunks), chunks)), dim=-1)
    assert torch.equal(joined, audio)
    ones = list(overlap_add((torch.full((chunk.last - chunk.first,), float(chunk.index)) for chunk in chunks), chunks))
    assert [len(stretch) for stretch in ones] == [300, 400, 300]
    torch.testing.assert_close(ones[1][:100], (torch.arange(100) + 0.5) / 100)
    assert bool((ones[2] == 2.0).all())


def test_a_sliding_buffer_gives_windows_and_refuses_one_past_the_end():
    audio = torch.arange(20.0)[None]
    buffer = SlidingBuffer(audio.split(3, dim=-1), name="samples")
    for first, last in ((0, 5), (4, 11), (4, 4), (9, 20)):
        assert torch.equal(buffer.window(first, last), audio[:, first:last])
    buffer.append(torch.zeros(1, 2))
    assert (buffer.end, buffer.window(20, 22).shape) == (22, (1, 2))
    with pytest.raises(ParameterError, match="samples end after 22, and 23 are needed"):
        buffer.window(21, 23)


def speech_like(n_samples: int, *, sample_rate: int = 22050) -> torch.Tensor:
    """Make a tone that glides and beats, over quiet noise: (1, 1, n_samples)."""
    t = torch.arange(n_samples, dtype=torch.float64) / sample_rate
    phase = 2.0 * math.pi * (180.0 * t + 30.0 * torch.sin(2.0 * math.pi * 0.7 * t))
    harmonics = sum(torch.sin(k * phase) / k for k in range(1, 12))
    loudness = 0.1 * (1.0 + torch.sin(2.0 * math.pi * 3.0 * t))
    noise = torch.randn(n_samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (loudness * harmonics + 1e-3 * noise).float().reshape(1, 1, -1)


def unchunked_and_chunked(monkeypatch: pytest.MonkeyPatch, generate: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    results = []
    for seconds in (1000.0, 0.2):
        monkeypatch.setattr(chunking, "CHUNK_SECONDS", seconds)
        results.append(generate())
    return results


@pytest.mark.parametrize("name", ["hifigan", "vocos", "tacotron2"])
def test_a_chunked_inversion_equals_the_unchunked_one(monkeypatch, name):
    model = MelInverter(dialect=dialect(name), n_iterations=8)
    mel = model.mel(speech_like(8 * model.sample_rate, sample_rate=model.sample_rate))
    counts: list[tuple[int, int]] = []
    whole, chunked = unchunked_and_chunked(
        monkeypatch, lambda: model.generate(mel, on_step=lambda done, total: counts.append((done, total)))
    )
    assert counts[7] == (8, 8)
    assert counts[-1][0] == counts[-1][1] > 8
    assert (whole - chunked).abs().max() < FULL_SCALE


@pytest.mark.parametrize("solver", [None, "heun", "dpmpp_2m_sde", "pndm"])
def test_a_chunked_vocoder_equals_the_unchunked_one(monkeypatch, solver):
    model = tiny.synthesizer(tiny.VOCODER)
    mel = model.mel(speech_like(4 * 22050))
    # Heun's first step amplifies rounding by the ratio of its levels, which is 1000 in the model's own two steps.
    grid = grid_named("log_uniform", sigma_min=0.1, sigma_max=1.0)
    whole, chunked = unchunked_and_chunked(monkeypatch, lambda: model.generate(mel, solver=solver, grid=grid, seed=3))
    assert (whole - chunked).abs().max() < FULL_SCALE * whole.abs().max()


@pytest.mark.parametrize("overrides", [tiny.UNCONDITIONAL, tiny.LOG_MEL], ids=["waveform", "log_mel"])
def test_unconditional_chunks_equal_the_unchunked_sound(monkeypatch, overrides):
    model = tiny.synthesizer(overrides)
    whole, chunked = unchunked_and_chunked(monkeypatch, lambda: model.generate(batch=2, seconds=3.0, seed=1))
    assert (whole - chunked).abs().max() < FULL_SCALE * whole.abs().max()


def test_a_solver_that_needs_the_whole_sound_gets_one_chunk(monkeypatch):
    model = tiny.synthesizer(tiny.VOCODER)
    mel = model.mel(speech_like(22050))
    whole, chunked = unchunked_and_chunked(monkeypatch, lambda: model.generate(mel, solver="predictor_corrector"))
    assert torch.equal(whole, chunked)
    with pytest.raises(ParameterError, match="solver=adaptive looks at the whole sound"):
        model.open_stream(solver="adaptive")


CAUSAL = [*tiny.VOCODER, "network.look_ahead=0", "model.n_iterations=0"]


def models() -> dict[str, MelInverter | Synthesizer]:
    return {
        "none": MelInverter(dialect=dialect("hifigan"), n_iterations=8),
        "none, centred": MelInverter(dialect=dialect("vocos"), n_iterations=8),
        "vocoder": tiny.synthesizer(tiny.VOCODER),
        "causal vocoder": tiny.synthesizer(CAUSAL),
    }


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_a_stream_equals_the_whole_however_frames_arrive(name, size):
    model = models()[name]
    mel = model.mel(speech_like(2 * model.sample_rate, sample_rate=model.sample_rate))
    streamed = torch.cat(list(model.stream(mel.split(size, dim=-1), seed=5)), dim=-1)
    expected = model.generate(mel, seed=5)
    assert streamed.shape == expected.shape
    assert (streamed - expected).abs().max() < FULL_SCALE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", models())
def test_audio_arrives_after_the_latency_then_with_every_chunk(name):
    model = models()[name]
    mel = model.mel(speech_like(2 * model.sample_rate, sample_rate=model.sample_rate))
    stream = model.open_stream(chunk_frames=6, ahead_frames=4)
    hop = model.dialect.hop_length
    assert stream.latency_frames == 10 + (name == "none, centred")
    assert stream.latency_seconds == pytest.approx(stream.latency_frames * hop / model.sample_rate)
    came = [stream.push(frame).shape[-1] for frame in mel.split(1, dim=-1)]
    first = stream.latency_frames - 1
    assert came == [6 * hop if k >= first and (k - first) % 6 == 0 else 0 for k in range(mel.shape[-1])]
    rest = stream.close().shape[-1]
    assert sum(came) + rest == model.generate(mel, iterations=1).shape[-1]


def test_a_causal_vocoder_waits_only_for_its_own_window():
    symmetric, causal = (
        tiny.synthesizer([*tiny.VOCODER, "model.n_iterations=0", f"network.look_ahead={ahead}"])
        for ahead in ("null", "0")
    )
    assert symmetric.load_state_dict(causal.state_dict()) == ([], [])
    # Two steps, each with the window's 1024 samples, which are 4 frames; the stack and the encoder have 6 more.
    assert causal.open_stream().latency_frames - 16 == 2 * 4
    assert symmetric.open_stream().latency_frames - 16 == 2 * (4 + 6)


@pytest.mark.parametrize("name", ["hifigan", "vocos", "hifigan:hop_length=300"])
@pytest.mark.parametrize(("chunk", "ahead"), [(16, 16), (16, 4), (3, 8)])
def test_a_stream_with_less_look_ahead_is_as_near_to_the_mel_as_the_whole(name, chunk, ahead):
    model = MelInverter(dialect=dialect(name), n_iterations=4)
    mel = model.mel(speech_like(22050, sample_rate=model.sample_rate))
    whole = model.generate(mel)
    streamed = torch.cat(list(model.stream([mel], chunk_frames=chunk, ahead_frames=ahead)), dim=-1)
    assert streamed.shape == whole.shape
    error, of_whole = ((model.mel(audio) - mel).abs().mean() for audio in (streamed, whole))
    assert error < 1.5 * of_whole


@pytest.mark.parametrize("ahead", [0, 5, 16])
def test_a_stream_with_less_look_ahead_does_not_depend_on_how_frames_arrive(ahead):
    model = MelInverter(dialect=dialect("hifigan"), n_iterations=4)
    mel = model.mel(speech_like(22050))
    streamed = [
        torch.cat(list(model.stream(mel.split(size, dim=-1), chunk_frames=8, ahead_frames=ahead)), dim=-1)
        for size in (1, 7, 1000)
    ]
    assert torch.equal(streamed[0], streamed[1])
    assert torch.equal(streamed[0], streamed[2])


def test_what_a_stream_returned_does_not_depend_on_later_frames():
    model = MelInverter(dialect=dialect("hifigan"), n_iterations=4)
    mel = model.mel(speech_like(22050))
    other = torch.cat([mel[..., :48], mel[..., 48:].flip(-1)], dim=-1)
    first, second = (
        torch.cat(list(model.stream([frames], chunk_frames=8, ahead_frames=8)), dim=-1) for frames in (mel, other)
    )
    n_same = (48 - 8) * 256
    assert torch.equal(first[..., :n_same], second[..., :n_same])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("ahead", [4, 16])
def test_a_streamed_tone_has_no_step_between_chunks(ahead):
    model = MelInverter(dialect=dialect("hifigan"), n_iterations=8)
    tone = 0.3 * torch.sin(2 * math.pi * 330 / 22050 * torch.arange(256 * 100))
    chunks = list(model.stream([model.mel(tone[None, None])], chunk_frames=16, ahead_frames=ahead))
    steps = torch.cat(chunks, dim=-1)[0, 0, 256 * 4 : -256 * 4].diff().abs()
    assert steps.max() < 1.2 * 0.3 * 2 * math.pi * 330 / 22050  # the steepest step of the tone itself


@pytest.mark.parametrize("n_frames", [1, 2, 9, 17])
@pytest.mark.parametrize(("chunk", "ahead"), [(1, 0), (1, 3), (8, 8)])
def test_short_sounds_are_streamed_with_less_look_ahead(n_frames, chunk, ahead):
    model = MelInverter(dialect=dialect("vocos"), n_iterations=4)
    mel = model.mel(speech_like(8192, sample_rate=24000))[..., :n_frames]
    stream = model.open_stream(chunk_frames=chunk, ahead_frames=ahead)
    came = [stream.push(frame) for frame in mel.split(1, dim=-1)]
    n_samples = max(sum(audio.shape[-1] for audio in came), 100)
    audio = torch.cat([*came, stream.close(n_samples)], dim=-1)
    assert audio.shape == (1, 1, n_samples)
    assert bool(audio.isfinite().all())
    assert not audio.is_inference()


def test_a_stream_refuses_wrong_arguments_and_frames():
    model = MelInverter(dialect=dialect("hifigan"))
    with pytest.raises(ParameterError, match="chunk_frames=0 must be"):
        model.open_stream(chunk_frames=0)
    with pytest.raises(ParameterError, match="ahead_frames=-1 must"):
        model.open_stream(ahead_frames=-1)
    stream = model.open_stream()
    with pytest.raises(MelError, match="40"):
        stream.push(torch.zeros(1, 40, 3))
    assert stream.push(torch.zeros(1, 80, 0)).shape == (1, 1, 0)
    assert stream.close().shape == (1, 1, 0)
    with pytest.raises(ParameterError, match="the stream is closed"):
        stream.push(torch.zeros(1, 80, 3))
    with pytest.raises(ParameterError, match="takes no mel spectrogram"):
        tiny.synthesizer(tiny.UNCONDITIONAL).open_stream()
    with pytest.raises(ParameterError, match=r"chunk_frames=3 must be a multiple of 2"):
        tiny.synthesizer([*tiny.VOCODER, "network.n_fft=2048", "network.hop_length=512"]).open_stream(chunk_frames=3)
