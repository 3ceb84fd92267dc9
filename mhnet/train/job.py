"""A run being prepared: everything built by the settings, and taken up where an earlier run stopped."""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.core.tasks import Task
from mhnet.data.datasets import EpochBatches
from mhnet.train.config import as_dict, stages
from mhnet.train.environment import code_revision
from mhnet.train.journal import trackers
from mhnet.train.losses import Loss, combined
from mhnet.train.processes import make_accelerator, say, together
from mhnet.train.randomness import random_state, seed_everything, set_random_state
from mhnet.train.setup import build_data, build_run, loaders, share_batches, start_from
from mhnet.train.state import Run, parameter_count, read_latest, refuse_changes


@dataclass
class Job:
    """A run, and what it works with.

    Args:
        shares: which crops this process's batches hold.
        batches: its micro-batches.
        validation: its share of the validation images.
        provenance: what checkpoints tell of where they come from.
        saved: when the latest checkpoint was written, or the job made, on the monotonic clock.
    """

    config: CfgNode
    task: Task
    accelerator: Accelerator
    run: Run
    shares: EpochBatches
    batches: DataLoader[Tensor]
    validation: DataLoader[Tensor]
    loss: Loss
    provenance: dict[str, Any]
    saved: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        return Path(self.config.TRAINING.SAVE_DIR)

    def save(self) -> None:
        """Writes the latest checkpoint, by the main process; the others wait."""
        states = gather_object([random_state()])
        if self.accelerator.is_main_process:
            self.run.save(self.folder, self.task.name, self.provenance, states)
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()


def prepare(config: CfgNode, task: Task, fresh: bool = False) -> Job:
    """Builds a run by the settings, and takes it up where an earlier one stopped, unless it is to be fresh.

    Raises:
        MHNetError: data, settings or an earlier checkpoint cannot be used.
    """
    folder = config.TRAINING.SAVE_DIR
    accelerator = make_accelerator(config, log_with=None if fresh else trackers(config), project_dir=folder)
    seed_everything(config.TRAINING.SEED, config.TRAINING.TORCH_SEED)
    training, validation = together(accelerator, partial(build_data, config))
    shares = together(accelerator, partial(share_batches, config, training, accelerator))
    batches, validation_batches = loaders(training, validation, shares, config, accelerator)
    loss = combined(config.OPTIM.LOSS, config.OPTIM.EDGE_WEIGHT)
    provenance = {"config": as_dict(config), "revision": code_revision()}
    run = build_run(config, accelerator, shares)
    job = Job(config, task, accelerator, run, shares, batches, validation_batches, loss, provenance)
    resumed = not fresh and together(accelerator, partial(take_up, job))
    if config.MODEL.WEIGHTS and not resumed:
        together(accelerator, partial(start_from, run.network, config.MODEL.WEIGHTS))
    if not fresh and len(set(gather_object([(run.progress.epoch, run.progress.step)]))) > 1:
        raise MHNetError(f"{folder} is not the same for all processes: name a folder that all machines share")
    say(accelerator, describe(job, len(training), len(validation)))
    return job


def take_up(job: Job) -> bool:
    """Resumes from the newest whole checkpoint, and returns whether there is one.

    Raises:
        MHNetError: the folder holds a run that cannot be gone on with.
    """
    settings, kept = job.provenance["config"], job.folder / "config.yml"
    resume, found = job.config.TRAINING.RESUME, read_latest(job.folder)
    if found is None and kept.exists():  # stopped before its first checkpoint
        try:
            refuse_changes(kept, yaml.safe_load(kept.read_text(encoding="utf-8")), settings)
        except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
            raise MHNetError(f"{kept} cannot be read: remove it, or set TRAINING.SAVE_DIR elsewhere") from error
    if found is None:
        return False
    checkpoint, path, warning = found
    if not resume:
        raise MHNetError(f"{path} exists: set TRAINING.RESUME true to go on, or TRAINING.SAVE_DIR to another folder")
    states = job.run.resume(checkpoint, path, job.task.name, settings)
    if job.accelerator.process_index < len(states):
        set_random_state(states[job.accelerator.process_index])
    if warning:
        say(job.accelerator, f"warning: {warning}; going on from {path.name}")
    progress = job.run.progress
    say(job.accelerator, f"resuming after epoch {progress.epoch}, step {progress.step}, from {path}")
    return True


def describe(job: Job, crops: int, validated: int) -> str:
    """What is about to be trained, on what and by what batch, for the person who started it."""
    config, accelerator = job.config, job.accelerator
    optim, processes = config.OPTIM, accelerator.num_processes
    share = optim.BATCH_SIZE // processes // optim.ACCUMULATE
    cut = f" = {processes} processes × {optim.ACCUMULATE} parts × {share}" if share < optim.BATCH_SIZE else ""
    growing = "".join(f"; from epoch {stage.epoch + 1}: {stage.batch} of {stage.patch}" for stage in stages(config)[1:])
    return (
        f"{job.run.network.args}: {parameter_count(job.run.network):,} parameters on {accelerator.device} in "
        f"{config.TRAINING.PRECISION}\n"
        f"effective batch {optim.BATCH_SIZE}{cut} crops of {config.DATA.PATCH}{growing}; learning rate "
        f"{optim.LR_INITIAL:g} to {optim.LR_MIN:g}; {crops} crops an epoch; {validated} validation images"
        f"{' of a test set, which chooses the weights' * config.DATA.SELECT_BY_TEST_SET}\n"
        f"results in {job.folder}"
    )
