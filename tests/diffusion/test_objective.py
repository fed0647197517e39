from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import Absolute, Huber, Objective, Plain, SpectrallyWeighted, Squared
from audiodiff.diffusion.preconditioning import EDM, Epsilon, Preconditioning, Sample, V, Velocity
from audiodiff.diffusion.process import VE, Flow, Process, SubVP, Variational, VELinear, VPCosine, VPLinear, VPSigmoid
from audiodiff.diffusion.weighting import (
    P2,
    EdmWeighting,
    MinSnr,
    SampleWeighting,
    Sigmoid,
    Snr,
    TruncatedSnr,
    Vdm,
)
from audiodiff.errors import ParameterError
from audiodiff.models.building import Builder
from audiodiff.training.config import compose, config_folder, plain

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
@pytest.mark.parametrize(
    "objective",
    [Plain(), Plain(Absolute()), Plain(Huber()), Plain(weighting=Vdm(VPCosine())), SpectrallyWeighted()],
)
def test_the_loss_of_a_perfect_prediction_is_zero(example, preconditioning, objective: Objective):
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


def test_the_plain_loss_of_velocity_is_the_error_of_noise_minus_signal(example):
    x0, eps, x, sigma = example
    denoised = torch.randn_like(x0)
    # x fixed, an error of x0 is an error of eps: eps_hat = (x - denoised) / sigma.
    velocity = (x - denoised) / sigma[:, None, None] - denoised
    torch.testing.assert_close(
        Plain()(predict(Velocity(Flow()), denoised, x, sigma), x0, x, sigma),
        ((velocity - (eps - x0)) ** 2).mean(dim=(1, 2)),
    )


def test_the_plain_loss_of_v_weighs_the_denoised_signal_by_snr_plus_one(example):
    x0, _, x, sigma = example
    denoised = torch.randn_like(x0)
    # Salimans and Ho 2022, section 4.
    torch.testing.assert_close(
        Plain()(predict(V(VPCosine()), denoised, x, sigma), x0, x, sigma),
        (sigma**-2 + 1.0) * ((denoised - x0) ** 2).mean(dim=(1, 2)),
    )


