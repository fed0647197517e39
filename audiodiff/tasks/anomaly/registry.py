"""Registry of anomaly scorers, and the choice of one for a model."""

from collections.abc import Mapping, Sequence

from audiodiff.errors import ParameterError
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.distance import Distance
from audiodiff.tasks.anomaly.label_surprise import LabelSurprise
from audiodiff.tasks.anomaly.scorer import AnomalyScorer

SCORERS: Mapping[str, type[AnomalyScorer]] = {each.kind: each for each in (LabelSurprise, Distance)}


def check_trained(model: object) -> Synthesizer:
    """Return a trained model, or refuse it.

    Raises:
        ParameterError: if it was not trained.
    """
    if not isinstance(model, Synthesizer):
        raise ParameterError(
            f"model is a {type(model).__name__}, which was not trained: give the name of a shipped model "
            f"({SPEECH_PRIOR}, digits-8k), or a run of your own"
        )
    return model


def resolve_scorer(
    model: Synthesizer, *, score: str | None, allowed: Mapping[str, Sequence[str]] | None
) -> tuple[type[AnomalyScorer], Mapping[str, Sequence[str]]]:
    """Return the type of scorer, and the values of each label that are normal.

    Raises:
        ParameterError: if there is no such scorer, or the model does not have the labels.
    """
    if score is None:
        score = Distance.kind if model.labels is None else LabelSurprise.kind
    if score not in SCORERS:
        raise ParameterError(f"score={score!r} must be one of {', '.join(SCORERS)}")
    if model.labels is None:
        if score == LabelSurprise.kind or allowed:
            given = f"allowed={dict(allowed)}" if allowed else f"score={score}"
            raise ParameterError(f"{given} needs a model with labels, and this one was trained without: leave it out")
        return SCORERS[score], {}
    for name, values in (allowed or {}).items():
        if not values:
            raise ParameterError(f"allowed of the label {name!r} is empty: name one value at least")
        for value in values:
            model.labels.indices({name: value})
    return SCORERS[score], {**model.labels.vocabularies, **(allowed or {})}
