"""Mel inversion: fixed point, convergence, independence of the batch, and level outside the filters."""

import csv
from pathlib import Path

import pytest
import soundfile
import torch
from peers import torchaudio

from audiodiff.dsp.inversion import constrain, griffin_lim, inversion_receptive_field, invert
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.mel_bands import low_bands
from audiodiff.dsp.stft import Stft
from audiodiff.errors import MelError, ParameterError

pytestmark = pytest.mark.numeric

RECORDINGS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "kathleen"


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def voice(d, n_frames=40):
    """Make a gliding harmonic tone with two formants and some breath, of speech-like level."""
    n_samples = d.n_samples(n_frames)
    time = torch.arange(n_samples, dtype=torch.float64) / d.sample_rate
    f0 = 120 + 40 * torch.sin(2 * torch.pi * 1.5 * time)
    phase = 2 * torch.pi * torch.cumsum(f0, 0) / d.sample_rate
    total = torch.zeros_like(time)
    for k in range(1, 40):
        frequency = k * f0
        gain = torch.exp(-(((frequency - 600) / 300) ** 2)) + 0.5 * torch.exp(-(((frequency - 2200) / 500) ** 2)) + 0.02
        total += gain * torch.sin(k * phase) * (frequency < 0.45 * d.sample_rate)
    total += 0.02 * noise(n_samples)
    syllables = 0.55 - 0.45 * torch.cos(2 * torch.pi * 4 * time)
    return (0.5 * total * syllables / total.abs().max()).float()[None]


def distance(d, audio, mel):
    """Mean distance of log amplitudes, in dB, over what stands 60 dB below the loudest band or higher."""
    target = d.amplitude(mel)
    heard = target > target.max() * 1e-3
    got = d.amplitude(d.mel(audio))
    return float((20 * (got[heard] / target[heard]).log10()).abs().mean())


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_the_mel_of_a_signal_is_a_fixed_point_at_that_signal(name):
    # Full range: nothing lies above f_max, so nothing is replaced but what lies below f_min.
    d = dialect(name, sample_rate=16000, f_min=0.0, f_max=8000.0)
    audio = voice(d)
    result = constrain(audio, d.mel(audio), dialect=d, n_iterations=5)
    # Without the bins at 0 Hz and at half the rate, which no filter covers either.
    assert (result - audio).norm() < 0.02 * audio.norm()


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sample_rate": 44100, "n_fft": 2048, "hop_length": 512},
        {"hop_length": 200},
        {"sample_rate": 16000, "f_max": 7600.0},
    ],
    ids=["as_named", "44100", "hop_200", "16000"],
)
def test_every_dialect_comes_near_its_mel_and_keeps_the_length(name, changes):
    d = dialect(name, **changes)
    audio = voice(d)
    mel = d.mel(audio)
    start = noise(1, audio.shape[-1])
    results = [constrain(start, mel, dialect=d, n_iterations=n) for n in (1, 6, 24)]
    distances = [distance(d, result, mel) for result in results]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1.0
    result = results[2]
    assert result.shape == audio.shape
    assert result.abs().max() < 1.5 * audio.abs().max()


def test_a_length_between_frames_is_kept_to_the_sample():
    d = dialect("hifigan")
    audio = voice(d)[:, :-100]
    result = constrain(noise(*audio.shape), d.mel(audio), dialect=d, n_iterations=4)
    assert result.shape == audio.shape


def test_an_item_does_not_depend_on_its_batch_mates():
    d = dialect("hifigan")
    mel = torch.cat([d.mel(voice(d)), d.mel(0.01 * voice(d).flip(-1)), d.mel(torch.zeros_like(voice(d)))])
    start = noise(3, voice(d).shape[-1])
    together = constrain(start, mel, dialect=d, n_iterations=10)
    apart = torch.cat([constrain(start[k : k + 1], mel[k : k + 1], dialect=d, n_iterations=10) for k in range(3)])
    assert torch.equal(together, apart)
    together = griffin_lim(mel, start, dialect=d, n_iterations=5)
    apart = torch.cat([griffin_lim(mel[k : k + 1], start[k : k + 1], dialect=d, n_iterations=5) for k in range(3)])
    assert torch.equal(together, apart)


def test_no_iterations_leave_the_audio_as_it_is():
    d = dialect("hifigan")
    audio = noise(2, d.n_samples(10))
    assert torch.equal(constrain(audio, d.mel(audio * 0.1), dialect=d, n_iterations=0), audio)


