"""Properties of every metric in the registry."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiodiff import metrics
from audiodiff.errors import ParameterError

RATE = 16000
CEILINGS = {
    "snr_db": float("inf"),
    "segmental_snr_db": 35.0,
    "si_sdr_db": float("inf"),
    "pesq_wb": 4.6439,
    "pesq_nb": 4.5486,
    "stoi": 1.0,
    "estoi": 1.0,
    "lsd": 0.0,
    "mcd_db": 0.0,
    "mcd_dtw_db": 0.0,
    "mcd24_db": 0.0,
    "mcd24_dtw_db": 0.0,
    "mr_stft": 0.0,
    "mel_psnr_db": float("inf"),
    "mel_ssim": 1.0,
    "periodicity_rmse": 0.0,
    "vuv_error": 0.0,
}
every_metric = pytest.mark.parametrize("metric", metrics.METRICS.values(), ids=metrics.METRICS)


def speechlike(seed: int, *, seconds: float = 1.5, rate: int = RATE) -> torch.Tensor:
    """Make bursts of harmonics and noise: enough of speech for a voice activity detector."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * rate)) / rate
    pitch = 110 + 20 * seed
    phase = 2 * torch.pi * pitch * (time + 0.05 * torch.sin(2 * torch.pi * 1.3 * time))
    voice = sum(torch.sin(k * phase) / k for k in range(1, 20))
    envelope = torch.clamp(torch.sin(2 * torch.pi * 2.2 * time + seed), min=0.0)
    return 0.1 * envelope * (voice + 0.2 * torch.randn(time.shape, generator=generator))


def degraded(reference: torch.Tensor, *, seed: int = 9, level: float = 0.01) -> torch.Tensor:
    return reference + level * torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))


@every_metric
def test_identity_reaches_the_ceiling(metric: metrics.Metric):
    reference = speechlike(0)
    value = metric.compute(reference, reference, RATE).item()
    # The ceilings of PESQ are known to 4 digits.
    assert value == pytest.approx(CEILINGS[metric.name], abs=1e-4)


@every_metric
def test_more_noise_is_worse(metric: metrics.Metric):
    reference = speechlike(0)
    little, much = (metric.compute(degraded(reference, level=level), reference, RATE) for level in (0.003, 0.03))
    assert bool(little > much) == (metric.better == "higher")


@every_metric
def test_a_batch_equals_its_examples_one_by_one(metric: metrics.Metric):
    reference = torch.stack([speechlike(0), speechlike(1)])
    estimate = degraded(reference)
    together = metric.compute(estimate, reference, RATE)
    assert together.shape == (2,)
    for i in range(2):
        alone = metric.compute(estimate[i], reference[i], RATE)
        assert alone.shape == ()
        # FFTs of a batch may differ from single ones in the last bits of float64; the value is float32.
        torch.testing.assert_close(alone, together[i], rtol=1e-6, atol=1e-6)


@every_metric
def test_leading_axes_are_kept(metric: metrics.Metric):
    reference = speechlike(0).repeat(2, 1, 1)
    assert metric.compute(degraded(reference), reference, RATE).shape == (2, 1)
    assert metric.compute(torch.zeros(0, 100), torch.zeros(0, 100), RATE).shape == (0,)


@every_metric
@pytest.mark.filterwarnings("error")
def test_a_silent_reference_has_no_value_and_spoils_no_other(metric: metrics.Metric):
    reference = torch.stack([torch.zeros(24000), speechlike(0)])
    values = metric.compute(degraded(reference), reference, RATE)
    assert values.isnan().tolist() == [True, False]


@every_metric
@pytest.mark.parametrize("n_samples", [0, 1, 10, 100, 399, 1024, 3999])
def test_short_signals_never_fail_and_say_nan_below_their_limit(metric: metrics.Metric, n_samples: int):
    reference = speechlike(0)[6000 : 6000 + n_samples]
    value = metric.compute(degraded(reference), reference, RATE)
    assert value.shape == ()
    if n_samples < metric.shortest(RATE) and not metric.name.startswith("mcd"):
        assert value.isnan()


@every_metric
def test_a_silent_estimate_never_fails(metric: metrics.Metric):
    reference = speechlike(0)
    value = metric.compute(torch.zeros_like(reference), reference, RATE).item()
    assert value != value or abs(value) < float("inf")


