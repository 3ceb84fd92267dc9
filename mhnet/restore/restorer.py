"""One image through a network."""

from pathlib import Path

import numpy as np
import torch

from mhnet.models import MHNet, MHNetV4, use_local_statistics
from mhnet.weights import Checkpoint, read


class Restorer:
    """Restores images with one network.

    Args:
        network: in evaluation mode.
        device: where it computes.
        local_statistics: use sliding means (TLC) as if trained on patches of this side; None: global means.
    """

    def __init__(
        self, network: MHNet | MHNetV4, device: torch.device | str = "cpu", local_statistics: int | None = None
    ):
        self.task: str | None = None
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        use_local_statistics(self.network, local_statistics)

    @classmethod
    def from_weights(
        cls, path: str | Path, device: torch.device | str = "cpu", local_statistics: bool = False
    ) -> "Restorer":
        """A restorer from a checkpoint; with local statistics the window follows the patch it was trained on, 256 where
        that is not noted.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or not an MHNet.
        """
        checkpoint = read(path)
        restorer = cls(checkpoint.network(), device, training_patch(checkpoint) if local_statistics else None)
        restorer.task = checkpoint.task
        return restorer

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 H×W×3 RGB, any size → the restored image in the same form, rounded to the nearest of 256 values.

        Raises:
            ValueError: the image has another type or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image is uint8 H×W×3, not {image.dtype} {image.shape}")
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        restored = self.network(pixels.permute(2, 0, 1)[None].float() / 255)
        return (restored[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def training_patch(checkpoint: Checkpoint) -> int:
    """The side of the patches that the weights were trained on; 256, the paper's, where that is not noted."""
    try:
        patch = checkpoint.provenance["config"]["DATA"]["PATCH"]
    except (KeyError, TypeError):
        return 256
    return patch if isinstance(patch, int) and patch > 0 else 256
