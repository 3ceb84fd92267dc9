"""What a run is built from, by its settings: data, network, optimiser, schedule."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from yacs.config import CfgNode

from mhnet.checkpoints.files import read_checkpoint
from mhnet.checkpoints.released import build
from mhnet.core.errors import MHNetError
from mhnet.data.datasets import (
    Degradation,
    EpochBatches,
    ImageFiles,
    Images,
    MixedSource,
    PairSource,
    SharpSource,
    Source,
    TrainingCrops,
    ValidationImages,
    start_worker,
)
from mhnet.data.degrade import DEGRADATIONS
from mhnet.data.pack import is_pack, open_pairs
from mhnet.data.pairs import Pair, check_pairs, find_sides
from mhnet.data.split import hold_out
from mhnet.images import rgb
from mhnet.models import MHNet, MHNetV4
from mhnet.models.checkpointing import use_checkpointing
from mhnet.train.config import Stage, network_args, stage_of, stages
from mhnet.train.state import Progress, Run
from warmup_scheduler import GradualWarmupScheduler

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_run(config: CfgNode, accelerator: Accelerator, batches: EpochBatches) -> Run:
    """A new network with its optimiser and schedule, prepared for the accelerator's device, precision and processes.

    The schedule is ours to move: accelerate would move it once for every process.
    """
    optim, training = config.OPTIM, config.TRAINING
    layout = torch.channels_last if training.CHANNELS_LAST else torch.contiguous_format
    network = build(network_args(config)).to(accelerator.device).to(memory_format=layout)
    average = AveragedModel(network, multi_avg_fn=moving_average(optim.EMA)) if optim.EMA else None
    if training.RECOMPUTE:
        use_checkpointing(network)
    make = {"adam": Adam, "adamw": AdamW}[optim.OPTIMIZER]
    optimizer = make(network.parameters(), optim.LR_INITIAL, tuple(optim.BETAS), optim.EPS, optim.WEIGHT_DECAY)
    warmup, length = optim.WARMUP_EPOCHS, optim.EPOCHS
    if optim.SCHEDULE == "step":
        warmup, length = (sum(map(batches.steps, range(epochs))) for epochs in (warmup, length))
    cosine = CosineAnnealingLR(optimizer, length - warmup, optim.LR_MIN)
    scheduler = GradualWarmupScheduler(optimizer, 1, warmup, cosine)
    if training.COMPILE:
        network.compile()
    model, prepared = accelerator.prepare(network, optimizer)
    return Run(network, model, prepared, scheduler, Progress(), average, accelerator.scaler)


def start_from(network: MHNet | MHNetV4, path: str) -> None:
    """Gives a new network the weights of a file, or those that ship under a name.

    Raises:
        MHNetError: they cannot be read, or are of another network.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.args != network.args:
        raise MHNetError(
            f"MODEL.WEIGHTS {path} is of another network ({checkpoint.args}) than the settings ask for ({network.args})"
        )
    network.load_state_dict(checkpoint.state)


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """What moves the averages of the weights: w̄ ← d w̄ + (1 − d) w, for `AveragedModel`.

    After n steps d is (1 + n) / (10 + n), and at most the decay: the first, bad weights are soon forgotten. The same
    formula as in TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        done = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averages, weights, count)

    return update


def build_data(config: CfgNode) -> tuple[TrainingCrops, ValidationImages]:
    """The training and validation data that the settings name.

    Raises:
        MHNetError: there are no images, a pair does not fit, or too few remain for a batch.
    """
    data, seed = config.DATA, config.TRAINING.SEED
    sharp = DEGRADATIONS.get(data.DEGRADE)
    degrade = partial(sharp, severity=tuple(data.SEVERITY)) if sharp else None
    main = None if data.SHARP_DIR else degrade
    found = find(data, "TRAIN_DIR", "train", main)
    if data.VAL_DIR:
        training = found.source()
        validation = find(data, "VAL_DIR", None, main).source()
    else:
        training, validation = hold_out_of(found, data.VAL_IMAGES, "DATA.VAL_IMAGES", "or set DATA.VAL_DIR")
    parts = [(training, data.REPEAT)]
    if data.SHARP_DIR:
        found = find(data, "SHARP_DIR", "train", degrade)
        more = found.source()
        if data.SHARP_VAL_IMAGES:
            more, held = hold_out_of(found, data.SHARP_VAL_IMAGES, "DATA.SHARP_VAL_IMAGES")
            validation = MixedSource((validation, 1), (held, 1))
        parts.append((more, data.SHARP_REPEAT))
    plan = stages(config)
    crops = TrainingCrops(MixedSource(*parts), partial(patch_of, plan), seed, data.CANDIDATES)
    largest = max(stage.batch for stage in plan)
    if len(crops) < largest:
        raise MHNetError(
            f"{data.TRAIN_DIR} gives {len(crops)} crops an epoch, fewer than a batch of {largest}: "
            "raise DATA.REPEAT or lower OPTIM.BATCH_SIZE"
        )
    return crops, ValidationImages(validation, data.VAL_PATCH, seed)


@dataclass(frozen=True)
class Found:
    """Pairs, or sharp photographs with the degradation that makes pairs of them, and where their pixels come from."""

    root: str
    items: Sequence[Pair] | Sequence[Path]
    store: Images
    degrade: Degradation | None

    def source(self, positions: Sequence[int] | None = None) -> Source:
        """Samples of all, or of those at the positions."""
        items: list = [self.items[i] for i in (range(len(self.items)) if positions is None else positions)]
        return SharpSource(items, self.degrade, self.store) if self.degrade else PairSource(items, self.store)

    def names(self) -> list[str]:
        """Of the clean images, with their folders."""
        clean = (one if isinstance(one, Path) else one.target for one in self.items)
        return [path.with_suffix("").as_posix() for path in clean]


def find(data: CfgNode, key: str, split: str | None, degrade: Degradation | None) -> Found:
    """The images of a folder that a setting names. Where photographs are degraded on the fly, the clean side of pairs
    serves too.

    Args:
        key: the setting: "TRAIN_DIR", "VAL_DIR" or "SHARP_DIR"; clean images may have a folder of their own, which
            "TRAIN_TARGET_DIR" and so on name.
        split: of a data set with several that is meant, such as "train".

    Raises:
        MHNetError: there are none, or a pair does not fit.
    """
    root, targets = getattr(data, key), getattr(data, key.replace("_DIR", "_TARGET_DIR"), "")
    if not Path(root).exists():
        way_out = "put training images there, as README.md shows, or set" if key == "TRAIN_DIR" else "name another with"
        raise MHNetError(f"There is no folder {root}: {way_out} DATA.{key}")
    if degrade and not targets and not is_pack(root) and not find_sides(root):
        photographs = rgb.find_images(Path(root), recursive=True)
        if not photographs:
            raise MHNetError(f"{root} holds no photographs: name a folder of sharp images")
        return Found(root, photographs, ImageFiles(data.CACHE_MB), degrade)
    pairs, store = open_pairs(root, split, targets, data.CACHE_MB)
    if isinstance(store, ImageFiles):
        check_pairs(pairs)
    return Found(root, list(dict.fromkeys(pair.target for pair in pairs)) if degrade else pairs, store, degrade)


def hold_out_of(found: Found, count: int, key: str, otherwise: str = "") -> tuple[Source, Source]:
    """What to train on, and what to validate with; MHNetError where nothing would be left to train on."""
    try:
        training, held = hold_out(found.names(), count)
    except ValueError as error:
        raise MHNetError(f"{found.root}: {error}: lower {key} {otherwise}".rstrip()) from error
    return found.source(training), found.source(held)


def patch_of(plan: Sequence[Stage], epoch: int) -> int:
    """The side of an epoch's crops."""
    return stage_of(plan, epoch).patch


