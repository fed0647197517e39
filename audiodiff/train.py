"""`audiodiff train`: compose, check, train, save."""

import hashlib
import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

import audiodiff
from audiodiff import checkpoint, compose
from audiodiff.data import speech_folder
from audiodiff.data.dataset import CropDataset
from audiodiff.data.loader import batches
from audiodiff.data.manifest import Entry
from audiodiff.data.scanning import Scan, load_entries
from audiodiff.errors import AudiodiffError, DataError, ParameterError, TrainingError
from audiodiff.messages import fail, say
from audiodiff.training import loop, validation
from audiodiff.training.ema import Ema
from audiodiff.training.log import NoLog
from audiodiff.training.precision import resolve_precision
from audiodiff.training.state import exactness, read_state
from audiodiff.training.step import TrainingStep

N_FIT_EXAMPLES = 64
"""Crops that a representation takes its statistics from."""


def command(arguments: list[str]) -> None:
    """Run `audiodiff train` with these arguments: Hydra's overrides and options."""
    import hydra

    given = list(sys.argv)

    @hydra.main(config_path=str(compose.config_folder()), config_name="config", version_base="1.3")
    def task(config: Any) -> None:
        # DDP starts its other processes by the command line as it was given, with `train` in it.
        sys.argv = given
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        hydra_config = HydraConfig.get()
        try:
            resolved = compose.plain(config)
            if hydra_config.mode == RunMode.MULTIRUN and _n_devices(resolved) > 1:
                raise ParameterError(
                    f"fabric.devices={resolved['fabric']['devices']} with --multirun: DDP starts its processes by the "
                    "command line, which would sweep again; run the jobs one by one, or with fabric.devices=1"
                )
            train(resolved, run=Path(hydra_config.runtime.output_dir))
        except AudiodiffError as error:
            fail(error)

    sys.argv = [given[0], *_hydra_arguments(arguments)]
    task()


def train(config: Mapping[str, Any], *, run: Path) -> loop.Outcome:
    """Train as a resolved configuration says, with everything that comes of it in the folder `run`.

    Raises:
        ParameterError: if the configuration does not fit together.
        DataError: if the recordings cannot be used.
        TrainingError: if training or an exact resume is impossible.
    """
    import lightning_fabric

    settings = loop.Settings(**_without(config["train"], "resume", "deterministic"), seed=config["seed"])
    resume = config["train"]["resume"]
    torch.use_deterministic_algorithms(config["train"]["deterministic"])
    torch.manual_seed(settings.seed)
    synthesizer = compose.build_model(config)
    module = TrainingStep(
        synthesizer=synthesizer,
        objective=compose.instantiate(config["objective"], name="objective"),
        density=compose.instantiate(config["density"], name="density"),
    )
    schedule = compose.instantiate(config["schedule"], name="schedule")
    watch = validation.Settings(**config["validation"])
    _refuse_used(run, resume=resume)
    scan = _scan(config)
    dataset, held_out = (
        CropDataset(
            scan.split(split),
            sample_rate=synthesizer.sample_rate,
            n_channels=config["data"]["n_channels"],
            crop_samples=compose.crop_samples(config),
            seed=settings.seed,
        )
        for split in ("train", "val")
    )

    fabric_settings = dict(config["fabric"])
    fabric_settings["precision"] = resolve_precision(
        fabric_settings["precision"], accelerator=fabric_settings["accelerator"]
    )
    config = {**config, "fabric": fabric_settings}
    try:
        fabric = lightning_fabric.Fabric(**fabric_settings)
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise ParameterError(f"fabric={fabric_settings}: {error}") from error
    digest = _digest(scan.split("train"))
    wanted = exactness(config, data=digest, world_size=fabric.world_size, device=fabric.device.type)
    state: dict[str, Any] | None = None
    if resume is not None:
        folder, state = read_state(str(resume), wanted=wanted, exact=config["resume"]["exact"])
        synthesizer.load_state_dict(state["model"])
        if state["step"] >= settings.steps:
            raise TrainingError(f"train.steps={settings.steps} are made already: {folder} holds step {state['step']}")
    else:
        n_fit = min(N_FIT_EXAMPLES, dataset.n_per_epoch)
        synthesizer.representation.fit(torch.stack([dataset[k]["audio"] for k in range(n_fit)]))

    optimizer = compose.instantiate(config["optimizer"], name="optimizer")(synthesizer.parameters())
    wrapped, fabric_optimizer = fabric.setup(module, optimizer)
    ema = Ema(synthesizer, decay=settings.ema_decay)
    first_step = 0
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        ema.load_shadow(state["ema"])
        first_step = state["step"]

    log = compose.instantiate(config["logger"], name="logger")(run) if fabric.is_global_zero else NoLog()
    validate = validation.Validation(
        module=module, ema=ema, entries=scan.split("val"), crops=held_out, settings=watch, log=log
    )
    checkpoints = run / "checkpoints"

    def save(step: int, metrics: Mapping[str, float]) -> None:
        if not fabric.is_global_zero:
            return
        name = f"step_{step:08d}"
        checkpoint.save(
            checkpoints / name,
            model=config["model"],
            sample_rate=synthesizer.sample_rate,
            mel_dialect=synthesizer.dialect,
            weights=ema.state_dict(),
            metrics={"step": step, "validation": dict(metrics)},
            card=_card(config, step=step, metrics=metrics, n_train=len(scan.split("train"))),
            training_state={
                "step": step,
                "model": synthesizer.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.shadow,
                "exactness": wanted,
            },
        )
        checkpoint.point_latest(checkpoints, name)
        _prune(checkpoints, keep=settings.keep)

    if fabric.is_global_zero:
        n_parameters = sum(parameter.numel() for parameter in synthesizer.parameters())
        say(
            f"{n_parameters / 1e6:.2f} M parameters, {len(dataset.entries)} recordings to train on, "
            f"{len(held_out.entries)} held out, on {fabric.world_size} x {fabric.device.type} -> {run}"
        )
    try:
        outcome = loop.fit(
            fabric=fabric,
            module=module,
            wrapped=wrapped,
            optimizer=fabric_optimizer,  # pyright: ignore[reportArgumentType]
            schedule=schedule,
            ema=ema,
            batches=lambda step: closing(
                batches(
                    dataset,
                    batch_size=settings.batch_size,
                    first_step=step,
                    world_size=fabric.world_size,
                    rank=fabric.global_rank,
                    n_workers=config["data"]["n_workers"],
                    accumulate=settings.accumulate,
                )
            ),
            settings=settings,
            first_step=first_step,
            log=log,
            validate=validate if fabric.is_global_zero else (lambda step: {}),  # noqa: ARG005
            save=save,
        )
    finally:
        log.close()
    if fabric.is_global_zero:
        _report(outcome, run=run, steps=settings.steps)
    return outcome


