"""The networks: plain PyTorch modules that know nothing of files, tasks or training."""

from mhnet.models.checkpointing import use_checkpointing
from mhnet.models.mhnet import MHNet, MHNetArgs, Restoration, RestorationNetwork, use_local_statistics
from mhnet.models.mhnet_v4 import MHNetV4, MHNetV4Args

__all__ = [
    "MHNet",
    "MHNetArgs",
    "MHNetV4",
    "MHNetV4Args",
    "Restoration",
    "RestorationNetwork",
    "use_checkpointing",
    "use_local_statistics",
]
