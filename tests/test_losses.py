"""What training minimises, against plain computations of the same."""

import numpy as np
import pytest
import torch
from small import crops

from mhnet.train.losses import LOSSES, charbonnier_loss, edge_loss, l1_loss, psnr_loss, with_edges


def test_psnr_loss_is_minus_the_mean_psnr():
    target = torch.rand(3, 3, 8, 8)
    assert psnr_loss(target, target).item() == -80
    restored = target + torch.tensor([0.1, 0.01, 0.001]).view(3, 1, 1, 1)
    assert psnr_loss(restored, target).item() == pytest.approx(-(20 + 40 + 60) / 3, abs=0.02)
    with pytest.raises(ValueError, match=r"\(3, 3, 8, 8\)"):
        psnr_loss(target[:1], target)


def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two different batches of real crops, N×3×H×W in [0, 1]."""
    batch = torch.from_numpy(np.stack(crops())).permute(0, 3, 1, 2) / 255
    return batch[:3], batch[3:]


def test_charbonnier_and_l1_are_their_formulas():
    restored, target = photographs()
    difference = (restored.double() - target.double()).numpy()
    assert l1_loss(restored, target).item() == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert charbonnier_loss(restored, target).item() == pytest.approx(np.sqrt(difference**2 + 1e-6).mean(), rel=1e-5)
    assert charbonnier_loss(target, target).item() == pytest.approx(1e-3)


def test_the_edge_loss_is_that_of_the_pyramids_of_both_images():
    """Computed here per image and per axis with NumPy, as the pyramid is defined."""
    weights = np.array([0.05, 0.25, 0.4, 0.25, 0.05])

    def blurred(plane: np.ndarray) -> np.ndarray:
        rows = np.pad(plane, ((2, 2), (0, 0)), "edge")
        plane = np.sum([w * rows[i : i + plane.shape[0]] for i, w in enumerate(weights)], axis=0)
        columns = np.pad(plane, ((0, 0), (2, 2)), "edge")
        return np.sum([w * columns[:, i : i + plane.shape[1]] for i, w in enumerate(weights)], axis=0)

    def finest(plane: np.ndarray) -> np.ndarray:
        spread = np.zeros_like(plane)
        spread[::2, ::2] = 4 * blurred(plane)[::2, ::2]
        return plane - blurred(spread)

    restored, target = photographs()
    restored, target = restored[..., :71, :70], target[..., :71, :70]
    levels = [
        finest(one) - finest(other)
        for one, other in zip(
            restored.double().flatten(0, 1).numpy(), target.double().flatten(0, 1).numpy(), strict=True
        )
    ]
    wanted = np.sqrt(np.stack(levels) ** 2 + 1e-6).mean()
    assert edge_loss(restored, target).item() == pytest.approx(wanted, rel=1e-5)


def test_losses_are_combined_and_refuse_other_shapes():
    restored, target = photographs()
    both = with_edges(LOSSES["charbonnier"], 0.05)(restored, target)
    assert both.item() == pytest.approx(
        (charbonnier_loss(restored, target) + 0.05 * edge_loss(restored, target)).item()
    )
    assert with_edges(LOSSES["psnr"], 0) is psnr_loss
    for loss in (*LOSSES.values(), edge_loss):
        assert loss(restored.half(), target.half()).dtype == torch.float32
        with pytest.raises(ValueError, match=r"\(2, 3, 72, 72\)"):
            loss(restored[:2], target)
