"""A run being prepared: everything built by the settings, and taken up where an earlier run stopped."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.checkpoints.released import Args
from mhnet.checkpoints.source import edited_source
from mhnet.core.errors import MHNetError, shortened
from mhnet.core.files import write_text
from mhnet.core.tasks import Task
from mhnet.data.sampling import EpochBatches
from mhnet.models.checkpointing import use_checkpointing
from mhnet.train.config import as_dict, network_args, stages
from mhnet.train.journal import code_revision, trackers
from mhnet.train.losses import Loss
from mhnet.train.parts import speed_up
from mhnet.train.processes import all_or_none, make_accelerator, make_loaders, say, share_batches
from mhnet.train.state import ELSEWHERE, Job, read_latest, refuse_changes, seed_everything

Tensors = tuple[Tensor, ...] | list[Tensor]
LOCK = "run.lock"
SOURCES = "network"
"""The folder in a run's that keeps the files of an edited network."""


@dataclass(frozen=True)
class Recipe:
    """The parts of a run. Each function takes the settings first.

    Args:
        task: what is trained for.
        network: → a network that takes N×3×H×W floats in [0, 1] and gives (restored, stage-1 image or None) or the
            restored image.
        data: → training samples, named by (epoch, place in the epoch), and validation samples, both uint8 2×3×H×W:
            degraded, target.
        loss: → a function of restored and target, N×3×H×W each, that gives a scalar.
        optimizer: and the network → its optimiser.
        schedule: the optimiser, moves of the warm-up, moves in all → the schedule of the learning rate.
        loop: and this recipe → trains, and gives the best checkpoint's path.
    """

    task: Task
    network: Callable[[CfgNode], nn.Module]
    data: Callable[[CfgNode], tuple[Dataset[Tensor], Dataset[Tensor]]]
    loss: Callable[[CfgNode], Loss]
    optimizer: Callable[[CfgNode, nn.Module], Optimizer]
    schedule: Callable[[CfgNode, Optimizer, int, int], LRScheduler]
    loop: Callable[[CfgNode, Any], Path]


def prepare(config: CfgNode, recipe: Recipe, until: ExitStack | None = None) -> Job:
    """Builds a run by the settings, and takes it up where an earlier one stopped.

    Args:
        config: the settings, checked.
        recipe: the network, the data and the loss.
        until: when it closes, the run's folder is free for another run; None: nothing is taken up, and nothing will be
            written.

    Raises:
        MHNetError: data, settings or an earlier checkpoint cannot be used, or another run is writing into the folder.
    """
    folder = Path(config.TRAINING.SAVE_DIR)
    accelerator = make_accelerator(config, log_with=trackers(config) if until else None, project_dir=str(folder))
    seed_everything(config.TRAINING.SEED, config.TRAINING.TORCH_SEED)
    training, validation = all_or_none(accelerator, partial(recipe.data, config))
    samples: int = len(training)  # type: ignore[arg-type]
    shares = all_or_none(accelerator, partial(share_batches, config, samples, accelerator))
    loaders = make_loaders(training, validation, shares, config, accelerator)
    job = all_or_none(accelerator, partial(build_job, config, recipe, accelerator, shares, loaders))
    if until:
        all_or_none(accelerator, partial(lock, folder, until, accelerator.is_main_process))
    resumed = bool(until) and all_or_none(accelerator, partial(take_up, job))
    if config.MODEL.WEIGHTS and not resumed:
        say(accelerator, all_or_none(accelerator, partial(start_from, job.network, config.MODEL.WEIGHTS)))
    if until and len(set(gather_object([(job.progress.epoch, job.progress.step)]))) > 1:
        raise MHNetError(f"{folder} is not the same for all processes: name a folder that all machines share")
    if until and accelerator.is_main_process and job.source:
        for name, text in job.source.files.items():
            write_text(folder / SOURCES / name, text)
    about = getattr(getattr(training, "source", None), "about", "")
    say(accelerator, describe(job, about, len(validation)))  # type: ignore[arg-type]
    return job


def lock(folder: Path, until: ExitStack, main: bool) -> None:
    """Keeps a run's folder for the main process, until the stack closes or the process ends, however it does;
    MHNetError where another run holds it, or the folder cannot be written."""
    if not main:
        return
    held = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout as error:
        raise MHNetError(f"{folder} is being written by another run: wait until it ends, or {ELSEWHERE}") from error
    except OSError as error:
        raise MHNetError(f"{folder} cannot be written ({error.strerror}): {ELSEWHERE}") from error
    until.callback(held.release)


