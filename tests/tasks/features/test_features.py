"""Features: pooled activations, whatever the length, rate, channels and level of a recording."""

import numpy as np
import pytest
import tiny
import torch
from sounds import tones

from audiodiff.diffusion.noise import noise_of
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.models.chunking import ChunkPlan
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.tasks.features import extract as module
from audiodiff.tasks.features.extract import (
    FeatureLayer,
    check_model,
    default_tap,
    features,
    features_of_layers,
    layers,
)

HEARS = [
    *tiny.UNCONDITIONAL,
    "audio=plain",
    "audio.sample_rate=16000",
    "audio.hop_length=160",
    "conditioner=degraded",
    "network=spectral_restorer",
    "network.n_fft=256",
    "network.hop_length=128",
]
CAUSAL = [*tiny.UNCONDITIONAL, "network.look_ahead=0"]
MODELS = {
    "waveform": tiny.UNCONDITIONAL,
    "causal": CAUSAL,
    "log_mel": tiny.LOG_MEL,
    "vocoder": tiny.VOCODER,
    "hears": HEARS,
}


@pytest.fixture(params=MODELS)
def model(request):
    return tiny.synthesizer(MODELS[request.param])


def test_features_are_mean_and_deviation_over_time_of_what_goes_into_a_blocks_gates():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(9000, sample_rate=model.sample_rate)
    x0 = model.representation.encode(audio[None])
    x = x0 + 0.3 * noise_of(0, [0])(x0, 0)
    name = f"{layers(model)[1]}.dilated_conv"
    with torch.no_grad():
        found = model.denoiser.activations(x, torch.tensor([0.3]), model.conditioner.null(1), layers=[name])[name][0]
    expected = torch.cat([found.mean(dim=-1), found.std(dim=-1, correction=0)])
    vector = features(model, audio, sample_rate=model.sample_rate, noise_level=0.3, layer=1)
    torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_a_long_recording_in_pieces_has_the_features_of_the_whole(model, monkeypatch):
    audio = tones(30011, sample_rate=model.sample_rate)
    whole = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.1, chosen=[0, 1])
    pieces = ChunkPlan.chunks
    n_pieces = []

    def short(self, n_samples, *, sample_rate):
        found = list(pieces(self, n_samples, sample_rate=sample_rate // 20))
        n_pieces.append(len(found))
        return found

    monkeypatch.setattr(ChunkPlan, "chunks", short)
    in_pieces = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.1, chosen=[0, 1])
    assert n_pieces[0] >= 3
    torch.testing.assert_close(in_pieces, whole, rtol=1e-4, atol=1e-5)


def test_a_causal_network_is_heard_as_long_as_the_recording_is():
    model = tiny.synthesizer(CAUSAL)
    audio = tones(8192, sample_rate=model.sample_rate)
    with torch.inference_mode():
        found = module._activations(model, audio[None], blocks=layers(model), noise_level=0.1, first_sample=0)
    assert found.shape[-1] == 8192 // model.denoiser.network.alignment


def test_every_kind_of_model_tells_recordings_apart(model):
    low, high = (tones(8000, sample_rate=rate) for rate in (22050, 8000))
    vectors = [features(model, audio, sample_rate=model.sample_rate) for audio in (low, low, high)]
    assert vectors[0].ndim == 1
    assert torch.isfinite(vectors[0]).all()
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2], rtol=1e-2)


@pytest.mark.parametrize("n_samples", [1, 100, 2000])
def test_the_shortest_recordings_have_features(model, n_samples):
    vector = features(model, tones(n_samples, sample_rate=8000), sample_rate=8000)
    assert torch.isfinite(vector).all()


def test_silence_has_features(model):
    assert torch.isfinite(features(model, torch.zeros(2, 5000), sample_rate=16000)).all()


def test_channels_are_averaged_and_a_rate_is_brought_to_the_models():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(9000, sample_rate=16000, n_channels=2)
    at_rate = resample(audio.mean(dim=0), from_rate=16000, to_rate=model.sample_rate)
    expected = features(model, at_rate, sample_rate=model.sample_rate)
    torch.testing.assert_close(features(model, audio, sample_rate=16000), expected)


