"""Corruptions do what they say: ratios, cutoffs, limits, gaps, and draws that a seed decides."""

import math

import numpy as np
import pytest
import scipy.signal
import torch

from audiodiff.corruption import (
    Babble,
    Clipping,
    ColoredNoise,
    Corruption,
    Gaps,
    LowPassed,
    Mixture,
    RecordedNoise,
    Then,
    Untouched,
    mixed_at_snr,
)
from audiodiff.errors import ParameterError

RATE = 16000


def speech(n: int = 4, *, n_samples: int = RATE, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n, 1, n_samples, generator=torch.Generator().manual_seed(seed))


def noises() -> list[torch.Tensor]:
    return [torch.sin(torch.arange(n) * 0.3) for n in (3000, 40000)]


EVERY: dict[str, Corruption] = {
    "recorded": RecordedNoise(noises()),
    "coloured": ColoredNoise(),
    "babble": Babble(),
    "low-passed": LowPassed(),
    "clipping": Clipping(),
    "gaps": Gaps(),
    "untouched": Untouched(),
}
EVERY["one after the other"] = Then(Gaps(), Clipping(), share=0.5)
EVERY["mixture"] = Mixture(dict(EVERY), dict.fromkeys(EVERY, 1.0))


@pytest.mark.parametrize("corruption", EVERY.values(), ids=EVERY.keys())
def test_a_seed_determines_the_result_and_gaps_are_silent(corruption: Corruption):
    audio = speech()
    first, second, third = (
        corruption(audio, torch.Generator().manual_seed(seed), sample_rate=RATE) for seed in (1, 1, 2)
    )
    assert torch.equal(first.audio, second.audio)
    assert torch.equal(first.known, second.known)
    assert corruption is EVERY["untouched"] or not torch.equal(first.audio, third.audio)
    assert first.audio.shape == first.known.shape == audio.shape
    assert set(first.known.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["recorded", "coloured", "babble"])
def test_noise_has_the_drawn_signal_to_noise_ratio(name: str):
    kinds = {"recorded": RecordedNoise, "coloured": ColoredNoise, "babble": Babble}
    more = {"recordings": noises()} if name == "recorded" else {}
    audio = speech()
    noisy = kinds[name](**more, lowest_snr=3.0, highest_snr=3.0)(audio, torch.Generator(), sample_rate=RATE).audio
    ratio = 10 * torch.log10(audio.square().sum(dim=-1) / (noisy - audio).square().sum(dim=-1))
    assert torch.allclose(ratio, torch.full_like(ratio, 3.0), atol=1e-3)


def test_silent_audio_or_noise_adds_nothing():
    audio, noise = (
        torch.stack([torch.zeros(1, 8), torch.ones(1, 8)]),
        torch.stack([torch.ones(1, 8), torch.zeros(1, 8)]),
    )
    assert torch.equal(mixed_at_snr(audio, noise, torch.zeros(2)), audio)


def test_the_slope_of_colored_noise_lies_between_white_and_brown():
    drawn = ColoredNoise().noise(torch.zeros(40, 1, 4 * RATE), torch.Generator().manual_seed(0), sample_rate=RATE)
    frequency, power = scipy.signal.welch(drawn[:, 0].numpy(), RATE, nperseg=2048)
    within = (frequency > 100) & (frequency < 7000)
    slopes = [np.polyfit(np.log(frequency[within]), np.log(each[within]), 1)[0] for each in power]
    # Even draws of 40 reach beyond a tenth of their range from either end with a probability of 1 - 2 * 0.9^40 = 0.97.
    assert -2.1 < min(slopes) < -1.75
    assert -0.25 < max(slopes) < 0.1


def test_a_low_pass_removes_what_is_above_the_cutoff_only():
    audio = speech(1, n_samples=2 * RATE)
    low = LowPassed(lowest=3000.0, highest=3000.0, widest_slope=0.1)(audio, torch.Generator(), sample_rate=RATE)
    before, after = (torch.fft.rfft(signal[0, 0]) for signal in (audio, low.audio))
    frequency = torch.fft.rfftfreq(2 * RATE, 1 / RATE)
    below, above = frequency < 2999.0, frequency > 3301.0
    assert torch.allclose(before[below], after[below], atol=1e-4)
    assert float(after[above].abs().max()) < 1e-4 * float(before.abs().max())


