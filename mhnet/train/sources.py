"""The images that a run's settings name: pairs, or sharp photographs to be degraded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.data.pack import is_pack, open_pairs
from mhnet.data.pairs import Pair, check_pairs, find_sides
from mhnet.data.sources import Degradation, ImageFiles, Images, MixedSource, PairSource, SharpSource, Source
from mhnet.data.split import hold_out
from mhnet.images.listing import find_images
from mhnet.train.config import ConfigError, choose, stages

Degradations = Mapping[str, Callable[..., np.ndarray | tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class ImageSet:
    """The images below a folder: pairs, or sharp photographs with the degradation that makes pairs of them."""

    root: str
    items: Sequence[Pair] | Sequence[Path]
    store: Images  # where their pixels come from
    degrade: Degradation | None
    about: str  # what they are, for the person who trains on them

    def source(self, positions: Sequence[int] | None = None) -> Source:
        """Samples of all, or of those at the positions."""
        items: list[Any] = [self.items[i] for i in (range(len(self.items)) if positions is None else positions)]
        return SharpSource(items, self.degrade, self.store) if self.degrade else PairSource(items, self.store)

    def names(self) -> list[str]:
        """Of the clean images, with their folders."""
        clean = (one if isinstance(one, Path) else one.target for one in self.items)
        return [path.with_suffix("").as_posix() for path in clean]


def find_sources(settings: CfgNode, degradations: Degradations) -> tuple[MixedSource, Source]:
    """What to train on, and what to validate with, by the settings' DATA; `degradations` are what DATA.DEGRADE can
    name. MHNetError where there are no images, a pair does not fit, or too few remain for a batch."""
    data = settings.DATA
    degrade = find_degradation(settings, degradations) if data.DEGRADE else None
    main = None if data.SHARP_DIR else degrade
    found = find_images_of(data, "TRAIN_DIR", "train", main)
    about = [found.about]
    if data.VAL_DIR:
        training = found.source()
        validation = find_images_of(data, "VAL_DIR", None, main).source()
    else:
        training, validation = hold_out_of(found, data.VAL_IMAGES, "DATA.VAL_IMAGES", "or set DATA.VAL_DIR")
    parts = [(training, data.REPEAT)]
    if data.SHARP_DIR:
        found = find_images_of(data, "SHARP_DIR", "train", degrade)
        about.append(found.about)
        more = found.source()
        if data.SHARP_VAL_IMAGES:
            more, held = hold_out_of(found, data.SHARP_VAL_IMAGES, "DATA.SHARP_VAL_IMAGES")
            validation = MixedSource((validation, 1), (held, 1))
        parts.append((more, data.SHARP_REPEAT))
    training = MixedSource(*parts, about="; ".join(about))
    largest = max(stage.batch for stage in stages(settings))
    if len(training) < largest:
        raise MHNetError(
            f"{data.TRAIN_DIR} gives {len(training)} crops an epoch, fewer than a batch of {largest}: "
            "raise DATA.REPEAT or lower OPTIM.BATCH_SIZE"
        )
    return training, validation


def find_degradation(settings: CfgNode, degradations: Degradations) -> Degradation:
    """What DATA.DEGRADE names, or a mixture: "rain 2, untouched 1" is rain in two of three crops. ConfigError for a
    name that is not among the degradations, or a share that is not a positive number."""
    severity, written = tuple(settings.DATA.SEVERITY), settings.DATA.DEGRADE
    parts = [part.strip().partition(" ") for part in written.split(",")] if "," in written else [(written, "", "")]
    chosen = [partial(choose(degradations, name, "DATA.DEGRADE"), severity=severity) for name, _, _ in parts]
    if len(chosen) == 1:
        return chosen[0]
    try:
        shares = np.array([float(share) for _, _, share in parts])
    except ValueError:
        shares = np.zeros(1)
    if not 0 < shares.min() <= shares.max() < np.inf:
        raise ConfigError(f"DATA.DEGRADE is {written!r}; a mixture is names with shares, as in 'rain 2, blur 1'")

    def degrade(image: np.ndarray, random: np.random.Generator) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        return chosen[random.choice(len(chosen), p=shares / shares.sum())](image, random)

    return degrade


def find_images_of(data: CfgNode, key: str, split: str | None, degrade: Degradation | None) -> ImageSet:
    """The images of a folder that a setting names: "TRAIN_DIR", "VAL_DIR" or "SHARP_DIR", where "TRAIN_TARGET_DIR" and
    so on may name a folder of the clean ones. Of a data set with several splits, the one named is meant. Where
    photographs are degraded on the fly, the clean side of pairs serves too. MHNetError where there are none, or a pair
    does not fit."""
    root, targets = getattr(data, key), getattr(data, key.replace("_DIR", "_TARGET_DIR"), "")
    if not Path(root).exists():
        way_out = "put training images there, as README.md shows, or set" if key == "TRAIN_DIR" else "name another with"
        raise MHNetError(f"There is no folder {root}: {way_out} DATA.{key}")
    made = f"with synthetic {data.DEGRADE} made on the fly"
    if degrade and not targets and not is_pack(root) and not find_sides(root):
        photographs = find_images(Path(root), recursive=True)
        if not photographs:
            raise MHNetError(f"{root} holds no photographs: name a folder of sharp images")
        about = f"{len(photographs)} photographs of {root} {made}"
        return ImageSet(root, photographs, ImageFiles(data.CACHE_MB), degrade, about)
    pairs, store = open_pairs(root, split, targets, data.CACHE_MB)
    if isinstance(store, ImageFiles):
        check_pairs(pairs)
    if not degrade:
        return ImageSet(root, pairs, store, None, f"{len(pairs)} pairs of {root}")
    clean = list(dict.fromkeys(pair.target for pair in pairs))
    about = f"the clean side of {len(pairs)} pairs of {root} {made}; DATA.DEGRADE '' trains on the pairs themselves"
    return ImageSet(root, clean, store, degrade, about)


def hold_out_of(found: ImageSet, count: int, key: str, otherwise: str = "") -> tuple[Source, Source]:
    """What to train on, and what to validate with; MHNetError where nothing would be left to train on."""
    try:
        training, held = hold_out(found.names(), count)
    except ValueError as error:
        raise MHNetError(f"{found.root}: {error}: lower {key} {otherwise}".rstrip()) from error
    return found.source(training), found.source(held)
