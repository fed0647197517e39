"""Training runs: built from a resolved configuration, and trained."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiodiff import metrics
from audiodiff.data import CropDataset, Scan, batches, describe_resampling, label_set
from audiodiff.errors import TrainingError, check_whole
from audiodiff.io.console import say
from audiodiff.labels import LabelSet
from audiodiff.metrics import Metric
from audiodiff.models import registry
from audiodiff.models.adapter import adapter_node, add_adapters, base_of
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.requirements import require
from audiodiff.training import loop, validation
from audiodiff.training.adapting import adapter_settings
from audiodiff.training.building import build_training_step, with_labels
from audiodiff.training.config import instantiate, readable, settings
from audiodiff.training.datasets import crops, data_name, describe_mels, split_recordings
from audiodiff.training.fabric import choose_algorithms, launched, with_precision
from audiodiff.training.failure import closing_log, explaining, saving_on_failure
from audiodiff.training.initial import start_from
from audiodiff.training.learner import Learner
from audiodiff.training.log import Log, Logs, build_logs
from audiodiff.training.overrides import is_used
from audiodiff.training.saving import CardFacts, CheckpointWriter
from audiodiff.training.state import check_curve, check_unfinished, digest, exactness, read_state

N_FIT_EXAMPLES = 64
"""Crops that a representation takes its statistics from."""


def train(config: Mapping[str, Any], *, run: Path) -> loop.Outcome:
    """Train as a resolved configuration says, with all results in the folder `run`.

    Raises: as `build` and `TrainingRun.fit`.
    """
    return build(config, run=run).fit()


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train; with DDP, one in each process, of which the first writes.

    Args:
        folder: for all results.
        settings: lengths and intervals.
        learner: the model with its optimiser.
        start: step and metrics that the run begins with.
        dataset: crops to train on.
        held_out: crops of the recordings for validation.
        n_workers: processes that read ahead.
        log: not started yet.
        config: the resolved configuration, for the log.
        validate: measures the averaged model.
        save: writes a checkpoint.
    """

    folder: Path
    settings: loop.TrainSettings
    learner: Learner
    start: loop.Start
    dataset: CropDataset
    held_out: CropDataset
    n_workers: int
    log: Log
    config: Mapping[str, Any]
    validate: loop.Validate
    save: loop.Save

    def fit(self) -> loop.Outcome:
        """Train to the last step, or until a signal asks to stop.

        Raises:
            TrainingError: if training diverges, or a stage of it fails: the newest checkpoint is named, with the
                command that goes on from it.
        """
        first = self.learner.fabric.is_global_zero
        with explaining(self.folder, steps=self.settings.steps):
            with saving_on_failure("starting the log", step=self.start.step, keep=lambda: None):
                self.log.start(self.folder, first_step=self.start.step, config=self.config)
            with closing_log(self.log):
                if first:
                    self._announce()
                outcome = loop.fit(
                    self.learner,
                    self.settings,
                    start=self.start,
                    batches=self._batches,
                    validate=self.validate,
                    save=self.save,
                    log=self.log,
                )
        if first:
            self._report(outcome)
        return outcome

    def _batches(self, step: int) -> closing:
        fabric = self.learner.fabric
        return closing(
            batches(
                self.dataset,
                batch_size=self.settings.batch_size,
                first_step=step,
                world_size=fabric.world_size,
                rank=fabric.global_rank,
                n_workers=self.n_workers,
                accumulate=self.settings.accumulate,
            )
        )

    def _announce(self) -> None:
        fabric, entries = self.learner.fabric, self.dataset.entries
        parameters = list(self.learner.module.synthesizer.parameters())
        n_parameters = sum(parameter.numel() for parameter in parameters)
        n_trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        adapted = "" if n_trained == n_parameters else f", {n_trained / 1e6:.3f} M of them, the adapters, trained"
        if (changed := describe_resampling(entries, sample_rate=self.dataset.sample_rate)) is not None:
            say(changed)
        say(
            f"{n_parameters / 1e6:.2f} M parameters{adapted}, {len(entries)} recordings to train on, "
            f"{len(self.held_out.entries)} held out, on {fabric.world_size} x {fabric.device.type} -> {self.folder}"
        )
        if self.dataset.mels is not None:
            say(describe_mels(self.dataset, self.dataset.mels))
        if self.start.step:
            say(f"goes on from step {self.start.step} to {self.settings.steps}")

    def _report(self, outcome: loop.Outcome) -> None:
        newest = registry.find(self.folder)
        say(f"waited for data {100 * outcome.data_wait:.1f} % of the time; checkpoint {newest}")
        if outcome.signal is not None and outcome.step < self.settings.steps:
            say(
                f"stopped by {outcome.signal} after step {outcome.step} of {self.settings.steps}; "
                f"go on with: audiodiff train train.resume={self.folder}"
            )


