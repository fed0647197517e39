"""Features: pooled activations for any length, rate, number of channels and level of a recording."""

import jaxtyping
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
    block_names,
    check_feature_model,
    default_layer,
    features,
    features_of_layers,
)

DENOISING = [
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
    "denoising": DENOISING,
}


@pytest.fixture(params=MODELS)
def model(request):
    return tiny.synthesizer(MODELS[request.param])


def test_features_are_mean_and_deviation_of_a_blocks_gate_input():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(9000, sample_rate=model.sample_rate)
    x0 = model.representation.encode(audio[None])
    x = x0 + 0.3 * noise_of(0, [0])(x0, 0)
    name = f"{block_names(model)[1]}.dilated_conv"
    with torch.no_grad():
        found = model.denoiser.activations(x, torch.tensor([0.3]), model.conditioner.null(1), layers=[name])[name][0]
    expected = torch.cat([found.mean(dim=-1), found.std(dim=-1, correction=0)])
    vector = features(model, audio, sample_rate=model.sample_rate, noise_level=0.3, layer=1)
    torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_features_in_chunks_equal_those_of_the_whole_recording(model, monkeypatch):
    audio = tones(30011, sample_rate=model.sample_rate)
    whole = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.1, layers=[0, 1])
    chunks = ChunkPlan.chunks
    n_chunks = []

    def short(self, n_samples, *, sample_rate):
        found = list(chunks(self, n_samples, sample_rate=sample_rate // 20))
        n_chunks.append(len(found))
        return found

    monkeypatch.setattr(ChunkPlan, "chunks", short)
    in_chunks = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.1, layers=[0, 1])
    assert n_chunks[0] >= 3
    torch.testing.assert_close(in_chunks, whole, rtol=1e-4, atol=1e-5)


def test_activations_of_a_causal_network_end_with_the_recording():
    model = tiny.synthesizer(CAUSAL)
    audio = tones(8192, sample_rate=model.sample_rate)
    with torch.inference_mode():
        found = module._activations(model, audio[None], blocks=block_names(model), noise_level=0.1, first_sample=0)
    assert found.shape[-1] == 8192 // model.denoiser.network.alignment


def test_features_of_every_kind_of_model_distinguish_recordings(model):
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


def test_channels_are_averaged_and_audio_is_resampled():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(9000, sample_rate=16000, n_channels=2)
    at_rate = resample(audio.mean(dim=0), from_rate=16000, to_rate=model.sample_rate)
    expected = features(model, at_rate, sample_rate=model.sample_rate)
    torch.testing.assert_close(features(model, audio, sample_rate=16000), expected)


def test_features_of_a_model_with_a_level_ignore_loudness():
    model = tiny.synthesizer(DENOISING)
    audio = tones(9000, sample_rate=16000)
    loud, quiet = (features(model, gain * audio, sample_rate=16000) for gain in (1.0, 2.0**-6))
    assert torch.equal(loud, quiet)


def test_features_of_a_batch_are_those_of_its_recordings():
    model = tiny.synthesizer(tiny.LOG_MEL)
    batch = torch.stack([tones(5000, sample_rate=8000, n_channels=2), torch.zeros(2, 5000)])
    together = features(model, batch, sample_rate=8000)
    assert torch.equal(together, torch.stack([features(model, audio, sample_rate=8000) for audio in batch]))


def test_features_of_several_layers_equal_those_of_each():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(5000, sample_rate=model.sample_rate)
    both = features_of_layers(model, audio, sample_rate=model.sample_rate, noise_level=0.2, layers=[1, 0])
    for row, layer in zip(both, [1, 0], strict=True):
        assert torch.equal(row, features(model, audio, sample_rate=model.sample_rate, noise_level=0.2, layer=layer))


def test_the_default_is_a_layer_of_the_network(model):
    default = default_layer(model)
    assert 0 <= default.layer < len(block_names(model))
    audio = tones(4000, sample_rate=model.sample_rate)
    explicit = features(
        model, audio, sample_rate=model.sample_rate, noise_level=default.noise_level, layer=default.layer
    )
    assert torch.equal(features(model, audio, sample_rate=model.sample_rate), explicit)


def test_the_default_noise_follows_the_scale_of_the_signal():
    plain, loud = (tiny.synthesizer([*tiny.UNCONDITIONAL, f"representation.gain={gain}"]) for gain in (1.0, 8.0))
    assert default_layer(loud).noise_level == pytest.approx(8.0 * default_layer(plain).noise_level)


@pytest.mark.parametrize("divisor", [1, 128, 256, 512])
@pytest.mark.parametrize("extra", [0, 1, 100])
def test_samples_per_frame_follow_from_the_length_of_a_layer(divisor, extra):
    n_samples = 40 * 512 + extra
    for n_frames in (-(-n_samples // divisor), n_samples // divisor):
        assert module._samples_per_frame(n_frames, n_samples=n_samples, alignment=512) == divisor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 2}, "layer=2 must be below 2"),
        ({"layer": -1}, "layer=-1"),
        ({"noise_level": 0.0}, "noise_level=0.0 must be positive"),
        ({"noise_level": float("nan")}, "noise_level=nan must be positive"),
        ({"sample_rate": 0}, "sample_rate=0"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    model = tiny.synthesizer(tiny.LOG_MEL)
    with pytest.raises(ParameterError, match=message):
        features(model, tones(4000, sample_rate=8000), **{"sample_rate": 8000, **arguments})


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 0), "no samples"),
        (torch.zeros(0), "no samples"),
        (torch.tensor([[0.0, float("nan")]]), "NaN or infinite samples"),
    ],
)
def test_audio_without_finite_samples_is_refused(audio, message):
    with pytest.raises(ParameterError, match=message):
        features(tiny.synthesizer(tiny.LOG_MEL), audio, sample_rate=8000)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(2, 1, 1, 4000), "shape"),
        (torch.zeros(4000, dtype=torch.int16), "divide 16-bit samples by 32768"),
        (np.zeros((1, 4000)), "audio is a ndarray"),
    ],
)
def test_audio_that_is_not_a_recording_is_refused(audio, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ParameterError, match=message):
        features(tiny.synthesizer(tiny.LOG_MEL), audio, sample_rate=8000)


def test_features_of_float64_are_those_of_float32():
    model = tiny.synthesizer(tiny.LOG_MEL)
    audio = tones(4000, sample_rate=8000)
    assert torch.equal(features(model, audio.double(), sample_rate=8000), features(model, audio, sample_rate=8000))


def test_a_model_that_was_not_trained_has_no_features():
    import audiodiff

    model = audiodiff.load("none", dialect="hifigan")
    assert isinstance(model, MelInverter)
    with pytest.raises(ParameterError, match="was not trained"):
        check_feature_model(model)


def test_a_negative_noise_level_is_refused():
    with pytest.raises(ParameterError, match="noise_level=-1"):
        FeatureLayer(-1.0, 0)
