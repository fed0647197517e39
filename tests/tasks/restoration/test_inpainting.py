"""Gaps: found, given, filled, and nothing else changed."""

import math
from pathlib import Path

import pytest
import soundfile
import tiny
import torch
from torch import Tensor

from audiodiff.dsp.autoregression import interpolate_gaps
from audiodiff.errors import ParameterError
from audiodiff.tasks.restoration import FOR_LOSS, Sampling
from audiodiff.tasks.restoration.inpainting import Inpaint, inpaint
from audiodiff.tasks.restoration.seams import splice

RATE = 8000


def speech(n_channels: int = 1, *, seconds: float = 1.0, rate: int = RATE, glide: float = 60.0) -> Tensor:
    """Return noise over a tone that glides, so that it is no music, at the level of speech."""
    n_samples = round(seconds * rate)
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(n_samples) / rate
    tone = 0.2 * torch.sin(2.0 * torch.pi * (200.0 * time + glide * time.square()))
    return tone + 0.02 * torch.randn(n_channels, n_samples, generator=generator)


def settled(repair: Inpaint, audio: Tensor, *, block: int = 1000, rate: int = RATE) -> Inpaint:
    return repair.analyze(iter(audio.split(block, dim=-1)), sample_rate=rate)


@pytest.mark.parametrize("value", [0.0, 0.03])
@pytest.mark.parametrize("block", [37, 160, 1000, 8000])
def test_constant_stretches_are_detected_to_the_sample_in_any_blocks(value, block):
    audio = speech(2)
    audio[0, 1000:1160] = value
    audio[0, 3000:3040] = value
    audio[1, 5000:7000] = value
    repair = settled(Inpaint(), audio, block=block)
    assert repair.spans == (((1000, 1160), (3000, 3040)), ((5000, 7000),))
    assert repair.describe(sample_rate=RATE) == "3 gaps, 0.25 s"


def test_other_constant_stretches_are_not_gaps():
    audio = speech(glide=0.0)
    audio[:, :400] = 0.0  # the file begins and ends late
    audio[:, -400:] = 0.0
    audio[:, 1000:1039] = 0.0  # shorter than 5 ms
    audio[:, 2000:2100] = 0.5  # clipped
    fade = torch.linspace(1.0, 0.0, 200).square().square()
    audio[:, 3800:4000] *= fade  # a gate that closes and opens
    audio[:, 4000:4400] = 0.0
    audio[:, 4400:4600] *= fade.flip(-1)
    assert settled(Inpaint(), audio).spans == ((),)
    assert settled(Inpaint(), torch.zeros(1, 800)).spans == ((),)


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW"])
def test_pauses_that_coarse_samples_make_constant_are_no_gaps(tmp_path: Path, subtype: str):
    """Half seconds of speech that come and go, over a rumble, in noise below a step; one is interrupted for 30 ms."""
    time = torch.arange(16000.0) / RATE
    audio = speech(seconds=2.0) * torch.sin(2.0 * torch.pi * time).clamp(min=0.0).square().square()
    audio = audio + 0.003 * torch.sin(2.0 * torch.pi * 7.0 * time)
    interrupted = audio.clone()
    interrupted[:, 2000:2240] = 0.0
    for sound, expected in ((audio, 0), (interrupted, 1)):
        soundfile.write(tmp_path / "a.wav", sound.T.numpy(), RATE, subtype=subtype)
        coarse = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0]).T
        spans = settled(Inpaint(), coarse).spans[0]
        assert len(spans) == expected
    ((start, end),) = spans
    assert 1998 <= start <= 2000 < 2240 <= end <= 2242


def test_given_gaps_are_those_and_no_others():
    audio = speech()
    audio[:, 1000:1160] = 0.0
    repair = settled(Inpaint(gaps=((0.5, 0.6), (0.95, 2.0))), audio)
    assert repair.spans == (((4000, 4800), (7600, 8000)),)
    known = repair.known(audio[:, 4500:7700], sample_rate=RATE, first_sample=4500)
    assert torch.equal(torch.nonzero(known[0] == 0)[:, 0], torch.cat([torch.arange(300), torch.arange(3100, 3200)]))


