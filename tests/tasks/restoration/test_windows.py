"""Recordings in windows: what a window gives is what the whole would, whatever the rate, the channels and the cuts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from analytic import Gaussian, GaussianNetwork
from sounds import tones
from torch import Tensor, nn

from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.operators import Mask
from audiodiff.diffusion.preconditioning import Velocity
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import euler
from audiodiff.dsp.level import LevelMeter, constant_offset, gain_to
from audiodiff.dsp.resample import resample, resample_mask
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Problem, Projection, Repair, Sampling
from audiodiff.tasks.restoration.windows import (
    CONTEXT_SECONDS,
    CORE_SECONDS,
    analyze,
    count_windows,
    restore,
    restore_blocks,
)

RATE = 2000
PROJECTION = Sampling(posterior=Projection(), steps=3)


@dataclass(frozen=True)
class Holes(Repair):
    """Fill given stretches of samples; with none, and all of it drawn, give back what the model's rate leaves."""

    stretches: tuple[tuple[int, int], ...] = ()
    is_all_drawn: bool = False
    rate: int | None = None

    def analyze(self, blocks: Iterator[Tensor], *, sample_rate: int) -> "Holes":
        return self

    def describe(self, *, sample_rate: int) -> str:
        return f"{len(self.stretches)} holes"

    def known(self, audio: Tensor, *, sample_rate: int, first_sample: int) -> Tensor:
        known = torch.ones_like(audio)
        for first, last in self.stretches:
            known[:, max(0, first - first_sample) : max(0, last - first_sample)] = 0.0
        return known

    def is_affected(self, known: Tensor) -> bool:
        return self.is_all_drawn or bool((known == 0).any())

    def measured(self, audio: Tensor, known: Tensor) -> Tensor:
        return audio * known

    def problem(self, measured: Tensor, known: Tensor, *, sample_rate: int) -> Problem:
        return Problem(measured, known, Mask(known))

    def blend(self, recording: Tensor, restored: Tensor, known: Tensor, *, sample_rate: int) -> Tensor:
        return restored if self.is_all_drawn else torch.where(known == 1, recording, restored)

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate if self.rate is None else self.rate


def white(*, sample_rate: int = RATE) -> Synthesizer:
    """Return the exact model of white noise, of which every sample depends on itself alone."""
    one = torch.ones(1, 1, dtype=torch.float64)
    process = Flow(noise_scale=0.1)
    network = GaussianNetwork(Gaussian(0.0 * one, 0.04 * one), process, "velocity")
    network.register_parameter("unused", nn.Parameter(torch.zeros(())))
    return Synthesizer(
        sample_rate=sample_rate,
        representation=WaveformRepresentation(),
        conditioner=NoConditioner(),
        denoiser=Denoiser(network, Velocity(process)),
        sampler=Sampler(euler, TimeUniform(process), n_steps=3),
    )


def filled(audio: Tensor, repair: Repair, *, sample_rate: int = RATE, seed: int = 0) -> Tensor:
    return restore(white(), audio, sample_rate=sample_rate, repair=repair, sampling=PROJECTION, seed=seed)


