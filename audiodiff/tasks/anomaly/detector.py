"""Anomaly detector: a model, a scorer fitted on normal recordings, and a threshold at a stated rate of false alarms."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.errors import AudioFileError, CheckpointError, ParameterError
from audiodiff.io.atomic import write_atomic
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_recordings
from audiodiff.tasks.anomaly.error_profile import frame_seconds, level_db
from audiodiff.tasks.anomaly.registry import SCORERS, check_trained, resolve_scorer
from audiodiff.tasks.anomaly.scorer import AnomalyScorer, Observation
from audiodiff.tasks.anomaly.threshold import check_count, conformal_threshold, min_held_out

FORMAT = 1
DEFAULT_FALSE_ALARMS = 0.05
_HELD_OUT_SHARE = 3
"""At least one in this many recordings is held out for the threshold."""
LEVEL_MARGIN_DB = 40.0
"""A level this far below the quietest normal recording is too low for the score to be meaningful."""
_DEFAULT_QUIETEST_DB = -60.0
"""Level of the quietest normal recording, for detector files that were written before it was measured."""


@dataclass(frozen=True)
class Verdict:
    """Anomaly score of a recording, or of each recording of a batch.

    Args:
        score: higher is more anomalous; mostly between -2 and 2 for normal recordings.
        p: share of normal recordings that score as high, estimated from those that were held out.
        is_anomalous: whether the score exceeds the detector's threshold.
        frames: score of each frame, in standard deviations of normal frames.
        seconds: middle of each frame.
    """

    score: Float[Tensor, "*batch"]
    p: Float[Tensor, "*batch"]
    is_anomalous: Bool[Tensor, "*batch"]
    frames: Float[Tensor, "*batch frames"]
    seconds: Float[Tensor, "frames"]


class Detector:
    """Detect recordings that differ from normal ones.

    The threshold is a quantile of the scores of held-out normal recordings. If new normal recordings come from the same
    source, each is called anomalous with a probability of at most `false_alarms`, over the choice of all recordings.

    Args:
        model: the model whose denoising errors are scored.
        scorer: fitted on normal recordings.
        held_out: scores of normal recordings that the scorer was not fitted on.
        quietest_db: level of the quietest recording that it was fitted on, from `level_db`.
        false_alarms: share of normal recordings that may be called anomalous.
        allowed: the values of each label that are normal, for a model with labels.

    Raises:
        ParameterError: if too few scores were held out for the rate of false alarms.

    Example:
        >>> import audiodiff
        >>> model = audiodiff.load("digits-8k")
        >>> noises = [0.1 * torch.randn(1, 800) for _ in range(11)]
        >>> detector = Detector.fit(model, noises, sample_rate=8000, false_alarms=0.5)
        >>> detector.score(torch.zeros(1, 1600), sample_rate=8000).frames.shape
        torch.Size([20])
    """

    def __init__(
        self,
        model: Synthesizer,
        scorer: AnomalyScorer,
        *,
        held_out: Float[Tensor, "n"],
        quietest_db: float,
        false_alarms: float,
        allowed: Mapping[str, Sequence[str]],
    ) -> None:
        self.model = model
        self.scorer = scorer
        self.held_out = held_out.sort().values
        self.quietest_db = quietest_db
        self.false_alarms = false_alarms
        self.allowed = allowed
        self.threshold = conformal_threshold(self.held_out, false_alarms=false_alarms)

    @classmethod
    def fit(
        cls,
        model: Synthesizer | str | os.PathLike[str],
        recordings: Sequence[Float[Tensor, "..."]],
        *,
        sample_rate: int,
        false_alarms: float = DEFAULT_FALSE_ALARMS,
        score: str | None = None,
        allowed: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
        on_recording: Callable[[], None] = lambda: None,
    ) -> "Detector":
        """Fit a detector on normal recordings.

        Use other recordings than the model was trained on: its errors on those are lower than on any others.

        Args:
            model: a trained model, or its name or folder.
            recordings: normal recordings, (time,) or (channels, time) each, all of one rate.
            sample_rate: of the recordings, Hz.
            false_alarms: share of normal recordings that may be called anomalous.
            score: "surprise" detects other things than the model's labels name, "distance" any difference in sound;
                None is surprise for a model with labels, otherwise distance.
            allowed: the values of each label that are normal; None, or a missing label, allows all.
            seed: of the choice of recordings that are held out for the threshold.
            on_recording: called after each recording.

        Raises:
            ParameterError: if there are too few recordings, or an argument is out of range.
        """
        model = check_trained(checkpoint.load(model) if isinstance(model, str | os.PathLike) else model)
        scorer_type, values = resolve_scorer(model, score=score, allowed=allowed)
        check_count(len(recordings), false_alarms=false_alarms)
        observations: list[Observation] = []
        levels: list[float] = []
        for index, audio in enumerate(recordings):
            try:
                channels = _channels(audio)
                levels.append(level_db(model, channels, sample_rate=sample_rate))
                observations.append(scorer_type.observe(model, channels, sample_rate=sample_rate, allowed=values))
            except ParameterError as error:
                raise ParameterError(f"recording {index}: {error}") from error
            on_recording()
        order = torch.randperm(len(observations), generator=torch.Generator().manual_seed(seed)).tolist()
        n_held_out = max(min_held_out(false_alarms), len(observations) // _HELD_OUT_SHARE)
        scorer = scorer_type.fit([observations[index] for index in order[n_held_out:]])
        quietest_db = min(levels[index] for index in order[n_held_out:])
        held_out = torch.tensor(
            [
                scorer.score(observations[index]) + _level_penalty(levels[index], quietest_db=quietest_db)
                for index in order[:n_held_out]
            ]
        )
        return cls(model, scorer, held_out=held_out, quietest_db=quietest_db, false_alarms=false_alarms, allowed=values)

    def score(
        self,
        audio: Float[Tensor, "time"] | Float[Tensor, "channels time"] | Float[Tensor, "batch channels time"],
        *,
        sample_rate: int,
    ) -> Verdict:
        """Score a recording, or a batch of recordings, of any sample rate and at least 0.1 s long.

        A model that scales recordings to one level ignores loudness, except that each dB below 40 dB under the quietest
        normal recording adds 1 to the score, so that silence is anomalous.

        Args:
            audio: the recording; channels are averaged.
            sample_rate: in Hz.

        Raises:
            ParameterError: if the audio is not a tensor of floating point numbers, is not finite or too short, or the
                rate is out of range.
        """
        recordings = checked_recordings(audio, sample_rate=sample_rate)
        verdicts = [self._score(each, sample_rate=sample_rate) for each in recordings]
        if audio.ndim < 3:
            return verdicts[0]
        stacked = {
            name: torch.stack([getattr(each, name) for each in verdicts])
            for name in ("score", "p", "is_anomalous", "frames")
        }
        return Verdict(**stacked, seconds=verdicts[0].seconds)

    def is_anomalous(self, audio: Float[Tensor, "..."], *, sample_rate: int) -> Bool[Tensor, "*batch"]:
        """Return whether a recording scores above the threshold; arguments and errors as for `score`."""
        return self.score(audio, sample_rate=sample_rate).is_anomalous

    def save(self, path: str | os.PathLike[str], *, model: str | os.PathLike[str]) -> None:
        """Save the detector without its model, which it refers to.

        Args:
            path: of the file, in the safetensors format.
            model: name or folder from which the model will be loaded again.

        Raises:
            AudioFileError: if it cannot be written.
        """
        from safetensors.torch import save

        metadata = {
            "format": FORMAT,
            "model": str(model),
            "weights": fingerprint(self.model),
            "score": self.scorer.kind,
            "false_alarms": self.false_alarms,
            "quietest_db": self.quietest_db,
            "allowed": {name: list(values) for name, values in self.allowed.items()},
        }
        tensors = {name: tensor.contiguous() for name, tensor in {**self.scorer.state(), "held": self.held_out}.items()}
        write_atomic(Path(path), save(tensors, metadata={"audiodiff": json.dumps(metadata)}))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
    ) -> "Detector":
        """Load a detector and its model.

        Args:
            path: of the file.
            model: name or folder of the model, if it was moved.
            device: as torch names it, or "auto": the GPU if there is one.

        Raises:
            AudioFileError: if the file is missing or not a detector.
            CheckpointError: if the model is missing, or has other weights than the one that the detector was fitted
                with.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise AudioFileError(f"{path}: no such file; fit a detector with `audiodiff anomaly fit`")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {})["audiodiff"])
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            if metadata["format"] > FORMAT:
                raise AudioFileError(f"{path}: format={metadata['format']} is newer than {FORMAT}: upgrade audiodiff")
            held_out = tensors.pop("held")
            scorer = SCORERS[metadata["score"]].restore(tensors)
            allowed, false_alarms = metadata["allowed"], metadata["false_alarms"]
            quietest_db = float(metadata.get("quietest_db", _DEFAULT_QUIETEST_DB))
            where, weights = str(model or metadata["model"]), metadata["weights"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, AudioFileError):
                raise
            raise AudioFileError(f"{path}: not a detector file of `audiodiff anomaly fit`, or damaged") from error
        try:
            loaded = check_trained(checkpoint.load(where, device=device))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}; if the model was moved, give its folder with --model") from error
        if fingerprint(loaded) != weights:
            raise CheckpointError(
                f"model={where!r} has other weights than the model that {path} was fitted with: fit the detector again"
            )
        return cls(
            loaded, scorer, held_out=held_out, quietest_db=quietest_db, false_alarms=false_alarms, allowed=allowed
        )

    def _score(self, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> Verdict:
        penalty = _level_penalty(level_db(self.model, audio, sample_rate=sample_rate), quietest_db=self.quietest_db)
        observation = self.scorer.observe(self.model, audio, sample_rate=sample_rate, allowed=self.allowed)
        score = torch.tensor(self.scorer.score(observation) + penalty, dtype=torch.float64)
        frames = self.scorer.frame_scores(observation)
        n_as_high = int((self.held_out >= score).sum())
        p = torch.tensor((1 + n_as_high) / (1 + len(self.held_out)), dtype=torch.float64)
        seconds = frame_seconds(self.model) * (torch.arange(len(frames)) + 0.5)
        return Verdict(score, p, score > self.threshold, frames, seconds)


def fingerprint(model: Synthesizer) -> str:
    """Return a hash of a model's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _channels(audio: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Add the axis of channels to a single channel."""
    return audio[None] if isinstance(audio, Tensor) and audio.ndim == 1 else audio


def _level_penalty(level: float, *, quietest_db: float) -> float:
    """Return by how many dB a level is more than 40 dB below the quietest normal recording."""
    return max(0.0, quietest_db - LEVEL_MARGIN_DB - level)
