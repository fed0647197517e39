"""Models hold float32: another precision is refused before anything is changed, and autocast works."""

from collections.abc import Callable

import pytest
import tiny
import torch
from torch import nn

from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.models.classifier import Classifier
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.synthesizer import Synthesizer

MODELS: dict[str, Callable[[], nn.Module]] = {
    "vocoder": lambda: tiny.synthesizer(tiny.VOCODER),
    "mel inverter": lambda: MelInverter(dialect=dialect("hifigan")),
    "classifier": lambda: Classifier(sample_rate=8000, vocabularies={"label": ["a", "b"]}, columns={"label": "label"}),
}
CHANGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "to": lambda model: model.to(torch.float16),
    "to a device": lambda model: model.to("cpu", torch.float64),
    "type": lambda model: model.type(torch.float16),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MODELS)
def test_another_precision_is_refused_with_the_remedy(name: str, change: str):
    model = MODELS[name]()
    with pytest.raises(ParameterError, match=r"a model holds float32 alone.*torch\.autocast"):
        CHANGES[change](model)
    assert {tensor.dtype for tensor in model.parameters()} <= {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_float32_and_devices_are_no_change(name: str):
    model = MODELS[name]()
    for same in (model.float(), model.to("cpu"), model.to(torch.float32), model.cpu()):
        assert same is model


@pytest.mark.parametrize("name", ["vocoder", "mel inverter"])
def test_a_model_generates_float32_under_autocast(name: str):
    model = MODELS[name]()
    assert isinstance(model, MelInverter | Synthesizer)
    mel = dialect("hifigan").mel(0.1 * torch.randn(1, 2560, generator=torch.Generator().manual_seed(0)))
    with torch.autocast("cpu", torch.bfloat16):
        audio = model.generate(mel)
    assert audio.dtype == torch.float32
    assert bool(audio.isfinite().all())
