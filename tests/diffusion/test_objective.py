import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import Absolute, MinSnr, Objective, Plain, SpectrallyWeighted, Squared
from audiodiff.diffusion.preconditioning import EDM, Epsilon, Preconditioning, Sample, V, Velocity
from audiodiff.diffusion.process import Flow, VPCosine

PRECONDITIONINGS = {
    "epsilon": Epsilon(VPCosine()),
    "sample": Sample(VPCosine()),
    "v": V(VPCosine()),
    "velocity": Velocity(Flow()),
    "edm": EDM(sigma_data=0.3),
}
every_preconditioning = pytest.mark.parametrize(
    "preconditioning", PRECONDITIONINGS.values(), ids=PRECONDITIONINGS.keys()
)


def predict(preconditioning: Preconditioning, denoised: Tensor, x: Tensor, sigma: Tensor) -> Prediction:
    scalings = preconditioning(sigma)
    raw = (denoised - scalings.c_skip[:, None, None] * x) / scalings.c_out[:, None, None]
    return Prediction(raw, denoised, scalings)


@pytest.fixture
def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x0, eps, x and sigma."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 2, 2048, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)
    return x0, eps, x0 + sigma[:, None, None] * eps, sigma


@every_preconditioning
@pytest.mark.parametrize("objective", [Plain(), Plain(Absolute()), Plain(weighting=MinSnr()), SpectrallyWeighted()])
def test_a_perfect_prediction_costs_nothing(example, preconditioning, objective: Objective):
    x0, _, x, sigma = example
    loss = objective(predict(preconditioning, x0, x, sigma), x0, x, sigma)
    assert loss.shape == (3,)
    assert (loss < 1e-12).all()


@pytest.mark.parametrize(("power", "exponent"), [(Squared(), 2), (Absolute(), 1)])
def test_the_plain_loss_of_epsilon_is_the_error_of_the_noise(example, power, exponent):
    x0, eps, x, sigma = example
    guess = torch.randn_like(eps)
    prediction = predict(Epsilon(VPCosine()), x - sigma[:, None, None] * guess, x, sigma)
    torch.testing.assert_close(
        Plain(power)(prediction, x0, x, sigma), ((guess - eps).abs() ** exponent).mean(dim=(1, 2))
    )


def test_the_plain_loss_of_velocity_is_the_error_of_the_difference_of_noise_and_signal(example):
    x0, eps, x, sigma = example
    denoised = torch.randn_like(x0)
    # x fixed, an error of x0 is an error of eps: eps_hat = (x - denoised) / sigma.
    velocity = (x - denoised) / sigma[:, None, None] - denoised
    torch.testing.assert_close(
        Plain()(predict(Velocity(Flow()), denoised, x, sigma), x0, x, sigma),
        ((velocity - (eps - x0)) ** 2).mean(dim=(1, 2)),
    )


@every_preconditioning
def test_min_snr_weighs_the_denoised_signal_alike_in_every_parameterisation(example, preconditioning):
    x0, _, x, sigma = example
    denoised = torch.randn_like(x0)
    loss = Plain(weighting=MinSnr(gamma=5.0))(predict(preconditioning, denoised, x, sigma), x0, x, sigma)
    weight = torch.tensor([5.0, 1.0, 1.0 / 16.0], dtype=torch.float64)
    torch.testing.assert_close(loss, weight * ((denoised - x0) ** 2).mean(dim=(1, 2)))


def test_spectral_weights_undo_the_root_of_the_level(example):
    x0, _, x, sigma = example
    objective = SpectrallyWeighted(lowest_weight=0.0, highest_weight=1e9)
    error = torch.randn_like(x0)
    quiet, loud = (
        objective(predict(Sample(VPCosine()), gain * x0 + error, x, sigma), gain * x0, x, sigma) for gain in (1.0, 10.0)
    )
    # Ten times the amplitude is a hundred times the energy: a tenth of the weight, but for the 1e-7.
    torch.testing.assert_close(loud, quiet / 10.0, rtol=1e-6, atol=0.0)


def test_spectral_weights_of_silence_are_the_highest_and_count_the_energy_of_the_error(example):
    x0, eps, x, sigma = example
    objective = SpectrallyWeighted(n_fft=256, hop_length=64, n_bands=64, highest_weight=100.0)
    silence = torch.zeros_like(x0)
    loss = objective(predict(Sample(VPCosine()), eps, x, sigma), silence, x, sigma)
    spectrum = torch.stft(
        eps.flatten(0, 1), 256, 64, window=torch.hann_window(256).double(), pad_mode="constant", return_complex=True
    )
    # The weights of every bin sum to 1, so the bands hold the energy of the bins.
    energy = spectrum.abs().square().sum(dim=1).reshape(3, -1).mean(dim=1) / 64
    torch.testing.assert_close(loss, 100.0 * energy)


def test_spectral_weights_pass_gradients_to_the_prediction_only(example):
    x0, _, x, sigma = example
    denoised = (x0 + 0.1).requires_grad_()
    SpectrallyWeighted()(Prediction(denoised, denoised, Sample(VPCosine())(sigma)), x0, x, sigma).sum().backward()
    assert denoised.grad is not None
    assert denoised.grad.isfinite().all()
