"""What a room's train.py passes on: the parts of a run, each built by a function that can be replaced in the room."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from yacs.config import CfgNode

from mhnet.core.tasks import Task
from mhnet.train.losses import Loss


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
