"""`audiodiff train`: compose, check, train, save."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import audiodiff
from audiodiff import metrics
from audiodiff.data import label_set, resampling
from audiodiff.data.dataset import CropDataset
from audiodiff.data.loader import batches
from audiodiff.data.scanning import Scan
from audiodiff.errors import AudiodiffError, DataError, ParameterError, TrainingError, check_whole
from audiodiff.io.console import fail, say
from audiodiff.labels import LabelSet
from audiodiff.models import checkpoint
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.requirements import require
from audiodiff.training import config as compose
from audiodiff.training import loop, validation
from audiodiff.training import sweep as sweep_table
from audiodiff.training.ema import Ema
from audiodiff.training.failure import closing_log, explaining, how_to_go_on, in_a_line
from audiodiff.training.initial import start_from
from audiodiff.training.log import NoLog
from audiodiff.training.overrides import hydra_arguments, is_used
from audiodiff.training.precision import resolve_precision
from audiodiff.training.state import digest, exactness, read_state, restore
from audiodiff.training.step import TrainingStep

if TYPE_CHECKING:
    from lightning_fabric import Fabric

N_FIT_EXAMPLES = 64
"""Crops that a representation takes its statistics from."""


def command(arguments: list[str]) -> None:
    """Run `audiodiff train` with these arguments: Hydra's overrides and options."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

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
            if hydra_config.mode == RunMode.MULTIRUN and _n_processes(resolved) > 1:
                raise ParameterError(
                    f"fabric.devices={resolved['fabric']['devices']} with --multirun: DDP starts its processes by the "
                    "command line, which would sweep again; run the jobs one by one, or with fabric.devices=1"
                )
            compose.instantiate(resolved["task"], name="task")(resolved, run=Path(hydra_config.runtime.output_dir))
        except AudiodiffError as error:
            if not sweep_table.takes_note(hydra_config):
                fail(error)
            sweep_table.note_refusal(Path(hydra_config.runtime.output_dir), error)

    sys.argv = [given[0], *hydra_arguments(arguments)]
    # Hydra then raises what it would print in a screenful.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        fail(ParameterError(compose.in_a_line(error)))


def train(config: Mapping[str, Any], *, run: Path) -> loop.Outcome:
    """Train as a resolved configuration says, with everything that comes of it in the folder `run`.

    Raises:
        ParameterError: if the configuration does not fit together.
        DataError: if the recordings cannot be used.
        TrainingError: if training or an exact resume is impossible, or a stage of it fails: the newest checkpoint is
            named, with the command that goes on from it.
        PackageError: if a package that is needed later on, for validation for example, cannot be loaded.
    """
    settings = compose.settings(
        loop.Settings,
        {**_without(config["train"], "init_from", "init_across", "resume", "deterministic"), "seed": config["seed"]},
        name="train",
    )
    watch = compose.settings(validation.Settings, config["validation"], name="validation")
    resume, init_from = config["train"]["resume"], config["train"]["init_from"]
    _refuse_used(run, resume=resume)
    logger = compose.instantiate(config["logger"], name="logger")
    _require_packages(config, logger=logger, names=watch.metrics)
    check_whole(config["data"]["n_workers"], name="data.n_workers", least=0)
    config = {**config, "fabric": _with_precision(config["fabric"])}
    _choose_algorithms(deterministic=config["train"]["deterministic"])
    torch.manual_seed(settings.seed)
    columns = config["data"]["labels"]
    scan = _scan(config) if columns else None
    labels = LabelSet({}) if scan is None else label_set(scan.split("train"), columns)
    config = compose.with_labels(config, labels)
    module = compose.build_training_step(config)
    synthesizer = module.synthesizer
    validation.check(watch, model=synthesizer)
    schedule = compose.instantiate(config["lr_schedule"], name="lr_schedule")
    scan = scan or _scan(config)
    dataset, held_out = (
        CropDataset(
            scan.split(split),
            sample_rate=synthesizer.sample_rate,
            n_channels=config["data"]["n_channels"],
            crop_samples=compose.crop_samples(config),
            seed=settings.seed,
            labels=labels,
            columns=columns,
            balance=config["data"]["balance"] if split == "train" else None,
            alike=config["data"]["alike"],
        )
        for split in ("train", "val")
    )

    fabric = _launched(config["fabric"])
    wanted = exactness(
        config,
        data=digest(dataset.entries, columns=columns.values()),
        world_size=fabric.world_size,
        device=fabric.device.type,
        method=module.dependencies(),
    )
    state = None if resume is None else read_state(str(resume), wanted=wanted, exact=config["resume"]["exact"])
    if state is None and init_from is not None:
        across = config["train"]["init_across"]
        start_from(str(init_from), synthesizer=synthesizer, model=config["model"], across=across)
    elif state is None:
        _fit_statistics(synthesizer, dataset)
    elif state["step"] >= settings.steps:
        raise TrainingError(
            f"train.steps={settings.steps} are made already: {resume} holds step {state['step']}; to go on, raise it"
        )
    with compose.readable("optimizer"):
        optimizer = compose.instantiate(config["optimizer"], name="optimizer")(module.learnt())
    wrapped, fabric_optimizer = fabric.setup(module, optimizer)
    ema = Ema(synthesizer, decay=settings.ema_decay)
    if state is not None:
        restore(state, synthesizer=synthesizer, optimizer=optimizer, ema=ema)
        module.density.restore(state["density"])
        module.restore(state.get("method", {}))
    first_step = 0 if state is None else state["step"]

    def save(step: int, metrics: Mapping[str, float]) -> None:
        try:
            _save(
                run / "checkpoints",
                step=step,
                config=config,
                synthesizer=synthesizer,
                ema=ema,
                optimizer=optimizer,
                module=module,
                exactly=wanted,
                metrics=metrics,
                n_train=len(dataset.entries),
                keep=settings.keep,
            )
        except Exception as error:
            raise TrainingError(
                f"the checkpoint of step {step} cannot be written ({in_a_line(error)}): is the disk full? "
                f"{how_to_go_on(run, steps=settings.steps)}"
            ) from error

    first = fabric.is_global_zero
    log = logger(run, first_step=first_step) if first else NoLog()
    with closing_log(log), explaining(run, steps=settings.steps):
        if first:
            _announce(run, synthesizer=synthesizer, dataset=dataset, held_out=held_out, fabric=fabric)
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
            metrics={} if state is None else state["metrics"],
            log=log,
            validate=validation.Validation(
                module=module, ema=ema, entries=scan.split("val"), crops=held_out, settings=watch, log=log
            )
            if first
            else _nothing,
            save=save if first else _nothing,
        )
    if first:
        _report(outcome, run=run, steps=settings.steps)
    return outcome