def test_clipping_limits_at_the_drawn_share_and_knows_the_rest():
    audio = speech(2)
    clipped = Clipping(lowest_db=-20.0, highest_db=-20.0)(audio, torch.Generator(), sample_rate=RATE)
    limit = 0.1 * audio.abs().amax(dim=-1, keepdim=True)
    assert torch.allclose(clipped.audio.abs().amax(dim=-1, keepdim=True), limit)
    assert torch.equal(clipped.known.bool(), audio.abs() < limit)
    assert torch.equal((clipped.audio * clipped.known), audio * clipped.known)


def test_gaps_have_lengths_and_numbers_in_their_ranges():
    audio = torch.ones(50, 1, RATE)
    gaps = Gaps(shortest=0.02, longest=0.1, most=2)(audio, torch.Generator().manual_seed(0), sample_rate=RATE)
    assert torch.equal(gaps.audio, gaps.known)
    for example in gaps.known[:, 0].tolist():
        runs = [len(run) for run in "".join(str(int(value)) for value in example).split("1") if run]
        assert 1 <= len(runs) <= 2
        # Two that meet are one.
        assert all(0.02 * RATE - 1 <= run <= 0.2 * RATE + 1 for run in runs)


def test_a_mixture_draws_each_kind_by_its_share():
    shares = {"clipping": 3.0, "gaps": 1.0, "untouched": 0.0}
    mixture = Mixture({name: EVERY[name] for name in shares}, shares)
    n = 800
    audio = speech(n, n_samples=400)
    known = mixture(audio, torch.Generator().manual_seed(0), sample_rate=RATE)
    # A gap is silent, what is clipped is not.
    gaps = ((known.known == 0) & (known.audio == 0)).flatten(1).any(dim=1).sum()
    assert abs(float(gaps) - n / 4) < 5 * math.sqrt(n * 3 / 16)
    assert bool((known.known == 0).flatten(1).any(dim=1).all())


def test_a_second_corruption_follows_the_first_by_its_share():
    n, audio = 400, speech(400, n_samples=2000)
    twice = Then(Gaps(longest=0.02, most=1), LowPassed(lowest=500.0, highest=500.0), share=0.25)(
        audio, torch.Generator().manual_seed(0), sample_rate=RATE
    )
    # What was silenced first is smeared by the filter, and stays unknown.
    assert bool((twice.known == 0).flatten(1).any(dim=1).all())
    second = (twice.audio * (1 - twice.known)).abs().flatten(1).amax(dim=1) > 0
    assert abs(float(second.sum()) - n / 4) < 5 * math.sqrt(n * 3 / 16)
    spectrum = torch.fft.rfft(twice.audio[second]).abs().square()
    above = torch.fft.rfftfreq(2000, 1 / RATE) > 500 * 1.16
    assert float(spectrum[..., above].sum()) < 1e-6 * float(spectrum.sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColoredNoise(lowest_snr=5.0, highest_snr=0.0), "snr=\\[5.0, 0.0\\] must be a range"),
        (lambda: RecordedNoise([]), "recordings is empty"),
        (lambda: LowPassed(lowest=0.0), "lowest=0.0"),
        (lambda: Clipping(highest_db=3.0), "within \\[-60.0, 0.0\\]"),
        (lambda: Gaps(shortest=0.3, longest=0.1), "shortest=0.3"),
        (lambda: Gaps(most=0), "most=0"),
        (lambda: Babble(n_voices=0), "n_voices=0"),
        (lambda: Then(Gaps(), Clipping(), share=1.5), "share=1.5"),
        (lambda: Mixture({"gaps": Gaps()}, {"gap": 1.0}), "shares has gap: it must have gaps"),
        (lambda: Mixture({"gaps": Gaps()}, {"gaps": 0.0}), "some must be positive"),
    ],
)
def test_invalid_arguments_are_refused(make, message: str):
    with pytest.raises(ParameterError, match=message):
        make()
