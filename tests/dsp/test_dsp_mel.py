"""Mel dialects against independent computations, their derived fields and their checks."""

import json
import math
import re
import warnings

import librosa
import numpy as np
import pytest
import torch
from peers import torchaudio

from audiodiff.dsp.dialect_checks import converted, ensure_same
from audiodiff.dsp.dialect_text import format_dialect
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.errors import MelError, ParameterError

pytestmark = pytest.mark.numeric


def torchaudio_mel(d, audio, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank")
        transform = torchaudio.transforms.MelSpectrogram(
            d.sample_rate, d.n_fft, d.win_length, d.hop_length, n_mels=d.n_mels, **{"power": 1.0, **options}
        ).to(torch.float64)
        return transform(audio.double())


def lmnt(d, audio):
    mel = torchaudio_mel(d, audio, f_min=20.0, f_max=d.sample_rate / 2.0, normalized=True)
    mel = 20 * torch.log10(torch.clamp(mel, min=1e-5)) - 20
    return torch.clamp((mel + 100) / 100, 0.0, 1.0)


def vocos(d, audio):
    return torch.log(torch.clip(torchaudio_mel(d, audio), min=1e-7))


def rfwave(d, audio):
    return torch.log10(torch.clip(torchaudio_mel(d, audio), min=1e-7))


def speechbrain(d, audio):
    mel = torchaudio_mel(d, audio, f_min=0.0, f_max=8000.0, norm="slaney", mel_scale="slaney")
    return torch.log(torch.clamp(mel, min=1e-5))


def librosa_mel(d, magnitude, f_min, f_max):
    filters = librosa.filters.mel(sr=d.sample_rate, n_fft=d.n_fft, n_mels=d.n_mels, fmin=f_min, fmax=f_max)
    return filters.astype(np.float64) @ magnitude


def librosa_magnitude(d, audio, pad_mode):
    frames = librosa.stft(
        audio.double().numpy(), n_fft=d.n_fft, hop_length=d.hop_length, win_length=d.win_length, pad_mode=pad_mode
    )
    return np.abs(frames)


def tacotron2(d, audio):
    mel = librosa_mel(d, librosa_magnitude(d, audio, "reflect"), 0.0, 8000.0)
    return torch.from_numpy(np.log(np.clip(mel, 1e-5, None)))


def fastdiff(d, audio):
    mel = librosa_mel(d, librosa_magnitude(d, audio, "constant"), 80.0, 7600.0)
    return torch.from_numpy(np.log10(np.maximum(1e-6, mel)))


def hifigan(d, audio):
    padding = math.ceil((d.n_fft - d.hop_length) / 2)
    padded = np.pad(audio.double().numpy(), (padding, padding), mode="reflect")
    frames = librosa.stft(padded, n_fft=d.n_fft, hop_length=d.hop_length, win_length=d.win_length, center=False)
    mel = librosa_mel(d, np.sqrt(frames.real**2 + frames.imag**2 + 1e-9), 0.0, 8000.0)
    return torch.from_numpy(np.log(np.clip(mel, 1e-5, None)))


def wavefm(d, audio):
    return torch.log(torch.clamp(torchaudio_mel(d, audio, power=2.0), min=1e-5))


def wavenext(d, audio):
    padding = math.ceil((d.n_fft - d.hop_length) / 2)
    padded = torch.nn.functional.pad(audio[None], (padding, padding), mode="reflect")[0]
    mel = torchaudio_mel(d, padded, f_min=0.0, f_max=8000.0, norm="slaney", mel_scale="slaney", center=False)
    return torch.log(torch.clip(mel, min=1e-5))


INDEPENDENT = {
    "diffwave": lmnt,
    "tacotron2": tacotron2,
    "hifigan": hifigan,
    "fastdiff": fastdiff,
    "vocos": vocos,
    "rfwave": rfwave,
    "wavegrad": lmnt,
    "speechbrain": speechbrain,
    "wavefm": wavefm,
    "wavenext": wavenext,
    "flow2gan-44k": vocos,
}
OTHERS = [{}, {"sample_rate": 44100, "hop_length": 441, "n_fft": 2048, "n_mels": 64}, {"hop_length": 255}]


def sound(n_samples=12345):
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(n_samples, dtype=torch.float64) / 22050
    tone = torch.sin(2 * torch.pi * (200 + 300 * time) * time)
    noise = torch.rand(n_samples, dtype=torch.float64, generator=generator) - 0.5
    # Loud, quiet and silent parts, so that both ends of each compression are met
    level = torch.tensor([1.0, 1e-2, 1e-5, 0.0, 0.3], dtype=torch.float64).repeat_interleave(n_samples // 5)
    return (0.5 * tone + 0.3 * noise)[: len(level)] * level


@pytest.mark.parametrize("changes", OTHERS, ids=["as_named", "other_rate", "odd_hop"])
@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_dialect_equals_an_independent_computation(name, changes):
    d = dialect(name, **changes)
    audio = sound().float()
    mel, expected = d.mel(audio), INDEPENDENT[name](d, audio)
    assert mel.dtype == torch.float32
    assert mel.shape == expected.shape == (d.n_mels, d.n_frames(len(audio)))
    # An FFT in float32 is good to 1e-6 of a frame's loudest bin, so quiet bands of loud frames have fewer digits; in
    # float64 what remains is the other side's filters, float32 in torchaudio and librosa.
    torch.testing.assert_close(mel.double(), expected, rtol=0, atol=1e-3)
    assert float((mel - expected).abs().mean()) < 2e-6 * max(1.0, float(expected.abs().max()))
    # The logarithm of a power doubles the error of the filters.
    torch.testing.assert_close(d.mel(audio.double()), expected, rtol=0, atol=d.power * 5e-5)


def test_every_dialect_has_an_independent_computation():
    assert set(INDEPENDENT) == set(DIALECT_NAMES)


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize("hop_length", [None, 100, 255, 257, 600, 2000])
def test_n_samples_inverts_n_frames_on_multiples_of_the_hop(name, hop_length):
    d = dialect(name, hop_length=hop_length)
    for k in (1, 2, 3, 50):
        n_samples = k * d.hop_length
        assert d.n_samples(d.n_frames(n_samples)) == n_samples
        assert d.mel(torch.zeros(n_samples)).shape[-1] == d.n_frames(n_samples)


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize("level", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("kind", ["noise", "square", "tone", "click"])
def test_all_audio_within_full_scale_passes_the_check(name, level, kind):
    d = dialect(name)
    time = torch.arange(8000) * 0.1
    signals = {
        "noise": torch.randn(8000, generator=torch.Generator().manual_seed(0)).sign(),
        "square": time.sin().sign(),
        "tone": time.sin(),
        "click": (torch.arange(8000) == 4000).float(),
    }
    mel = d.mel(level * signals[kind])
    assert float(mel.min()) >= d.floor - 1e-5
    assert float(mel.max()) <= d.ceil + 1e-5
    d.check(mel, name="mel")
    assert dialect(name).objection(mel) is None


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_amplitude_undoes_the_compression(name):
    d = dialect(name)
    mel = d.mel(sound())
    torch.testing.assert_close(d.compress(d.amplitude(mel)), mel, rtol=0, atol=1e-9)
    bands = d.amplitude_bands(sound())
    expected = bands.clamp(d.amplitude_min, d.amplitude_max)
    torch.testing.assert_close(d.amplitude(mel), expected, rtol=1e-9, atol=1e-12)


def test_dependent_fields_follow_a_change():
    assert dialect("diffwave", sample_rate=16000).f_max == 8000
    assert dialect("hifigan", sample_rate=44100).f_max == 8000
    assert dialect("hifigan", hop_length=300).n_fft == 1024
    assert dialect("hifigan", n_fft=2048).win_length == 2048
    assert dialect("wavegrad", n_fft=1024).win_length == 600
    wide = dialect("wavegrad", hop_length=1000)
    assert (wide.win_length, wide.n_fft) == (4000, 4096)
    assert dialect("hifigan", win_length=3000).n_fft == 4096


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 8000}, "f_max=8000.0 Hz must not pass half .* give f_max=4000.0 or less"),
        ({"n_mels": 400}, "n_mels=400 leaves band 0 .* give n_mels=[0-9]+ or less"),
        ({"win_length": 2048, "n_fft": 1024}, "win_length=2048 must lie between 1 and n_fft=1024"),
        ({"hop_length": 900, "win_length": 800}, "hop_length=900 must lie between 1 and win_length=800"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"f_min": 9000.0}, "f_min=9000.0 Hz must lie between 0 and f_max"),
        ({"n_fft": 1023}, "n_fft=1023 must be even"),
        ({"n_mels": 0}, "n_mels=0 must be positive"),
        ({"sample_rate": 0}, "sample_rate=0"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(changes, message):
    with pytest.raises(ParameterError, match=message) as error:
        dialect("hifigan", **changes)
    assert "\n" not in str(error.value)


def test_the_remedy_for_too_many_bands_works():
    with pytest.raises(ParameterError, match="give n_mels=") as error:
        dialect("hifigan", n_mels=400)
    found = re.search(r"give n_mels=(\d+)", str(error.value))
    assert found is not None
    assert dialect("hifigan", n_mels=int(found[1])).n_mels < 400


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="hifigan"):
        dialect("melgan")