def test_a_model_with_a_level_hears_a_recording_alike_however_loud():
    model = tiny.synthesizer(HEARS)
    audio = tones(9000, sample_rate=16000)
    loud, quiet = (features(model, gain * audio, sample_rate=16000) for gain in (1.0, 2.0**-6))
    assert torch.equal(loud, quiet)


def test_features_of_layers_are_those_of_each():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(5000, sample_rate=model.sample_rate)
    both = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.2, chosen=[1, 0])
    for row, layer in zip(both, [1, 0], strict=True):
        assert torch.equal(row, features(model, audio, sample_rate=model.sample_rate, noise_level=0.2, layer=layer))


def test_the_default_is_a_layer_of_the_network(model):
    tap = default_tap(model)
    assert 0 <= tap.layer < len(layers(model))
    audio = tones(4000, sample_rate=model.sample_rate)
    explicit = features(model, audio, sample_rate=model.sample_rate, noise_level=tap.noise_level, layer=tap.layer)
    assert torch.equal(features(model, audio, sample_rate=model.sample_rate), explicit)


def test_the_default_noise_follows_the_scale_of_the_signal():
    plain, loud = (tiny.synthesizer([*tiny.UNCONDITIONAL, f"representation.gain={gain}"]) for gain in (1.0, 8.0))
    assert default_tap(loud).noise_level == pytest.approx(8.0 * default_tap(plain).noise_level)


@pytest.mark.parametrize("divisor", [1, 128, 256, 512])
@pytest.mark.parametrize("extra", [0, 1, 100])
def test_the_step_of_a_layer_is_read_off_its_length(divisor, extra):
    n_samples = 40 * 512 + extra
    for n_frames in (-(-n_samples // divisor), n_samples // divisor):
        assert module._samples_per_frame(n_frames, n_samples=n_samples, alignment=512) == divisor


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layer": 2}, "layer=2 must be below 2"),
        ({"layer": -1}, "layer=-1"),
        ({"noise_level": 0.0}, "noise_level=0.0 must be positive"),
        ({"noise_level": float("nan")}, "noise_level=nan must be positive"),
        ({"sample_rate": 0}, "sample_rate=0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, says):
    model = tiny.synthesizer(tiny.LOG_MEL)
    with pytest.raises(ParameterError, match=says):
        features(model, tones(4000, sample_rate=8000), **{"sample_rate": 8000, **arguments})


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (torch.zeros(1, 0), "no samples"),
        (torch.zeros(0), "no samples"),
        (torch.tensor([[0.0, float("nan")]]), "NaN or infinite samples"),
    ],
)
def test_audio_without_finite_samples_is_refused(audio, says):
    with pytest.raises(ParameterError, match=says):
        features(tiny.synthesizer(tiny.LOG_MEL), audio, sample_rate=8000)


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (torch.zeros(2, 1, 4000), "one by one"),
        (torch.zeros(4000, dtype=torch.int16), "divide 16-bit samples by 32768"),
        (np.zeros((1, 4000)), "audio is a ndarray"),
    ],
)
def test_what_is_no_recording_is_refused(audio, says):
    # Of features itself the tests check the types, which a user's call does not.
    with pytest.raises(ParameterError, match=says):
        module._prepared(tiny.synthesizer(tiny.LOG_MEL), audio, sample_rate=8000)


def test_features_of_float64_are_those_of_float32():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(4000, sample_rate=8000)
    assert torch.equal(features(model, audio.double(), sample_rate=8000), features(model, audio, sample_rate=8000))


def test_a_model_that_was_not_trained_has_no_features():
    import audiodiff

    model = audiodiff.load("none", dialect="hifigan")
    assert isinstance(model, MelInverter)
    with pytest.raises(ParameterError, match="was not trained"):
        check_model(model)


def test_a_tap_is_checked():
    with pytest.raises(ParameterError, match="noise_level=-1"):
        FeatureLayer(-1.0, 0)
