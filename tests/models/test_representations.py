"""What is diffused: to a signal and back, and what the statistics make of it."""

import pytest
import torch

from audiodiff.diffusion.noise import BlockNoise
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.representations.log_mel import LogMelRepresentation
from audiodiff.models.representations.waveform import WaveformRepresentation


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def colored(*shape: int, seed: int = 0) -> torch.Tensor:
    """Make noise whose bands differ in level and in time."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    swell = 0.02 + 0.1 * torch.linspace(0, 12, shape[-1]).sin() ** 2
    return swell * (noise + noise.roll(1, dims=-1))


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_a_mel_comes_back_from_its_signal(name: str):
    representation = LogMelRepresentation(dialect=dialect(name))
    audio = colored(2, 1, 30 * representation.dialect.hop_length)
    representation.fit([audio])
    signal = representation.encode(audio)
    assert signal.shape == (2, representation.channels, representation.length(audio.shape[-1]))
    start, mel = representation.decode(signal, noise=BlockNoise(0, [0, 1]), n_samples=audio.shape[-1])
    assert mel is not None
    # Two roundings of float32 values of the order of 10.
    torch.testing.assert_close(mel, representation.dialect.mel(audio[:, 0]), rtol=0, atol=1e-4)
    assert start.shape == audio.shape
    assert float(start.std()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_the_fitted_data_have_mean_0_and_variance_1_in_every_band(name: str):
    representation = LogMelRepresentation(dialect=dialect(name))
    audio = colored(4, 1, 60 * representation.dialect.hop_length)
    representation.fit([audio])
    signal = representation.encode(audio)
    torch.testing.assert_close(signal.mean(dim=(0, 2)), torch.zeros(representation.channels), rtol=0, atol=1e-3)
    moved = representation.std > 2e-3
    assert bool(moved.any())
    variance = signal.var(dim=(0, 2))[moved]
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=1e-3, atol=0)


def test_silence_in_a_band_does_not_divide_by_zero():
    representation = LogMelRepresentation(dialect=dialect("hifigan"))
    representation.fit([torch.zeros(1, 1, 4096)])
    assert bool((representation.encode(torch.zeros(1, 1, 4096)) == 0).all())
    assert bool(torch.isfinite(representation.encode(colored(1, 1, 4096))).all())


def test_a_decoded_mel_stays_within_what_audio_can_reach():
    representation = LogMelRepresentation(dialect=dialect("hifigan"))
    _, mel = representation.decode(torch.full((1, 80, 4), 99.0), noise=BlockNoise(0, [0]), n_samples=1024)
    assert mel is not None
    representation.dialect.check(mel, name="mel")


def test_the_statistics_are_part_of_the_weights():
    assert set(LogMelRepresentation(dialect=dialect("hifigan")).state_dict()) == {"mean", "std"}


@pytest.mark.parametrize(("n_channels", "gain"), [(1, 1.0), (2, 5.0)])
def test_a_waveform_comes_back_from_its_signal(n_channels: int, gain: float):
    representation = WaveformRepresentation(n_channels=n_channels, gain=gain)
    audio = colored(2, n_channels, 1001)
    representation.fit([audio])
    signal = representation.encode(audio)
    torch.testing.assert_close(signal, gain * audio)
    assert representation.length(1001) == 1001
    back, target = representation.decode(signal, noise=BlockNoise(0, [0, 1]), n_samples=1001)
    torch.testing.assert_close(back, audio)
    assert target is None


def test_only_a_mel_has_to_be_inverted():
    assert LogMelRepresentation(dialect=dialect("hifigan")).makes_mel
    assert not WaveformRepresentation().makes_mel


@pytest.mark.parametrize("arguments", [{"n_channels": 0}, {"gain": 0.0}])
def test_a_waveform_that_cannot_be_is_refused(arguments: dict):
    with pytest.raises(ParameterError, match=next(iter(arguments))):
        WaveformRepresentation(**arguments)


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_the_mel_condition_is_the_dialects_own_analysis(name: str):
    conditioner = MelConditioner(dialect=dialect(name))
    audio = colored(2, 1, 20 * conditioner.dialect.hop_length)
    condition = conditioner(audio)
    assert condition.frames is not None
    assert torch.equal(condition.frames, conditioner.dialect.mel(audio[:, 0]))
    quiet = conditioner.null(2).frames
    assert quiet is not None
    conditioner.dialect.check(quiet, name="quiet")
    assert conditioner.needs_mel


def test_stereo_has_no_mel():
    stereo = torch.zeros(1, 2, 4096)
    for part in (MelConditioner(dialect=dialect("hifigan")), LogMelRepresentation(dialect=dialect("hifigan")).encode):
        with pytest.raises(ParameterError, match="channels=2 must be 1"):
            part(stereo)


def test_no_condition_says_nothing():
    conditioner = NoConditioner()
    assert conditioner(torch.zeros(1, 1, 8)) == conditioner.null(3)
    assert not conditioner.needs_mel
