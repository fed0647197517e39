"""Anomaly detection: errors against closed forms, thresholds against their guarantee, detectors as wholes."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import scipy.spatial.distance
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.covariance import LedoitWolf

from audiodiff.errors import AudioFileError, CheckpointError, ParameterError
from audiodiff.models import checkpoint
from audiodiff.models import chunking as pieces
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly import Detector
from audiodiff.tasks.anomaly.detector import conformal_threshold, fewest_held
from audiodiff.tasks.anomaly.errors import SILENCE_DB, Probe, denoising_errors, frame_seconds, level_db
from audiodiff.tasks.anomaly.normality import AnomalyScorer, Distance, Gaussian, LabelSurprise, Observation, State

RATE = 8000
SIGMA_DATA = 0.1
GAUSSIAN = [*tiny.UNCONDITIONAL, f"audio.sample_rate={RATE}", "preconditioning=edm", f"signal_std={SIGMA_DATA}"]
LABELLED = [
    *tiny.LOG_MEL,
    "conditioner=labels",
    "conditioner.vocabularies={digit: ['0', '1', '2'], speaker: [ann, bob]}",
    "network.vector_features=5",
]
PROBE = Probe(n_levels=4, first=0, last=4, n_draws=2, n_bands=5)


def gaussian_model() -> Synthesizer:
    """Make the exact denoiser of white noise of std 0.1: with F = 0, D = c_skip x, its posterior mean."""
    model = tiny.synthesizer(GAUSSIAN)
    for parameter in model.denoiser.network.parameters():
        parameter.data.zero_()
    return model


def white(seed: int, *, seconds: float = 0.3, std: float = SIGMA_DATA, rate: int = RATE) -> torch.Tensor:
    return std * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def exact() -> Synthesizer:
    return gaussian_model()


@pytest.fixture(scope="module")
def labelled() -> Synthesizer:
    return tiny.synthesizer(LABELLED)


@pytest.fixture(scope="module")
def detector(exact: Synthesizer) -> Detector:
    return Detector.fit(exact, [white(seed) for seed in range(42)], sample_rate=RATE, false_alarms=0.1)


def test_errors_on_white_noise_are_the_posterior_variance(exact: Synthesizer):
    """E |D - x0|^2 = s^2 sigma^2 / (s^2 + sigma^2) in every band."""
    audio = white(0, seconds=4.0)
    errors = denoising_errors(exact, audio, sample_rate=RATE, probe=PROBE)[0].double()
    sigmas = exact.sampler.grid(PROBE.n_levels)[:-1]
    power = SIGMA_DATA**2
    expected = power * sigmas**2 / (power + sigmas**2) / 0.1**2
    frames = errors.mean(dim=1)[:, ::4]  # Hann windows of 32 ms, 40 ms apart: independent
    standard_error = frames.std(dim=-1) / math.sqrt(frames.shape[-1])
    assert ((frames.mean(dim=-1) - expected).abs() < 4.5 * standard_error).all()
    assert (errors.mean(dim=-1) / expected[:, None] - 1).abs().max() < 0.25


def test_a_recording_is_cut_into_pieces_without_a_trace(monkeypatch: pytest.MonkeyPatch):
    for overrides in (tiny.UNCONDITIONAL, tiny.LOG_MEL, tiny.VOCODER):
        model = tiny.synthesizer(overrides)
        audio = white(0, seconds=1.0, rate=model.sample_rate)
        whole = denoising_errors(model, audio, sample_rate=model.sample_rate, probe=PROBE)
        with monkeypatch.context() as short:
            short.setattr(pieces, "CHUNK_SECONDS", 0.1)
            cut = denoising_errors(model, audio, sample_rate=model.sample_rate, probe=PROBE)
        assert whole.shape == cut.shape
        torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-6)


def test_frames_cover_the_recording(exact: Synthesizer, labelled: Synthesizer):
    for model in (exact, labelled):
        audio = white(0, seconds=1.0, rate=model.sample_rate)
        errors = denoising_errors(model, audio, sample_rate=model.sample_rate, probe=PROBE)
        assert errors.shape[-1] * frame_seconds(model) == pytest.approx(1.0, abs=2 * frame_seconds(model))


def test_frames_of_a_mel_are_a_hop_apart(labelled: Synthesizer):
    rate, hop_length = labelled.sample_rate, labelled.representation.hop_length
    assert rate % hop_length > 0
    assert frame_seconds(labelled) == pytest.approx(hop_length / rate, rel=1e-12)


def test_channels_are_averaged_and_other_rates_are_taken(exact: Synthesizer):
    audio = white(0)
    mono = denoising_errors(exact, audio, sample_rate=RATE, probe=PROBE)
    stereo = denoising_errors(exact, torch.cat([0.5 * audio, 1.5 * audio]), sample_rate=RATE, probe=PROBE)
    torch.testing.assert_close(mono, stereo, rtol=1e-4, atol=1e-8)
    assert denoising_errors(exact, white(0, rate=44100), sample_rate=44100, probe=PROBE).shape == mono.shape


def test_what_the_model_is_told_changes_its_errors(labelled: Synthesizer):
    audio = white(0, rate=labelled.sample_rate)
    told = [{}, {"digit": "1"}, {"digit": "1", "speaker": "bob"}]
    together = denoising_errors(labelled, audio, sample_rate=labelled.sample_rate, probe=PROBE, labels=told)
    for index, row in enumerate(told):
        alone = denoising_errors(labelled, audio, sample_rate=labelled.sample_rate, probe=PROBE, labels=[row])
        torch.testing.assert_close(together[index], alone[0], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together[1], together[2])


def test_distances_are_mahalanobis_with_ledoit_and_wolfs_covariance():
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        6, 6, generator=torch.Generator().manual_seed(1)
    )
    gaussian = Gaussian.fit(rows)
    mean, std = rows.mean(dim=0).numpy(), rows.std(dim=0).numpy()
    precision = LedoitWolf().fit((rows.numpy() - mean) / std).precision_
    expected = [scipy.spatial.distance.mahalanobis((row - mean) / std, np.zeros(6), precision) for row in rows.numpy()]
    np.testing.assert_allclose(gaussian.distances(rows).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("n", "false_alarms"), [(19, 0.05), (30, 0.1), (40, 0.25)])
def test_exchangeable_scores_exceed_the_threshold_as_often_as_is_stated(n: int, false_alarms: float):
    """A new score exceeds the k-th smallest of n with a probability of 1 - k / (n + 1), exactly."""
    n_trials = 3000
    scores = torch.randn(n_trials, n + 1, generator=torch.Generator().manual_seed(n)).exp()
    alarms = sum(float(row[-1]) > conformal_threshold(row[:-1], false_alarms=false_alarms) for row in scores)
    expected = 1 - math.ceil((1 - false_alarms) * (n + 1) - 1e-9) / (n + 1)
    assert false_alarms - 1 / (n + 1) - 1e-9 <= expected <= false_alarms + 1e-9
    assert abs(alarms / n_trials - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n_trials)


@pytest.mark.parametrize("false_alarms", [0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9])
def test_the_fewest_that_can_be_held_out_are_the_fewest_that_have_a_threshold(false_alarms: float):
    n = fewest_held(false_alarms)
    conformal_threshold(torch.arange(float(n)), false_alarms=false_alarms)
    with pytest.raises(ParameterError, match="held out"):
        conformal_threshold(torch.arange(float(n - 1)), false_alarms=false_alarms)


def test_new_normal_recordings_are_called_anomalous_as_often_as_is_stated(exact: Synthesizer, detector: Detector):
    n = 30
    alarms = sum(detector.is_anomalous(white(1000 + seed), sample_rate=RATE) for seed in range(n))
    # Above the 14th of the 14 that are held out: a rate of mean 1 / 15 and, of law Beta(1, 14), deviation 0.063.
    assert len(detector.held) == 14
    assert alarms / n < 1 / 15 + 4.5 * math.sqrt(14 / 15**2 / n + 0.063**2)


def test_what_errs_less_than_usual_is_as_anomalous_as_what_errs_more(detector: Detector):
    time = torch.arange(2400) / RATE
    strange = {
        "louder": white(0, std=0.3),
        "quieter": white(0, std=0.03),
        "silent": torch.zeros(1, 2400),
        "a tone": (0.1 * math.sqrt(2) * torch.sin(2 * torch.pi * 440 * time))[None],
        "dull": torch.nn.functional.avg_pool1d(white(0, std=0.2), 4, 1, 2)[:, :2400],
    }
    for name, audio in strange.items():
        verdict = detector.score(audio, sample_rate=RATE)
        assert verdict.is_anomalous, name
        assert verdict.p == pytest.approx(1 / (1 + len(detector.held)))


def test_one_strange_moment_is_found_where_it_is(detector: Detector):
    audio = white(3, seconds=1.0)
    audio[:, 4000:4800] = 0.0
    verdict = detector.score(audio, sample_rate=RATE)
    assert verdict.is_anomalous
    inside = (verdict.seconds > 0.52) & (verdict.seconds < 0.58)
    outside = (verdict.seconds < 0.47) | (verdict.seconds > 0.63)
    assert verdict.frames[inside].min() > verdict.frames[outside].max()


def test_p_is_the_rank_among_those_held_out(detector: Detector):
    for seed in range(5):
        verdict = detector.score(white(500 + seed), sample_rate=RATE)
        assert verdict.p == pytest.approx((1 + int((detector.held >= verdict.score).sum())) / (1 + len(detector.held)))
        assert verdict.is_anomalous == (verdict.score > detector.threshold)


def silences(seconds: float = 1.0) -> dict[str, torch.Tensor]:
    """Make what a dead microphone gives."""
    nothing = torch.zeros(1, round(seconds * RATE))
    click = nothing.clone()
    click[0, len(nothing[0]) // 3] = 1.0
    return {"nothing": nothing, "a constant": nothing + 0.3, "a click": click, "far below": white(0, std=1e-5)}


def test_levels_are_those_of_the_loudest_frames(exact: Synthesizer):
    noise = white(0, seconds=4.0)
    found = level_db(exact, noise, sample_rate=RATE)
    # Frames of 256 samples: the mean is 20 log10 s, the deviation 8.686 / sqrt(512) dB, and the loudest tenth lies 1.28
    # deviations above.
    expected = 20 * math.log10(SIGMA_DATA) + 1.28 * 8.686 / math.sqrt(512)
    assert found == pytest.approx(expected, abs=0.25)
    assert level_db(exact, noise / 2, sample_rate=RATE) == pytest.approx(found - 6.0206, abs=1e-3)
    assert level_db(exact, torch.cat([noise, torch.zeros_like(noise)], dim=1), sample_rate=RATE) > found - 1.0
    found = {name: level_db(exact, audio, sample_rate=RATE) for name, audio in silences().items()}
    assert found["nothing"] == found["a click"] == SILENCE_DB
    assert found["a constant"] < -120.0


class Unmoved(AnomalyScorer):
    """Call everything normal."""

    kind = "unmoved"
    probe = PROBE

    @staticmethod
    def observe(
        model: Synthesizer, audio: torch.Tensor, *, sample_rate: int, allowed: Mapping[str, Sequence[str]]
    ) -> Observation:
        return Observation(torch.zeros(1, 4), torch.zeros(1), torch.zeros(0))

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "Unmoved":
        return cls()

    def score(self, observation: Observation) -> float:
        return 0.0

    def frame_scores(self, observation: Observation) -> torch.Tensor:
        return observation.frames[0]

    def state(self) -> State:
        return {}

    @classmethod
    def restore(cls, state: State) -> "Unmoved":
        return cls()


def test_what_has_no_sound_is_anomalous_whatever_its_errors(exact: Synthesizer):
    held = torch.linspace(-1.0, 2.5, 19)
    detector = Detector(exact, Unmoved(), held=held, quietest_db=-20.0, false_alarms=0.1, allowed={})
    for name, audio in silences().items():
        verdict = detector.score(audio, sample_rate=RATE)
        assert verdict.is_anomalous, name
        assert verdict.p == pytest.approx(1 / 20)
    for std in (1.0, 0.1, 0.0015):
        assert detector.score(white(0, std=std), sample_rate=RATE).score == 0.0
    # 60 dB below the quietest are 20 more than are nothing.
    assert detector.score(white(0, std=1e-4), sample_rate=RATE).score == pytest.approx(20.0, abs=1.0)


def test_silence_is_normal_where_it_is_given_as_normal(exact: Synthesizer, detector: Detector):
    assert detector.quietest_db == pytest.approx(-20.0, abs=1.0)
    normal = [white(seed) if seed % 2 else torch.zeros(1, 2400) for seed in range(24)]
    learnt = Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.2)
    assert learnt.quietest_db == SILENCE_DB
    assert not learnt.is_anomalous(torch.zeros(1, 2400), sample_rate=RATE)


def labelled_observations(n: int, *, seed: int, shift: float = 0.0) -> list[Observation]:
    """Draw numbers whose means are sums of effects of what is heard."""
    generator = torch.Generator().manual_seed(seed)
    effects = torch.tensor([[0.0, 1.0], [5.0, 0.0], [-5.0, -1.0], [3.0, 0.0], [-3.0, 0.0]])
    found = []
    for index in range(n):
        heard = torch.zeros(5)
        heard[index % 3] = heard[3 + index % 2] = 1.0
        whole = -10.0 + heard @ effects + shift + 0.5 * torch.randn(2, generator=generator)
        found.append(Observation(whole[0] + torch.randn(1, 20, generator=generator), whole, heard))
    return found


def test_surprise_compares_with_recordings_of_the_same_labels():
    surprise = LabelSurprise.fit(labelled_observations(600, seed=0))
    scores = torch.tensor([surprise.score(each) for each in labelled_observations(600, seed=1)])
    assert abs(float(scores.mean())) < 4.5 * math.sqrt(2 / 600)
    assert float(scores.std()) == pytest.approx(1.0, abs=4.5 * math.sqrt(2) / math.sqrt(2 * 600))
    # Each group by itself, though groups differ by twenty standard deviations; the ridge leaves a hundredth of them.
    for group in range(6):
        assert abs(float(scores[group::6].mean())) < 4.5 * math.sqrt(2 / 100) + 0.3
    # One more standard deviation in both numbers is two in their sum, whose own is the square root of two.
    shifted = torch.tensor([surprise.score(each) for each in labelled_observations(600, seed=1, shift=0.5)])
    assert float((shifted - scores).mean()) == pytest.approx(math.sqrt(2), rel=0.1)


def test_surprise_hears_the_allowed_labels_with_the_least_error(labelled: Synthesizer):
    audio = white(0, rate=labelled.sample_rate)
    values = {"digit": ("0", "2"), "speaker": ("ann", "bob")}
    seen = LabelSurprise.observe(labelled, audio, sample_rate=labelled.sample_rate, allowed=values)

    def error(told: dict[str, str]) -> float:
        errors = denoising_errors(
            labelled, audio, sample_rate=labelled.sample_rate, probe=LabelSurprise.probe, labels=[told]
        )[0, :, 0]
        return float((10 * (errors.double().mean(dim=-1) + 1e-8).log10()).mean())

    heard = {name: min(known, key=lambda value, name=name: error({name: value})) for name, known in values.items()}
    assert labelled.labels is not None
    assert torch.equal(seen.heard, labelled.labels.vectors([heard])[0])
    whole = [
        error(heard),
        error(heard) - error({"speaker": heard["speaker"]}),
        error(heard) - error({"digit": heard["digit"]}),
    ]
    torch.testing.assert_close(seen.whole, torch.tensor(whole), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("score", ["surprise", "distance"])
def test_a_saved_detector_says_the_same(tmp_path: Path, score: str):
    folder = tiny.save(tmp_path / "model", LABELLED)
    model = checkpoint.load(folder)
    assert isinstance(model, Synthesizer)
    normal = [white(seed, rate=model.sample_rate, seconds=0.15) for seed in range(13)]
    made = Detector.fit(
        folder, normal, sample_rate=model.sample_rate, false_alarms=0.3, score=score, allowed={"digit": ["0", "2"]}
    )
    made.save(tmp_path / "d.safetensors", model=folder)
    read = Detector.load(tmp_path / "d.safetensors")
    assert (read.threshold, read.false_alarms) == (made.threshold, made.false_alarms)
    assert read.quietest_db == made.quietest_db
    assert {name: tuple(values) for name, values in read.allowed.items()} == {
        "digit": ("0", "2"),
        "speaker": ("ann", "bob"),
    }
    audio = white(99, rate=model.sample_rate, seconds=0.15)
    first, second = (each.score(audio, sample_rate=model.sample_rate) for each in (made, read))
    assert first.score == pytest.approx(second.score, rel=1e-5)
    torch.testing.assert_close(first.frames, second.frames)
    tiny.save(tmp_path / "other", LABELLED, seed=1)
    with pytest.raises(CheckpointError, match="other weights"):
        Detector.load(tmp_path / "d.safetensors", model=tmp_path / "other")
    with pytest.raises(CheckpointError, match="--model"):
        Detector.load(tmp_path / "d.safetensors", model=tmp_path / "gone")


def test_a_detector_of_before_levels_were_measured_still_knows_silence(tmp_path: Path):
    folder = tiny.save(tmp_path / "model", GAUSSIAN)
    made = Detector.fit(folder, [white(seed) for seed in range(13)], sample_rate=RATE, false_alarms=0.3)
    made.save(tmp_path / "new", model=folder)
    with safe_open(tmp_path / "new", framework="pt") as file:
        about = json.loads(file.metadata()["audiodiff"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del about["quietest_db"]
    save_file(tensors, tmp_path / "old", metadata={"audiodiff": json.dumps(about)})
    old = Detector.load(tmp_path / "old")
    assert old.threshold == made.threshold
    for seed in range(3):
        normal = white(100 + seed)
        assert old.score(normal, sample_rate=RATE).score == pytest.approx(made.score(normal, sample_rate=RATE).score)
    silence = torch.zeros(1, 2400)
    added = old.score(silence, sample_rate=RATE).score - made.score(silence, sample_rate=RATE).score
    # Down from -60 dB and from the level that was measured, 40 dB further each.
    assert added == pytest.approx(-60.0 - made.quietest_db, abs=1e-3)
    assert old.is_anomalous(silence, sample_rate=RATE)


def test_what_is_no_detector_is_refused(tmp_path: Path):
    with pytest.raises(AudioFileError, match="no such file"):
        Detector.load(tmp_path / "none")
    (tmp_path / "text").write_text("not a detector")
    with pytest.raises(AudioFileError, match="no detector"):
        Detector.load(tmp_path / "text")


def test_what_cannot_be_is_refused_with_a_remedy(exact: Synthesizer, labelled: Synthesizer):
    normal = [white(seed) for seed in range(12)]
    with pytest.raises(ParameterError, match="29 or more"):
        Detector.fit(exact, normal, sample_rate=RATE)
    for false_alarms in (0.0, 1.0, -1.0):
        with pytest.raises(ParameterError, match="between 0 and 1"):
            Detector.fit(exact, normal, sample_rate=RATE, false_alarms=false_alarms)
    with pytest.raises(ParameterError, match="surprise, distance"):
        Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.5, score="other")
    for wrong in ({"score": "surprise"}, {"allowed": {"digit": ["1"]}}):
        with pytest.raises(ParameterError, match="knows none"):
            Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.5, **wrong)
    for allowed, said in (({"digit": ["9"]}, "9"), ({"word": ["1"]}, "word"), ({"digit": []}, "empty")):
        with pytest.raises(ParameterError, match=said):
            Detector.fit(labelled, normal, sample_rate=RATE, false_alarms=0.5, allowed=allowed)
    with pytest.raises(ParameterError, match=r"recording 3: .*too short"):
        Detector.fit(exact, [*normal[:3], torch.zeros(1, 10), *normal[4:]], sample_rate=RATE, false_alarms=0.5)
    with pytest.raises(ParameterError, match="NaN"):
        denoising_errors(exact, torch.full((1, 2400), torch.nan), sample_rate=RATE, probe=PROBE)
    with pytest.raises(ParameterError, match="not trained"):
        Detector.fit("none", normal, sample_rate=RATE, false_alarms=0.5)


@pytest.mark.parametrize(
    ("wrong", "rate", "named"),
    [
        (lambda audio: audio[None].expand(2, 1, -1), RATE, r"shape \(2, 1, 2400\)"),
        (lambda audio: audio[0], RATE, r"shape \(2400,\) .*audio\[None\]"),
        (lambda audio: audio.numpy(), RATE, "audio is a ndarray"),
        (lambda audio: (1000 * audio).short(), RATE, "dtype torch.int16"),
        (lambda audio: audio[:, :0], RATE, "no samples"),
        (lambda audio: audio, 8000.5, "sample_rate=8000.5"),
        (lambda audio: audio, None, "sample_rate=None"),
    ],
)
def test_what_is_no_recording_is_refused(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, wrong: Any, rate: Any, named: str
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ParameterError, match=named):
        detector.score(wrong(white(0)), sample_rate=rate)


def test_a_recording_in_double_precision_is_scored_as_in_single(detector: Detector):
    first, other = (detector.score(audio, sample_rate=RATE) for audio in (white(0), white(0).double()))
    assert first.score == other.score


def test_distance_measures_each_recording_by_those_that_do_not_hold_it():
    """Normal scores are about 0 and 1, also where there are few recordings and many numbers."""
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> list[Observation]:
        frames = torch.randn(n, 40, 30, generator=generator)
        return [Observation(each, each.mean(dim=-1), torch.zeros(0)) for each in frames]

    distance = Distance.fit(draw(30))
    logs = torch.stack([distance.whole.distances(each.whole[None])[0].log() for each in draw(200)])
    standardised = (logs - distance.usual[0, 0]) / distance.usual[0, 1]
    # 30 recordings tell the mean to a fifth of the deviation.
    assert abs(float(standardised.mean())) < 4.5 / math.sqrt(30)
