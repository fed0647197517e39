"""Guidance by a second model or the null condition."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sounds
import tiny
import torch

import audiodiff
from audiodiff.diffusion.grid import Fixed, LogUniform
from audiodiff.diffusion.solvers import REGISTRY, Solver, solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer

pytestmark = pytest.mark.numeric

HIFIGAN = dialect("hifigan")


def guided_pair(overrides: list[str]) -> tuple[Synthesizer, Synthesizer]:
    """Return two models of one kind with different weights."""
    return tiny.synthesizer(overrides), tiny.synthesizer(overrides, seed=1)


@pytest.mark.parametrize("overrides", [tiny.UNCONDITIONAL, tiny.VOCODER])
def test_in_one_step_autoguidance_extrapolates_from_the_guide_through_the_model(overrides: list[str]):
    """One step of euler returns D itself, and the waveform is what is diffused."""
    strong, weak = guided_pair(overrides)
    how: dict[str, Any] = {"steps": 1, "solver": "euler"}
    how |= {"mel": sounds.mels(), "iterations": 0} if strong.needs_mel else {"seconds": 0.05}
    a, b = strong.generate(**how), weak.generate(**how)
    for scale in (0.0, 1.0, 2.5):
        guided = strong.generate(**how, guide=weak, guidance=scale)
        torch.testing.assert_close(guided, b + scale * (a - b), rtol=1e-4, atol=1e-5)
    assert float((a - b).abs().max()) > 1e-3


def test_guidance_by_itself_at_scale_1_or_at_no_level_changes_no_bit():
    strong, weak = guided_pair(tiny.UNCONDITIONAL)
    plain = strong.generate(seconds=0.05)
    assert torch.equal(strong.generate(seconds=0.05, guide=strong, guidance=3.0), plain)
    assert torch.equal(strong.generate(seconds=0.05, guide=weak, guidance=1.0), plain)
    nowhere = strong.generate(seconds=0.05, guide=weak, guidance=3.0, guidance_interval=(1e6, 1e7))
    assert torch.equal(nowhere, plain)
    assert float((strong.generate(seconds=0.05, guide=weak, guidance=3.0) - plain).abs().max()) > 1e-4


def test_a_guided_batch_equals_its_examples_one_by_one():
    strong, weak = guided_pair(tiny.UNCONDITIONAL)
    how: dict[str, Any] = {"seconds": 0.05, "guide": weak, "guidance": 2.0, "grid": "karras", "solver": "heun"}
    together = strong.generate(batch=3, **how)
    for k in range(3):
        assert torch.equal(together[k : k + 1], strong.generate(items=[k], **how))


class DroppedMel(MelConditioner):
    """Say that training dropped the mel at random."""

    @property
    def can_drop(self) -> bool:
        return True


def test_without_a_guide_a_model_that_knows_the_null_condition_is_guided_by_it():
    model = tiny.synthesizer(tiny.VOCODER)
    model.conditioner = DroppedMel(dialect=HIFIGAN)
    mel, how = sounds.mels(2), {"steps": 1, "iterations": 0, "solver": "euler"}
    conditional, null = model.generate(mel, **how), model.generate(torch.full_like(mel, HIFIGAN.floor), **how)
    guided = model.generate(mel, **how, guidance=3.0)
    torch.testing.assert_close(guided, null + 3.0 * (conditional - null), rtol=1e-4, atol=1e-5)
    assert float((conditional - null).abs().max()) > 1e-3


def test_a_guide_of_another_kind_is_refused_with_what_differs(vocoder: Path):
    strong, mel_maker = tiny.synthesizer(tiny.UNCONDITIONAL), tiny.synthesizer(tiny.LOG_MEL)
    other_mel_maker = tiny.synthesizer(tiny.LOG_MEL, seed=1)
    for name, buffer in other_mel_maker.named_buffers():
        if name == "representation.mean":
            buffer.fill_(-5.0)
    low = tiny.synthesizer(tiny.UNCONDITIONAL)
    low.sampler = replace(low.sampler, grid=LogUniform(0.01, 3.0))
    for model, guide, reason in (
        (strong, tiny.synthesizer(tiny.VOCODER), "conditioner=MelConditioner"),
        (strong, mel_maker, "representation=LogMel"),
        (strong, audiodiff.load("none"), "guide is a MelInverter"),
        (strong, low, "levels up to sigma=3, and sampling starts at sigma="),
        (mel_maker, other_mel_maker, "mean of its representation differs"),
    ):
        with pytest.raises(ParameterError, match=reason):
            model.generate(seconds=0.05, guide=guide, guidance=2.0)  # pyright: ignore
    assert strong.generate(seconds=0.05, guide=low, guidance=2.0, grid=Fixed([2.0, 0.5])).isfinite().all()


def test_what_generate_refuses_is_refused_before():
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    model.check_sampling(SamplingOptions(steps=3, solver="heun", grid="karras", guide=model, guidance=2.0))
    for name in REGISTRY:
        model.check_sampling(SamplingOptions(solver=name))


@pytest.mark.parametrize("asks", [solver("shortcut"), solver("ddpm", variance="learned")])
def test_a_solver_that_asks_for_more_than_a_guided_denoiser_says_is_refused_before(asks: Solver):
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    model.check_sampling(SamplingOptions(solver=asks, guide=model, guidance=1.0))
    with pytest.raises(ParameterError, match="leave guidance out"):
        model.check_sampling(SamplingOptions(solver=asks, guide=model, guidance=2.0))
