"""Train MHNet for deraining: `python train.py`, settings in training.yml.

What a run is made of stands here, part by part, and can be replaced here: the network (MHNet.py), the data
(dataset.py), the loss, the optimiser, the schedule, the loop. docs/extending.md has examples.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dataset import TASK, build_data
from MHNet import MHNet
from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from yacs.config import CfgNode

from mhnet.cli.rooms import train_command
from mhnet.models import MHNetV4
from mhnet.train.config import network_arguments, one_of
from mhnet.train.job import Recipe
from mhnet.train.losses import LOSSES, Loss, with_edges
from mhnet.train.trainer import train
from warmup_scheduler import GradualWarmupScheduler

ROOM = Path(__file__).resolve().parent
NETWORKS = {"mhnet": MHNet, "mhnet_v4": MHNetV4}
"""What MODEL.ARCHITECTURE names; test.py builds the same. In training mode a network gives (restored, stage-1 image or
None), or the restored image alone."""


def build_network(settings: CfgNode) -> nn.Module:
    return NETWORKS[settings.MODEL.ARCHITECTURE](**network_arguments(settings))


def build_loss(settings: CfgNode) -> Loss:
    """A function of the restored images and their targets, N×3×H×W each, that gives a scalar."""
    return with_edges(one_of(LOSSES, settings, "OPTIM.LOSS"), settings.OPTIM.EDGE_WEIGHT)


def build_optimizer(settings: CfgNode, network: nn.Module) -> Optimizer:
    optim = settings.OPTIM
    kind = one_of({"adam": Adam, "adamw": AdamW}, settings, "OPTIM.OPTIMIZER")
    return kind(network.parameters(), optim.LR_INITIAL, tuple(optim.BETAS), optim.EPS, optim.WEIGHT_DECAY)


def build_schedule(settings: CfgNode, optimizer: Optimizer, warmup: int, length: int) -> LRScheduler:
    """The learning rate, over `length` moves of which `warmup` rise; OPTIM.SCHEDULE says whether a move is an epoch or
    a step."""
    cosine = CosineAnnealingLR(optimizer, length - warmup, settings.OPTIM.LR_MIN)
    return GradualWarmupScheduler(optimizer, 1, warmup, cosine)


RECIPE = Recipe(TASK, build_network, build_data, build_loss, build_optimizer, build_schedule, train)


def main(words: Sequence[str] | None = None, prog: str = "python train.py", room: Path = ROOM) -> int:
    return train_command(RECIPE, room, words, prog)


if __name__ == "__main__":
    sys.exit(main())
