"""MHNet at the size of this task: `MHNet()` is the paper's network for deblurring."""

from typing import Any

from mhnet import models
from mhnet.core.tasks import DEBLURRING


class MHNet(models.MHNet):
    """`mhnet.models.MHNet` with this task's n_feat; keyword arguments are those of `MHNetArgs`."""

    def __init__(self, **args: Any):
        super().__init__(**{"n_feat": DEBLURRING.n_feat, **args})
