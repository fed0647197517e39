"""A model of one process, sampled under another."""

import pytest
import torch
from analytic import Gaussian, GaussianNetwork
from test_process import PROCESSES

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Fixed
from audiodiff.diffusion.preconditioning import Epsilon, Sample, V
from audiodiff.diffusion.process import VE, Flow, Process, VPCosine, VPLinear, convert, sigma_range
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

PARAMETERISATIONS = {"epsilon": Epsilon, "sample": Sample, "v": V}
# The clock that a network is told of a learnt process is not its time.
NAMES = [name for name in PROCESSES if not name.startswith("variational")]


@pytest.fixture(scope="module")
def data() -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 16, generator=generator, dtype=torch.float64)
    return Gaussian(mean, 0.1 + torch.rand(1, 16, generator=generator, dtype=torch.float64))


def levels(process: Process, n: int, *, within: Process, up_to: float = 80.0) -> list[float]:
    """Return levels at even steps of a process's clock, as far as the other one has them too."""
    least = max(0.01, *(sigma_range(each)[0] for each in (process, within)))
    greatest = min(up_to, *(float(each.sigma(torch.tensor(0.98 * each.last).double())) for each in (process, within)))
    first, last = process.time(torch.tensor([greatest, least], dtype=torch.float64)).tolist()
    return process.sigma(torch.linspace(first, last, n, dtype=torch.float64)).tolist()


def drawn(denoise, sigmas: list[float], *, name: str = "heun") -> torch.Tensor:
    like = torch.zeros(2, 1, 16, dtype=torch.float64)
    eps = torch.randn(like.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Sampler(solver(name), Fixed(sigmas), len(sigmas))(denoise, like, lambda like, step: eps)


@pytest.mark.parametrize("trained", NAMES)
def test_a_model_of_any_process_is_exact_on_the_grid_of_any_other(data, trained):
    process = PROCESSES[trained]
    for other in PROCESSES.values():
        sigmas = levels(other, 3, within=process)
        exact = drawn(data.denoise, sigmas, name="euler")
        for target, parameterisation in PARAMETERISATIONS.items():
            model = Denoiser(GaussianNetwork(data, process, target), parameterisation(process)).bind(Condition())
            # sigma of up to 80 costs two digits, and a clock within 2e-2 of its end as many.
            torch.testing.assert_close(drawn(model, sigmas, name="euler"), exact, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", PROCESSES)
def test_heun_converges_at_order_two_on_the_grid_of_every_process(data, name):
    process = PROCESSES[name]
    errors = []
    for n in (40, 80):
        sigmas = levels(process, n, within=process, up_to=2.0)
        eps = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        # The last step, to 0, is one of Euler's, which arrives at the denoised signal.
        before = data.flow(sigmas[0] * eps, sigmas[0], sigmas[-1])
        expected = data.denoise(before, torch.full((2,), sigmas[-1], dtype=torch.float64))
        errors.append((drawn(data.denoise, sigmas) - expected).abs().max().item())
    # Half the step leaves a quarter of the error.
    assert 0.2 < errors[1] / errors[0] < 0.3


@pytest.mark.parametrize("name", PROCESSES)
def test_what_is_converted_holds_the_same_signal_and_noise_and_comes_back(name):
    source = PROCESSES[name]
    # Noise levels that all processes have.
    t = source.time(torch.tensor([0.02, 0.3, 1.5], dtype=torch.float64))
    x0, eps = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def mixed(process: Process, clock: torch.Tensor) -> torch.Tensor:
        alpha_t, sigma_t = (part[:, None, None] for part in process.coefficients(clock))
        return alpha_t * x0 + sigma_t * eps

    for target in PROCESSES.values():
        x_t, clock = convert(mixed(source, t), t, source=source, target=target)
        torch.testing.assert_close(x_t, mixed(target, clock), rtol=0.0, atol=1e-11)
        back, t_back = convert(x_t, clock, source=target, target=source)
        torch.testing.assert_close(back, mixed(source, t), rtol=0.0, atol=1e-11)
        torch.testing.assert_close(t_back, t, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(
    ("source", "t", "target"),
    [(Flow(), 1.0, VPCosine()), (Flow(), 0.99, VE(sigma_max=10.0)), (VPLinear(), 1e-6, VE())],
    ids=["alpha is 0", "too noisy", "too clean"],
)
def test_a_noise_level_that_the_target_does_not_have_is_refused(source, t, target):
    with pytest.raises(ParameterError, match="the target's clock runs from"):
        convert(torch.ones(1, 1, 4), torch.tensor([t]), source=source, target=target)
