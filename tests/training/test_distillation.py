"""Every few-step method has no loss where its equation holds exactly, and teaches a network to use fewer steps."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from analytic import Gaussian, Mixture
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.density import UniformTime
from audiodiff.diffusion.few_step import ddim_step, euler_step, heun_step, merge_steps, two_steps
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.objective import Plain
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.network import Network
from audiodiff.networks.step_size import StepSizeEmbedding
from audiodiff.training.distillation import Consistency, Progressive, Reflow
from audiodiff.training.shortcut import Shortcut
from audiodiff.training.step import Float32Batch, TrainingStep
from audiodiff.types import ReceptiveField

PROCESS = Flow()
GRID = TimeUniform(PROCESS, t_start=0.95)
FIRST = float(GRID(1)[0])
Function = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, sigma, sigma_next) -> D, for a jump that goes to sigma_next."""


class Known(Network):
    """A network that is a given denoiser, told by condition.vector where a jump goes."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = PROCESS.sigma(c_noise)
        x = x / pad_dims_like(PROCESS.input_scale(sigma), x)
        sigma_next = sigma if condition.vector is None else condition.vector[:, 0]
        return self.function(x, sigma, sigma_next) + self.unused


class Small(Network):
    """Two hidden layers on single numbers."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, *, vector_features: int = 0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Linear(4 + vector_features, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        t = c_noise[:, None]
        parts = [x[:, :, 0], t, torch.sin(3.0 * t), torch.cos(3.0 * t)]
        if condition.vector is not None:
            parts.append(condition.vector)
        return self.layers(torch.cat(parts, dim=1))[..., None]


def synthesizer(network: Network, *, step_size: Any = None, grid: Any = GRID) -> Synthesizer:
    return Synthesizer(
        sample_rate=8000,
        representation=WaveformRepresentation(),
        conditioner=NoConditioner(),
        denoiser=Denoiser(network, Sample(PROCESS), step_size=step_size),
        sampler=Sampler(solver("euler"), grid, 1),
    )


def known(function: Function, **more: Any) -> Synthesizer:
    return synthesizer(Known(function), **more)


def exact(data: Gaussian | Mixture) -> Synthesizer:
    return known(lambda x, sigma, _: data.denoise(x, sigma)).requires_grad_(False)


class GoesTo:
    """Encode a jump as the level at which it ends."""

    n_features = 1

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return sigma_next[:, None]


GOES = GoesTo()


def method(kind: Any, student: Synthesizer, **options: Any) -> TrainingStep:
    return kind(synthesizer=student, objective=Plain(), density=UniformTime(PROCESS, t_max=0.95), **options)


@pytest.fixture
def data() -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    return Gaussian(mean, 0.1 + torch.rand(1, 8, generator=generator, dtype=torch.float64))


