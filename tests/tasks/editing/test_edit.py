"""Editing: between exact Gaussians it is what theory says, and on models it keeps what it is to keep."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import sounds
import tiny
import torch
from analytic import Gaussian

from audiodiff.diffusion.editing import edit_sigmas, flow_of, inversion, inversion_sigmas, sdedit
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import euler, heun, midpoint
from audiodiff.dsp.inversion import invert
from audiodiff.dsp.level import gain_to
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.editing import edit as editing
from audiodiff.tasks.editing.edit import edit

RATE = 22050
LABELS = [
    *tiny.LOG_MEL,
    "conditioner=labels",
    "conditioner.vocabularies={digit: [a, b], speaker: [ann, bob]}",
    "network.vector_features=4",
]


def _gaussian(mean: list[float], variance: list[float]) -> Gaussian:
    return Gaussian(*(torch.tensor(values, dtype=torch.float64)[:, None] for values in (mean, variance)))


SOURCE = _gaussian([0.5, -2.0], [1.5, 0.2])
TARGET = _gaussian([-1.0, 1.0], [0.3, 2.0])
SIGNALS = torch.tensor([[[0.3], [-1.9]], [[-2.0], [-2.4]]], dtype=torch.float64)


def _flow(n_steps: int, *, t_start: float = 0.999) -> Sampler:
    return Sampler(heun, TimeUniform(Flow(), t_start=t_start), n_steps)


def test_strength_is_the_time_of_a_uniform_flow():
    for strength in (0.25, 0.5, 0.75):
        sigmas = edit_sigmas(_flow(32), strength=strength)
        times = sigmas / (1.0 + sigmas)
        expected = torch.linspace(strength, 0.0, 33, dtype=torch.float64) * 0.999
        # 32 steps are an eighth, a quarter ... of the clock's 1024 levels, exactly.
        torch.testing.assert_close(times, expected)


def test_the_full_strength_is_the_samplers_own_grid():
    sampler = _flow(7)
    torch.testing.assert_close(edit_sigmas(sampler, strength=1.0), sampler.grid(7), rtol=0, atol=0)


@pytest.mark.parametrize("strength", [0.1, 0.6, 1.0])
def test_both_grids_start_at_one_level_and_only_edit_sigmas_end_at_zero(strength: float):
    sigmas, inverting = edit_sigmas(_flow(16), strength=strength), inversion_sigmas(_flow(16), strength=strength)
    for each in (sigmas, inverting):
        assert len(each) == 17
        assert bool((each.diff() < 0).all())
    assert float(sigmas[0]) == pytest.approx(float(inverting[0]), rel=1e-12)
    assert float(sigmas[-1]) == 0.0
    # The least level of 1024 steps of a clock that ends at t = 0.999.
    assert float(inverting[-1]) == pytest.approx(0.999 / 1024, rel=1e-3)


def test_sdedit_of_a_gaussian_equals_its_flow_from_the_noised_signal():
    sigmas = edit_sigmas(_flow(256), strength=0.6)
    noise = noise_of(3, [0, 1])
    made = sdedit(TARGET.denoise, SIGNALS, sigmas, solver=heun, noise=noise)
    first = float(sigmas[0])
    torch.testing.assert_close(made, TARGET.flow(SIGNALS + first * noise(SIGNALS, 0), first, 0.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_inversion_under_one_law_comes_back_with_order_two(strength: float):
    errors = []
    for n_steps in (32, 64, 128):
        inverting = inversion_sigmas(_flow(n_steps), strength=strength)
        back = inversion(SOURCE.denoise, SOURCE.denoise, SIGNALS, inverting, process=Flow())
        errors.append(float((back - SIGNALS).abs().max()))
    assert errors[-1] < 1e-3
    orders = [math.log2(before / after) for before, after in pairwise(errors)]
    # The way back undoes the leading error of the way up, so that the order may be higher.
    assert all(order > 1.8 for order in orders), (errors, orders)


def test_inversion_from_a_high_level_is_optimal_transport_of_gaussians():
    made = inversion(
        SOURCE.denoise, TARGET.denoise, SIGNALS, inversion_sigmas(_flow(256), strength=1.0), process=flow_of(_flow(256))
    )
    transport = TARGET.mean + (TARGET.variance / SOURCE.variance).sqrt() * (SIGNALS - SOURCE.mean)
    # What is left of both means at sigma = 999 is their difference / 999.
    torch.testing.assert_close(made, transport, rtol=0, atol=0.01)


def test_inversion_to_a_part_of_the_way_is_the_two_flows_in_closed_form():
    inverting = inversion_sigmas(_flow(256), strength=0.5)
    high, low = float(inverting[0]), float(inverting[-1])
    expected = TARGET.flow(SOURCE.flow(SIGNALS, low, high), high, low)
    made = inversion(SOURCE.denoise, TARGET.denoise, SIGNALS, inverting, process=Flow())
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_guidance_away_from_the_source_goes_beyond_the_target():
    near, far = (_gaussian([mean, 0.0], [1.0, 1.0]) for mean in (0.0, 1.0))
    guided = classifier_free(far.denoise, near.denoise, scale=3.0)
    sigmas = edit_sigmas(_flow(512), strength=0.8)
    noise = noise_of(0, [0, 1])
    # Denoisers of Gaussians of one variance are linear in the mean.
    beyond, first = _gaussian([3.0, 0.0], [1.0, 1.0]), float(sigmas[0])
    made = sdedit(guided, SIGNALS, sigmas, solver=heun, noise=noise)
    expected = beyond.flow(SIGNALS + first * noise(SIGNALS, 0), first, 0.0)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def waves() -> Synthesizer:
    return tiny.synthesizer(tiny.UNCONDITIONAL)


@pytest.fixture(scope="module")
def mels() -> Synthesizer:
    return tiny.synthesizer(LABELS)


def _recording(n_samples: int = 4000, *, n_channels: int = 1, rate: int = RATE) -> torch.Tensor:
    return sounds.tones(n_samples, sample_rate=rate, n_channels=n_channels)[None]


def test_strength_zero_of_waveforms_is_the_recording(waves: Synthesizer):
    audio = _recording()
    torch.testing.assert_close(edit(waves, audio, sample_rate=RATE, strength=0.0), audio, rtol=0, atol=1e-6)


def test_strength_zero_of_mels_inverts_the_mel_of_the_recording(mels: Synthesizer):
    audio = _recording(256 * 20)
    audio = audio - audio.mean()
    made = edit(mels, audio, sample_rate=RATE, strength=0.0)
    noise = noise_of(0, [0])(audio, -1)
    assert mels.dialect is not None
    expected = invert(noise[:, 0], mels.mel(audio), dialect=mels.dialect, n_iterations=mels.n_iterations)
    # The mel has gone through the representation and back: roundings, which iterations amplify.
    torch.testing.assert_close(made[:, 0], expected, rtol=0, atol=1e-4)


def test_full_strength_is_generation(waves: Synthesizer, mels: Synthesizer):
    for model, labels in ((waves, None), (mels, {"digit": "b"})):
        made = edit(model, _recording(256 * 16), sample_rate=RATE, strength=1.0, labels=labels, seed=5, items=[9])
        expected = model.generate(labels=labels, n_samples=256 * 16, seed=5, items=[9])
        assert torch.equal(made, expected)


def test_the_noise_of_an_edit_has_the_level_of_its_strength(waves: Synthesizer, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def keep(denoise, x, sigmas, **_):
        seen.append((x, float(sigmas[0])))
        return x

    audio = _recording(8192)
    own = waves.sampler
    monkeypatch.setattr(waves, "sampler", replace(own, solver=keep))
    edit(waves, audio, sample_rate=RATE, strength=0.4)
    x, sigma = seen[-1]
    added = x - waves.representation.encode(audio)
    # Std of 8192 draws: one standard error is 1 / sqrt(2 * 8192).
    assert float(added.std()) / sigma == pytest.approx(1.0, abs=5 / math.sqrt(2 * 8192))
    torch.testing.assert_close(added / sigma, noise_of(0, [0])(audio, 0), rtol=0, atol=1e-4)


def test_labels_without_a_new_value_stay(mels: Synthesizer):
    audio = _recording()
    both = edit(mels, audio, sample_rate=RATE, labels={"digit": "a", "speaker": "bob"}, strength=0.5)
    kept = edit(
        mels,
        audio,
        sample_rate=RATE,
        labels={"speaker": "bob"},
        source_labels={"digit": "a", "speaker": "ann"},
        strength=0.5,
    )
    assert torch.equal(both, kept)
    assert not torch.equal(both, edit(mels, audio, sample_rate=RATE, labels={"speaker": "bob"}, strength=0.5))


def test_inversion_follows_the_flow_up_by_the_source_and_down_by_the_target(mels: Synthesizer):
    audio = _recording(256 * 16)
    source, target = {"digit": "a"}, {"digit": "b"}
    how = {"sample_rate": RATE, "strength": 0.5, "algorithm": "inversion", "steps": 4}
    made = edit(mels, audio, labels=target, source_labels=source, **how)
    assert mels.labels is not None
    bound = [mels.denoiser.bind(editing.Condition(vector=mels.labels.vectors([row]))) for row in (source, target)]
    with torch.no_grad():
        x0 = mels.representation.encode(audio)
        sampler = replace(mels.sampler, n_steps=4)
        inverting = inversion_sigmas(sampler, strength=0.5)
        latent = midpoint(bound[0], x0, inverting.flip(0), process=flow_of(sampler))
        signal = midpoint(bound[1], latent, inverting, process=flow_of(sampler))
    expected = editing.WindowSampler(
        mels,
        sampler=mels.sampler,
        n_iterations=mels.n_iterations,
        seed=0,
        items=[0],
    ).sound(signal, None, items=[0], n_samples=256 * 16, first_sample=0)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_length_channels_and_rate_stay(mels: Synthesizer, rate: int, n_channels: int):
    audio = _recording(rate // 10, n_channels=n_channels, rate=rate)
    made = edit(mels, audio, sample_rate=rate, strength=0.5, steps=1)
    assert made.shape == audio.shape
    assert bool(torch.isfinite(made).all())


@pytest.mark.parametrize("n_samples", [1, 100, 255, 1025])
def test_the_shortest_recordings_are_edited(mels: Synthesizer, waves: Synthesizer, n_samples: int):
    for model in (mels, waves):
        assert edit(model, _recording(n_samples), sample_rate=RATE, steps=1).shape[-1] == n_samples


def test_equal_channels_stay_equal_and_recordings_differ(waves: Synthesizer):
    audio = _recording().expand(2, 2, -1)
    made = edit(waves, audio, sample_rate=RATE, strength=0.5)
    assert torch.equal(made[:, 0], made[:, 1])
    assert not torch.equal(made[0], made[1])


def test_an_edit_does_not_depend_on_other_recordings_of_the_batch(waves: Synthesizer):
    audio = torch.cat([_recording(), 0.5 * _recording().flip(-1)])
    both = edit(waves, audio, sample_rate=RATE, seed=2)
    alone = edit(waves, audio[1:], sample_rate=RATE, seed=2, items=[1])
    assert torch.equal(both[1:], alone)


def test_fades_between_windows_leave_no_trace_where_nothing_changes(
    waves: Synthesizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(editing, "WINDOW_SECONDS", 0.1)
    monkeypatch.setattr(editing, "OVERLAP_SECONDS", 0.02)
    audio = _recording(10000)
    torch.testing.assert_close(edit(waves, audio, sample_rate=RATE, strength=0.0), audio, rtol=0, atol=1e-6)


def test_windows_equal_the_whole_except_within_reach_of_their_ends(waves: Synthesizer, monkeypatch: pytest.MonkeyPatch):
    audio = _recording(12000)
    whole = edit(waves, audio, sample_rate=RATE, strength=0.5, steps=2)
    monkeypatch.setattr(editing, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(editing, "OVERLAP_SECONDS", 0.1)
    cut = edit(waves, audio, sample_rate=RATE, strength=0.5, steps=2)
    before, after = waves.denoiser.network.receptive_field
    receptive_field = 2 * max(before, after)
    chunks = editing._chunks(waves, 12000)
    assert len(chunks) > 2
    inside = torch.ones(12000, dtype=torch.bool)
    for chunk, following in pairwise(chunks):
        # An overlap is mixed of both windows, and each end shows as far as two evaluations reach.
        inside[following.first - receptive_field : chunk.last + receptive_field] = False
    assert int(inside.sum()) > 0
    torch.testing.assert_close(cut[..., inside], whole[..., inside], rtol=0, atol=1e-5)


def test_a_recording_is_brought_to_the_level_that_the_model_knows():
    waves = tiny.synthesizer(tiny.UNCONDITIONAL)
    waves.conditioner = DegradedConditioner(level=0.07)
    loud = _recording(6000)
    quiet = loud / 64
    gains = [gain_to(0.07, audio[0], sample_rate=RATE) for audio in (loud, quiet)]
    assert gains[1] == 64 * gains[0]
    made = [edit(waves, audio, sample_rate=RATE, strength=0.3) for audio in (loud, quiet)]
    # A power of two away, all is the same to the bit.
    assert torch.equal(made[0], 64 * made[1])


def test_a_recording_above_full_scale_keeps_its_level(mels: Synthesizer):
    made = edit(mels, 8.0 * _recording(), sample_rate=RATE, strength=0.0)
    within = edit(mels, _recording() / 0.5, sample_rate=RATE, strength=0.0)
    torch.testing.assert_close(made, 4.0 * within, rtol=0, atol=1e-3)


def test_progress_counts_every_step_once(mels: Synthesizer):
    for algorithm, n_steps in (("sdedit", 3), ("inversion", 6)):
        seen = []
        edit(
            mels,
            _recording(),
            sample_rate=RATE,
            algorithm=algorithm,
            steps=3,
            strength=0.5,
            on_step=lambda done, of, seen=seen: seen.append((done, of)),
        )
        n_all = n_steps + mels.n_iterations
        assert seen == [(k, n_all) for k in range(1, n_all + 1)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strength": 1.5}, "strength=1.5"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"algorithm": "sd"}, "algorithm='sd'"),
        ({"labels": {"digit": "z"}}, "digit=z"),
        ({"source_labels": {"colour": "red"}}, "colour"),
        ({"steps": 0}, "steps=0"),
        ({"guidance": float("inf")}, "guidance=inf"),
        ({"items": [1, 2]}, "items"),
        ({"sample_rate": 8}, "8"),
    ],
)
def test_wrong_arguments_are_refused_by_name(mels: Synthesizer, options: dict[str, object], named: str):
    with pytest.raises(ParameterError, match=named):
        edit(mels, _recording(), **{"sample_rate": RATE, **options})  # pyright: ignore[reportArgumentType]


def test_the_old_keyword_of_the_algorithm_works_with_a_warning(waves: Synthesizer):
    audio = _recording(1000)
    with pytest.warns(FutureWarning, match="method= is now algorithm="):
        made = edit(waves, audio, sample_rate=RATE, strength=0.3, method="inversion")
    assert torch.equal(made, edit(waves, audio, sample_rate=RATE, strength=0.3, algorithm="inversion"))


def test_models_that_cannot_edit_are_refused_with_a_remedy(waves: Synthesizer):
    with pytest.raises(ParameterError, match="digits-8k"):
        editing.check_model(tiny.synthesizer(tiny.VOCODER))
    with pytest.raises(ParameterError, match="guidance=2"):
        edit(waves, _recording(), sample_rate=RATE, guidance=2.0)


def test_a_solver_of_one_step_after_another_is_the_samplers_own(waves: Synthesizer):
    audio = _recording(2000)
    sigmas = edit_sigmas(waves.sampler, strength=0.4)
    with torch.no_grad():
        denoise = waves.denoiser.bind(waves.conditioner.null(1))
        x = waves.representation.encode(audio) + float(sigmas[0]) * noise_of(0, [0])(audio, 0)
        expected, _ = waves.representation.decode(
            euler(denoise, x, sigmas), noise=noise_of(0, [0]), n_samples=audio.shape[-1]
        )
    assert waves.sampler.solver is euler
    torch.testing.assert_close(edit(waves, audio, sample_rate=RATE, strength=0.4), expected, rtol=0, atol=1e-6)