def test_a_mask_may_be_of_all_channels_or_of_each():
    audio = speech(2)
    mask = torch.ones(2, 8000)
    mask[1, 10:20] = 0
    assert settled(Inpaint(mask=mask), audio).spans == ((), ((10, 20),))
    assert settled(Inpaint(mask=mask[1] != 0), audio).spans == (((10, 20),), ((10, 20),))


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_known_samples_come_back_to_the_bit_and_lost_ones_do_not(posterior, rate):
    audio = speech(2, seconds=0.4, rate=rate)
    audio[:, rate // 10 : rate // 5] = 0.0
    model = tiny.synthesizer(tiny.DEGRADED)
    result = inpaint(model, audio, sample_rate=rate, sampling=Sampling(posterior, steps=2))
    lost = torch.zeros_like(audio, dtype=torch.bool)
    lost[:, rate // 10 : rate // 5] = True
    assert torch.equal(result[~lost], audio[~lost])
    assert bool((result[lost] != 0.0).float().mean() > 0.99)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_there_is_no_step_at_a_seam(rate):
    """The step from the last known sample is no greater than five of the standard deviations of steps elsewhere."""
    audio = speech(seconds=0.6, rate=rate)
    first, last = round(0.2 * rate), round(0.35 * rate)
    spread = float((audio[:, 1:] - audio[:, :-1]).std())
    audio[:, first:last] = 0.0
    result = inpaint(tiny.synthesizer(tiny.DEGRADED), audio, sample_rate=rate, sampling=Sampling(steps=2))
    for place in (first, last):
        assert float((result[:, place] - result[:, place - 1]).abs().max()) < 5.0 * spread


def test_a_recording_without_gaps_is_returned_as_it_is():
    audio = speech()
    assert torch.equal(inpaint(tiny.synthesizer(tiny.DEGRADED), audio, sample_rate=RATE), audio)


def test_other_seeds_fill_otherwise():
    audio = speech(seconds=0.6)
    model = tiny.synthesizer(tiny.DEGRADED)
    one, other = (
        inpaint(model, audio, sample_rate=RATE, gaps=[(0.2, 0.4)], sampling=Sampling(steps=2), seed=seed)
        for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_what_is_inserted_meets_its_neighbours():
    """A constant error is taken away everywhere in a short gap, and fades within 2 ms of the edges of a long one."""
    recording, known = torch.ones(1, 400), torch.ones(1, 400)
    known[:, 100:104], known[:, 200:300] = 0.0, 0.0
    result = splice(recording, torch.zeros(1, 400), known, sample_rate=8000)
    assert torch.equal(result[:, :200], recording[:, :200])
    torch.testing.assert_close(result[0, 200:216], 1.0 - torch.arange(1.0, 17.0) / 16.0)
    assert float(result[0, 216:284].abs().max()) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Inpaint(gaps=((0.3, 0.2),)), "gap=0.3:0.2"),
        (lambda: Inpaint(gaps=((-1.0, 0.2),)), "gap=-1:0.2"),
        (lambda: Inpaint(gaps=((0.0, math.inf),)), "gap=0:inf"),
        (lambda: settled(Inpaint(gaps=((1e308, 1.5e308),)), speech()), "behind the end"),
        (lambda: Inpaint(gaps=(), mask=torch.ones(3)), "gaps and mask"),
        (lambda: Inpaint(mask=torch.tensor([0.5])), "nothing but 0"),
        (lambda: settled(Inpaint(gaps=((1.5, 2.0),)), speech()), "behind the end"),
        (lambda: settled(Inpaint(gaps=((0.5, 0.50001),)), speech()), "shorter than a sample"),
        (lambda: settled(Inpaint(mask=torch.ones(10)), speech()), r"mask has the shape \(10,\)"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def chord() -> Tensor:
    time = torch.arange(2.0 * 22050) / 22050
    pitches = torch.tensor([220.0, 277.2, 329.6, 1318.5])
    return 0.1 * torch.sin(2 * torch.pi * pitches[:, None] * time).sum(dim=0)


def test_gaps_in_music_are_interpolated_and_this_is_said():
    """The interpolation is that of `interpolate_gaps`, at the recording's own rate."""
    music, gaps = chord(), ((0.92, 1.0),)
    made = inpaint(tiny.synthesizer(tiny.DEGRADED), music[None], sample_rate=22050, gaps=gaps)[0]
    known = torch.ones_like(music)
    known[round(0.92 * 22050) : 22050] = 0.0
    expected = interpolate_gaps(music.double().numpy(), known.double().numpy(), sample_rate=22050)
    torch.testing.assert_close(made, torch.from_numpy(expected).float(), rtol=0, atol=1e-4)
    found = Inpaint(gaps=(*gaps, (1.2, 1.5))).analyze(iter([music[None]]), sample_rate=22050)
    said = "in music, so by autoregression: 1 interpolated and 1 drawn at the level of both sides"
    assert said in found.describe(sample_rate=22050)


def test_long_gaps_in_noisy_music_keep_their_level():
    """To 2 dB; and panned channels keep their image, since they have the same noise."""
    noise = 0.05 * torch.randn(2 * 22050, generator=torch.Generator().manual_seed(0))
    audio = (chord() + noise) * torch.tensor([[1.0], [0.25]])
    repair = settled(Inpaint(gaps=((0.8, 1.1),)), audio, block=len(noise), rate=22050)
    known = repair.known(audio, sample_rate=22050, first_sample=0)
    made = repair.blend(audio, torch.zeros_like(audio), known, sample_rate=22050)
    gap = slice(round(0.8 * 22050), round(1.1 * 22050))
    levels = 20 * (made[:, gap].norm(dim=-1) / audio[:, gap].norm(dim=-1)).log10()
    assert levels.abs().max() < 2.0
    torch.testing.assert_close(made[1, gap], 0.25 * made[0, gap], rtol=0, atol=1e-3)
