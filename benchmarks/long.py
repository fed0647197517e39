"""Measure long and live generation: memory by length, error of chunks, latency of streams, WaveNet in blocks.

    python benchmarks/long.py [memory] [cut] [stream] [wavenet] [--checkpoint RUN] [--hour]

Without names it measures all four, in some minutes, on the embedded speech. Prints Markdown tables. Each measurement
of time or memory runs in a separate process, with the threads of its row. Needs Linux, and the package diffwave for the
last part.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

import audiodiff
from audiodiff.condition import Condition
from audiodiff.data import speech_folder
from audiodiff.io import audio as audio_io
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.streaming import Stream, stream_layout
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.blockwise import BLOCK_SAMPLES, run_in_blocks
from audiodiff.networks.embedding import StepTable
from audiodiff.networks.wavenet import WaveNet

Model = MelInverter | Synthesizer
ITERATIONS = (4, 8, 16)
HOP, BANDS, RATE = 256, 80, 22050  # of diffwave


def speech(seconds: float) -> tuple[Tensor, int]:
    """Repeat the embedded speech until it is that long: (1, 1, samples), and its rate."""
    parts, rate = [], 0
    for path in sorted((speech_folder() / "train").glob("*.flac")):
        audio, rate = audio_io.read(path)
        parts.append(audio)
    joined, length = torch.cat(parts, dim=-1), round(seconds * rate)
    return joined.repeat(1, -(-length // joined.shape[-1]))[None, :, :length], rate


def loaded(where: str, iterations: int | None) -> tuple[Model, dict[str, Any]]:
    """Load a model, and return the options of its streams."""
    return audiodiff.load(where, device="cpu"), {} if iterations is None else {"iterations": iterations}


def mel_of(model: Model, seconds: float) -> Tensor:
    audio, rate = speech(seconds)
    assert rate == model.sample_rate, f"the embedded speech has {rate} Hz and the model {model.sample_rate}"
    return model.mel(audio)


def models(checkpoint: str | None, *, iterations: tuple[int, ...]) -> list[tuple[str, str, int | None]]:
    """Return the models to measure: (name in the table, place, iterations)."""
    chosen: list[tuple[str, str, int | None]] = [(f"none, {n} iterations", "none", n) for n in iterations]
    return chosen if checkpoint is None else [*chosen, (Path(checkpoint).name, checkpoint, None)]


def start(task: str, *, threads: int, **options: Any) -> subprocess.Popen[str]:
    """Run a task of CHILDREN in a separate process."""
    command = [sys.executable, __file__, "--child", json.dumps({"task": task, **options})]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> Any:
    """Wait for a task, and return what it measured."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a measurement ended with code {process.returncode}")
    return json.loads(said.splitlines()[-1])


