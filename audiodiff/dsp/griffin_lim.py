"""The fast Griffin-Lim algorithm on mels, the baseline of mel inversion."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_constraint import check_inputs
from audiodiff.errors import ParameterError
from audiodiff.types import MelsOfSignals


def griffin_lim(
    mel: MelsOfSignals,
    start: Float[Tensor, "batch time"],
    *,
    dialect: MelDialect,
    n_iterations: int = 64,
    momentum: float = 0.99,
    pairs: ChannelPairs | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Invert a mel by pseudo-inverse magnitudes and torchaudio's Griffin-Lim (Perraudin et al. 2013).

    c <- |target| t / |t| with t = G(c) - momentum / (1 + momentum) * G(c_previous), G the STFT of the inverse STFT.
    torchaudio.functional.griffinlim draws the first phases itself and centres every frame, which hifigan does not: this
    is its iteration, with its meaning of momentum, on the dialect's own STFT and from the phases of start.

    Args:
        start: audio whose phases to begin with; its level does not matter.
        n_iterations: 0 gives the magnitudes of the mel and the phases of start.
        pairs: as in `audiodiff.dsp.inversion.constrain`: the signals then agree before each iteration and at the end.
        on_step: called after every iteration of the batch with the number of iterations done, 1 to n_iterations.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together.
    """
    check_inputs(start, mel, dialect=dialect, n_iterations=n_iterations, pairs=pairs)
    if not 0 <= momentum < 1:
        raise ParameterError(f"momentum={momentum} must lie in [0, 1)")
    stft, length = dialect.stft, start.shape[-1]
    with torch.no_grad():
        inverse = torch.linalg.pinv(dialect.filters()).to(mel)
        p = dialect.power
        magnitudes = [
            ((inverse @ dialect.amplitude(item) ** p).clamp_(min=0) ** (1 / p)).mT.contiguous() for item in mel
        ]
        spectra = [
            torch.polar(magnitude, stft.analyse(signal).angle())
            for magnitude, signal in zip(magnitudes, start if pairs is None else pairs.mixed(start), strict=True)
        ]

        def signals() -> Tensor:
            own = torch.stack([stft.synthesise(spectrum, length=length) for spectrum in spectra])
            return own if pairs is None else pairs.mixed(pairs.unmixed(own))

        previous = [torch.zeros_like(spectrum) for spectrum in spectra]
        for step in range(n_iterations):
            for item, (magnitude, signal) in enumerate(zip(magnitudes, signals(), strict=True)):
                rebuilt = stft.analyse(signal)
                spectrum = rebuilt - momentum / (1 + momentum) * previous[item]
                spectra[item] = spectrum.mul_(magnitude / spectrum.abs().clamp_(min=1e-16))
                previous[item] = rebuilt
            if on_step is not None:
                on_step(step + 1)
        return signals()[: len(start)]