def test_windows_equal_the_whole_where_samples_are_independent(monkeypatch: pytest.MonkeyPatch):
    seconds = 3 * CORE_SECONDS + 1
    audio = tones(seconds * RATE, sample_rate=RATE, n_channels=2)
    core = CORE_SECONDS * RATE
    holes = Holes(((10, 30), (core - 100, core + 50), (2 * core + 5, 2 * core + 6), (len(audio[0]) - 4, len(audio[0]))))
    in_windows = filled(audio, holes)
    monkeypatch.setattr("audiodiff.tasks.restoration.windows.CORE_SECONDS", seconds)
    # Other sums in float32, of numbers below 1.
    torch.testing.assert_close(in_windows, filled(audio, holes), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("own_rate", [1000, 1500, 2000, 2205, 4410, 11025])
def test_changes_of_rate_are_those_of_the_whole(own_rate: int):
    seconds = CORE_SECONDS + CONTEXT_SECONDS + 0.7
    audio = tones(round(seconds * own_rate), sample_rate=own_rate, n_channels=2)
    there = resample(audio, from_rate=own_rate, to_rate=RATE)
    back = resample(there, from_rate=RATE, to_rate=own_rate)[:, : audio.shape[-1]]
    assert count_windows(audio.shape[-1], sample_rate=own_rate) == 2
    # What lies outside a window is silence to the filter: 2 s away, where it has long ended.
    torch.testing.assert_close(filled(audio, Holes(is_all_drawn=True), sample_rate=own_rate), back, atol=2e-6, rtol=0.0)


def test_results_at_another_rate_are_those_of_the_whole():
    audio = tones((CORE_SECONDS + CONTEXT_SECONDS + 1) * 1000, sample_rate=1000)
    result = filled(audio, Holes(is_all_drawn=True, rate=RATE), sample_rate=1000)
    torch.testing.assert_close(result, resample(audio, from_rate=1000, to_rate=RATE), atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("own_rate", [2000, 3000])
def test_known_samples_stay_to_the_bit_and_lost_ones_do_not(own_rate: int):
    core = CORE_SECONDS * own_rate
    audio = tones(2 * core + 77, sample_rate=own_rate, n_channels=2)
    holes = Holes(((500, 600), (core - 40, core + 40)))
    result = filled(audio, holes, sample_rate=own_rate)
    known = holes.known(audio, sample_rate=own_rate, first_sample=0) == 1
    assert torch.equal(result[known], audio[known])
    assert not (result[~known] == audio[~known]).any()


@pytest.mark.parametrize("n_samples", [1, 2, 100, 3001])
@pytest.mark.parametrize("own_rate", [1000, 2000, 4410])
def test_short_recordings_keep_their_length(n_samples: int, own_rate: int):
    audio = tones(n_samples, sample_rate=own_rate, n_channels=3)
    assert filled(audio, Holes(((0, 1),)), sample_rate=own_rate).shape == audio.shape


def test_a_recording_without_damage_is_copied_and_nothing_is_computed():
    audio = tones(2 * CORE_SECONDS * RATE, sample_rate=RATE)
    done: list[bool] = []
    result = restore(
        white(), audio, sample_rate=RATE, repair=Holes(), sampling=PROJECTION, on_window=lambda did: done.append(did)
    )
    assert torch.equal(result, audio)
    assert done == [False] * count_windows(audio.shape[-1], sample_rate=RATE)


def test_only_windows_with_damage_are_restored():
    audio = tones(3 * CORE_SECONDS * RATE, sample_rate=RATE)
    done: list[bool] = []
    inside = (CORE_SECONDS + 1) * RATE
    restore(
        white(),
        audio,
        sample_rate=RATE,
        repair=Holes(((inside, inside + 9),)),
        sampling=PROJECTION,
        on_window=lambda did: done.append(did),
    )
    assert done == [False, True, False]


def test_silence_stays_silence():
    audio = torch.zeros(2, 3 * RATE)
    assert torch.equal(filled(audio, Holes(((5, 900),))), audio)


@pytest.mark.parametrize("rate", [None, 2 * RATE])
def test_a_silent_channel_stays_silent_beside_one_that_is_drawn(rate: int | None):
    audio = tones(RATE, sample_rate=RATE)
    both = torch.cat([audio, torch.zeros_like(audio)])
    for repair in (Holes(((300, 700),), rate=rate), Holes(is_all_drawn=True, rate=rate)):
        result = filled(both, repair)
        assert torch.equal(result[1], torch.zeros_like(result[1]))
        # Other sums in float32, in the filter of two channels.
        torch.testing.assert_close(result[:1], filled(audio, repair), atol=1e-6, rtol=0.0)


SHAPES = """
import json, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
import tiny
from audiodiff.errors import ParameterError
from audiodiff.tasks.restoration import Sampling, declip, enhance, extend, inpaint

model = tiny.synthesizer(
    [*tiny.UNCONDITIONAL, "conditioner=degraded", "network=spectral_restorer", "audio.sample_rate=16000"]
)
audio = 0.1 * torch.randn(1, 2000)
cases = {
    "numpy": lambda restore: restore(model, audio.numpy(), sample_rate=16000),
    "int16": lambda restore: restore(model, audio.short(), sample_rate=16000),
    "4-D": lambda restore: restore(model, audio[None, None], sample_rate=16000),
    "nan": lambda restore: restore(model, audio * float("nan"), sample_rate=16000),
    "rate": lambda restore: restore(model, audio, sample_rate=16000.5),
    "mask": lambda _: inpaint(model, audio, sample_rate=16000, mask=np.ones(2000)),
    "gaps": lambda _: inpaint(model, audio, sample_rate=16000, gaps=(0.1, 0.2)),
    "posterior": lambda _: Sampling("projection"),
    "rate and gaps": lambda _: inpaint(model, audio, sample_rate=0, gaps=[(0.01, 0.02)]),
}
said = {}
for restore in (enhance, inpaint, extend, declip):
    assert restore(model, audio.double(), sample_rate=16000).dtype == torch.float32
    for name, case in cases.items():
        try:
            case(restore)
        except ParameterError as error:
            said[f"{restore.__name__} {name}"] = str(error)
print(json.dumps(said))
"""


def test_invalid_recordings_are_refused_in_words():
    """In a process of its own, where nothing but the package checks types."""
    command = [sys.executable, "-c", SHAPES, str(Path(tiny.__file__).parent)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name in ("enhance", "inpaint", "extend", "declip"):
        for case, reason in {
            "numpy": "torch.from_numpy",
            "int16": "torch.int16",
            "4-D": "(batch, channels, time)",
            "nan": "NaN",
            "rate": "sample_rate=16000.5",
            "mask": "mask is a ndarray",
            "gaps": "pairs of seconds",
            "posterior": "posterior='projection' must be a sampler",
            "rate and gaps": "sample_rate=0",
        }.items():
            assert reason in said[f"{name} {case}"]


@pytest.mark.parametrize("rate", [None, 2 * RATE])
def test_a_batch_is_restored_as_its_recordings_are_alone(rate: int | None):
    batch = torch.stack([tones(RATE, sample_rate=RATE, n_channels=2, peak=peak) for peak in (0.5, 0.1)])
    holes = Holes(((300, 700),), rate=rate)
    results = filled(batch, holes)
    assert torch.equal(results[1], filled(batch[1], holes))
    assert torch.equal(results[1, :1], filled(batch[1, :1], holes))
    assert torch.equal(results[1, 0], filled(batch[1, 0], holes))


def test_results_do_not_depend_on_how_a_recording_is_read():
    audio = tones((2 * CORE_SECONDS + 3) * RATE, sample_rate=RATE, n_channels=2)
    model, holes = white(), Holes(((100, 200), (CORE_SECONDS * RATE, CORE_SECONDS * RATE + 10)))
    results = []
    for n_block in (777, 20000, audio.shape[-1]):
        blocks = audio.split(n_block, dim=-1)
        analysis = analyze(blocks, sample_rate=RATE, repair=holes, model=model)
        assert (analysis.n_samples, analysis.n_channels) == (audio.shape[-1], 2)
        results.append(torch.cat(list(restore_blocks(model, blocks, analysis, sampling=PROJECTION)), dim=-1))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_equal_channels_stay_equal_and_none_depends_on_its_neighbour():
    one = tones(RATE, sample_rate=RATE)
    other = tones(RATE, sample_rate=RATE, n_channels=2)[1:]
    holes = Holes(((300, 700),))
    both = filled(torch.cat([one, one]), holes)
    assert torch.equal(both[0], both[1])
    assert torch.equal(filled(torch.cat([one, other]), holes)[:1], filled(one, holes))


def test_the_seed_chooses_what_is_drawn():
    audio, holes = tones(RATE, sample_rate=RATE), Holes(((300, 700),))
    assert torch.equal(filled(audio, holes, seed=1), filled(audio, holes, seed=1))
    assert not torch.equal(filled(audio, holes, seed=1), filled(audio, holes, seed=2))


def test_draws_have_the_law_of_the_model():
    audio, holes = tones(10 * RATE, sample_rate=RATE), Holes(((RATE, 9 * RATE),))
    drawn = restore(
        white(), audio, sample_rate=RATE, repair=holes, sampling=Sampling(posterior=Projection(), steps=50)
    )[0, RATE : 9 * RATE]
    # The variance, 0.04, within five standard errors of that of as many Gaussian numbers and two percent
    # for the steps of Euler.
    assert float(drawn.square().mean()) == pytest.approx(0.04, rel=5 * (2 / len(drawn)) ** 0.5 + 0.02)
    assert abs(float(drawn.mean())) < 5 * 0.2 / len(drawn) ** 0.5


def test_an_empty_recording_is_refused():
    with pytest.raises(ParameterError, match="no samples"):
        filled(torch.zeros(1, 0), Holes())


def test_memory_is_that_of_a_window():
    held: list[int] = []

    def blocks() -> Iterator[Tensor]:
        for number in range(10 * CORE_SECONDS):
            held.append(number)
            yield torch.full((1, RATE), 0.1)

    model = white()
    analysis = analyze(blocks(), sample_rate=RATE, repair=Holes(), model=model)
    held.clear()
    stretches = restore_blocks(model, blocks(), analysis, sampling=PROJECTION)
    next(stretches)
    assert len(held) <= CORE_SECONDS + CONTEXT_SECONDS + 1
    assert next(stretches).shape[-1] == CORE_SECONDS * RATE


@pytest.mark.parametrize(("n_samples", "n_block"), [(1, 1), (700, 1), (700, 512), (20001, 100), (20001, 30000)])
def test_a_level_is_measured_as_of_the_whole(n_samples: int, n_block: int):
    audio = tones(n_samples, sample_rate=16000, n_channels=2, peak=0.03)
    meter = LevelMeter(sample_rate=16000)
    for block in audio.split(n_block, dim=-1):
        meter.add(block)
    assert meter.gain_to(0.07) == gain_to(0.07, audio - constant_offset(audio), sample_rate=16000)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (16000, 44100), (8000, 16000), (48000, 16000)])
def test_resampled_samples_are_known_outside_the_main_lobes_of_lost_ones(from_rate: int, to_rate: int):
    for lost in (0, 71, 150, 299):
        pulse = torch.zeros(1, 300, dtype=torch.float64)
        pulse[0, lost] = 1.0
        response = resample(pulse, from_rate=from_rate, to_rate=to_rate)[0]
        positive = response > 0.0
        # The main lobe is what is positive around the sample itself.
        reached = torch.zeros_like(positive)
        middle = min(round(lost * to_rate / from_rate), len(positive) - 1)
        for places in (range(middle, -1, -1), range(middle, len(positive))):
            for place in places:
                if not positive[place]:
                    break
                reached[place] = True
        known = resample_mask(1.0 - pulse, from_rate=from_rate, to_rate=to_rate)[0]
        assert torch.equal(known == 0, reached)
