"""LPIPS, the distance between two images in the features of AlexNet: Zhang, Isola, Efros, Shechtman and Wang, "The
unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, version 0.1 of its weights."""

import warnings
from collections.abc import Callable

import numpy as np

from mhnet.core.errors import MHNetError

SMALLEST = 31  # pixels a side that leave AlexNet's last layer something


def load_lpips(device: str = "cpu") -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of two uint8 H×W×3 RGB images of one size that gives their LPIPS (0: alike), computed on `device`.

    The network's own weights come with the package lpips; torchvision downloads AlexNet's once.

    Raises:
        MHNetError: the package is not there, or AlexNet's weights cannot be had; on use, for two sizes or small images.
    """
    try:
        import lpips  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MHNetError("LPIPS needs the package lpips: pip install 'mhnet[lpips]', or pip install lpips.") from error
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package asks torchvision in a way that it deprecates
            network = lpips.LPIPS(net="alex", version="0.1", verbose=False).to(device).eval()
    except (OSError, RuntimeError) as error:  # no connection, a proxy's refusal, or a download that was cut off
        raise MHNetError(
            f"LPIPS needs AlexNet's weights, which torchvision could not download ({error}); run it once with a "
            f"connection, or put alexnet-owt-7be5be79.pth into {torch.hub.get_dir()}/checkpoints."
        ) from error

    def tensor(image: np.ndarray) -> torch.Tensor:
        """uint8 H×W×3 to 1×3×H×W in [-1, 1]."""
        return torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1

    @torch.inference_mode()
    def distance(restored: np.ndarray, target: np.ndarray) -> float:
        if restored.shape != target.shape or min(restored.shape[:2]) < SMALLEST:
            sizes = " and ".join(f"{image.shape[0]}×{image.shape[1]}" for image in (restored, target))
            raise MHNetError(f"LPIPS needs two images of one size with {SMALLEST} pixels a side or more, not {sizes}.")
        return float(network(tensor(restored), tensor(target)))

    return distance
