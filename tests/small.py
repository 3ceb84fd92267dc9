"""A small network, real crops and short runs, for tests that train."""

from pathlib import Path

import numpy as np
import torch
import yaml

from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

PHOTOS = Path(__file__).parent / "data" / "photos"
ROOT = Path(__file__).parent.parent
DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]
NETWORK = {"WIDTH": 8, "N_FEAT": 8, "ENCODER_BLOCKS": [1, 1, 1, 1], "GROUP_BLOCKS": 1}


def crops(size: int = 72) -> list[np.ndarray]:
    """Six different crops of the photographs that lie with the tests."""
    photos = [read_rgb(path) for path in find_images(PHOTOS)]
    return [photo[top : top + size, :size] for photo in photos for top in (0, 40)]


def make_pairs(
    folder: Path, sides: tuple[str, str] = ("input", "target"), count: int = 6, scenes: range | None = None
) -> Path:
    """Pairs of noisy and clean crops: the first few, or those with these numbers."""
    random, cleans = np.random.default_rng(0), crops()
    for i in scenes or range(count):
        clean = cleans[i]
        noisy = np.clip(clean + random.normal(0, 40, clean.shape), 0, 255).astype(np.uint8)
        write_rgb(folder / sides[0] / f"scene{i}-{i}.png", noisy)
        write_rgb(folder / sides[1] / f"scene{i}-{i}.png", clean)
    return folder


def settings(path: Path, **sections: dict) -> Path:
    """A YAML file for a run of seconds; `sections` change or add settings."""
    content: dict[str, dict] = {
        "MODEL": dict(NETWORK),
        "DATA": {"TRAIN_DIR": "pairs", "VAL_IMAGES": 2, "PATCH": 48, "VAL_PATCH": 64, "WORKERS": 0, "REPEAT": 2},
        "OPTIM": {"BATCH_SIZE": 4, "EPOCHS": 4, "WARMUP_EPOCHS": 1, "LR_INITIAL": 1e-3},
        "TRAINING": {"SAVE_DIR": "run", "VAL_EVERY": 2, "DEVICE": "cpu"},
    }
    for section, values in sections.items():
        content.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(content))
    return path