def _require_packages(config: Mapping[str, Any], *, logger: Any, names: Sequence[str]) -> None:
    """Import what training, validation and the log will need, before anything is read or computed."""
    needed = ["soundfile", "safetensors", "lightning_fabric"]
    if config["audio"].get("dialect") is not None:
        needed.append("librosa")  # the mel filters
    if names:
        needed += metrics.packages(list(names))
    # A logger of the user's own may be a function, which names no packages.
    needed += getattr(getattr(logger, "func", None), "packages", ())
    require(*needed)


def _fit_statistics(synthesizer: Synthesizer, dataset: CropDataset) -> None:
    """Take from the training data what is known of it before the first step."""
    n_fit = min(N_FIT_EXAMPLES, dataset.n_per_epoch)
    # Draws of like length stand together: some of all lengths.
    stride = 1 if dataset.alike == 1 else dataset.n_per_epoch // n_fit
    examples = [dataset[k * stride] for k in range(n_fit)]
    synthesizer.representation.fit([example["audio"][None, :, : example["n_valid"]] for example in examples])
    if isinstance(synthesizer.conditioner, LabelConditioner):
        synthesizer.conditioner.fit_durations(
            torch.tensor(dataset.lengths) / dataset.sample_rate,
            dataset.label_indices,
            longest=dataset.crop_samples / dataset.sample_rate,
        )


def _choose_algorithms(*, deterministic: bool) -> None:
    """Set what torch keeps for the whole process."""
    if deterministic:
        # What cuBLAS asks for; it is read when CUDA is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def _with_precision(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return Fabric's settings with a precision that it knows."""
    return {**node, "precision": resolve_precision(node["precision"], accelerator=node["accelerator"])}


def _launched(node: Mapping[str, Any]) -> "Fabric":
    """Return Fabric with its processes running."""
    import lightning_fabric

    try:
        fabric = lightning_fabric.Fabric(**node)
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise ParameterError(f"fabric={dict(node)}: {str(error).splitlines()[0]}") from error
    return fabric


def _nothing(*_: Any) -> Any:
    """Stand for validation and saving where another process does them."""
    return {}


