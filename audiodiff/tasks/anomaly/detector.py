"""A detector: a model, what it errs on normal recordings, and a threshold at a stated rate of false alarms."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import AudioFileError, CheckpointError, ParameterError
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.errors import check_model, frame_seconds, level_db
from audiodiff.tasks.anomaly.normality import FEWEST, NORMALITIES, AnomalyScorer, Distance, LabelSurprise, Observation

FORMAT = 1
DEFAULT_FALSE_ALARMS = 0.05
_HELD_SHARE = 3
"""One recording in so many is held out for the threshold, at least."""
FAR_DB = 40.0
"""So far below the quietest normal recording, a level is none that the score could be trusted at."""
_QUIETEST_DB = -60.0
"""Taken for the level of the quietest normal recording by detectors of before it was measured."""


@dataclass(frozen=True)
class Verdict:
    """What a detector says of a recording.

    Args:
        score: greater is stranger; mostly between -2 and 2 for normal recordings.
        p: the share of normal recordings that score as high, as far as those that were held out tell.
        is_anomalous: whether the score is above the detector's threshold.
        frames: score of each frame, in standard deviations of normal frames.
        seconds: where the middle of each frame lies.
    """

    score: float
    p: float
    is_anomalous: bool
    frames: Float[Tensor, "frames"]
    seconds: Float[Tensor, "frames"]


class Detector:
    """Tell recordings that are like the normal ones from those that are not.

    The threshold is a quantile of the scores of normal recordings that nothing else was learnt from. If new normal
    recordings come from where these came from, one is called anomalous with a probability of at most `false_alarms`,
    over the choice of all of them.

    Args:
        model: what knows the sounds.
        normality: what was learnt from normal recordings.
        held: scores of normal recordings that were held out.
        quietest_db: level of the quietest of the other ones, as `audiodiff.tasks.anomaly.errors.level_db` has it.
        false_alarms: the share of normal recordings that may be called anomalous.
        allowed: the values of each label that are normal, where the model knows labels.

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
        normality: AnomalyScorer,
        *,
        held: Float[Tensor, "n"],
        quietest_db: float,
        false_alarms: float,
        allowed: Mapping[str, Sequence[str]],
    ) -> None:
        self.model = model
        self.normality = normality
        self.held = held.sort().values
        self.quietest_db = quietest_db
        self.false_alarms = false_alarms
        self.allowed = allowed
        self.threshold = conformal_threshold(self.held, false_alarms=false_alarms)

    @classmethod
    def fit(
        cls,
        model: Synthesizer | str | os.PathLike[str],
        recordings: Sequence[Float[Tensor, "_ _"]],
        *,
        sample_rate: int,
        false_alarms: float = DEFAULT_FALSE_ALARMS,
        score: str | None = None,
        allowed: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
        on_recording: Callable[[], None] = lambda: None,
    ) -> "Detector":
        """Learn from normal recordings what is normal.

        They should be other ones than the model was trained on, on which it errs less than on any others.

        Args:
            model: a trained one, or where it is.
            recordings: normal ones, (channels, time) each, all of one rate.
            sample_rate: of the recordings, Hz.
            false_alarms: the share of normal recordings that may be called anomalous.
            score: "surprise" for what is another thing than the labels that the model knows, or "distance" for what
                sounds otherwise in any way; None is surprise where the model knows labels.
            allowed: of each label, the values that are normal; None, or a label left out, allows all.
            seed: of the choice which recordings are held out for the threshold.
            on_recording: called after each.

        Raises:
            ParameterError: if there are too few recordings, or an argument cannot be.
        """
        model = check_model(checkpoint.load(model) if isinstance(model, str | os.PathLike) else model)
        way, values = settled(model, score=score, allowed=allowed)
        check_count(len(recordings), false_alarms=false_alarms)
        observations: list[Observation] = []
        levels: list[float] = []
        for index, audio in enumerate(recordings):
            try:
                levels.append(level_db(model, audio, sample_rate=sample_rate))
                observations.append(way.observe(model, audio, sample_rate=sample_rate, allowed=values))
            except ParameterError as error:
                raise ParameterError(f"recording {index}: {error}") from error
            on_recording()
        order = torch.randperm(len(observations), generator=torch.Generator().manual_seed(seed)).tolist()
        n_held = max(fewest_held(false_alarms), len(observations) // _HELD_SHARE)
        normality = way.fit([observations[index] for index in order[n_held:]])
        quietest_db = min(levels[index] for index in order[n_held:])
        held = torch.tensor(
            [
                normality.score(observations[index]) + _missing_db(levels[index], quietest_db=quietest_db)
                for index in order[:n_held]
            ]
        )
        return cls(model, normality, held=held, quietest_db=quietest_db, false_alarms=false_alarms, allowed=values)

    def score(self, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> Verdict:
        """Score a recording of any rate and of 0.1 s at least.

        Its level does not count if the model has one, unless it is 40 dB below that of the quietest normal recording:
        every dB beyond that adds 1 to the score, so that what has no sound is anomalous.

        Args:
            audio: the recording.
            sample_rate: in Hz.

        Raises:
            ParameterError: if the audio is no tensor (channels, time) of floating point numbers, not finite or too
                short, or the rate is none.
        """
        missing = _missing_db(level_db(self.model, audio, sample_rate=sample_rate), quietest_db=self.quietest_db)
        seen = self.normality.observe(self.model, audio, sample_rate=sample_rate, allowed=self.allowed)
        score, frames = self.normality.score(seen) + missing, self.normality.frame_scores(seen)
        as_high = int((self.held >= score).sum())
        seconds = frame_seconds(self.model) * (torch.arange(len(frames)) + 0.5)
        return Verdict(score, (1 + as_high) / (1 + len(self.held)), score > self.threshold, frames, seconds)

    def is_anomalous(self, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> bool:
        """Return whether a recording scores above the threshold; arguments and errors as for `score`."""
        return self.score(audio, sample_rate=sample_rate).is_anomalous

    def save(self, path: str | os.PathLike[str], *, model: str | os.PathLike[str]) -> None:
        """Write the detector to a file, which names its model and does not hold it.

        Args:
            path: of the file, in the format safetensors.
            model: the name or place by which the model is to be loaded again.

        Raises:
            AudioFileError: if it cannot be written.
        """
        from safetensors.torch import save

        about = {
            "format": FORMAT,
            "model": str(model),
            "weights": fingerprint(self.model),
            "score": self.normality.kind,
            "false_alarms": self.false_alarms,
            "quietest_db": self.quietest_db,
            "allowed": {name: list(values) for name, values in self.allowed.items()},
        }
        tensors = {name: tensor.contiguous() for name, tensor in {**self.normality.state(), "held": self.held}.items()}
        write_whole(Path(path), save(tensors, metadata={"audiodiff": json.dumps(about)}))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
    ) -> "Detector":
        """Read a detector, and load its model.

        Args:
            path: of the file.
            model: where the model is, if it is no longer where it was.
            device: as torch names it, or "auto": the GPU if there is one.

        Raises:
            AudioFileError: if the file is missing or is no detector.
            CheckpointError: if the model is missing, or is another one than the detector was made with.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise AudioFileError(f"{path}: no such file; make a detector with `audiodiff anomaly fit`")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["audiodiff"])
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            if about["format"] > FORMAT:
                raise AudioFileError(f"{path}: format={about['format']} is newer than {FORMAT}: upgrade audiodiff")
            held = tensors.pop("held")
            normality = NORMALITIES[about["score"]].restore(tensors)
            allowed, false_alarms = about["allowed"], about["false_alarms"]
            quietest_db = float(about.get("quietest_db", _QUIETEST_DB))
            where, weights = str(model or about["model"]), about["weights"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, AudioFileError):
                raise
            raise AudioFileError(f"{path}: is no detector, as `audiodiff anomaly fit` writes it, or damaged") from error
        try:
            loaded = check_model(checkpoint.load(where, device=device))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}; if the model was moved, say where it is with --model") from error
        if fingerprint(loaded) != weights:
            raise CheckpointError(
                f"model={where!r} has other weights than the model that {path} was made with: fit the detector again"
            )
        return cls(loaded, normality, held=held, quietest_db=quietest_db, false_alarms=false_alarms, allowed=allowed)


def settled(
    model: Synthesizer, *, score: str | None, allowed: Mapping[str, Sequence[str]] | None
) -> tuple[type[AnomalyScorer], Mapping[str, Sequence[str]]]:
    """Return the way of scoring, and the values of each label that are normal.

    Raises:
        ParameterError: if there is no such way, or the model does not know the labels.
    """
    if score is None:
        score = Distance.kind if model.labels is None else LabelSurprise.kind
    if score not in NORMALITIES:
        raise ParameterError(f"score={score!r} must be one of {', '.join(NORMALITIES)}")
    if model.labels is None:
        if score == LabelSurprise.kind or allowed:
            asked = f"allowed={dict(allowed)}" if allowed else f"score={score}"
            raise ParameterError(f"{asked} needs a model that knows labels, and this one knows none: leave it out")
        return NORMALITIES[score], {}
    for name, values in (allowed or {}).items():
        if not values:
            raise ParameterError(f"allowed of the label {name!r} is empty: name one value at least")
        for value in values:
            model.labels.indices({name: value})
    return NORMALITIES[score], {**model.labels.vocabularies, **(allowed or {})}


def _missing_db(level: float, *, quietest_db: float) -> float:
    """Return by how much a level is more than 40 dB below that of the quietest normal recording."""
    return max(0.0, quietest_db - FAR_DB - level)


def conformal_threshold(scores: Float[Tensor, "n"], *, false_alarms: float) -> float:
    """Return the ceil((1 - false_alarms) (n + 1))-th smallest of normal scores.

    Another normal score, exchangeable with these n, is above it with a probability of at most false_alarms, and of
    false_alarms - 1 / (n + 1) at least where no two are equal.

    Raises:
        ParameterError: if there are too few scores for the rate.

    Example:
        >>> conformal_threshold(torch.arange(1.0, 20.0), false_alarms=0.1)
        18.0

    Source: Papadopoulos et al. 2002 (inductive conformal prediction); Lei et al. 2018, section 2.2.
    """
    n = len(scores)
    rank = math.ceil((1.0 - check_rate(false_alarms)) * (n + 1) - 1e-9)
    if rank > n:
        raise ParameterError(
            f"false_alarms={false_alarms} needs {fewest_held(false_alarms)} normal recordings held out, there are {n}"
        )
    return float(scores.sort().values[rank - 1])


def check_rate(false_alarms: float) -> float:
    """Return a rate of false alarms that can be.

    Raises:
        ParameterError: if it is not between 0 and 1.
    """
    if not 0.0 < false_alarms < 1.0:
        raise ParameterError(f"false_alarms={false_alarms} must lie between 0 and 1, as 0.05 does")
    return false_alarms


def fewest_held(false_alarms: float) -> int:
    """Return how many recordings have to be held out for a threshold at this rate: with n, the least is 1 / (n + 1)."""
    return max(1, math.ceil(1.0 / check_rate(false_alarms) - 1.0 - 1e-9))


def check_count(n: int, *, false_alarms: float) -> None:
    """Refuse too few normal recordings.

    Raises:
        ParameterError: with how many it takes.
    """
    needed = FEWEST + fewest_held(false_alarms)
    if n < needed:
        raise ParameterError(
            f"{n} normal recordings are too few for false_alarms={false_alarms}: give {needed} or more, "
            f"{fewest_held(false_alarms)} of which are held out for the threshold, or allow more false alarms"
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; its folder is made.

    Raises:
        AudioFileError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be written ({error}); check the folder and its free space") from error
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(model: Synthesizer) -> str:
    """Return a hash of a model's weights."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
