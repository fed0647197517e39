"""Comparison of systems that turn mel spectrograms into sound, on whole recordings."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiodiff import metrics
from audiodiff.data import Entry, load_whole
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.dsp.inversion import DEFAULT_ITERATIONS, griffin_lim
from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import Mel

METRICS = ("snr_db", "si_sdr_db", "pesq_wb", "stoi", "lsd", "mr_stft")
GRIFFIN_LIM_ITERATIONS = 64

Model = Synthesizer | MelInverter
Vocode = Callable[[Mel, int], Tensor]


@dataclass(frozen=True)
class System:
    """A system that turns a mel into sound.

    Args:
        name: in the table.
        folder: of its wavs.
        vocode: (mel, n_samples) -> audio (1, n_samples); None is the recording itself.
    """

    name: str
    folder: str
    vocode: Vocode | None


@dataclass(frozen=True)
class Comparison:
    """Results of systems on recordings.

    Args:
        table: by system and metric, the mean over the recordings; NaN where none has a value.
        reasons: by system and metric, why recordings have no value, if some have none.
        signals: by system, its audio for each recording.
        entries: the recordings.
        sample_rate: in Hz, of the signals.
    """

    table: Mapping[str, Mapping[str, float]]
    reasons: Mapping[str, Mapping[str, str]]
    signals: Mapping[str, Sequence[Tensor]]
    entries: Sequence[Entry]
    sample_rate: int


def systems_of(model: Model) -> tuple[System, ...]:
    """Return a vocoder with and without the mel constraint, the constraint alone, Griffin-Lim, and the recording.

    Raises:
        ParameterError: if the model takes no mel.
    """
    dialect = model.dialect
    if dialect is None:
        raise ParameterError("the model takes no mel spectrogram: give one that was trained with conditioner=mel")
    inverter = checkpoint.load("none", dialect=dialect)

    def of(vocoder: Model, iterations: int) -> Vocode:
        return lambda mel, n_samples: vocoder.generate(mel, n_samples=n_samples, iterations=iterations)[0]

    def of_griffin_lim(mel: Mel, n_samples: int) -> Tensor:
        start = BlockNoise(0, [0])(torch.zeros(1, 1, n_samples), 0)[:, 0]
        return griffin_lim(mel, start, dialect=dialect, n_iterations=GRIFFIN_LIM_ITERATIONS)

    few, many = model.n_iterations, DEFAULT_ITERATIONS
    return (
        System("network alone", "network", of(model, 0)),
        System(f"network, {few} it.", "network_constraint", of(model, few)),
        System(f"constraint, {few} it.", "constraint_few", of(inverter, few)),
        System(f"constraint, {many} it.", "constraint", of(inverter, many)),
        System(f"Griffin-Lim, {GRIFFIN_LIM_ITERATIONS} it.", "griffin_lim", of_griffin_lim),
        System("ground truth", "truth", None),
    )


def compare(
    model: Model,
    systems: Sequence[System],
    entries: Sequence[Entry],
    *,
    wavs: Path,
    on_step: Callable[[], None] = lambda: None,
) -> Comparison:
    """Turn the mels of recordings into sound by every system, write wav files, and measure them.

    Args:
        model: computes the mels.
        systems: of its dialect.
        entries: the recordings.
        wavs: folder, in which each system has one of its own.
        on_step: called after each recording of each system.
    """
    sample_rate, hop = model.sample_rate, 1 if model.dialect is None else model.dialect.hop_length
    table: dict[str, dict[str, float]] = {}
    reasons: dict[str, dict[str, str]] = {}
    signals: dict[str, list[Tensor]] = {}
    truths = []
    for entry in entries:
        audio = load_whole(entry, sample_rate=sample_rate, n_channels=1)
        truths.append(audio[:, : audio.shape[-1] // hop * hop])
    model.generate(model.mel(truths[0][None]), iterations=1)  # The first call is slow, and is not timed.
    seconds = sum(truth.shape[-1] for truth in truths) / sample_rate
    for system in systems:
        pairs, spent = [], 0.0
        for entry, truth in zip(entries, truths, strict=True):
            estimate = truth
            if system.vocode is not None:
                mel = model.mel(truth[None])
                asked = time.perf_counter()
                estimate = system.vocode(mel, truth.shape[-1]).cpu()
                spent += time.perf_counter() - asked
            signals.setdefault(system.name, []).append(estimate)
            audio_io.write(
                wavs / system.folder / f"{entry.path.stem}.wav",
                estimate / estimate.abs().max().clamp(min=1.0) * (1 - 2**-15),
                sample_rate=sample_rate,
            )
            pairs.append(metrics.Pair(entry.path.stem, estimate, truth, sample_rate))
            on_step()
        summaries = metrics.summarise(metrics.evaluate(pairs, names=METRICS))
        table[system.name] = {name: summaries[name].mean for name in METRICS}
        table[system.name]["times_real_time"] = seconds / spent if spent else float("nan")
        missing = {name: _listed(summaries[name].reasons) for name in METRICS if summaries[name].reasons}
        if missing:
            reasons[system.name] = missing
    return Comparison(table=table, reasons=reasons, signals=signals, entries=entries, sample_rate=sample_rate)


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count} recordings)" for reason, count in reasons.items())