def build(config: Mapping[str, Any], *, run: Path) -> TrainingRun:
    """Build a run from a resolved configuration: model, data, optimiser, and the state that it resumes from.

    Raises:
        ParameterError: if the configuration does not fit together.
        DataError: if the recordings cannot be used.
        TrainingError: if an exact resume is impossible, or `run` is in use.
        PackageError: if a package that is needed later, as for validation, cannot be loaded.
    """
    train = dict(config["train"])
    lora = adapter_settings(config)
    if lora is None:  # states of earlier versions say nothing of it
        config = {**config, "train": {name: value for name, value in train.items() if name != "lora"}}
    train.pop("lora", None)
    resume, init_from, across, deterministic = (
        train.pop(name) for name in ("resume", "init_from", "init_across", "deterministic")
    )
    train.pop("init_model", None)
    train_settings = settings(loop.TrainSettings, {**train, "seed": config["seed"]}, name="train")
    watch = validation.build_settings(config["validation"])
    _refuse_used(run, resume=resume)
    logs = build_logs(config["logger"])
    _require_packages(config, logs=logs, names=watch.metrics)
    check_whole(config["data"]["n_workers"], name="data.n_workers", least=0)
    config = {**config, "fabric": with_precision(config["fabric"])}
    choose_algorithms(deterministic=deterministic)
    torch.manual_seed(train_settings.seed)

    columns = config["data"]["labels"]
    scan = _scan(config) if columns else None
    labels = LabelSet({}) if scan is None else label_set(scan.split("train"), columns)
    config = with_labels(config, labels)
    module = build_training_step(config)
    synthesizer = module.synthesizer
    validation.check(watch, model=synthesizer)
    lr_schedule = instantiate(config["lr_schedule"], name="lr_schedule")
    scan = scan or _scan(config)
    n_channels, sample_rate = config["data"]["n_channels"], synthesizer.sample_rate
    dataset, held_out = (
        crops(scan, split, config=config, labels=labels, sample_rate=sample_rate, n_channels=n_channels)
        for split in ("train", "val")
    )

    fabric = launched(config["fabric"])
    wanted = exactness(
        config,
        data=digest(dataset.entries, columns=columns.values())
        + ("" if dataset.mels is None else dataset.mels.digest()),
        world_size=fabric.world_size,
        device=fabric.device.type,
        method=module.dependencies(),
    )
    state = None if resume is None else read_state(str(resume), wanted=wanted, exact=config["resume"]["exact"])
    if state is not None:
        check_unfinished(state, run=str(resume), steps=train_settings.steps, wanted=wanted)
    check_curve(wanted, step=0 if state is None else state["step"])
    if state is None and init_from is not None:
        start_from(str(init_from), synthesizer=synthesizer, model=config["model"], across=across)
    elif state is None:
        _fit_statistics(synthesizer, dataset)
    adapter = None
    if lora is not None:
        # The run that it began from may have gone on since.
        adapter = adapter_node(base_of(str(init_from)), lora) if state is None else state["adapter"]
        add_adapters(synthesizer, lora, seed=train_settings.seed)
    trained = [parameter for parameter in module.trainable() if parameter.requires_grad]
    with readable("optimizer", node=config["optimizer"]):
        optimizer = instantiate(config["optimizer"], name="optimizer")(trained)
    learner = Learner(
        module,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        fabric=fabric,
        seed=train_settings.seed,
        clip_norm=train_settings.clip_norm,
        ema_decay=train_settings.ema_decay,
    )
    if state is not None:
        learner.restore(state)
    first = fabric.is_global_zero
    origin = "new weights" if init_from is None else f"the weights of {init_from}"
    facts = CardFacts(origin, data=data_name(config), n_train=len(dataset.entries), seed=train_settings.seed)
    writer = CheckpointWriter(
        run,
        learner,
        config["model"],
        exactness=wanted,
        facts=facts,
        keep=train_settings.keep,
        steps=train_settings.steps,
        adapter=adapter,
    )
    return TrainingRun(
        run,
        train_settings,
        learner,
        loop.Start(0, {}) if state is None else loop.Start(state["step"], state["metrics"]),
        dataset=dataset,
        held_out=held_out,
        n_workers=config["data"]["n_workers"],
        log=Logs(logs if first else []),
        config=config,
        validate=validation.Validation(module=module, ema=learner.ema, scan=scan, crops=held_out, settings=watch)
        if first
        else _nothing,
        save=writer if first else _nothing,
    )


def _require_packages(config: Mapping[str, Any], *, logs: Sequence[Log], names: Sequence[str | Metric]) -> None:
    """Import what training, validation and the log will need, before anything is read or computed."""
    needed = ["soundfile", "safetensors", "lightning_fabric"]
    if config["audio"].get("dialect") is not None:
        needed.append("librosa")  # the mel filters
    if names:
        needed += metrics.packages(list(names))
    require(*needed, *(package for log in logs for package in log.packages))


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


def _nothing(*_: Any) -> Any:
    """Stand for validation and saving where another process does them."""
    return {}


def _scan(config: Mapping[str, Any]) -> Scan:
    scan = split_recordings(config)
    if scan.skipped:
        say(f"skipped {len(scan.skipped)} files that cannot be used, as {scan.skipped[0].path.name}")
    return scan


def _refuse_used(run: Path, *, resume: str | None) -> None:
    """Keep an earlier run's checkpoints from being written over."""
    if resume is None and is_used(run):
        raise TrainingError(
            f"hydra.run.dir={run} holds the checkpoints of an earlier run: go on from them with train.resume={run}, "
            "or choose another folder"
        )