def losses(module: TrainingStep, data: Gaussian, *, n: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    eps = torch.randn(n, 1, 8, generator=generator, dtype=torch.float64)
    return module(Float32Batch(data.mean + data.variance.sqrt() * eps), generator)[1]


def factor(data: Gaussian, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Return by what one Euler step with the exact denoiser multiplies the distance from the mean."""
    gain = data.variance / (data.variance + sigma**2)
    return gain + (sigma_next / sigma) * (1.0 - gain)


def gain_of(total: Tensor, sigma: Tensor, end: Tensor) -> Tensor:
    """Return D's gain on x - mean whose one jump multiplies by `total`, as Salimans and Ho write their target."""
    return (total - end / sigma) / (1.0 - end / sigma)


def nearest(levels: Tensor, sigma: Tensor) -> list[int]:
    return [int((levels - level).abs().argmin()) for level in sigma]


def shrunk(data: Gaussian, x: Tensor, gains: list[Tensor]) -> Tensor:
    return data.mean + torch.stack(gains) * (x - data.mean)


def chain(data: Gaussian, levels: Tensor) -> Tensor:
    """Return the product of the Euler steps through these levels."""
    product = torch.ones_like(data.variance)
    for sigma, sigma_next in pairwise(levels):
        product = product * factor(data, sigma, sigma_next)
    return product


def test_a_progressive_student_equal_to_two_teacher_steps_has_no_loss(data):
    fine = GRID(8)

    def student(x: Tensor, sigma: Tensor, _: Tensor) -> Tensor:
        gains = [gain_of(chain(data, fine[at : at + 3]), fine[at], fine[at + 2]) for at in nearest(fine, sigma)]
        return shrunk(data, x, gains)

    assert losses(method(Progressive, known(student), teacher=exact(data), n_steps=4), data).max() < 1e-20
    assert losses(method(Progressive, exact(data), teacher=exact(data), n_steps=4), data).max() > 1e-4


def test_a_consistency_function_of_the_teachers_own_steps_has_no_loss(data):
    levels = GRID(6)

    def student(x: Tensor, sigma: Tensor, _: Tensor) -> Tensor:
        return shrunk(data, x, [chain(data, levels[at:]) for at in nearest(levels, sigma)])

    module = method(Consistency, known(student), teacher=exact(data), n_levels=6, step=euler_step)
    assert losses(module, data).max() < 1e-20


def test_the_flow_to_its_end_is_the_consistency_function_of_exact_steps(data):
    def flow(x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        rows = zip(x, sigma.tolist(), sigma_next.tolist(), strict=True)
        return torch.stack([data.flow(row[None], level, end)[0] for row, level, end in rows])

    student = known(lambda x, sigma, _: flow(x, sigma, 0.0 * sigma))
    options = {"teacher": exact(data), "n_levels": 6}
    module = method(Consistency, student, step=lambda _, x, sigma, end: flow(x, sigma, end), **options)
    assert losses(module, data).max() < 1e-20
    assert losses(method(Consistency, exact(data), step=heun_step, **options), data).max() > 1e-4


def test_reflow_of_a_monotone_coupling_is_exact_in_one_step(data):
    total = chain(data, GRID(5))

    def student(x: Tensor, sigma: Tensor, _: Tensor) -> Tensor:
        share = pad_dims_like(sigma, x) / FIRST
        # The noise has mean 0 at the first level, wherever the data's mean is.
        begin = (x - (1.0 - share) * data.mean * (1.0 - total)) / ((1.0 - share) * total + share)
        return data.mean + total * (begin - data.mean)

    straight = known(student)
    module = method(Reflow, straight, teacher=exact(data), n_steps=5, solver=solver("euler"))
    assert losses(module, data).max() < 1e-20
    start = FIRST * torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one = solver("euler")(straight.denoiser.bind(Condition()), start, GRID(1))
    five = solver("euler")(exact(data).denoiser.bind(Condition()), start, GRID(5))
    assert torch.allclose(one, five, rtol=0.0, atol=1e-12)


def test_a_shortcut_whose_jumps_are_chains_of_the_shortest_has_no_loss(data):
    base = GRID(8)

    def student(x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        gains = []
        for level, end in zip(sigma, sigma_next, strict=True):
            if end > (1.0 - 1e-6) * level:
                gains.append(data.variance / (data.variance + level**2))
                continue
            first, last = nearest(base, torch.stack([level, end]))
            gains.append(gain_of(chain(data, base[first : last + 1]), level, end))
        return shrunk(data, x, gains)

    module = method(Shortcut, known(student, step_size=GOES), n_doublings=3, share=0.5)
    assert losses(module, data)[:32].max() < 1e-20
    plain = known(lambda x, sigma, _: data.denoise(x, sigma), step_size=GOES)
    assert losses(method(Shortcut, plain, n_doublings=3, share=0.5), data)[:32].max() > 1e-4


def test_two_exact_jumps_make_one_exact_jump(data):
    def predict_jump(end: float) -> Callable[[Tensor, Tensor], Tensor]:
        def jump(x: Tensor, sigma: Tensor) -> Tensor:
            level = float(sigma[0])
            return (data.flow(x, level, end) - end / level * x) / (1.0 - end / level)

        return jump

    x = torch.linspace(-3.0, 3.0, 8, dtype=torch.float64)[None, None]
    sigma, middle, end = (torch.tensor([level], dtype=torch.float64) for level in (3.0, 0.7, 0.0))
    for last in (0.2, 0.0):
        joined = two_steps(predict_jump(0.7), predict_jump(last), x, sigma, middle, end + last)
        assert torch.allclose(joined, predict_jump(last)(x, sigma), rtol=0.0, atol=1e-13)


def test_a_joined_jump_lands_where_its_two_jumps_land():
    generator = torch.Generator().manual_seed(0)
    x, first, second = torch.randn(3, 5, 1, 4, generator=generator, dtype=torch.float64)
    end, middle, sigma = torch.rand(3, 5, generator=generator, dtype=torch.float64).cumsum(dim=0)
    for last in (end, torch.zeros_like(end)):
        joined = ddim_step(x, merge_steps(first, second, sigma, middle, last), sigma, last)
        assert torch.allclose(joined, ddim_step(ddim_step(x, first, sigma, middle), second, middle, last), atol=1e-14)


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (heun_step, 2)])
def test_a_single_step_errs_by_one_power_more_than_its_order(step, order, data):
    x = torch.linspace(-3.0, 3.0, 8, dtype=torch.float64)[None, None]
    sigma = torch.tensor([1.0], dtype=torch.float64)
    errors = [
        float((step(data.denoise, x, sigma, sigma - width) - data.flow(x, 1.0, 1.0 - width)).norm())
        for width in (0.02, 0.01)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.1)


def test_a_heun_step_to_zero_is_an_euler_step(data):
    x, sigma = torch.randn(2, 1, 8, dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)
    to = torch.tensor([0.0, 1.0], dtype=torch.float64)
    heun, euler = heun_step(data.denoise, x, sigma, to), euler_step(data.denoise, x, sigma, to)
    assert torch.equal(heun[0], euler[0])
    assert not torch.allclose(heun[1], euler[1])


MODES = Mixture(
    weights=torch.tensor([0.4, 0.6]), means=torch.tensor([[-0.7], [0.6]]), variances=torch.tensor([0.09, 0.16])
)
STUDENTS = {
    "progressive": (Progressive, {"n_steps": 1}, "euler", 60),
    "consistency": (Consistency, {"n_levels": 8, "step": heun_step}, "consistency", 300),
    "reflow": (Reflow, {"n_steps": 8, "solver": solver("euler")}, "euler", 60),
    "shortcut": (Shortcut, {"n_doublings": 3, "share": 0.5}, "shortcut", 150),
}
N_EXAMPLES = 128


def distance(model: Synthesizer, name: str) -> float:
    """Return the Wasserstein distance of order one between samples of one step and the mixture."""
    start = FIRST * torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        made = solver(name)(model.denoiser.bind(Condition()), start, GRID(1), noise=lambda like, _: like)
    truth = MODES.sample(4000, torch.Generator().manual_seed(6))
    return float((made.flatten().sort().values - truth.flatten().sort().values).abs().mean())


@pytest.mark.parametrize("name", STUDENTS)
def test_a_trained_student_beats_its_teacher_in_one_step(name):
    kind, options, sampled, n_steps = STUDENTS[name]
    teacher = exact(MODES)
    if name == "shortcut":
        torch.manual_seed(0)
        student = synthesizer(Small(vector_features=8), step_size=StepSizeEmbedding(PROCESS, n_features=8))
        untaught = known(lambda x, sigma, _: MODES.denoise(x, sigma), step_size=GOES)
    else:
        options = {**options, "teacher": teacher}
        student, untaught = synthesizer(Small()), teacher
    module = method(kind, student, **options)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        module(Float32Batch(MODES.sample(N_EXAMPLES, generator)), generator)[0].mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def loss(model: Synthesizer) -> float:
        draws = torch.Generator().manual_seed(1)
        # Of a shortcut model the first half jumps.
        return float(method(kind, model, **options)(Float32Batch(MODES.sample(1024, draws)), draws)[1][:512].mean())

    assert loss(student) < 0.6 * loss(untaught)
    assert distance(student, sampled) < 0.6 * distance(teacher, "euler")