def build_job(
    config: CfgNode,
    recipe: Recipe,
    accelerator: Accelerator,
    shares: EpochBatches,
    loaders: tuple[DataLoader[Tensor], DataLoader[Tensor]],
) -> Job:
    """A new network with its optimiser and schedule, prepared for the accelerator's device, precision and processes.

    The schedule is ours to move: accelerate would move it once for every process.
    """
    optim, training = config.OPTIM, config.TRAINING
    layout = torch.channels_last if training.CHANNELS_LAST else torch.contiguous_format
    network = recipe.network(config).to(accelerator.device).to(memory_format=layout)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=moving_average(optim.EMA)) if optim.EMA else None
    if training.RECOMPUTE:
        use_checkpointing(network)
    optimizer = recipe.optimizer(config, network)
    warmup, length = optim.WARMUP_EPOCHS, optim.EPOCHS
    if optim.SCHEDULE == "step":
        warmup, length = (sum(map(shares.steps, range(epochs))) for epochs in (warmup, length))
    scheduler = recipe.schedule(config, optimizer, warmup, length)
    args, arguments = noted_arguments(network, config)
    source = edited_source(network)
    if training.COMPILE:
        network.compile()
    elif accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        speed_up(network)
    model, prepared = accelerator.prepare(network, optimizer)
    edited = {"file": source.names, "sha256": source.sha256, "arguments": arguments} if source else {}
    notes = (args, source, edited, {"config": as_dict(config), "revision": code_revision()})
    made = (recipe.loss(config), network, model, prepared, scheduler, average, *notes)
    return Job(config, recipe.task, accelerator, shares, *loaders, *made)


def noted_arguments(network: nn.Module, config: CfgNode) -> tuple[Args, dict[str, Any]]:
    """What a checkpoint notes of how the network was made: as this package's networks take it, and all of it."""
    args, own = network_args(config), getattr(network, "args", None)
    if not is_dataclass(own) or isinstance(own, type):
        return args, asdict(args)
    arguments = asdict(own)
    with suppress(ValueError):
        args = type(args)(**{one.name: arguments[one.name] for one in fields(args) if one.name in arguments})
    return args, arguments


def start_from(network: nn.Module, path: str) -> str:
    """Gives a new network the weights of a file, or bundled ones by their name, as far as name and shape fit, and
    returns a sentence that says how far; WeightsError where they cannot be read, or none fits."""
    state, wanted = read_checkpoint(path).state, network.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in wanted and wanted[name].shape == tensor.shape}
    if not fitting:
        raise WeightsError(f"MODEL.WEIGHTS {path} holds no parameter of this network, by name and shape")
    network.load_state_dict(fitting, strict=False)
    said = f"starting from {path}: {len(fitting)} of the network's {len(wanted)} parameters"
    fresh, unused = [name for name in wanted if name not in fitting], [name for name in state if name not in fitting]
    said += f"; not in it or of another shape, so drawn afresh: {shortened(fresh, 4)}" if fresh else ""
    return said + (f"; in it and not taken: {shortened(unused, 4)}" if unused else "")


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """What moves the averages of the weights: w̄ ← d w̄ + (1 − d) w, for `AveragedModel`.

    After n steps d is (1 + n) / (10 + n), and at most the decay: the first, bad weights are soon forgotten. The same
    formula as in TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        done = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averages, weights, count)

    return update


def take_up(job: Job) -> bool:
    """Resumes from the newest whole checkpoint, and returns whether there is one; MHNetError where the folder holds a
    run that cannot be gone on with."""
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
    job.resume(checkpoint, path)
    if warning:
        say(job.accelerator, f"warning: {warning}; going on from {path.name}")
    progress, now = job.progress, job.shares.size
    if (before := checkpoint.progress.get("samples", now)) != now:
        counts = f"{path} was trained on {before} crops an epoch, and the images that are there give {now}"
        if progress.batch:
            raise WeightsError(f"{counts}: its place within the epoch means nothing; bring them back, or {ELSEWHERE}")
        say(job.accelerator, f"warning: {counts}")
    say(job.accelerator, f"resuming after epoch {progress.epoch}, step {progress.step}, from {path}")
    return True


def describe(job: Job, about: str, validated: int) -> str:
    """What is about to be trained, on what and by what batch, for the person who started it."""
    config, accelerator = job.config, job.accelerator
    optim, processes = config.OPTIM, accelerator.num_processes
    share = optim.BATCH_SIZE // processes // optim.ACCUMULATE
    cut = f" = {processes} processes × {optim.ACCUMULATE} parts × {share}" if share < optim.BATCH_SIZE else ""
    growing = "".join(f"; from epoch {stage.epoch + 1}: {stage.batch} of {stage.patch}" for stage in stages(config)[1:])
    network = job.network
    edited = f" of the edited {job.source.names}, kept in {job.folder / SOURCES}" if job.source else ""
    images = f"training on {about}\n" if about else ""
    return (
        f"{getattr(network, 'args', type(network).__name__)}{edited}: "
        f"{sum(one.numel() for one in network.parameters()):,} parameters on {accelerator.device} in "
        f"{accelerator.mixed_precision.replace('no', 'fp32')}\n"
        f"{images}effective batch {optim.BATCH_SIZE}{cut} crops of {config.DATA.PATCH}{growing}; learning rate "
        f"{optim.LR_INITIAL:g} to {optim.LR_MIN:g}; {job.shares.size} crops an epoch; {validated} validation images"
        f"{' of a test set, which chooses the weights' * config.DATA.SELECT_BY_TEST_SET}\n"
        f"results in {job.folder}"
    )
