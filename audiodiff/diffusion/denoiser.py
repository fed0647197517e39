"""The denoiser: a network and its preconditioning, as one function (x, sigma) -> x0."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.preconditioning import Preconditioning, Scalings
from audiodiff.diffusion.process import learned
from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField, Sigma, Signal


@runtime_checkable
class ConditionedNetwork(Protocol):
    """What a denoiser asks of a network: audiodiff.networks.Network, which a sibling package may not import."""

    @property
    def receptive_field(self) -> ReceptiveField: ...

    @property
    def alignment(self) -> int: ...

    def encode(self, condition: Condition) -> Condition: ...

    def __call__(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal: ...


@runtime_checkable
class Horizon(Protocol):
    """What a denoiser asks of the encoder of (sigma, sigma_next), which may not be imported from a sibling package."""

    n_features: int

    def __call__(self, sigma: Sigma, sigma_next: Sigma) -> Float[Tensor, "batch features"]: ...


@dataclass(frozen=True)
class Prediction:
    """Hold what an objective may need of one evaluation.

    Args:
        raw: the network's own output F.
        denoised: the estimate D of x0.
        scalings: the coefficients between the two, in float64.
        variance_fraction: of a network that learns the variance of ancestral sampling, where log variance stands
            between its least value (0) and its greatest (1), not limited to that range (Nichol and Dhariwal 2021,
            eq. 15).
    """

    raw: Signal
    denoised: Signal
    scalings: Scalings
    variance_fraction: Signal | None = None


@dataclass(frozen=True)
class BoundDenoiser:
    """A denoiser and its encoded condition: called as (x, sigma) -> x0, which is all that most of the code knows.

    Args:
        denoiser: network and preconditioning.
        encoded: what `Network.encode` made of the condition.
    """

    denoiser: "Denoiser"
    encoded: Condition

    def __call__(self, x: Signal, sigma: Sigma) -> Signal:
        return self.denoiser.predict(x, sigma, self.encoded).denoised

    def predict(self, x: Signal, sigma: Sigma) -> Prediction:
        """Return everything that the network says, the variance for one."""
        return self.denoiser.predict(x, sigma, self.encoded)

    def predict_jump(self, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
        """Return the x0 whose Euler step from sigma arrives where the flow is at sigma_next.

        Raises:
            ParameterError: if the denoiser was not trained to jump.
        """
        return self.denoiser.predict(x, sigma, self.encoded, sigma_next=sigma_next).denoised


class Denoiser(nn.Module):
    """Estimate x0 from x = x0 + sigma * eps: D(x, sigma) = c_skip * x + c_out * F(c_in * x, c_noise).

    The scalings are computed in float64 whatever the dtype of x.

    Args:
        network: F, called with (c_in * x, c_noise, encoded condition).
        preconditioning: gives the scalings for a sigma.
        learns_variance: whether the second half of the network's channels is the variance fraction v, as 2 v - 1.
        horizon: encodes where a jump from sigma goes, as features that are appended to condition.vector; None for a
            denoiser that knows no jumps.

    Source: Karras et al. 2022, eq. 7.
    """

    def __init__(
        self,
        network: ConditionedNetwork,
        preconditioning: Preconditioning,
        *,
        learns_variance: bool = False,
        horizon: Horizon | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        # A learnt process is trained, averaged and saved with the denoiser's weights.
        self.schedule = learned(preconditioning)
        self.learns_variance = learns_variance
        self.horizon = horizon

    def forward(self, x: Signal, sigma: Sigma, condition: Condition, *, sigma_next: Sigma | None = None) -> Prediction:
        """Predict from a condition as the conditioner made it: the path of training, which reaches every weight."""
        return self.predict(x, sigma, self._encode(condition), sigma_next=sigma_next)

    def bind(self, condition: Condition) -> BoundDenoiser:
        """Encode the condition once and return (x, sigma) -> x0; whether gradients flow is the caller's decision."""
        return BoundDenoiser(self, self._encode(condition))

    def activations(self, x: Signal, sigma: Sigma, condition: Condition, *, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the outputs of the network's modules of these names (as in network.named_modules()), by name.

        Raises:
            ParameterError: if the network has no module of that name, or one returned something else than a tensor.
        """
        found: dict[str, Tensor] = {}
        modules = dict(self.named_modules())
        handles = []
        try:
            for name in layers:
                if f"network.{name}" not in modules:
                    raise ParameterError(f"layers contains {name!r}: the network has no such module")

                def keep(_module: nn.Module, _inputs: object, output: object, name: str = name) -> None:
                    if not isinstance(output, Tensor):
                        raise ParameterError(
                            f"layers contains {name!r}: it returns {type(output).__name__}, not a tensor"
                        )
                    found[name] = output

                handles.append(modules[f"network.{name}"].register_forward_hook(keep))
            self.forward(x, sigma, condition)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def predict(self, x: Signal, sigma: Sigma, encoded: Condition, *, sigma_next: Sigma | None = None) -> Prediction:
        """Predict from an encoded condition.

        Args:
            x: x0 + sigma * eps.
            sigma: the noise level of each example.
            encoded: what the network's `encode` returned, with the condition's mask: all is zero where that is False.
            sigma_next: where a jump is to arrive; None asks for x0 itself, a jump of no length.

        Raises:
            ParameterError: if there is a sigma_next and no horizon to encode it.
        """
        scalings = self.preconditioning(sigma.double())
        if self.horizon is not None:
            features = self.horizon(sigma.double(), sigma.double() if sigma_next is None else sigma_next.double())
            features = features.to(x.dtype)
            vector = features if encoded.vector is None else torch.cat([encoded.vector, features], dim=1)
            encoded = replace(encoded, vector=vector)
        elif sigma_next is not None:
            raise ParameterError("sigma_next is given, and this denoiser knows no jumps: train it with method=shortcut")
        inside = None if encoded.mask is None else encoded.mask.unsqueeze(1)
        if inside is not None:
            x = x * inside
        raw = self.network(pad_dims_like(scalings.c_in, x) * x, scalings.c_noise.to(x.dtype), encoded).to(x.dtype)
        if inside is not None:
            raw = raw * inside
        fraction = None
        if self.learns_variance:
            if raw.shape[1] != 2 * x.shape[1]:
                raise ParameterError(
                    f"learns_variance=true needs a network of {2 * x.shape[1]} output channels, this one has "
                    f"{raw.shape[1]}: set network.out_channels={2 * x.shape[1]}"
                )
            raw, fraction = raw.chunk(2, dim=1)
            fraction = 0.5 * (fraction + 1.0)
            if inside is not None:
                fraction = fraction * inside
        denoised = pad_dims_like(scalings.c_skip, x) * x + pad_dims_like(scalings.c_out, x) * raw
        return Prediction(raw, denoised, scalings, fraction)

    def _encode(self, condition: Condition) -> Condition:
        """Encode a condition, with room in its vector for the horizon while the network looks at its size."""
        if self.horizon is None:
            return replace(self.network.encode(condition), mask=condition.mask)
        given = [part for part in (condition.vector, condition.frames, condition.signal) if part is not None]
        like = given[0] if given else next(self.parameters())
        room = torch.zeros(len(like) if given else 1, self.horizon.n_features, device=like.device)
        vector = room if condition.vector is None else torch.cat([condition.vector, room], dim=1)
        encoded = self.network.encode(replace(condition, vector=vector))
        return replace(encoded, vector=condition.vector, mask=condition.mask)