def test_the_level_of_the_first_guess_does_not_matter():
    d = dialect("hifigan")
    mel = d.mel(voice(d))
    start = noise(1, d.n_samples(40))
    # Powers of two scale exactly
    results = [constrain(start * level, mel, dialect=d, n_iterations=3) for level in (2.0**-6, 1.0, 2.0**6)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(results[2], results[1], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_silence_gives_near_silence(name):
    d = dialect(name)
    mel = torch.full((1, d.n_mels, 30), d.floor)
    n_samples = d.n_samples(30)
    result = constrain(noise(1, n_samples), mel, dialect=d, n_iterations=16)
    assert torch.isfinite(result).all()
    assert result.abs().max() < 1e-3  # -60 dBFS; diffwave's floor is the highest
    nothing = constrain(torch.zeros(1, n_samples), mel, dialect=d, n_iterations=4)
    assert torch.isfinite(nothing).all()
    assert torch.isfinite(griffin_lim(mel, torch.zeros(1, n_samples), dialect=d, n_iterations=4)).all()


@pytest.mark.parametrize("f_max", [2000.0, 4000.0, 8000.0])
def test_the_level_above_f_max_stays_bounded(f_max):
    d = dialect("hifigan", f_max=f_max, n_mels=40)
    audio = voice(d)
    result = constrain(noise(1, audio.shape[-1]), d.mel(audio), dialect=d, n_iterations=100)
    assert result.abs().max() < 1.5 * audio.abs().max()
    above = d.stft.forward(result).abs()[:, int(f_max / d.sample_rate * d.n_fft) + 2 :]
    edge = d.stft.forward(result).abs()[:, int(f_max / d.sample_rate * d.n_fft) - 20 :][:, :20]
    assert above.mean() < 1.5 * edge.mean()


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "fastdiff"])
def test_the_ends_do_not_click(name):
    d = dialect(name)
    audio = voice(d)
    result = constrain(noise(1, audio.shape[-1]), d.mel(audio), dialect=d, n_iterations=32)
    # The mel places a pulse within a window, not to the sample: an end may be as loud as the frame that it lies in.
    for end, frame in ((slice(0, 64), slice(0, 1024)), (slice(-64, None), slice(-1024, None))):
        assert result[:, end].abs().max() < 1.2 * audio[:, frame].abs().max()


def test_progress_is_reported_once_an_iteration():
    d = dialect("hifigan")
    seen = []
    constrain(noise(2, 2560), d.mel(noise(2, 2560) * 0.1), dialect=d, n_iterations=3, on_step=seen.append)
    assert seen == [1, 2, 3]


def test_the_constraint_beats_griffin_lim_on_a_voice():
    d = dialect("hifigan")
    mel = d.mel(voice(d))
    start = noise(1, d.n_samples(40))
    constrained = distance(d, constrain(start, mel, dialect=d, n_iterations=32), mel)
    assert constrained < 0.5 * distance(d, griffin_lim(mel, start, dialect=d, n_iterations=32), mel)


def test_griffin_lim_is_torchaudios_iteration(monkeypatch: pytest.MonkeyPatch):
    """From equal phases, which torchaudio draws by torch.rand.

    The phases of silence will not do: they are 0 or pi by the sign that a processor's FFT gives to zero. In float64 an
    FFT of 1024 rounds to about 1e-15, and one division by a magnitude amplifies that a few times: eight iterations
    stay far below 1e-12.
    """
    d = dialect("tacotron2")
    mel = d.mel(voice(d)).double()
    start = noise(1, d.n_samples(40)).double()
    phases = torch.polar(torch.ones(1, 513, 40, dtype=torch.float64), d.stft.forward(start).angle())
    magnitude = (torch.linalg.pinv(d.filters()).double() @ d.amplitude(mel)).clamp(min=0)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: phases)
    expected = torchaudio.functional.griffinlim(
        magnitude,
        torch.hann_window(1024, dtype=torch.float64),
        1024,
        256,
        1024,
        power=1.0,
        n_iter=8,
        momentum=0.99,
        length=d.n_samples(40),
        rand_init=True,
    )
    result = griffin_lim(mel, start, dialect=d, n_iterations=8, momentum=0.99)
    assert (result - expected).norm() < 1e-12 * expected.norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_iterations": -1}, "n_iterations=-1"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"low_momentum": -0.1}, "low_momentum=-0.1"),
        ({"exponent": 0.0}, "exponent=0.0"),
    ],
)
def test_constants_out_of_range_are_refused(options, message):
    d = dialect("hifigan")
    audio = 0.1 * noise(1, 2560)
    with pytest.raises(ParameterError, match=message):
        constrain(audio, d.mel(audio), dialect=d, **options)