def test_a_mel_of_the_wrong_shape_range_or_energy_is_refused():
    d = dialect("hifigan")
    mel = d.mel(sound())
    d.check(mel, name="mel")
    d.check(mel[None], name="mel")
    bad = mel.clone()
    bad[3, 4] = math.nan
    for wrong, message in [
        (mel[:40], "n_mels=40, but the dialect has n_mels=80"),
        (mel.T, "transposed"),
        (bad, "NaN"),
        (mel - 20, "its values span"),
        (mel[:, :0], "no frames"),
        (torch.rand(80, 30, generator=torch.Generator().manual_seed(0)), "above full scale; it could be of .*diffwave"),
    ]:
        with pytest.raises(MelError, match=message):
            d.check(wrong, name="mel")


def test_objections_distinguish_the_compressions():
    audio = sound()
    possible = {
        name: {other for other in DIALECT_NAMES if dialect(other).objection(dialect(name).mel(audio)) is None}
        for name in DIALECT_NAMES
    }
    assert possible["diffwave"] == {"diffwave"}
    assert "wavegrad" not in possible["flow2gan-44k"]
    assert "wavefm" not in possible["vocos"]
    assert "diffwave" not in possible["hifigan"]
    assert "fastdiff" not in possible["tacotron2"]
    assert all(name in others for name, others in possible.items())


