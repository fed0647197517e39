"""A noise schedule that is learnt."""

import math

import torch
from test_process import bent
from torch import Tensor

from audiodiff.diffusion.adaptive_density import VariationalTime
from audiodiff.diffusion.preconditioning import Epsilon
from audiodiff.diffusion.process import Variational

N = 40_000


def levels(process: Variational, n: int = 20_000) -> tuple[Tensor, Tensor]:
    """Return the middles u of n even intervals of the network's clock, and their sigma."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return u, torch.exp(0.5 * (process.gamma_min + (process.gamma_max - process.gamma_min) * u))


def size(u: Tensor) -> Tensor:
    """The root mean square of a loss that is great in the middle."""
    return 0.05 + torch.exp(-(((u - 0.4) / 0.1) ** 2))


def test_without_units_the_time_is_the_networks_clock():
    process = Variational(n_units=0)
    u, sigma = levels(process, 100)
    torch.testing.assert_close(process.time(sigma), u, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(process.c_noise(sigma), u, rtol=0.0, atol=1e-13)


def test_a_new_schedule_is_nearly_even_in_log_snr():
    process = Variational()
    u, sigma = levels(process, 1000)
    assert (process.time(sigma) - u).abs().max() < 0.01
    assert process.density(sigma).min() > 0.7
    assert process.density(sigma).max() < 1.3


def test_the_density_is_the_slope_of_the_clock_and_integrates_to_one():
    process = bent()
    u, sigma = levels(process)
    density = process.density(sigma).detach()
    # The middle rule on 20000 intervals, and differences over one.
    assert math.isclose(density.mean().item(), 1.0, abs_tol=1e-8)
    slope = process.time(sigma).diff() / u.diff()
    torch.testing.assert_close(slope, 0.5 * (density[1:] + density[:-1]), rtol=1e-5, atol=0.0)


def test_the_clock_of_the_network_does_not_move_with_the_schedule():
    _, sigma = levels(Variational(), 100)
    assert torch.equal(Epsilon(bent())(sigma).c_noise, Epsilon(Variational())(sigma).c_noise)
    assert not torch.equal(bent().time(sigma), Variational().time(sigma))


def test_the_rates_are_the_derivatives_of_the_coefficients():
    process, h = bent(), 1e-4
    t = torch.linspace(0.01, 0.99, 37, dtype=torch.float64)
    for which in (0, 1):
        before, after = (process.coefficients(t + sign * h)[which] for sign in (-1.0, 1.0))
        # A central difference errs by h^2 / 6 of the third derivative, which is some thousands here.
        torch.testing.assert_close(process.rates(t)[which], (after - before) / (2.0 * h), rtol=1e-4, atol=1e-8)


def test_levels_are_drawn_with_the_density_and_weighted_to_be_even():
    process = bent()
    density = VariationalTime(process)
    sigma = density(N, generator=torch.Generator().manual_seed(0))
    t = process.time(sigma.double()).sort().values
    even = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    # One draw in each of N strata; float32 rounds sigma, and the steepest clock amplifies that.
    assert (t - even).abs().max() < 1.0 / N + 1e-5
    u, _ = levels(process)
    values = (density.weight(sigma) * size(process.c_noise(sigma))).double()
    assert (values.mean() - size(u).mean()).abs() < 4.0 * values.std() / math.sqrt(N)


def test_the_schedule_loss_is_0_with_the_gradient_of_the_second_moment():
    process = bent()
    density = VariationalTime(process)
    u, sigma = levels(process)
    losses, weights = size(u), process.density(sigma).detach()

    second = (losses**2 / process.density(sigma)).mean()
    expected = torch.autograd.grad(second, list(process.parameters()))

    assert (density.schedule_loss(sigma, losses) == 0.0).all()
    density.update(sigma[::2], losses[::2])
    running = ((losses[::2] / weights[::2]) ** 2).mean()
    # The expectation over what the schedule draws, as a sum over all levels.
    schedule_loss = density.schedule_loss(sigma, losses)
    assert (schedule_loss == 0.0).all()
    taught = torch.autograd.grad((weights * schedule_loss).mean() * running, list(process.parameters()))
    for one, other in zip(taught, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_schedule_loss_does_not_depend_on_the_scale_of_the_losses():
    process = bent()
    u, sigma = levels(process, 64)
    gradients = []
    for loudness in (1e-3, 1e3):
        density = VariationalTime(process)
        density.update(sigma, loudness * size(u))
        schedule_loss = density.schedule_loss(sigma, loudness * size(u))
        gradients.append(torch.autograd.grad(schedule_loss.mean(), process.logits)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=0.0)


def test_a_known_loss_is_learnt_to_the_least_variance():
    torch.manual_seed(0)
    process = Variational()
    density = VariationalTime(process)
    u, sigma = levels(process, 4000)

    def second_moment() -> float:
        """Return E[(l / p)^2] with l = size(u) e, e exponential, E[e^2] = 2."""
        return (2.0 * size(u) ** 2 / process.density(sigma)).mean().item()

    least = 2.0 * size(u).mean().item() ** 2
    assert second_moment() > 2.0 * least
    optimizer = torch.optim.Adam(process.parameters(), lr=0.05, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    for step in range(250):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1.0 - step / 250)
        drawn = density(256, generator=generator)
        losses = size(process.c_noise(drawn)) * torch.empty(256).exponential_(generator=generator)
        density.schedule_loss(drawn, losses).mean().backward()
        density.update(drawn, losses)
        optimizer.step()
        optimizer.zero_grad()
    # 32 units follow the bump to 2 %; no density goes below the Cauchy-Schwarz bound.
    assert least * (1.0 - 1e-4) < second_moment() < 1.02 * least
    # The schedule crowds the clock where the loss is: p is proportional to its size.
    middle = (u - 0.4).abs() < 0.15
    wanted = size(u) / size(u).mean()
    error = (process.density(sigma).detach() - wanted)[middle].abs() / wanted[middle]
    assert error.mean() < 0.1


def test_the_running_moments_are_restored():
    process = bent()
    u, sigma = levels(process, 64)
    density, other = VariationalTime(process), VariationalTime(process)
    density.update(sigma, size(u))
    other.restore(density.state())
    for each in (density, other):
        each.update(sigma, 2.0 * size(u))
    assert density.state() == other.state()


def test_a_very_steep_schedule_is_inverted_to_the_precision_of_its_slope():
    t = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for seed in range(10):
        process, generator = Variational(), torch.Generator().manual_seed(seed)
        for parameter in process.parameters():
            parameter.data += 3.0 * torch.randn(parameter.shape, generator=generator)
        sigma = process.sigma(t)
        # u is met to some roundings near 1, and the steepest slope makes of them an error of t.
        assert (process.time(sigma) - t).abs().max() < 1e-14 * process.density(sigma).max()