def peak_mib() -> float:
    """Return the peak memory of this process; ru_maxrss would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    print("|" + "---|" * len(cells), flush=True)


def p99(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))


# Memory


def memory(checkpoint: str | None, *, hour: bool) -> None:
    """Print the peak memory of generate-wav by the length of the result."""
    lengths = {"10 s": 10, "10 min": 600, **({"60 min": 3600} if hour else {})}
    head("generate-wav", *(f"{name}, MiB" for name in lengths), "longest above 10 s, MiB")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / f"{seconds}.flac") for name, seconds in lengths.items()}
        minute, rate = speech(60)
        for name, seconds in lengths.items():
            with soundfile.SoundFile(files[name], "w", rate, 1) as file:
                for first in range(0, seconds, 60):
                    file.write(minute[0, 0, : min(60, seconds - first) * rate].numpy())
        for label, where, n in models(checkpoint, iterations=(4,)):
            stream_options = [] if n is None else ["--iterations", str(n)]
            peaks = []
            for file in files.values():
                arguments = [file, "--model", where, *stream_options, "--out", str(Path(folder) / "out.wav"), "--force"]
                peaks.append(ended(start("generate", threads=2, arguments=arguments)))
            row(label, *(f"{peak:.0f}" for peak in peaks), f"{peaks[-1] - peaks[0]:.0f}")


def child_generate(arguments: list[str]) -> float:
    from audiodiff.cli.main import generate_wav

    sys.argv = ["generate-wav", "--device", "cpu", *arguments]
    try:
        generate_wav()
    except SystemExit as end:
        if end.code:
            raise
    return peak_mib()


# Error of chunks


def cut(checkpoint: str | None) -> None:
    """Print the greatest difference from the whole, of full scale, by the frames around each stretch of two seconds."""
    margins = (4, 8, 16, 24, 32, 48, 64)
    head("model", "its own margin", *(f"{margin} frames" for margin in margins))
    for label, where, n in models(checkpoint, iterations=ITERATIONS):
        model, stream_options = loaded(where, n)
        mel = mel_of(model, 20)
        whole = model.generate(mel, **stream_options)
        cells = []
        n_iterations = model.checked_iterations(n)
        plan = model.chunk_plan(n_iterations=n_iterations)
        assert plan is not None
        assert model.dialect is not None
        for margin in (None, *margins):
            chunk = 11 * model.open_stream().chunk_frames
            layout = stream_layout(plan, dialect=model.dialect, chunk_frames=chunk, ahead_frames=margin)
            render = model.renderer(n_iterations=n_iterations, seed=0, items=[0], on_step=None)
            streamed = torch.cat(list(Stream(render, dialect=model.dialect, layout=layout).over([mel])), dim=-1)
            cells.append(f"{float((streamed - whole).abs().max()):.1e}")
        row(label, *cells)


# Streams


def stream(checkpoint: str | None, *, seconds: float) -> None:
    """Print latency and difference by chunk and look-ahead, and how many streams two cores carry."""
    head(
        *("model", "chunk", "ahead", "latency in audio, ms", "compute, ms", "99 %, ms"),
        *("first sample out, ms", "99 %, ms", "difference from the whole", "live streams on two cores"),
    )
    for label, where, n in models(checkpoint, iterations=(4, 8)):
        for chunk, ahead in ((8, 4), (16, 8), (16, 16), (32, None)):
            options = {"where": where, "iterations": n, "chunk": chunk, "ahead": ahead, "seconds": seconds}
            one = ended(start("stream", threads=1, n_streams=1, compare=True, **options))
            latency, compute = one["latency_ms"], one["ticks_ms"]
            median, late = statistics.median(compute), p99(compute)
            row(
                *(label, chunk, one["ahead"], f"{latency:.0f}", f"{median:.1f}", f"{late:.1f}"),
                *(f"{latency + median:.0f}", f"{latency + late:.0f}", f"{one['difference']:.1e}"),
                carried(options, duration=one["chunk_ms"], compute=median),
            )


def carried(options: dict[str, Any], *, duration: float, compute: float) -> int:
    """Return the most streams, half of them on each core, of which all chunks are made within a chunk's duration."""
    n = int(duration / compute)
    while n > 0:
        # Both at once: they share caches and memory.
        both = [start("stream", threads=1, n_streams=n, compare=False, **options) for _ in range(2)]
        late = [p99(ended(process)["ticks_ms"]) for process in both]
        if max(late) < duration:
            return 2 * n
        n -= max(1, n // 8)
    return 0


def child_stream(
    where: str, iterations: int | None, chunk: int, ahead: int | None, seconds: float, n_streams: int, *, compare: bool
) -> dict[str, Any]:
    """Time how long the chunks of all streams take that are due at once, chunk after chunk."""
    model, stream_options = loaded(where, iterations)
    assert model.dialect is not None
    mel = mel_of(model, seconds)
    streams = [
        model.open_stream(chunk_frames=chunk, ahead_frames=ahead, item=item, **stream_options)
        for item in range(n_streams)
    ]
    latency_frames, hop_ms = streams[0].latency_frames, 1000 * model.dialect.hop_length / model.sample_rate
    ticks, made = [], []
    first = latency_frames - chunk
    for each in streams:
        each.push(mel[..., :first])
    for frames in mel[..., first:].split(chunk, dim=-1):
        began = time.perf_counter()
        audio = [each.push(frames) for each in streams]
        if audio[0].shape[-1]:
            ticks.append(1000 * (time.perf_counter() - began))
            made.append(audio[0])
    result: dict[str, Any] = {
        "ticks_ms": ticks[2:],  # the first ones fill caches
        "chunk_ms": chunk * hop_ms,
        "latency_ms": 1000 * streams[0].latency_seconds,
        "ahead": latency_frames - chunk,
    }
    if compare:
        streamed = torch.cat([*made, streams[0].close()], dim=-1)
        result["difference"] = float((streamed - model.generate(mel, **stream_options)).abs().max())
    return result


# The WaveNet at the rate of samples


def wavenet(*, seconds: float) -> None:
    """Print the time of a step beside diffwave's, the difference, the memory, and the time by the size of a block."""
    head("network", "threads", "ms per step and second of audio", "times diffwave's speed", "greatest difference")
    for threads in (1, 2):
        times = ended(start("wavenet", threads=threads, seconds=seconds))
        for name, (ms, difference) in times.items():
            row(name, threads, f"{ms:.0f}", f"{times['diffwave'][0] / ms:.2f}", f"{difference:.1e}")
    if not fast_bfloat16():
        row("audiodiff, bfloat16", "", "not measured: this processor multiplies it no faster", "", "")
    head("network", *(f"peak for {n} s, MiB" for n in (2, 6)), "MiB per second of audio")
    for name in ("diffwave", "audiodiff"):
        peaks = [ended(start("wavenet_memory", threads=2, name=name, seconds=n)) for n in (2, 6)]
        row(name, *(f"{peak:.0f}" for peak in peaks), f"{(peaks[1] - peaks[0]) / 4:.1f}")
    head("samples of a block", "1 thread, ms per step and second of audio", "2 threads")
    by_size = [ended(start("blocks", threads=threads, seconds=seconds)) for threads in (1, 2)]
    for size in by_size[0]:
        mark = " (chosen)" if int(size) == BLOCK_SAMPLES else ""
        row(f"{size}{mark}", *(f"{times[size]:.0f}" for times in by_size))


def fast_bfloat16() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def networks() -> tuple[torch.nn.Module, WaveNet]:
    """Make diffwave's network with random weights, and ours with the same ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from diffwave import model, params
    torch.manual_seed(0)
    peer = model.DiffWave(params.AttrDict(params.params)).eval()
    torch.nn.init.normal_(peer.output_projection.weight, std=0.1)
    own = WaveNet(StepTable(50), frame_bands=BANDS, hop_length=HOP).eval()
    names = {
        "residual_layers.": "stack.blocks.",
        "diffusion_projection": "step_projection",
        "conditioner_projection": "condition_projection",
        "diffusion_embedding.": "step_encoder.",
        "spectrogram_upsampler.conv1": "upsample.stages.0",
        "spectrogram_upsampler.conv2": "upsample.stages.1",
    }
    weights = {}
    for name, weight in peer.state_dict().items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        weights[name] = weight
    own.load_state_dict(weights, strict=True)
    return peer, own


def inputs(seconds: float) -> tuple[Tensor, Tensor, Tensor]:
    n_frames = round(seconds * RATE / HOP)
    draw = torch.Generator().manual_seed(1)
    return (
        torch.randn(1, 1, n_frames * HOP, generator=draw),
        torch.rand(1, BANDS, n_frames, generator=draw),
        torch.tensor([7.0]),
    )


def child_wavenet(seconds: float) -> dict[str, tuple[float, float]]:
    """Time a step of each in turn; ours has its condition encoded once for all steps, as it is in use."""
    peer, own = networks()
    x, mel, step = inputs(seconds)
    with torch.no_grad():
        encoded = own.encode(Condition(frames=mel))
        runs = {
            "diffwave": lambda: peer(x[:, 0], mel, step),
            "audiodiff, layer by layer": lambda: layer_by_layer(own, x, step, encoded),
            "audiodiff": lambda: own(x, step, encoded),
        }
        if fast_bfloat16():
            runs["audiodiff, bfloat16"] = lambda: rounded(own, x, step, encoded)
        expected = runs["diffwave"]()
        return {name: (ms, float((runs[name]() - expected).abs().max())) for name, ms in timed(runs, seconds).items()}


def timed(runs: dict[str, Any], seconds: float, *, n_runs: int = 5) -> dict[str, float]:
    """Return the median time of each, in ms per second of audio, measured in turn."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(n_runs + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if index:
                spent[name].append(1000 * (time.perf_counter() - began) / seconds)
    return {name: statistics.median(times) for name, times in spent.items()}


def layer_by_layer(own: WaveNet, x: Tensor, step: Tensor, encoded: Condition) -> Tensor:
    handle = own.stack.register_forward_hook(lambda *_: None)  # whoever listens to a layer gets them one by one
    result = own(x, step, encoded)
    handle.remove()
    return result


def rounded(own: WaveNet, x: Tensor, step: Tensor, encoded: Condition) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return own(x, step, encoded).float()


def child_wavenet_memory(name: str, seconds: float) -> float:
    peer, own = networks()
    x, mel, step = inputs(seconds)
    with torch.no_grad():
        if name == "diffwave":
            peer(x[:, 0], mel, step)
        else:
            own(x, step, own.encode(Condition(frames=mel)))
    return peak_mib()


def child_blocks(seconds: float) -> dict[str, float]:
    _, own = networks()
    x, mel, step = inputs(seconds)
    with torch.no_grad():
        local = own.encode(Condition(frames=mel)).signal
        assert local is not None

        def run(size: int) -> Tensor:
            return run_in_blocks(
                x[0],
                blocks=own.stack.layers,
                step=own.step_encoder(step)[0],
                local=local[0],
                vector=None,
                input_projection=own.input_projection,
                skip_projection=own.skip_projection,
                output_projection=own.output_projection,
                block_samples=size,
            )

        sizes = (1024, 2048, 4096, 8192, 16384, 32768)
        return timed({str(size): lambda size=size: run(size) for size in sizes}, seconds)


CHILDREN = {
    "generate": child_generate,
    "stream": child_stream,
    "wavenet": child_wavenet,
    "wavenet_memory": child_wavenet_memory,
    "blocks": child_blocks,
}
PARTS = ("memory", "cut", "stream", "wavenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them without")
    parser.add_argument("--checkpoint", metavar="RUN", help="a trained vocoder, measured beside model 'none'")
    parser.add_argument("--hour", action="store_true", help="measure the memory of an hour, too")
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech that is streamed")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        arguments = json.loads(options.child)
        print(json.dumps(CHILDREN[arguments.pop("task")](**arguments)))
        return
    parts = options.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: a part must be one of {', '.join(PARTS)}")
    if "memory" in parts:
        memory(options.checkpoint, hour=options.hour)
    if "cut" in parts:
        cut(options.checkpoint)
    if "stream" in parts:
        stream(options.checkpoint, seconds=options.seconds)
    if "wavenet" in parts:
        wavenet(seconds=2.0)


if __name__ == "__main__":
    main()
