"""Plot every solver on a known density, and schedules, grids, orders of convergence and sweeps.

    python benchmarks/techniques.py --out docs/img                   # the toy, schedules, grids, orders: a minute
    python benchmarks/techniques.py --out docs/img --sweep FOLDER    # a sweep of the recipe techniques/sweep alone

The toy is a mixture of five Gaussians in the plane, whose denoiser, flow and samples are exact, on the grid of Karras
et al. 2022 from sigma = 80 to 0.002. Each solver takes as many steps as a budget of evaluations allows. Distance: the
sliced Wasserstein distance to exact samples (32 directions, 20 000 points in float64); the floor is that between two
sets of exact samples. Error: root mean square distance to the end of the probability flow (DOP853, rtol = 1e-11).
Prints the numbers as Markdown tables.
"""

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from audiodiff.diffusion import grid as grids
from audiodiff.diffusion.process import Flow, VPCosine, VPLinear
from audiodiff.diffusion.solvers import REGISTRY, solver
from audiodiff.training.config import compose, config_folder, instantiate, plain

matplotlib.use("Agg")
from matplotlib import pyplot as plt

BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100)
N_POINTS, N_FLOW, N_DIRECTIONS, FIRST = 20_000, 256, 32, 80.0
MEANS = torch.tensor([[-1.0, 0.8], [0.9, 1.1], [1.2, -0.6], [-0.7, -1.0], [0.0, 0.1]], dtype=torch.float64)
VARIANCES = torch.tensor([0.02, 0.05, 0.01, 0.04, 0.005], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.15, 0.25, 0.2, 0.1], dtype=torch.float64)
STYLES = ("-", "--", ":", "-.")


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """Return E[x0 | x0 + sigma eps = x] of the mixture, for x of (batch, 2, 1)."""
    total = VARIANCES + sigma[:, None] ** 2
    offset = x[:, None, :, 0] - MEANS
    share = torch.softmax(WEIGHTS.log() - 0.5 * (offset**2).sum(-1) / total - total.log(), dim=1)
    return (share[..., None] * (MEANS + (VARIANCES / total)[..., None] * offset)).sum(1)[..., None]