def test_audio_and_mel_that_do_not_fit_together_are_refused():
    d = dialect("hifigan")
    audio = 0.1 * noise(2, 2560)
    mel = d.mel(audio)
    with pytest.raises(ParameterError, match="give 2560 samples"):
        constrain(audio[:, :2000], mel, dialect=d)
    with pytest.raises(MelError, match="span"):
        griffin_lim(mel + 20, audio, dialect=d)


def test_decimated_samples_have_the_stft_of_the_low_band():
    """Iterations at a lower rate rest on it: of a signal without a high band it is the same, but for a factor."""
    d = dialect("hifigan")
    low = low_bands(d, torch.float32, torch.device("cpu"))
    assert low is not None
    factor = d.stft.hop_length // low.stft.hop_length
    assert factor == 8
    time = torch.arange(256 * 40, dtype=torch.float64) / d.sample_rate
    audio = sum(torch.sin(2 * torch.pi * hz * time + hz) for hz in (90.0, 333.0, 1000.0)).float()
    padded = d.stft.pad(audio)
    expected = d.stft.analyse(audio)[:, : low.last]
    result = factor * low.stft.analyse(padded[::factor])[:, : low.last]
    assert result.shape == expected.shape
    # The ends, where a mirrored sine has a kink.
    assert (result - expected)[3:-3].abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("changes", [{"hop_length": 255}, {"sample_rate": 4000, "f_max": 2000.0}], ids=["odd", "slow"])
def test_without_a_lower_rate_all_iterations_run_at_the_full_rate(changes):
    d = dialect("hifigan", **changes)
    assert low_bands(d, torch.float32, torch.device("cpu")) is None
    audio = voice(d)
    mel = d.mel(audio)
    assert distance(d, constrain(noise(1, audio.shape[-1]), mel, dialect=d, n_iterations=24), mel) < 1.0


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_a_window_is_inverted_as_the_whole_signal_is(name):
    d = dialect(name)
    audio = torch.cat([voice(d), 0.3 * voice(d).flip(-1)], dim=-1).repeat(1, 4)
    mel = d.mel(audio)
    n_frames = mel.shape[-1]
    white = noise(1, d.n_samples(n_frames))
    whole = invert(white, mel, dialect=d, n_iterations=8)
    first = 40
    start = white[:, first * d.hop_length :]
    window = invert(start, mel[..., first:], dialect=d, n_iterations=8, first_frame=first)
    before, _ = inversion_receptive_field(d, 8)
    assert first + before < n_frames - 20
    kept = slice((first + before) * d.hop_length, None)
    difference = whole[:, kept] - window[:, before * d.hop_length :]
    # At 44.1 kHz twice as many iterations fit at the lower rate, and they amplify rounding.
    assert difference.abs().max() < (1e-4 if d.sample_rate < 30000 else 1e-3)


def test_harmonics_are_a_better_first_guess_than_noise():
    """Of the true waveform's own magnitudes, at four times the resolution of the mel, which no mel tells."""
    d = dialect("hifigan")
    time = torch.arange(256 * 60) / d.sample_rate
    audio = 0.01 * torch.stack([torch.cos(2 * torch.pi * 180 * k * time) / k for k in range(1, 20)]).sum(dim=0)[None]
    mel, white = d.mel(audio), noise(*audio.shape)
    fine = Stft(4096, 256, 4096, 2048, "constant")

    def distance_to_truth(result):
        magnitudes = [fine.forward(signal).abs()[:, :300].clamp(min=0.1).log() for signal in (result, audio)]
        return float((magnitudes[0] - magnitudes[1]).abs().mean())

    from_pulses = distance_to_truth(invert(white, mel, dialect=d, n_iterations=4))
    assert from_pulses < 0.75 * distance_to_truth(constrain(white, mel, dialect=d, n_iterations=4))


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs recordings in shared/data/kathleen beside the repository")
def test_recorded_speech_keeps_its_mel_and_its_peak():
    with (RECORDINGS / "manifest.csv").open() as file:
        path = next(row["path"] for row in csv.DictReader(file) if row["split"] == "test")
    d = dialect("hifigan")
    audio = torch.from_numpy(soundfile.read(RECORDINGS / path, dtype="float32")[0])[None, : 256 * 150]
    mel = d.mel(audio)
    result = constrain(noise(*audio.shape), mel, dialect=d, n_iterations=32)
    assert distance(d, result, mel) < 1.0
    assert result.abs().max() < 1.5 * audio.abs().max()
