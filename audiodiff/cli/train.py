"""`audiodiff train`: compose a configuration with Hydra, and train."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from audiodiff.errors import AudiodiffError, ParameterError, TrainingError
from audiodiff.io.console import fail, recorded
from audiodiff.models.safety import trust
from audiodiff.requirements import require
from audiodiff.training.config import composition_message, config_folder, instantiate, plain
from audiodiff.training.overrides import hydra_arguments, kept_for_resume, without_trust
from audiodiff.training.sweep import has_table, record_refusal

LOG = "train.log"
"""File of a run that holds what was said, and a line for each `train.log_every` steps."""


def command(arguments: list[str]) -> None:
    """Run `audiodiff train` with these arguments: Hydra's overrides and options."""
    given, stopped = list(sys.argv), []
    arguments, packages = without_trust(arguments)
    trust(packages)

    @hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")
    def task(config: Any) -> None:
        # DDP starts its other processes by the command line as it was given, with `train` in it.
        sys.argv = given
        hydra_config = HydraConfig.get()
        run = Path(hydra_config.runtime.output_dir)
        sweeps = hydra_config.mode == RunMode.MULTIRUN
        with recorded(run / LOG):
            try:
                if stopped:
                    raise TrainingError(f"not run, since the sweep was stopped by {stopped[0]}")
                resolved = plain(config)
                if sweeps and _n_processes(resolved) > 1:
                    raise ParameterError(
                        f"fabric.devices={resolved['fabric']['devices']} with --multirun: DDP starts its processes by "
                        "the command line, which would sweep again; run the jobs one by one, or with fabric.devices=1"
                    )
                require("lightning_fabric")  # which takes two seconds to load: --help and --cfg go without
                with kept_for_resume(run, map(str, hydra_config.overrides.task)):
                    outcome = instantiate(resolved["task"], name="task")(resolved, run=run)
                if sweeps and outcome.signal is not None:
                    stopped.append(outcome.signal)
            except AudiodiffError as error:
                if not has_table(hydra_config):
                    fail(error)
                record_refusal(run, error)

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for classes of the user's own
    sys.argv = [given[0], *hydra_arguments(arguments)]
    # Hydra then raises its errors, instead of printing a screenful.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        fail(ParameterError(composition_message(error)))


def _n_processes(config: Mapping[str, Any]) -> int:
    """Return how many processes Fabric would start, 2 where that depends on the machine."""
    devices = config["fabric"]["devices"]
    if isinstance(devices, list):
        return len(devices)
    return int(devices) if str(devices).isdigit() else 2
