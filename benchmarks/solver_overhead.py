"""Measure the overhead of solvers: their time besides network evaluations, as a share of these.

    python benchmarks/solver_overhead.py

For every solver of the registry: one second of sound at 22.05 kHz, 16 steps on the grid of sampler=flow, one thread.
The solver runs on a denoiser that returns a precomputed tensor. The time of as many bare calls is subtracted, and the
rest divided by the time of as many evaluations of the default vocoder's network (audiodiff train without a recipe).
Medians of 15 runs each. Sampling noise is precomputed too; the last column adds the noise of real sampling, keyed by
seed, item and step. Prints a Markdown table; the goal is under 2 % in the third column.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.solvers import REGISTRY
from audiodiff.training.building import build_training_step
from audiodiff.training.config import compose, plain

N_STEPS, N_RUNS = 16, 15


class Ready:
    """A denoiser that returns a fixed tensor, counts its calls, and can jump."""

    def __init__(self, denoised: Tensor) -> None:
        self.denoised = denoised
        self.n_calls = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.n_calls += 1
        return self.denoised

    def predict_jump(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Act as the denoiser of a shortcut model."""
        return self(x, sigma)


def median_seconds(work: Callable[[], object], *, n_runs: int = N_RUNS) -> float:
    """Return the median time of several runs."""
    spent = []
    for _ in range(n_runs):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


@torch.no_grad()
def main() -> None:
    """Print a row for every solver."""
    torch.set_num_threads(1)
    model = build_training_step(plain(compose([]))).synthesizer.eval()
    assert model.dialect is not None
    n_samples = 86 * model.dialect.hop_length
    audio = 0.1 * torch.randn(1, 1, n_samples, generator=torch.Generator().manual_seed(0))
    denoise = model.denoiser.bind(model.conditioner(audio))
    sigmas = model.sampler.grid(N_STEPS)
    level = torch.ones(1, dtype=torch.float64)
    denoise(audio, level)
    of_network = median_seconds(lambda: denoise(audio, level))
    ready, drawn, eps = Ready(audio), BlockNoise(0, [0]), torch.randn(audio.shape)

    def ready_noise(like: Tensor, step: int) -> Tensor:
        return eps

    print(f"a call of the network: {1000 * of_network:.2f} ms\n")
    print("| solver | calls | besides them, % | with real noise, % |\n|---|---|---|---|")
    for name, method in REGISTRY.items():
        ready.n_calls = 0
        method.solve(ready, audio, sigmas, noise=ready_noise)
        n_calls = ready.n_calls
        bare = median_seconds(
            lambda n=n_calls: [ready(audio, torch.full((1,), 1.0, dtype=level.dtype)) for _ in range(n)]
        )
        shares = []
        for noise in (ready_noise, drawn):
            spent = median_seconds(lambda m=method, e=noise: m.solve(ready, audio, sigmas, noise=e))
            shares.append(100.0 * (spent - bare) / (n_calls * of_network))
        print(f"| `{name}` | {n_calls} | {shares[0]:.2f} | {shares[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