def _save(
    checkpoints: Path,
    *,
    step: int,
    config: Mapping[str, Any],
    synthesizer: Synthesizer,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    module: TrainingStep,
    exactly: Mapping[str, str],
    metrics: Mapping[str, float],
    n_train: int,
    keep: int,
) -> None:
    """Write a step's checkpoint, point `latest` to it, and drop the oldest."""
    name = f"step_{step:08d}"
    checkpoint.save(
        checkpoints / name,
        model=config["model"],
        sample_rate=synthesizer.sample_rate,
        mel_dialect=synthesizer.dialect,
        weights=ema.state_dict(),
        metrics={"step": step, "validation": dict(metrics)},
        card=_card(config, step=step, metrics=metrics, n_train=n_train, model=synthesizer),
        training_state={
            "step": step,
            "model": synthesizer.state_dict(),
            "optimizer": optimizer.state_dict(),
            "optimizer_kind": type(optimizer).__name__,
            "ema": ema.shadow,
            "density": module.density.state(),
            "method": dict(module.state()),
            "metrics": dict(metrics),
            "exactness": dict(exactly),
        },
    )
    checkpoint.point_latest(checkpoints, name)
    checkpoint.prune(checkpoints, newest=name, keep=keep)


def _announce(
    run: Path, *, synthesizer: Synthesizer, dataset: CropDataset, held_out: CropDataset, fabric: "Fabric"
) -> None:
    n_parameters = sum(parameter.numel() for parameter in synthesizer.parameters())
    changed = resampling(dataset.entries, sample_rate=dataset.sample_rate)
    if changed is not None:
        say(changed)
    say(
        f"{n_parameters / 1e6:.2f} M parameters, {len(dataset.entries)} recordings to train on, "
        f"{len(held_out.entries)} held out, on {fabric.world_size} x {fabric.device.type} -> {run}"
    )


def _scan(config: Mapping[str, Any]) -> Scan:
    scan = compose.recordings(config)
    if scan.skipped:
        say(f"skipped {len(scan.skipped)} files that cannot be used, {scan.skipped[0].path.name} for one")
    for split in ("train", "val"):
        if split not in scan.splits:
            raise DataError(
                f"{config['data']['root']}: no recording is in the split {split!r} (there is "
                f"{', '.join(scan.splits)}): training needs at least one to learn from and one to be measured on"
            )
    return scan


def _refuse_used(run: Path, *, resume: str | None) -> None:
    """Keep an earlier run's checkpoints from being written over."""
    if resume is None and is_used(run):
        raise TrainingError(
            f"hydra.run.dir={run} holds the checkpoints of an earlier run: go on from them with train.resume={run}, "
            "or choose another folder"
        )


def _report(outcome: loop.Outcome, *, run: Path, steps: int) -> None:
    newest = run / "checkpoints" / (run / "checkpoints" / checkpoint.LATEST).read_text().strip()
    if outcome.metrics:
        say("validation: " + ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items()))
    say(f"waited for data {100 * outcome.data_wait:.1f} % of the time; checkpoint {newest}")
    if outcome.signal is not None and outcome.step < steps:
        say(f"stopped by {outcome.signal} after step {outcome.step} of {steps}; go on with train.resume={run}")


def _card(
    config: Mapping[str, Any], *, step: int, metrics: Mapping[str, float], n_train: int, model: Synthesizer
) -> str:
    dialect = config["audio"].get("dialect")
    measured = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()) or "| not measured yet | |"
    origin = "new weights" if config["train"]["init_from"] is None else f"the weights of {config['train']['init_from']}"
    known = {} if model.labels is None else model.labels.vocabularies
    labels = "".join(f"- label {name}: {', '.join(values)}\n" for name, values in known.items())
    if model.needs_mel:
        use = "INPUT --model FOLDER --out FILE.wav"
    elif known:
        use = " ".join(["--model FOLDER", *(f"--label {name}={values[0]}" for name, values in known.items()), "-n 8"])
    else:
        use = "--model FOLDER --seconds 2 --out FILE.wav"
    return f"""# Model card

- audiodiff {audiodiff.__version__}, {step} steps from {origin}, seed {config["seed"]}
- audio: {config["audio"]["sample_rate"]} Hz, mel dialect: {"none" if dialect is None else dialect["name"]}
- data: {config["data"]["root"]}, {n_train} recordings; their licence governs what may be done with the weights
{labels}- use: `generate-wav {use}`, or `audiodiff.load("FOLDER").generate(...)`

| on held-out recordings | |
|---|---|
{measured}
"""


def _n_processes(config: Mapping[str, Any]) -> int:
    """Return how many processes Fabric would start, 2 where that depends on the machine."""
    devices = config["fabric"]["devices"]
    if isinstance(devices, list):
        return len(devices)
    return int(devices) if str(devices).isdigit() else 2


def _without(node: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in names}
