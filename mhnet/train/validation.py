"""How good the network is, on images that it is not trained on."""

from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import to_dtype
from tqdm import tqdm

from mhnet.train.losses import psnr_loss

SHOWN = 4  # images that are kept to be looked at


class Validation(NamedTuple):
    """Mean PSNR in dB over RGB of the restored images, clamped to [0, 1], and of the degraded ones; and the first of
    the main process's images side by side, degraded, restored, target, as uint8 H×3W×3."""

    psnr: float
    input_psnr: float
    shown: list[np.ndarray]


@torch.no_grad()
def validate(network: nn.Module, batches: DataLoader[Tensor], accelerator: Accelerator) -> Validation:
    """Scores a network. Each process scores its share, one image at a time, so that their number changes nothing."""
    network.eval()
    scores: list[tuple[int, float, float]] = []
    shown: list[np.ndarray] = []
    quiet = None if accelerator.is_main_process else True
    for place, batch in enumerate(tqdm(batches, "validating", unit="image", leave=False, delay=1, disable=quiet)):
        degraded, target = to_floats(batch, accelerator.device)
        restored = network(degraded).float().clamp(0, 1)  # in fp32, as test.py
        index = accelerator.process_index + place * accelerator.num_processes
        scores.append((index, -psnr_loss(restored, target).item(), -psnr_loss(degraded, target).item()))
        if len(shown) < SHOWN:
            row = torch.cat((degraded, restored, target), dim=3)[0]
            shown.append(to_dtype(row, torch.uint8, scale=True).permute(1, 2, 0).cpu().numpy())
    psnr, input_psnr = np.mean([both for _, *both in sorted(gather_object(scores))], axis=0)
    return Validation(float(psnr), float(input_psnr), shown)


def to_floats(batch: Tensor, device: torch.device, channels_last: bool = True) -> tuple[Tensor, Tensor]:
    """A uint8 batch N×2×3×H×W → degraded and target on the device, floats N×3×H×W in [0, 1]."""
    degraded, target = to_dtype(batch.to(device, non_blocking=True), torch.float32, scale=True).unbind(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return degraded.contiguous(memory_format=layout), target
