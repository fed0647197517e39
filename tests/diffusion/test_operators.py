import pytest
import torch
from analytic import decimation
from torch import Tensor

from audiodiff.diffusion.operators import Linear, LinearOperator, LowPass, Mask
from audiodiff.errors import ParameterError

N = 24


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MIX = torch.linalg.qr(draw(4, 4, seed=3))[0][:2]  # two orthonormal rows
MATRIX = draw(3, 4, seed=4)
OPERATORS: dict[str, LinearOperator] = {
    "mask": Mask(draw(N) > 0.0),
    "mask_of_an_example": Mask(draw(2, 4, N) > 0.0),
    "low_pass": LowPass(0.2),
    "low_pass_at_a_bin": LowPass(6 / N),
    "low_pass_of_all": LowPass(0.5),
    "decimate_2": decimation(2),
    "decimate_3": decimation(3),
    "decimate_1": decimation(1),
    "channels": Linear(lambda x: 3.0 * (MIX @ x), lambda y: 3.0 * (MIX.mT @ y), multiple=9.0),
    "any": Linear(lambda x: MATRIX @ x, lambda y: MATRIX.mT @ y),
}
WITH_GAIN = [name for name, operator in OPERATORS.items() if operator.gain is not None]


@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_satisfies_its_definition_by_inner_products(name):
    operator, x = OPERATORS[name], draw(2, 4, N, seed=1)
    y = draw(*operator(x).shape, seed=2)
    assert operator.adjoint(y).shape == x.shape
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WITH_GAIN)
def test_the_pseudo_inverse_is_that_of_moore_and_penrose(name):
    operator, x = OPERATORS[name], draw(2, 4, N, seed=1)
    y = draw(*operator(x).shape, seed=2)
    projected = operator.pseudo_inverse(operator(x))
    ranged = operator(operator.pseudo_inverse(y))
    torch.testing.assert_close(operator(projected), operator(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator.pseudo_inverse(ranged), operator.pseudo_inverse(y), rtol=1e-12, atol=1e-12)
    # A^+ A and A A^+ are symmetric.
    other, other_y = draw(2, 4, N, seed=5), draw(*y.shape, seed=6)
    torch.testing.assert_close(
        (projected * other).sum(), (x * operator.pseudo_inverse(operator(other))).sum(), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        (ranged * other_y).sum(), (y * operator(operator.pseudo_inverse(other_y))).sum(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", ["mask", "low_pass", "low_pass_at_a_bin", "low_pass_of_all"])
def test_a_projection_changes_nothing_the_second_time(name):
    once = OPERATORS[name](draw(2, 4, N))
    torch.testing.assert_close(OPERATORS[name](once), once, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("k", "passes"), [(0, True), (3, True), (4, True), (5, False), (12, False)])
def test_a_low_pass_passes_and_stops_whole_tones(k, passes):
    tone = torch.cos(2.0 * torch.pi * k * torch.arange(N, dtype=torch.float64) / N).expand(1, 1, N)
    torch.testing.assert_close(LowPass(0.2)(tone), tone * passes, rtol=1e-12, atol=1e-12)


def test_decimation_keeps_tones_below_the_new_half_of_the_rate():
    time = torch.arange(N, dtype=torch.float64).expand(1, 1, N)
    for k in range(12):
        tone = torch.cos(2.0 * torch.pi * k * time / N + 0.3)
        kept = decimation(3)(tone)
        torch.testing.assert_close(kept, tone[..., ::3] if k < 4 else 0.0 * kept, rtol=1e-12, atol=1e-12)
        if k < 4:
            torch.testing.assert_close(decimation(3).pseudo_inverse(kept), tone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mask(torch.tensor([0.5])), "nothing but 0 and 1"),
        (lambda: LowPass(0.6), "cutoff=0.6"),
        (lambda: LowPass(0.0), "cutoff=0.0"),
        (lambda: Linear(lambda x: x, lambda y: y, multiple=0.0), "multiple=0.0"),
        (lambda: OPERATORS["any"].pseudo_inverse(draw(1, 3, N)), "Linear has no gain"),
    ],
)
def test_invalid_operators_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
