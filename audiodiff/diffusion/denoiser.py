"""The denoiser: a network and its preconditioning, as one function (x, sigma) -> x0."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.preconditioning import Preconditioning, Scalings
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Sigma, Signal


@runtime_checkable
class ConditionedNetwork(Protocol):
    """What a denoiser asks of a network: audiodiff.networks.Network, which a sibling package may not import."""

    def encode(self, condition: Condition) -> Condition: ...

    def __call__(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal: ...


@dataclass(frozen=True)
class Prediction:
    """Hold what an objective may need of one evaluation.

    Args:
        raw: the network's own output F.
        denoised: the estimate D of x0.
        scalings: the coefficients between the two, in float64.
        log_variance: natural log of the predicted variance of x0, where the network learns one.
    """

    raw: Signal
    denoised: Signal
    scalings: Scalings
    log_variance: Signal | None = None


class Denoiser(nn.Module):
    """Estimate x0 from x = x0 + sigma * eps: D(x, sigma) = c_skip * x + c_out * F(c_in * x, c_noise).

    The scalings are computed in float64 whatever the dtype of x.

    Args:
        network: F, called with (c_in * x, c_noise, encoded condition).
        preconditioning: gives the scalings for a sigma.

    Source: Karras et al. 2022, eq. 7.
    """

    def __init__(self, network: ConditionedNetwork, preconditioning: Preconditioning) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning

    def forward(self, x: Signal, sigma: Sigma, condition: Condition) -> Prediction:
        """Predict from a condition as the conditioner made it: the path of training, which reaches every weight."""
        return self._predict(x, sigma, self.network.encode(condition))

    def bind(self, condition: Condition) -> Denoise:
        """Encode the condition once and return (x, sigma) -> x0; whether gradients flow is the caller's decision."""
        encoded = self.network.encode(condition)

        def denoise(x: Signal, sigma: Sigma) -> Signal:
            return self._predict(x, sigma, encoded).denoised

        return denoise

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

    def _predict(self, x: Signal, sigma: Sigma, encoded: Condition) -> Prediction:
        scalings = self.preconditioning(sigma.double())
        raw = self.network(pad_dims_like(scalings.c_in, x) * x, scalings.c_noise.to(x.dtype), encoded).to(x.dtype)
        denoised = pad_dims_like(scalings.c_skip, x) * x + pad_dims_like(scalings.c_out, x) * raw
        return Prediction(raw, denoised, scalings)
