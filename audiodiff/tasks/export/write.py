"""Writing of programs: traced by torch.export, converted, compared with the model, and saved with what they take."""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from audiodiff._version import __version__
from audiodiff.diffusion.sampler import Sampler
from audiodiff.errors import AudioFileError, ParameterError, innermost
from audiodiff.io.atomic import atomic_folder
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.vocoder import Vocoder
from audiodiff.requirements import require
from audiodiff.tasks.export.programs import Program, programs_of

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""Names of the formats, with the suffix of their files."""
CONTENTS = "export.json"
"""The file that says what the programs take and give."""
LENGTHS = (9, 15, 28)
"""Lengths of the comparison with the model, in units of `Program`; the first is traced."""
OPSET = 18
"""Of ONNX: the exporter would convert a later one without the bodies of loops."""


def export_model(
    model: Vocoder,
    out: Path,
    *,
    name: str,
    kind: str = "onnx",
    steps: int | None = None,
    iterations: int | None = None,
    force: bool = False,
) -> dict[str, dict[str, Any]]:
    """Write the programs of a model into a folder, and compare each with the model.

    Args:
        model: on a CPU.
        out: the folder.
        name: of the model, for the folder's description and messages.
        kind: "onnx" or "torch".
        steps: as in `programs_of`, and so for iterations.
        iterations: see steps.
        force: replace an export that is there.

    Returns: for each program what `export.json` says of it, with `difference`, the greatest difference of a sample from
        the model's over three lengths, and `peak`, the model's greatest sample.

    Raises:
        ParameterError: if an option has no meaning, or an operator of the model has no counterpart, which is named.
        AudioFileError: if the folder holds something else, or an export without force.
        PackageError: if ONNX's packages are not installed.
    """
    if kind not in FORMATS:
        raise ParameterError(f"--format {kind} must be one of {', '.join(FORMATS)}")
    if kind == "onnx":
        require("onnx", "onnxscript", "onnxruntime")
    if out.exists() and not (force and (out / CONTENTS).is_file()):
        remedy = "give --force to replace it, or another" if (out / CONTENTS).is_file() else "give another"
        raise AudioFileError(f"--out {out} exists: {remedy} --out")
    programs, described = programs_of(model.eval(), steps=steps, iterations=iterations), {}
    with torch.no_grad(), atomic_folder(out) as folder:
        for program in programs:
            path = folder / (program.name + FORMATS[kind])
            traced = trace(program, name=name)
            if kind == "onnx":
                convert(traced, path, program=program, name=name)
            else:
                torch.export.save(traced, path)
            described[program.name] = _described(program, path, compare(program, path))
        sampler = model.sampler if isinstance(model, Synthesizer) else None
        contents = _contents(model, sampler, name=name, steps=steps, programs=described)
        (folder / CONTENTS).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    return described


def trace(program: Program, *, name: str) -> ExportedProgram:
    """Return the program as torch.export traces it, for every length.

    Raises:
        ParameterError: if it cannot be traced, with the reason.
    """
    inputs = program.example(LENGTHS[0], torch.Generator().manual_seed(0))
    program.module(*inputs)  # computes and keeps what a trace must not
    with _quiet():
        try:
            return torch.export.export(program.module, inputs, dynamic_shapes=tuple(program.shapes))
        except Exception as error:
            raise _refusal(error, program=program, name=name, into="a program by torch.export") from error


def convert(traced: ExportedProgram, path: Path, *, program: Program, name: str) -> None:
    """Write a traced program as ONNX, in one file.

    Raises:
        ParameterError: if an operator has no counterpart in ONNX, by its name.
    """
    with _quiet():
        try:
            made = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(program.inputs),
                output_names=[program.output],
            )
        except Exception as error:
            raise _refusal(error, program=program, name=name, into="ONNX") from error
    assert made is not None
    made.save(path, external_data=False)
    _forget_sizes(path)


def _forget_sizes(path: Path) -> None:
    """Remove what the exporter says of the sizes of intermediate values, which holds for the traced length only."""
    import onnx  # pyright: ignore[reportMissingImports]

    model = onnx.load(path)
    graphs = [model.graph]
    for graph in graphs:
        del graph.value_info[:]
        graphs.extend(a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
    onnx.save(model, path)


def compare(program: Program, path: Path) -> tuple[float, float]:
    """Return the greatest difference of a written program from the model over three lengths, and the greatest sample.

    Raises:
        ParameterError: if it takes only one length.
    """
    run = runner(path)
    difference = peak = 0.0
    for n in LENGTHS:
        inputs = program.example(n, torch.Generator().manual_seed(n))
        expected = program.module(*inputs)
        try:
            given = run(inputs)
        except Exception as error:
            sizes = ", ".join(str(tuple(each.shape)) for each in inputs)
            raise ParameterError(
                f"{program.name}: the exported program does not run on inputs of {sizes}: {_first_line(error)}"
            ) from error
        difference = max(difference, float((given - expected).abs().max()))
        peak = max(peak, float(expected.abs().max()))
    return difference, peak


def runner(path: Path):
    """Return the function (inputs) -> output of a written program, on one thread."""
    if path.suffix == FORMATS["torch"]:
        module = torch.export.load(path).module()
        return lambda inputs: module(*inputs)
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> Tensor:
        return torch.from_numpy(session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})[0])

    return run


def _described(program: Program, path: Path, result: tuple[float, float]) -> dict[str, Any]:
    inputs = program.example(LENGTHS[0], torch.Generator())
    return {
        "file": path.name,
        "inputs": {
            name: [*each.shape[:2], "time"] if each.ndim == 3 else list(each.shape)
            for name, each in zip(program.inputs, inputs, strict=True)
        },
        "output": program.output,
        "difference": result[0],
        "peak": result[1],
    }


def _contents(
    model: Vocoder, sampler: Sampler | None, *, name: str, steps: int | None, programs: dict[str, Any]
) -> dict[str, Any]:
    dialect = model.dialect
    sigmas = None if sampler is None else sampler.grid(steps or sampler.n_steps).tolist()
    return {
        "audiodiff": __version__,
        "model": name,
        "sample_rate": model.sample_rate,
        "hop_length": None if dialect is None else dialect.hop_length,
        "centred": None if dialect is None else dialect.centred,
        "sigmas": sigmas,
        "programs": programs,
    }


def _refusal(error: Exception, *, program: Program, name: str, into: str) -> ParameterError:
    """Return the message of an operator that cannot be exported, or of another reason."""
    text = f"{error}\n{innermost(error)}"
    found = re.search(r"OpOverload\(op='([\w.]+)'|(?:operator|op) '?(aten[.:]+\w+)", text)
    reason = f"operator {found.group(1) or found.group(2)}" if found else _first_line(innermost(error))
    return ParameterError(f"model {name!r}: {program.name} cannot be converted to {into}: {reason}")


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).strip().splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own parts to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
