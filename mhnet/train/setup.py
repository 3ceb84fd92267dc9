"""What a run is built from, by its settings: device, data, network, optimiser, schedule."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from mhnet import images
from mhnet.data.datasets import (
    EpochSampler,
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
from mhnet.published import build
from mhnet.train.config import network_args
from mhnet.train.state import Progress, Run
from warmup_scheduler import GradualWarmupScheduler


def seed_everything(seed: int, torch_seed: int) -> None:
    """Seeds Python's and NumPy's generators with one number and PyTorch's with another, as in the recipe."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(torch_seed)


def build_run(config: CfgNode, device: torch.device) -> Run:
    """A new network with its optimiser and schedule."""
    optim = config.OPTIM
    network = build(network_args(config)).to(device).to(memory_format=torch.channels_last)
    make = {"adam": Adam, "adamw": AdamW}[optim.OPTIMIZER]
    optimizer = make(network.parameters(), optim.LR_INITIAL, tuple(optim.BETAS), optim.EPS, optim.WEIGHT_DECAY)
    cosine = CosineAnnealingLR(optimizer, optim.EPOCHS - optim.WARMUP_EPOCHS, optim.LR_MIN)
    return Run(network, optimizer, GradualWarmupScheduler(optimizer, 1, optim.WARMUP_EPOCHS, cosine), Progress())


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
    training = TrainingCrops(parts[0], data.PATCH, seed, data.REPEAT)
    if len(training) < config.OPTIM.BATCH_SIZE:
        raise MHNetError(
            f"{data.TRAIN_DIR} gives {len(training)} crops an epoch, fewer than a batch of {config.OPTIM.BATCH_SIZE}: "
            "raise DATA.REPEAT or lower OPTIM.BATCH_SIZE"
        )
    return training, ValidationImages(parts[1], data.VAL_PATCH, seed)


def loaders(
    training: TrainingCrops, validation: ValidationImages, config: CfgNode, device: torch.device
) -> tuple[DataLoader[Tensor], DataLoader[Tensor], EpochSampler]:
    """Batches of training crops, single validation images, and the sampler that is told the epoch."""
    sampler = EpochSampler(len(training), config.TRAINING.SEED)
    workers, ahead = config.DATA.WORKERS, config.DATA.PREFETCH
    common = {"pin_memory": device.type == "cuda", "worker_init_fn": start_worker}
    batches = DataLoader(
        training,
        config.OPTIM.BATCH_SIZE,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        prefetch_factor=ahead if workers else None,
        **common,
    )
    return batches, DataLoader(validation, 1, num_workers=min(workers, len(validation)), **common), sampler
