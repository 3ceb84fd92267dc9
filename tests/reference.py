"""The authors' networks in small, as their released code computes them: see tests/data/reference/README.md."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from seeded import seeded_image, seeded_state
from torch import Tensor

from mhnet.checkpoints.released import Args, build, from_published, recognise
from mhnet.models import MHNet, MHNetV4

FOLDER = Path(__file__).parent / "data" / "reference"


class Case(NamedTuple):
    """One file of reference values."""

    file: str
    parameters: str
    seed: int
    image: tuple[int, int, int, int]
    patch: int | None = None

    def published_state(self) -> dict[str, Tensor]:
        return seeded_state(published_parameters(self.parameters), self.seed)

    def network(self) -> MHNet | MHNetV4:
        return network_of(self.published_state())

    def input(self) -> Tensor:
        height, width, seed, n = self.image
        return seeded_image(height, width, seed, n)

    def expected(self) -> dict[str, np.ndarray]:
        with np.load(FOLDER / f"{self.file}.npz") as values:
            return dict(values)


PLAIN = [
    Case("small-v1-nfeat16", "small-v1-nfeat16", 1, (48, 64, 2, 2)),
    Case("small-v1-nfeat12", "small-v1-nfeat12", 1, (48, 64, 2, 2)),
    Case("small-v1-seed2", "small-v1-nfeat12", 2, (48, 64, 2, 2)),
    Case("small-v4", "small-v4", 1, (48, 64, 2, 2)),
    Case("small-v4-w16", "small-v4-w16", 1, (48, 64, 2, 2)),
]
LOCAL = [
    Case("small-v1-local", "small-v1-nfeat12", 1, (96, 112, 4, 1), 32),
    Case("small-v1-local-seed2", "small-v1-nfeat12", 2, (96, 112, 4, 1), 32),
    Case("small-v1-local-wide", "small-v1-nfeat12", 2, (32, 160, 4, 1), 32),
    Case("small-v4-local", "small-v4", 1, (96, 112, 4, 1), 32),
    Case("small-v4-local-wide", "small-v4", 1, (32, 160, 4, 1), 32),
]


def published_parameters(name: str) -> list[tuple[str, list[int]]]:
    """Names and shapes of a released checkpoint's parameters."""
    return [tuple(entry) for entry in json.loads((FOLDER / f"parameters-{name}.json").read_text())]


def network_of(published: dict[str, Tensor]) -> MHNet | MHNetV4:
    args = recognise(published)
    assert args is not None
    network = build(args)
    network.load_state_dict(from_published(published, args, network.state_dict()))
    return network.eval()


def published_args(name: str) -> Args:
    args = recognise({name: torch.empty(shape, device="meta") for name, shape in published_parameters(name)})
    assert args is not None
    return args