def exact_samples(n: int, *, seed: int) -> Tensor:
    """Draw n points of the mixture."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    eps = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return (MEANS[which] + VARIANCES[which].sqrt()[:, None] * eps)[..., None]


def exact_flow(x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Solve the probability flow for x, in log(sigma)."""

    def slope(log_sigma: float, state: Tensor) -> Tensor:
        at = torch.as_tensor(state).reshape(x.shape)
        return (at - denoise(at, torch.full((len(at),), math.exp(log_sigma), dtype=torch.float64))).flatten()

    span = (math.log(sigma), math.log(sigma_next))
    end = solve_ivp(slope, span, x.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    return torch.from_numpy(end).reshape(x.shape)


def sliced_wasserstein(first: Tensor, second: Tensor) -> float:
    """Compute the mean over directions of the distance W1 between the projections of two sets of as many points."""
    angles = math.pi * torch.arange(N_DIRECTIONS, dtype=torch.float64) / N_DIRECTIONS
    directions = torch.stack([angles.cos(), angles.sin()])
    projected = ((points[..., 0] @ directions).sort(dim=0).values for points in (first, second))
    return float((next(projected) - next(projected)).abs().mean())


def white_noise(like: Tensor, step: int) -> Tensor:
    """Draw the noise of a transition."""
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def most_steps(name: str, budget: int) -> int | None:
    """Return the greatest number of steps that costs at most a budget of evaluations, None where one costs more."""
    calls = REGISTRY[name].n_evaluations
    assert calls is not None
    return max((n for n in range(1, budget + 1) if calls(n) <= budget), default=None)


def runnable() -> list[str]:
    """Return the solvers that need a denoiser alone and a number of steps."""
    return [name for name, method in REGISTRY.items() if method.n_evaluations is not None and not method.jumps]


def toy(out: Path) -> None:
    """Draw distance to the truth, and error to the flow, by evaluations."""
    truth = exact_samples(N_POINTS, seed=0)
    others = [exact_samples(N_POINTS, seed=seed) for seed in range(1, 6)]
    floor = sorted(sliced_wasserstein(truth, other) for other in others)[2]
    start = FIRST * white_noise(truth, -1)
    flow_end = denoise(exact_flow(start[:N_FLOW], FIRST, 1e-4), torch.full((N_FLOW,), 1e-4, dtype=torch.float64))
    distances: dict[str, dict[int, float]] = defaultdict(dict)
    errors: dict[str, dict[int, float]] = defaultdict(dict)
    for name in runnable():
        for budget in BUDGETS:
            n_steps, calls = most_steps(name, budget), REGISTRY[name].n_evaluations
            if n_steps is None or calls is None or calls(n_steps) in distances[name]:
                continue
            sigmas = grids.Karras(sigma_max=FIRST)(n_steps) if n_steps > 1 else grids.Fixed([FIRST])(1)
            end = solver(name)(denoise, start, sigmas, noise=white_noise)
            distances[name][calls(n_steps)] = sliced_wasserstein(end, truth)
            if not REGISTRY[name].stochastic:
                errors[name][calls(n_steps)] = _rms(end[:N_FLOW] - flow_end)
    errors["adaptive"] = dict(_adaptive_errors(start[:N_FLOW], flow_end))
    figure, axes = plt.subplots(1, 3, figsize=(12.4, 4.0), constrained_layout=True)
    for axis, drawn, title in ((axes[0], False, "deterministic"), (axes[1], True, "with noise")):
        _curves(axis, {name: curve for name, curve in distances.items() if REGISTRY[name].stochastic == drawn})
        axis.axhline(floor, color="black", linewidth=0.8, linestyle=(0, (1, 1)), label="exact samples")
        axis.set(title=f"distance to the density: {title}", xlabel="evaluations of the denoiser", ylim=(0.006, 3.0))
        axis.set_ylabel("sliced Wasserstein distance")
        axis.legend(fontsize=7)
    _curves(axes[2], errors)
    axes[2].set(title="error to the exact flow", xlabel="evaluations of the denoiser", ylabel="RMS error")
    axes[2].set_ylim(top=5.0)
    axes[2].legend(fontsize=7)
    _save(figure, out / "techniques-toy.png")
    shown = (4, 8, 16, 32, 100)
    _table(f"sliced Wasserstein distance (exact samples: {floor:.4f})", distances, shown)
    _table("RMS error to the exact flow", errors, shown)
    print("\nadaptive, evaluations: error; " + ", ".join(f"{n}: {e:.2g}" for n, e in errors["adaptive"].items()))


def _adaptive_errors(start: Tensor, flow_end: Tensor) -> Iterator[tuple[int, float]]:
    """Count what the adaptive solver takes for a tolerance, over points that it integrates one by one."""
    few = 16
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        counted = 0

        def counting(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal counted
            counted += len(x)
            return denoise(x, sigma)

        solve = solver("adaptive", rtol=tolerance, atol=tolerance)
        end = solve(counting, start[:few], grids.Fixed([FIRST, 0.002])(2))
        yield round(counted / few), _rms(end - flow_end[:few])


def orders(out: Path) -> None:
    """Draw the error to the flow from sigma = 10 to 0.1 by the number of steps, whose slope is the order."""
    start = 10.0 * white_noise(torch.empty(N_FLOW, 2, 1, dtype=torch.float64), -1)
    truth = exact_flow(start, 10.0, 0.1)
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for name in runnable():
        if REGISTRY[name].stochastic:
            continue
        for n_steps in (8, 16, 32, 64, 128, 256, 512):
            sigmas = torch.logspace(1.0, -1.0, n_steps + 1, dtype=torch.float64)
            curves[name][n_steps] = _rms(solver(name)(denoise, start, sigmas) - truth)
    figure, axis = plt.subplots(figsize=(6, 4.4), constrained_layout=True)
    _curves(axis, curves)
    for order in (1, 2, 3):
        n = [64, 512]
        axis.loglog(n, [0.02 * 2.0**-order * (at / 64) ** -order for at in n], color="0.7", linewidth=3, zorder=0)
    axis.set(title="order of convergence (grey: 1, 2, 3)", xlabel="steps", ylabel="RMS error to the exact flow")
    axis.legend(fontsize=7)
    _save(figure, out / "techniques-orders.png")
    print("\n| solver | order stated | slope from 256 to 512 steps |\n|---|---|---|")
    for name, curve in curves.items():
        slope = math.log2(curve[256] / curve[512])
        print(f"| `{name}` | {REGISTRY[name].order} | {slope:.2f} |")


def schedules(out: Path) -> None:
    """Draw the log-SNR of every process in conf/process by its clock."""
    figure, axis = plt.subplots(figsize=(6, 4.4), constrained_layout=True)
    clock = torch.linspace(0.002, 0.998, 400, dtype=torch.float64)
    for index, path in enumerate(sorted((config_folder() / "process").glob("*.yaml"))):
        config = plain(compose([f"process={path.stem}"]))
        process = instantiate(config["process"], name="process")
        with torch.no_grad():
            axis.plot(clock, process.log_snr(process.last * clock), STYLES[index % 4], label=path.stem)
    axis.set(title="schedules", xlabel="clock, as a share of the last", ylabel="log SNR", ylim=(-16, 16))
    axis.legend(fontsize=7, ncols=4, loc="lower left")
    axis.grid(alpha=0.3)
    _save(figure, out / "techniques-schedules.png")


def grid_plot(out: Path) -> None:
    """Draw the noise levels of sampling in 16 steps."""
    n_steps = 16
    chosen = {
        "Karras, rho = 7": grids.Karras(),
        "Karras, rho = 1: even in sigma": grids.Karras(rho=1.0),
        "LogUniform": grids.LogUniform(),
        "TimeUniform, vp_linear": grids.TimeUniform(VPLinear()),
        "TimeUniform, vp_cosine": grids.TimeUniform(VPCosine()),
        "TimeUniform, flow": grids.TimeUniform(Flow()),
    }
    figure, axis = plt.subplots(figsize=(6, 4.4), constrained_layout=True)
    for index, (name, grid) in enumerate(chosen.items()):
        axis.semilogy(range(n_steps), grid(n_steps)[:-1], STYLES[index % 4], marker=".", label=name)
    axis.set(title="grids of 16 steps, each ending in 0", xlabel="step", ylabel="sigma")
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    _save(figure, out / "techniques-grids.png")


def sweep_plot(folder: Path, out: Path) -> None:
    """Draw each metric by evaluations for the best run of each solver; print that, and the best solver of each run."""
    with (folder / "quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    keys, metrics = names[1 : names.index("solver")], names[names.index("calls") + 1 :]
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.7 * len(metrics), 3.4), squeeze=False, layout="constrained")
    for axis, metric in zip(axes[0], metrics, strict=True):
        better = max if metric.startswith(("pesq", "stoi", "estoi")) else min
        by_solver, by_run = (_best(rows, metric, what, better) for what in (("solver",), keys))
        _curves(axis, by_solver)
        axis.set(title="best run of each solver", xlabel="evaluations of the network", ylabel=metric, yscale="linear")
        axis.legend(fontsize=7)
        _table(f"{metric}, best run of each solver", by_solver, (1, 2, 4, 8, 16, 32))
        for run, curve in by_run.items():
            by_run[run] = {n: better(value for m, value in curve.items() if m <= n) for n in curve}
        _table(f"{metric}, best solver of each run, within so many", by_run, (1, 2, 4, 8, 16, 32))
    _save(figure, out / "techniques-sweep.png")


def _best(
    rows: Sequence[dict[str, str]], metric: str, what: Sequence[str], better: Callable[..., float]
) -> dict[str, dict[int, float]]:
    """Return the best value by number of evaluations, for all rows that agree in the columns `what`."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if math.isfinite(float(row[metric])):
            found[" ".join(row[key] for key in what)][int(row["calls"])].append(float(row[metric]))
    return {name: {n: better(values) for n, values in sorted(at.items())} for name, at in found.items()}


def _curves(axis: plt.Axes, curves: dict[str, dict[int, float]]) -> None:
    for index, (name, curve) in enumerate(curves.items()):
        style = STYLES[index // 10 % len(STYLES)]
        axis.loglog(list(curve), list(curve.values()), style, marker=".", markersize=4, linewidth=1.1, label=name)
    axis.grid(alpha=0.3)


def _table(title: str, curves: dict[str, dict[int, float]], shown: Sequence[int]) -> None:
    """Print the value at the greatest number of evaluations within each budget."""
    print(f"\n| {title} | " + " | ".join(f"{n}" for n in shown) + " |\n|" + "---|" * (len(shown) + 1))
    for name, curve in curves.items():
        cells = []
        for budget in shown:
            within = [calls for calls in curve if calls <= budget]
            cells.append(f"{curve[max(within)]:.3g}" if within else "")
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def _rms(error: Tensor) -> float:
    return float((error**2).sum(dim=1).mean().sqrt())


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=78)
    plt.close(figure)


def main() -> None:
    """Draw what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/img"))
    parser.add_argument("--sweep", type=Path, help="folder of a finished sweep: draw it, and nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.sweep is not None:
        sweep_plot(arguments.sweep, arguments.out)
        return
    schedules(arguments.out)
    grid_plot(arguments.out)
    orders(arguments.out)
    toy(arguments.out)


if __name__ == "__main__":
    main()
