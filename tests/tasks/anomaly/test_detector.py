"""Detectors: verdicts on known signals, files, and refusals."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sounds import silences, white

from audiodiff.errors import AudioFileError, CheckpointError, ParameterError
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly import Detector
from audiodiff.tasks.anomaly.error_profile import SILENCE_DB, ProfileSpec, error_profile
from audiodiff.tasks.anomaly.scorer import AnomalyScorer, Observation, State

RATE = 8000
SPEC = ProfileSpec(n_levels=4, first=0, last=4, n_draws=2, n_bands=5)


@pytest.fixture(scope="module")
def detector(exact: Synthesizer) -> Detector:
    return Detector.fit(exact, [white(seed) for seed in range(42)], sample_rate=RATE, false_alarms=0.1)


def test_new_normal_recordings_are_anomalous_at_the_stated_rate(exact: Synthesizer, detector: Detector):
    n = 30
    alarms = sum(detector.is_anomalous(white(1000 + seed), sample_rate=RATE) for seed in range(n))
    # Above the highest of the 14 that are held out: the rate is Beta(1, 14), of mean 1 / 15 and deviation 0.063.
    assert len(detector.held_out) == 14
    assert alarms / n < 1 / 15 + 4.5 * math.sqrt(14 / 15**2 / n + 0.063**2)


def test_lower_errors_than_usual_are_anomalous_too(detector: Detector):
    time = torch.arange(2400) / RATE
    different = {
        "louder": white(0, std=0.3),
        "quieter": white(0, std=0.03),
        "silent": torch.zeros(1, 2400),
        "a tone": (0.1 * math.sqrt(2) * torch.sin(2 * torch.pi * 440 * time))[None],
        "lowpassed": torch.nn.functional.avg_pool1d(white(0, std=0.2), 4, 1, 2)[:, :2400],
    }
    for name, audio in different.items():
        verdict = detector.score(audio, sample_rate=RATE)
        assert verdict.is_anomalous, name
        assert verdict.p == pytest.approx(1 / (1 + len(detector.held_out)))


def test_frame_scores_locate_a_gap_of_silence(detector: Detector):
    audio = white(3, seconds=1.0)
    audio[:, 4000:4800] = 0.0
    verdict = detector.score(audio, sample_rate=RATE)
    assert verdict.is_anomalous
    inside = (verdict.seconds > 0.52) & (verdict.seconds < 0.58)
    outside = (verdict.seconds < 0.47) | (verdict.seconds > 0.63)
    assert verdict.frames[inside].min() > verdict.frames[outside].max()


def test_p_is_the_rank_among_held_out_scores(detector: Detector):
    for seed in range(5):
        verdict = detector.score(white(500 + seed), sample_rate=RATE)
        assert verdict.p == pytest.approx(
            (1 + int((detector.held_out >= verdict.score).sum())) / (1 + len(detector.held_out))
        )
        assert verdict.is_anomalous == (verdict.score > detector.threshold)


class Constant(AnomalyScorer):
    """Score everything as normal."""

    kind = "constant"
    spec = SPEC

    @staticmethod
    def observe(
        model: Synthesizer, audio: torch.Tensor, *, sample_rate: int, allowed: Mapping[str, Sequence[str]]
    ) -> Observation:
        return Observation(torch.zeros(1, 4), torch.zeros(1), torch.zeros(0))

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "Constant":
        return cls()

    def score(self, observation: Observation) -> float:
        return 0.0

    def frame_scores(self, observation: Observation) -> torch.Tensor:
        return observation.frames[0]

    def state(self) -> State:
        return {}

    @classmethod
    def restore(cls, state: State) -> "Constant":
        return cls()


def test_silence_is_anomalous_whatever_its_errors(exact: Synthesizer):
    held_out = torch.linspace(-1.0, 2.5, 19)
    detector = Detector(exact, Constant(), held_out=held_out, quietest_db=-20.0, false_alarms=0.1, allowed={})
    for name, audio in silences().items():
        verdict = detector.score(audio, sample_rate=RATE)
        assert verdict.is_anomalous, name
        assert verdict.p == pytest.approx(1 / 20)
    for std in (1.0, 0.1, 0.0015):
        assert detector.score(white(0, std=std), sample_rate=RATE).score == 0.0
    # 60 dB below the quietest: 20 dB more than are ignored.
    assert detector.score(white(0, std=1e-4), sample_rate=RATE).score == pytest.approx(20.0, abs=1.0)


def test_silence_is_normal_if_normal_recordings_hold_it(exact: Synthesizer, detector: Detector):
    assert detector.quietest_db == pytest.approx(-20.0, abs=1.0)
    normal = [white(seed) if seed % 2 else torch.zeros(1, 2400) for seed in range(24)]
    fitted = Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.2)
    assert fitted.quietest_db == SILENCE_DB
    assert not fitted.is_anomalous(torch.zeros(1, 2400), sample_rate=RATE)


@pytest.mark.parametrize("score", ["surprise", "distance"])
def test_a_saved_detector_gives_the_same_scores(tmp_path: Path, score: str):
    folder = tiny.save(tmp_path / "model", tiny.LABELLED)
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
    torch.testing.assert_close(first.score, second.score, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(first.frames, second.frames)
    tiny.save(tmp_path / "other", tiny.LABELLED, seed=1)
    with pytest.raises(CheckpointError, match="other weights"):
        Detector.load(tmp_path / "d.safetensors", model=tmp_path / "other")
    with pytest.raises(CheckpointError, match="--model"):
        Detector.load(tmp_path / "d.safetensors", model=tmp_path / "gone")


def test_a_detector_file_without_level_detects_silence(tmp_path: Path):
    folder = tiny.save(tmp_path / "model", tiny.GAUSSIAN)
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
        assert old.score(normal, sample_rate=RATE).score == pytest.approx(
            float(made.score(normal, sample_rate=RATE).score)
        )
    silence = torch.zeros(1, 2400)
    added = old.score(silence, sample_rate=RATE).score - made.score(silence, sample_rate=RATE).score
    # The reference is -60 dB instead of the measured level, and 40 dB below each are ignored.
    assert added == pytest.approx(-60.0 - made.quietest_db, abs=1e-3)
    assert old.is_anomalous(silence, sample_rate=RATE)


def test_a_file_that_is_not_a_detector_is_refused(tmp_path: Path):
    with pytest.raises(AudioFileError, match="no such file"):
        Detector.load(tmp_path / "none")
    (tmp_path / "text").write_text("not a detector")
    with pytest.raises(AudioFileError, match="not a detector"):
        Detector.load(tmp_path / "text")


def test_invalid_arguments_of_fit_are_refused_with_a_remedy(exact: Synthesizer, labelled: Synthesizer):
    normal = [white(seed) for seed in range(12)]
    with pytest.raises(ParameterError, match="29 or more"):
        Detector.fit(exact, normal, sample_rate=RATE)
    for false_alarms in (0.0, 1.0, -1.0):
        with pytest.raises(ParameterError, match="between 0 and 1"):
            Detector.fit(exact, normal, sample_rate=RATE, false_alarms=false_alarms)
    with pytest.raises(ParameterError, match="surprise, distance"):
        Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.5, score="other")
    for wrong in ({"score": "surprise"}, {"allowed": {"digit": ["1"]}}):
        with pytest.raises(ParameterError, match="trained without"):
            Detector.fit(exact, normal, sample_rate=RATE, false_alarms=0.5, **wrong)
    for allowed, message in (({"digit": ["9"]}, "9"), ({"word": ["1"]}, "word"), ({"digit": []}, "empty")):
        with pytest.raises(ParameterError, match=message):
            Detector.fit(labelled, normal, sample_rate=RATE, false_alarms=0.5, allowed=allowed)
    with pytest.raises(ParameterError, match=r"recording 3: .*too short"):
        Detector.fit(exact, [*normal[:3], torch.zeros(1, 10), *normal[4:]], sample_rate=RATE, false_alarms=0.5)
    with pytest.raises(ParameterError, match="NaN"):
        error_profile(exact, torch.full((1, 2400), torch.nan), sample_rate=RATE, spec=SPEC)
    with pytest.raises(ParameterError, match="not trained"):
        Detector.fit("none", normal, sample_rate=RATE, false_alarms=0.5)


@pytest.mark.parametrize(
    ("wrong", "rate", "message"),
    [
        (lambda audio: audio[None, None], RATE, r"shape \(1, 1, 1, 2400\)"),
        (lambda audio: audio[None][:0], RATE, r"shape \(0, 1, 2400\)"),
        (lambda audio: audio.numpy(), RATE, "audio is a ndarray"),
        (lambda audio: (1000 * audio).short(), RATE, "dtype torch.int16"),
        (lambda audio: audio[:, :0], RATE, "no samples"),
        (lambda audio: audio, 8000.5, "sample_rate=8000.5"),
        (lambda audio: audio, None, "sample_rate=None"),
    ],
)
def test_audio_that_is_not_a_recording_is_refused(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, wrong: Any, rate: Any, message: str
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ParameterError, match=message):
        detector.score(wrong(white(0)), sample_rate=rate)


def test_a_batch_is_scored_as_its_recordings(detector: Detector):
    batch = torch.stack([white(3), torch.zeros(1, 2400), white(4)])
    together = detector.score(batch, sample_rate=RATE)
    for index, audio in enumerate(batch):
        for alone in (detector.score(audio, sample_rate=RATE), detector.score(audio[0], sample_rate=RATE)):
            assert alone.score == together.score[index]
            assert alone.p == together.p[index]
            assert alone.is_anomalous == together.is_anomalous[index]
            assert torch.equal(alone.frames, together.frames[index])
    assert together.is_anomalous.tolist() == detector.is_anomalous(batch, sample_rate=RATE).tolist()
    assert together.frames.shape == (3, len(together.seconds))


def test_double_precision_scores_as_single(detector: Detector):
    first, other = (detector.score(audio, sample_rate=RATE) for audio in (white(0), white(0).double()))
    assert first.score == other.score