@pytest.mark.parametrize("delta", [0.3, 1.0])
def test_huber_is_a_parabola_that_goes_on_along_its_tangents(delta):
    error = torch.linspace(-3.0, 3.0, 121, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    loss = Huber(delta)(error)
    inside = error.detach().abs() < delta
    torch.testing.assert_close(loss[inside], 0.5 * Squared()(error)[inside])
    loss.sum().backward()
    assert error.grad is not None
    torch.testing.assert_close(error.grad, error.detach().clamp(-delta, delta))
    far = torch.full((1, 1, 1), 1e6, dtype=torch.float64)
    torch.testing.assert_close(Huber(delta)(far) / Absolute()(far), torch.full_like(far, delta), rtol=1e-5, atol=0.0)


# By hand at sigma = 0.1, 1 and 4: SNR = 100, 1 and 1/16. With sigma = tan(pi t / 2), SNR' = -pi cos / sin^3, and
# -SNR' / 2 = pi / 2 (1 + sigma^2) / sigma^3. With Flow sigma = t / (1 - t), sigma' = (1 + sigma)^2.
CLOSED_FORMS: dict[str, tuple[SampleWeighting, list[float]]] = {
    "snr": (Snr(), [100.0, 1.0, 0.0625]),
    "truncated_snr": (TruncatedSnr(), [100.0, 1.0, 1.0]),
    "min_snr": (MinSnr(gamma=5.0), [5.0, 1.0, 0.0625]),
    "p2": (P2(k=1.0, gamma=1.0), [100.0 / 101.0, 0.5, 1.0 / 17.0]),
    "p2_half": (P2(k=3.0, gamma=0.5), [100.0 / 103.0**0.5, 0.5, 0.0625 / 3.0625**0.5]),
    "edm": (EdmWeighting(sigma_data=0.5), [104.0, 5.0, 4.0625]),
    "vdm_cosine": (Vdm(VPCosine()), [1.5865042900628454e3, 3.141592653589793, 0.41724277430489434]),
    "vdm_flow": (Vdm(Flow()), [1210.0, 4.0, 0.390625]),
    # sigmoid(bias - log SNR) = sigma^2 / (sigma^2 + exp(-bias)).
    "sigmoid": (Sigmoid(Flow(), bias=0.0), [1210.0 / 101.0, 2.0, 0.390625 * 16.0 / 17.0]),
    "sigmoid_shifted": (Sigmoid(Flow(), bias=float(np.log(4.0))), [1210.0 * 0.01 / 0.26, 3.2, 0.390625 * 16 / 16.25]),
}


@every_preconditioning
@pytest.mark.parametrize(("weighting", "weight"), CLOSED_FORMS.values(), ids=CLOSED_FORMS.keys())
def test_a_weighting_is_its_closed_form_on_x0_in_every_parameterisation(example, preconditioning, weighting, weight):
    x0, _, x, sigma = example
    denoised = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = Plain(weighting=weighting)(predict(preconditioning, denoised, x, sigma), x0, x, sigma)
    expected = torch.tensor(weight, dtype=torch.float64) * ((denoised - x0) ** 2).mean(dim=(1, 2))
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(
    ("weighting", "preconditioning"),
    [(Snr(), Epsilon(VPCosine())), (EdmWeighting(sigma_data=0.3), EDM(sigma_data=0.3))],
    ids=["snr", "edm"],
)
def test_a_weighting_leaves_the_plain_loss_of_its_own_parameterisation(example, weighting, preconditioning):
    x0, _, x, sigma = example
    prediction = predict(preconditioning, torch.randn_like(x0), x, sigma)
    torch.testing.assert_close(Plain(weighting=weighting)(prediction, x0, x, sigma), Plain()(prediction, x0, x, sigma))


@pytest.mark.parametrize(
    "process",
    [
        VPLinear(),
        VPCosine(),
        VPCosine(shift=3.0),
        VPSigmoid(),
        SubVP(),
        Variational(),
        VE(),
        VELinear(),
        Flow(),
        Flow(0.1),
    ],
    ids=lambda process: type(process).__name__,
)
def test_the_bound_does_not_depend_on_the_process_between_its_ends(process: Process):
    variance, ends = 0.25, torch.tensor([0.02, 9.0], dtype=torch.float64)
    start, stop = process.time(ends).tolist()
    nodes, weights = np.polynomial.legendre.leggauss(400)
    # The error of the exact denoiser of N(0, v) is v sigma^2 / (v + sigma^2).
    sigma = process.sigma(torch.from_numpy(start + 0.5 * (stop - start) * (nodes + 1.0)))
    loss = Vdm(process).of_sample(sigma) * variance * sigma**2 / (variance + sigma**2)
    total = 0.5 * (stop - start) * (torch.from_numpy(weights) * loss).sum()
    # VDM, eq. 18: the integral of v / (sigma (v + sigma^2)) d sigma.
    low, high = ends
    exact = 0.5 * torch.log(high**2 / (variance + high**2)) - 0.5 * torch.log(low**2 / (variance + low**2))
    torch.testing.assert_close(total, exact, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Huber, delta=0.0), "delta=0.0 must be positive"),
        (partial(MinSnr, gamma=-1.0), "gamma=-1.0 must be positive"),
        (partial(P2, k=0.0), "k=0.0 must be positive"),
        (partial(P2, gamma=-0.5), "gamma=-0.5 must not be negative"),
        (partial(EdmWeighting, sigma_data=0.0), "sigma_data=0.0 must be positive"),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize("path", sorted((config_folder() / "objective").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_member_of_the_group_is_an_objective(path: Path):
    config = compose([f"objective={path.stem}", "process=diffwave50"])
    objective = Builder()(plain(config)["objective"])
    assert isinstance(objective, Objective)


def test_spectral_weights_undo_the_root_of_the_level(example):
    x0, _, x, sigma = example
    objective = SpectrallyWeighted(lowest_weight=0.0, highest_weight=1e9)
    error = torch.randn_like(x0)
    quiet, loud = (
        objective(predict(Sample(VPCosine()), gain * x0 + error, x, sigma), gain * x0, x, sigma) for gain in (1.0, 10.0)
    )
    # Ten times the amplitude is a hundred times the energy: a tenth of the weight, but for the 1e-7.
    torch.testing.assert_close(loud, quiet / 10.0, rtol=1e-6, atol=0.0)


def test_spectral_weights_of_silence_are_the_highest(example):
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