def _scan(config: Mapping[str, Any]) -> Scan:
    data = config["data"]
    if data["root"] is None:
        raise ParameterError("data.root=null: give a folder of recordings or a manifest, data.root=/my/recordings")
    root = speech_folder() if data["root"] == "embedded" else compose.absolute(data["root"])
    if not root.exists():
        raise DataError(f"data.root={data['root']} does not exist (as {root})")
    scan = load_entries(root, on_bad=data["on_bad"])
    if scan.skipped:
        say(f"skipped {len(scan.skipped)} files that cannot be used, {scan.skipped[0].path.name} for one")
    for split in ("train", "val"):
        if split not in scan.splits:
            raise DataError(
                f"{root}: no recording is in the split {split!r} (there is {', '.join(scan.splits)}): "
                "training needs at least one to learn from and one to be measured on"
            )
    return scan


def _digest(entries: tuple[Entry, ...]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path.name}|{entry.start}|{entry.n_samples}|{entry.sample_rate}\n".encode())
    return digest.hexdigest()[:16]


def _refuse_used(run: Path, *, resume: str | None) -> None:
    """Keep an earlier run's checkpoints from being written over."""
    if resume is None and (run / "checkpoints" / checkpoint.LATEST).exists():
        raise TrainingError(
            f"hydra.run.dir={run} holds the checkpoints of an earlier run: go on from them with train.resume={run}, "
            "or choose another folder"
        )


def _prune(checkpoints: Path, *, keep: int) -> None:
    folders = sorted(folder for folder in checkpoints.glob("step_*") if folder.is_dir())
    for folder in folders[:-keep]:
        shutil.rmtree(folder)


def _report(outcome: loop.Outcome, *, run: Path, steps: int) -> None:
    newest = run / "checkpoints" / (run / "checkpoints" / checkpoint.LATEST).read_text().strip()
    if outcome.metrics:
        say("validation: " + ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items()))
    say(f"waited for data {100 * outcome.data_wait:.1f} % of the time; checkpoint {newest}")
    if outcome.signal is not None and outcome.step < steps:
        say(f"stopped by {outcome.signal} after step {outcome.step} of {steps}; go on with train.resume={run}")


def _card(config: Mapping[str, Any], *, step: int, metrics: Mapping[str, float], n_train: int) -> str:
    dialect = config["audio"].get("dialect")
    measured = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()) or "| not measured yet | |"
    return f"""# Model card

- audiodiff {audiodiff.__version__}, {step} steps, seed {config["seed"]}
- audio: {config["audio"]["sample_rate"]} Hz, mel dialect: {"none" if dialect is None else dialect["name"]}
- data: {config["data"]["root"]}, {n_train} recordings; their licence governs what may be done with the weights
- use: `generate-wav INPUT --model FOLDER --out FILE.wav`, or `audiodiff.load("FOLDER").generate(...)`

| on held-out recordings | |
|---|---|
{measured}
"""


def _hydra_arguments(arguments: list[str]) -> list[str]:
    """Add where recipes are found, and that a resumed run goes on in its own folder."""
    added = []
    if not any(argument.lstrip("+~").startswith("hydra.searchpath=") for argument in arguments):
        added.append(f"hydra.searchpath=[file://{compose.recipe_root()}]")
    resume = [argument.partition("=")[2] for argument in arguments if argument.startswith("train.resume=")]
    chosen = any(argument.startswith("hydra.run.dir=") for argument in arguments)
    if resume and resume[-1] not in ("", "null") and not chosen:
        added.append(f"hydra.run.dir={_run_of(resume[-1])}")
    return [*arguments, *added]


def _run_of(resume: str) -> Path:
    """Return the run folder of a run folder, its checkpoints or one of them."""
    path = compose.absolute(resume.strip("'\""))
    for part in (path, *path.parents):
        if (part / "checkpoints").is_dir():
            return part
    return path


def _n_devices(config: Mapping[str, Any]) -> int:
    devices = config["fabric"]["devices"]
    return devices if isinstance(devices, int) and devices > 0 else (2 if devices in (-1, "auto") else 1)


def _without(node: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in names}