@every_metric
def test_different_lengths_are_refused(metric: metrics.Metric):
    # The checks of the annotations, which the tests switch on, come first: what a user meets is inside.
    function = inspect.unwrap(metrics.score)
    with pytest.raises((ParameterError, TypeError), match=r"shape|time"):
        function(speechlike(0), speechlike(0)[:-1], sample_rate=RATE, names=[metric.name])


def test_without_annotation_checks_bad_arguments_are_parameter_errors():
    code = (
        "import sys, torch; from audiodiff import metrics; from audiodiff.errors import ParameterError\n"
        "heavy = {'librosa', 'scipy', 'pesq', 'pystoi', 'torchaudio', 'soundfile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "for metric in metrics.METRICS.values():\n"
        "    for bad in (torch.zeros(9), torch.zeros(1, 10), torch.zeros(10, dtype=torch.int64)):\n"
        "        try: metric.compute(bad, torch.zeros(10), 16000)\n"
        "        except ParameterError: continue\n"
        "        raise SystemExit(f'{metric.name} takes {bad}')\n"
        "try: metrics.pesq(torch.zeros(9), torch.zeros(9), sample_rate=16000, band='fm')\n"
        "except ParameterError: raise SystemExit(0)\n"
        "raise SystemExit('takes any band')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@every_metric
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_dtype_is_taken(metric: metrics.Metric, dtype: torch.dtype):
    reference = speechlike(0).to(dtype)
    estimate = degraded(speechlike(0)).to(dtype)
    value = metric.compute(estimate, reference, RATE)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value == pytest.approx(metric.compute(estimate.double(), reference.double(), RATE).item(), rel=1e-6)


@every_metric
def test_arguments_are_not_changed(metric: metrics.Metric):
    reference = speechlike(0).double()
    estimate = degraded(reference.float()).double()
    copies = reference.clone(), estimate.clone()
    metric.compute(estimate, reference, RATE)
    assert torch.equal(reference, copies[0])
    assert torch.equal(estimate, copies[1])


@pytest.mark.parametrize("name", ["snr_db", "segmental_snr_db", "pesq_wb", "pesq_nb", "stoi", "mr_stft"])
def test_estimate_and_reference_cannot_be_exchanged(name: str):
    reference = speechlike(0)
    estimate = degraded(0.5 * reference, level=0.003)
    compute = metrics.METRICS[name].compute
    assert abs(compute(estimate, reference, RATE) - compute(reference, estimate, RATE)) > 1e-4


def test_score_returns_the_requested_metrics_under_full_names():
    reference = speechlike(0)
    scores = metrics.score(degraded(reference), reference, sample_rate=RATE, names=["lsd", "snr", "snr_db"])
    assert list(scores) == ["lsd", "snr_db"]
    assert scores["snr_db"] == metrics.snr_db(degraded(reference), reference)


@pytest.mark.parametrize("names", [["psnr"], ["snr", "pesq"], []])
def test_unknown_names_are_refused_with_the_list(names: list[str]):
    with pytest.raises(ParameterError, match=", ".join(metrics.METRICS)):
        metrics.select(names)


def test_the_page_on_evaluation_has_every_definition():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for metric in metrics.METRICS.values():
        definition = metric.definition.replace("|", "\\|")
        assert f"| `{metric.name}` | {metric.unit or '-'} | {metric.better} | {definition} |" in page


def test_the_help_of_evaluate_names_every_metric():
    from audiodiff.cli import evaluate

    listed = re.split(r"[,\s]+", re.search(r"Metrics: ([^.]*)\.", str(evaluate.evaluate_command.__doc__)).group(1))
    assert listed == list(metrics.METRICS)


def test_a_metric_of_ones_own_stands_beside_those_of_the_registry():
    own = metrics.Metric(
        name="peak", compute=lambda e, r, _: (e - r).abs().amax(-1), unit="", better="lower", definition=""
    )
    reference = speechlike(0)
    scores = metrics.score(reference + 0.25, reference, sample_rate=RATE, names=["snr", own])
    assert list(scores) == ["snr_db", "peak"]
    assert scores["peak"].item() == pytest.approx(0.25)
    (row,) = metrics.evaluate([metrics.Pair("a", reference + 0.25, reference, RATE)], names=[own])
    assert row.values["peak"] == pytest.approx(0.25)
