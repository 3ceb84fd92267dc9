"""What a run is built from, by its settings: data, network, optimiser, schedule."""

from collections.abc import Sequence
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

from mhnet import images
from mhnet.data.datasets import (
    EpochBatches,
    ImageFiles,
    Images,
    PairSource,
    SharpSource,
    Source,
    TrainingCrops,
    ValidationImages,
    start_worker,
)
from mhnet.data.degrade import DEGRADATIONS
from mhnet.data.pack import is_pack, open_pairs
from mhnet.data.pairs import check_pairs, sides_if_any
from mhnet.data.split import hold_out
from mhnet.errors import MHNetError
from mhnet.models.checkpointing import use_checkpointing
from mhnet.published import build
from mhnet.train.config import Stage, network_args, stage_of, stages
from mhnet.train.state import Progress, Run
from warmup_scheduler import GradualWarmupScheduler


def build_run(config: CfgNode, accelerator: Accelerator, batches: EpochBatches) -> Run:
    """A new network with its optimiser and schedule, prepared for the accelerator's device, precision and processes.

    The schedule is ours to move: accelerate would move it once for every process.
    """
    optim, training = config.OPTIM, config.TRAINING
    layout = torch.channels_last if training.CHANNELS_LAST else torch.contiguous_format
    network = build(network_args(config)).to(accelerator.device).to(memory_format=layout)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(optim.EMA)) if optim.EMA else None
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


def build_data(config: CfgNode) -> tuple[TrainingCrops, ValidationImages]:
    """The training and validation data that the settings name.

    Raises:
        MHNetError: there are no images, a pair does not fit, or too few remain for a batch.
    """
    data, seed = config.DATA, config.TRAINING.SEED
    sharp = DEGRADATIONS.get(data.DEGRADE)
    degrade = partial(sharp, severity=tuple(data.SEVERITY)) if sharp else None

    def opened(root: str, targets: str, split: str | None) -> tuple[list, Images, list[str]]:
        """The images of a folder, where their pixels come from, and the names of the clean ones.

        Where photographs are degraded on the fly, the clean side of pairs serves too.
        """
        if not Path(root).exists():
            raise MHNetError(
                f"There is no folder {root}: put training images there, as README.md shows, or set DATA.TRAIN_DIR"
            )
        if degrade and not targets and not is_pack(root) and not sides_if_any(root):
            found, store = images.find_images(Path(root), recursive=True), ImageFiles(data.CACHE_MB)
            if not found:
                raise MHNetError(f"{root} holds no photographs: name a folder of sharp images")
            return found, store, [path.with_suffix("").as_posix() for path in found]
        pairs, store = open_pairs(root, split, targets, data.CACHE_MB)
        if isinstance(store, ImageFiles):
            check_pairs(pairs)
        found = list(dict.fromkeys(pair.target for pair in pairs)) if degrade else pairs
        return (
            found,
            store,
            [(one if isinstance(one, Path) else one.target).with_suffix("").as_posix() for one in found],
        )

    def source(found: list, store: Images) -> Source:
        return SharpSource(found, degrade, store) if degrade else PairSource(found, store)

    validation = (data.VAL_DIR, data.VAL_TARGET_DIR)
    found, store, names = opened(data.TRAIN_DIR, data.TRAIN_TARGET_DIR, "train")
    if data.VAL_DIR:
        parts = [source(found, store), source(*opened(*validation, None)[:2])]
    else:
        try:
            parts = [source([found[i] for i in part], store) for part in hold_out(names, data.VAL_IMAGES)]
        except ValueError as error:
            raise MHNetError(f"{data.TRAIN_DIR}: {error}: lower DATA.VAL_IMAGES or set DATA.VAL_DIR") from error
    plan = stages(config)
    training = TrainingCrops(parts[0], partial(patch_of, plan), seed, data.REPEAT)
    largest = max(stage.batch for stage in plan)
    if len(training) < largest:
        raise MHNetError(
            f"{data.TRAIN_DIR} gives {len(training)} crops an epoch, fewer than a batch of {largest}: "
            "raise DATA.REPEAT or lower OPTIM.BATCH_SIZE"
        )
    return training, ValidationImages(parts[1], data.VAL_PATCH, seed)


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
