"""Denoiser: a network and its preconditioning as one function (x, sigma) -> x0."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.preconditioning import Preconditioning, Scalings
from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField, Sigma, Signal


@runtime_checkable
class ConditionedNetwork(Protocol):
    """The interface of audiodiff.networks.Network, which this package may not import."""

    @property
    def receptive_field(self) -> ReceptiveField: ...

    @property
    def alignment(self) -> int: ...

    def encode(self, condition: Condition) -> Condition: ...

    def __call__(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal: ...


@runtime_checkable
class StepSizeEncoder(Protocol):
    """The interface of audiodiff.networks.step_size.StepSizeEmbedding, which this package may not import."""

    n_features: int

    def __call__(self, sigma: Sigma, sigma_next: Sigma) -> Float[Tensor, "batch features"]: ...


@runtime_checkable
class ShapedNoise(Protocol):
    """The interface of a network whose noise is not white, as audiodiff.networks.mel_prior.MelPrior."""

    def noise_std(self, condition: Condition) -> Signal: ...


@dataclass(frozen=True)
class Prediction:
    """Hold the results of one evaluation of a denoiser.

    Args:
        raw: the network's output F.
        denoised: the estimate D of x0.
        scalings: the coefficients between F and D, in float64.
        variance_fraction: v of a network that learns the variance of ancestral sampling: 0 for the least log variance,
            1 for the greatest, not limited to that range (Nichol and Dhariwal 2021, eq. 15).
    """

    raw: Signal
    denoised: Signal
    scalings: Scalings
    variance_fraction: Signal | None = None


@dataclass(frozen=True)
class BoundDenoiser:
    """Evaluate a denoiser with a fixed condition, as (x, sigma) -> x0.

    Args:
        denoiser: network and preconditioning.
        encoded: the condition, encoded by `Network.encode`.
    """

    denoiser: "Denoiser"
    encoded: Condition

    def __call__(self, x: Signal, sigma: Sigma) -> Signal:
        return self.denoiser.predict(x, sigma, self.encoded).denoised

    def predict(self, x: Signal, sigma: Sigma) -> Prediction:
        """Return all results of one evaluation, the learned variance among them."""
        return self.denoiser.predict(x, sigma, self.encoded)

    def predict_jump(self, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
        """Return the x0 whose Euler step from sigma ends on the probability flow at sigma_next.

        Raises:
            ParameterError: if the denoiser has no step-size embedding.
        """
        return self.denoiser.predict(x, sigma, self.encoded, sigma_next=sigma_next).denoised


class Denoiser(nn.Module):
    """Estimate x0 from x = x0 + sigma * eps: D(x, sigma) = c_skip * x + c_out * F(c_in * x, c_noise).

    The scalings are computed in float64 whatever the dtype of x.

    Args:
        network: F, called with (c_in * x, c_noise, encoded condition).
        preconditioning: computes the scalings for a sigma.
        learns_variance: whether the second half of the network's channels is 2 v - 1, with v the variance fraction.
        step_size: embeds (sigma, sigma_next) as features that are appended to condition.vector; None for a denoiser
            that is not trained to jump.

    Source: Karras et al. 2022, eq. 7.
    """

    def __init__(
        self,
        network: ConditionedNetwork,
        preconditioning: Preconditioning,
        *,
        learns_variance: bool = False,
        step_size: StepSizeEncoder | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        # A learned process is trained, averaged and saved with the denoiser's weights.
        process = getattr(preconditioning, "process", None)
        self.schedule = process if isinstance(process, nn.Module) else None
        self.learns_variance = learns_variance
        self.step_size = step_size

    def forward(self, x: Signal, sigma: Sigma, condition: Condition, *, sigma_next: Sigma | None = None) -> Prediction:
        """Predict from a condition that is not yet encoded, as training does: gradients reach every weight."""
        return self.predict(x, sigma, self._encode(condition), sigma_next=sigma_next)

    def bind(self, condition: Condition) -> BoundDenoiser:
        """Encode the condition once and return (x, sigma) -> x0. Gradients are as the caller has set them."""
        return BoundDenoiser(self, self._encode(condition))

    def shaped(self, eps: Signal, condition: Condition) -> Signal:
        """Give white noise the standard deviation that the network's noise has at each sample, 1 for most networks."""
        if not isinstance(self.network, ShapedNoise):
            return eps
        return eps * self.network.noise_std(condition)[..., : eps.shape[-1]]

    def activations(self, x: Signal, sigma: Sigma, condition: Condition, *, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the outputs of some modules of the network, by their names in network.named_modules().

        Raises:
            ParameterError: if the network has no such module, or the module does not return a tensor.
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
            encoded: the result of the network's `encode`, with the condition's mask; the prediction is 0 where that is
                False.
            sigma_next: the level at which a jump ends; None predicts x0 itself, as a jump of length 0.

        Raises:
            ParameterError: if sigma_next is given and the denoiser has no step-size embedding.
        """
        scalings = self.preconditioning(sigma.double())
        if self.step_size is not None:
            features = self.step_size(sigma.double(), sigma.double() if sigma_next is None else sigma_next.double())
            features = features.to(x.dtype)
            vector = features if encoded.vector is None else torch.cat([encoded.vector, features], dim=1)
            encoded = replace(encoded, vector=vector)
        elif sigma_next is not None:
            raise ParameterError(
                "sigma_next is given, and this denoiser has no step_size embedding: train it with method=shortcut"
            )
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
        """Encode a condition; while the network checks its size, zeros stand for the step-size features."""
        if self.step_size is None:
            return replace(self.network.encode(condition), mask=condition.mask)
        given = [part for part in (condition.vector, condition.frames, condition.signal) if part is not None]
        like = given[0] if given else next(self.parameters())
        zeros = torch.zeros(len(like) if given else 1, self.step_size.n_features, device=like.device)
        vector = zeros if condition.vector is None else torch.cat([condition.vector, zeros], dim=1)
        encoded = self.network.encode(replace(condition, vector=vector))
        return replace(encoded, vector=condition.vector, mask=condition.mask)
