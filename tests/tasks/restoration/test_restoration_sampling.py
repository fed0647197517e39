"""Sampling of a restored recording: its steps, its start, and settings that are refused."""

import math

import pytest
import sounds
import torch
from tiny import DEGRADED, UNCONDITIONAL, synthesizer

from audiodiff.diffusion.noise import noise_of
from audiodiff.errors import ParameterError
from audiodiff.tasks.restoration import (
    DPS,
    Conditional,
    Denoising,
    PiGDM,
    PosteriorSampler,
    Problem,
    RePaint,
    Sampling,
    check_model,
    draw,
    posterior_named,
)

GAINED = [*DEGRADED, "representation.gain=2.0"]


def test_a_model_draws_with_as_many_steps_from_any_start():
    model, audio = synthesizer(GAINED), sounds.noise(1, 2000)[None]
    problem = Problem(audio, torch.ones_like(audio))
    seen: list[int] = []
    for start in (None, 0.05, 1.0):
        draw(
            model,
            problem,
            sampling=Sampling(start=start, steps=5),
            noise=noise_of(0, [0]),
            on_step=lambda step, _: seen.append(step),
        )
    assert seen == 3 * [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("start", "n_steps"), [(0.003, 16), (0.002, 12), (1e-4, 6), (0.05, 4)])
def test_levels_fall_to_zero_from_however_low_a_start(start: float, n_steps: int):
    model, audio = synthesizer(GAINED), sounds.noise(1, 2000)[None]
    seen: list[torch.Tensor] = []

    def recording(denoise, x, sigmas, *, noise=None, on_step=None, after_step=None):
        seen.append(sigmas)
        return x

    sampling = Sampling(start=start, steps=n_steps, solver=recording)
    draw(model, Problem(audio, torch.ones_like(audio)), sampling=sampling, noise=noise_of(0, [0]))
    (sigmas,) = seen
    assert len(sigmas) == n_steps + 1
    assert bool((sigmas.diff() < 0.0).all())
    assert float(sigmas[-1]) == 0.0


def test_a_start_below_all_levels_is_refused():
    model, audio = synthesizer(GAINED), sounds.noise(1, 2000)[None]
    with pytest.raises(ParameterError, match=r"start=1e-12 leaves .* higher start"):
        draw(
            model,
            Problem(audio, torch.ones_like(audio)),
            sampling=Sampling(start=1e-12, steps=6),
            noise=noise_of(0, [0]),
        )


@pytest.mark.parametrize(("old", "new"), [("told", Conditional()), ("denoise", Denoising()), ("pigdm", PiGDM())])
def test_names_of_version_0_1_still_choose_a_posterior_sampler(old: str, new: PosteriorSampler):
    with pytest.warns(FutureWarning, match="posterior="):
        assert Sampling(method=old, steps=3) == Sampling(new, steps=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: posterior_named("magic"), "posterior=magic must be one of conditional"),
        (lambda: Sampling(steps=0), "steps=0"),
        (lambda: Sampling(start=0.0), "start=0.0"),
        (lambda: Sampling(guidance=math.inf), "guidance=inf"),
        (lambda: RePaint(n_resamples=0), "n_resamples=0"),
        (lambda: check_model(synthesizer(UNCONDITIONAL), posterior=Conditional()), "takes degraded"),
        (lambda: check_model(object(), posterior=Conditional()), "model of waveforms"),
        (
            lambda: draw(
                synthesizer(GAINED),
                Problem(sounds.noise(1, 2000)[None], torch.ones(1, 1, 2000)),
                sampling=Sampling(posterior=DPS()),
                noise=noise_of(0, [0]),
            ),
            "posterior=dps needs a linear measurement",
        ),
        (
            lambda: draw(
                synthesizer(GAINED),
                Problem(sounds.noise(1, 2000)[None], torch.ones(1, 1, 2000)),
                sampling=Sampling(start=1e6),
                noise=noise_of(0, [0]),
            ),
            "start=1000000.0 must be at most",
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