def batch_of(plan: Sequence[Stage], epoch: int) -> int:
    """Crops in a batch of an epoch, of all processes together."""
    return stage_of(plan, epoch).batch


def share_batches(config: CfgNode, training: TrainingCrops, accelerator: Accelerator) -> EpochBatches:
    """This process's share of the batches.

    Raises:
        MHNetError: the processes and micro-batches cannot share a batch evenly.
    """
    plan, parts, processes = stages(config), config.OPTIM.ACCUMULATE, accelerator.num_processes
    for stage in plan:
        if stage.batch % (parts * processes):
            raise MHNetError(
                f"a batch of {stage.batch} cannot be shared evenly by {processes} processes that each take it in "
                f"{parts} parts: change OPTIM.BATCH_SIZE, OPTIM.ACCUMULATE or the number of processes"
            )
    process = accelerator.process_index
    return EpochBatches(len(training), config.TRAINING.SEED, partial(batch_of, plan), parts, process, processes)


def loaders(
    training: TrainingCrops,
    validation: ValidationImages,
    batches: EpochBatches,
    config: CfgNode,
    accelerator: Accelerator,
) -> tuple[DataLoader[Tensor], DataLoader[Tensor]]:
    """This process's micro-batches of training crops, and its share of the validation images, one by one.

    They draw from no generator of the process: how often they are started does not change what it draws.
    """
    atexit.unregister(end_loaders)
    atexit.register(end_loaders)  # runs before multiprocessing waits, because it is registered later
    workers, ahead = config.DATA.WORKERS, config.DATA.PREFETCH
    common = {
        "pin_memory": accelerator.device.type == "cuda",
        "worker_init_fn": start_worker,
        "generator": torch.Generator().manual_seed(config.TRAINING.TORCH_SEED),
    }
    crops = DataLoader(
        training,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=ahead if workers else None,
        **common,
    )
    mine = Subset(validation, range(accelerator.process_index, len(validation), accelerator.num_processes))
    return crops, DataLoader(mine, 1, num_workers=min(workers, len(mine)), **common)


def end_loaders() -> None:
    """Ends the loader processes that are left when the program ends, as after an error: they leave it to the main
    process to heed SIGTERM (`start_worker`), and it would wait for them for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would report them as killed
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