def test_another_dialect_or_rate_is_refused_by_its_first_field():
    with pytest.raises(MelError, match=r"x.npz has sample_rate=16000 .* but sample_rate=22050"):
        ensure_same(dialect("hifigan", sample_rate=16000), dialect("hifigan"), name="x.npz")
    with pytest.raises(MelError, match="f_min"):
        ensure_same(dialect("fastdiff"), dialect("tacotron2"), name="x.npz")
    ensure_same(dialect("tacotron2"), dialect("speechbrain"), name="x.npz")


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_a_limited_mel_fits_and_a_mel_of_audio_is_unchanged(name: str) -> None:
    target = dialect(name)
    mel = target.mel(0.1 * torch.randn(2, 20 * target.hop_length, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(target.limited(mel), mel, atol=1e-4, rtol=0)
    target.check(target.limited(torch.full_like(mel, target.ceil)), name="mel")


@pytest.mark.parametrize("name", ["hifigan", "diffwave", "vocos:sample_rate=16000"])
@pytest.mark.parametrize("log", ["e", "10", "db", "none"])
def test_a_dialect_says_its_logarithm_by_text_and_by_argument(name: str, log: str):
    own = dialect(f"{name}{',' if ':' in name else ':'}log={log}")
    assert own == dialect(name, log=log)
    assert dialect(format_dialect(own)) == own
    amplitude = torch.rand(own.n_mels, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.01
    values = {"e": amplitude.log(), "10": amplitude.log10(), "db": 20 * amplitude.log10(), "none": amplitude}[log]
    torch.testing.assert_close(own.compress(amplitude), values)
    torch.testing.assert_close(own.amplitude(values), amplitude)
    assert own.objection(own.mel(sound()[: own.sample_rate // 4])) is None


@pytest.mark.parametrize(
    "text",
    [
        "tacotron2",
        "hifigan:log=10",
        "diffwave:log=db",
        "vocos:sample_rate=16000,log=none",
        "hifigan:mean=-5.5,std=2.1,frames_first=true",
        "hifigan:power=2",
        "vocos:power=2,log=10",
        "wavefm:log=db",
    ],
)
def test_a_dialect_is_written_as_the_text_it_is_read_from(text: str):
    assert format_dialect(dialect(text)) == text


@pytest.mark.parametrize("per_band", [False, True], ids=["global", "per_band"])
@pytest.mark.parametrize("name", ["hifigan", "diffwave", "wavefm", "hifigan:power=2,log=none"])
def test_normalised_mels_equal_numpys_and_convert_back(name: str, per_band: bool):
    plain, audio = dialect(name), sound().float()
    values = plain.mel(audio).double().numpy()
    axis = 1 if per_band else None
    mean, std = values.mean(axis=axis), values.std(axis=axis) + 0.1
    own = dialect(name, mean=mean.tolist(), std=std.tolist())
    wanted = (values - mean[:, None]) / std[:, None] if per_band else (values - mean) / std
    torch.testing.assert_close(own.mel(audio).double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)
    back = converted(torch.from_numpy(wanted).float(), own, plain)
    torch.testing.assert_close(back, plain.mel(audio), rtol=1e-4, atol=1e-4)
    own.check(own.mel(audio), name="mel")
    torch.testing.assert_close(own.limited(own.mel(audio)), own.mel(audio), rtol=1e-4, atol=1e-4)
    with pytest.raises(MelError, match=r"with mean and std undone|above full scale"):
        own.check(own.mel(audio) + 40 * (1 + np.max(1 / std)), name="mel")


def test_the_power_of_white_noise_in_a_band_is_the_sum_of_its_weights():
    d = dialect("hifigan", power=2, log="none")
    audio = torch.randn(400 * d.hop_length, generator=torch.Generator().manual_seed(0))
    # E|X|^2 = sum of the squared window, 3/8 of its length.
    expected = d.filters().sum(dim=1) * 3 / 8 * d.win_length
    ratio = d.mel(audio).double().mean(dim=1) / expected
    assert ratio.median() == pytest.approx(1, abs=0.05)
    assert dialect("hifigan", power=2).mel(audio).double().exp().mean() == pytest.approx(
        float(expected.mean()), rel=0.05
    )


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "names of Matcha-TTS"])
def test_statistics_are_read_from_a_file(kind: str, tmp_path):
    mean, std = np.linspace(-6, -5, 80), np.linspace(1, 2, 80)
    path = tmp_path / f"s.{kind if kind in ('npz', 'npy') else 'json'}"
    if kind == "npz":
        np.savez(path, mean=mean, std=std)
    elif kind == "npy":
        np.save(path, np.stack([mean, std]))
    elif kind == "json":
        path.write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    else:
        mean, std = np.float64(-5.5), np.float64(2.1)
        path.write_text(json.dumps({"mel_mean": -5.5, "mel_std": 2.1}))
    assert dialect(f"hifigan:stats={path}") == dialect("hifigan", mean=mean.tolist(), std=std.tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("std=0", "std=0 must be positive"),
        ("mean=nan", "mean=nan must be finite"),
        ("std=x", "std='x' must be a number"),
        ("frames_first=1", "frames_first='1' must be true or false"),
        ("power=3", "power=3 must be 1 .amplitudes. or 2"),
        ("stats=none.npz", "stats=none.npz cannot be read"),
    ],
)
def test_wrong_statistics_are_refused_by_name(text: str, message: str):
    with pytest.raises(ParameterError, match=message):
        dialect(f"hifigan:{text}")


def test_a_statistics_file_of_another_number_of_bands_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", mean=np.zeros(40), std=np.ones(40))
    np.savez(tmp_path / "other.npz", a=np.zeros(40))
    with pytest.raises(ParameterError, match="mean has 40 values and must have one, or n_mels=80"):
        dialect(f"hifigan:stats={tmp_path / 's.npz'}")
    with pytest.raises(ParameterError, match="must hold mean and std, and holds a"):
        dialect(f"hifigan:stats={tmp_path / 'other.npz'}")


@pytest.mark.parametrize("text", ["hifigan:log=2", "hifigan:log="])
def test_an_unknown_logarithm_is_refused_with_the_known_ones(text: str):
    with pytest.raises(ParameterError, match="must be one of e, 10, db, none"):
        dialect(text)
    with pytest.raises(ParameterError, match=r"log=2 .* must be one of e, 10, db, none"):
        dialect("hifigan", log=2)
