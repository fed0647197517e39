"""Which models can guide one another."""

import torch

from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.errors import ParameterError
from audiodiff.models.window_sampler import Parts

Rated = tuple[int, Parts]
"""The sample rate of a model's audio, Hz, and what the model is made of."""


def check_guide(guide: Rated, *, of: Rated, known_to: float, from_level: float) -> None:
    """Refuse a guide whose signals, conditions or noise levels are not those of the model that it guides.

    Args:
        guide: the weaker model.
        of: the model that it guides.
        known_to: the highest noise level that the guide was made for.
        from_level: the noise level at which sampling starts.

    Raises:
        ParameterError: if they differ in what both have to share.
    """
    (rate, parts), (own_rate, own_parts) = guide, of
    for name, own, other in (
        ("sample_rate", own_rate, rate),
        ("conditioner", type(own_parts.conditioner).__name__, type(parts.conditioner).__name__),
        ("representation", type(own_parts.representation).__name__, type(parts.representation).__name__),
        ("channels", own_parts.representation.channels, parts.representation.channels),
        ("labels", own_parts.conditioner.labels, parts.conditioner.labels),
        ("device", own_parts.device, parts.device),
    ):
        if own != other:
            raise ParameterError(f"guide has {name}={other} and must have {name}={own}, as the model that it guides")
    if own_parts.dialect is not None and parts.dialect is not None:
        ensure_same(parts.dialect, own_parts.dialect, name="guide", remedy="give a guide of the model's own dialect")
    statistics = parts.representation.state_dict()
    for name, own in own_parts.representation.state_dict().items():
        if not torch.equal(own, statistics[name]):
            raise ParameterError(
                f"guide was fitted to other data: the {name} of its representation differs, so that its signals "
                "mean something else; give a checkpoint of the same run, or of one on the same data"
            )
    if from_level > known_to * (1.0 + 1e-6):
        raise ParameterError(
            f"guide was made for levels up to sigma={known_to:.4g}, and sampling starts at sigma={from_level:.4g}: "
            "give a guide of the same process, or another grid"
        )
