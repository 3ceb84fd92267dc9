"""What differs by task: the network's size, the data sets with their counts, protocols and published figures."""

from dataclasses import dataclass
from typing import NamedTuple

PAPER = "arXiv 2302.09554v1"


class Published(NamedTuple):
    """What PAPER gives for MHNet on a set, quoted: PSNR in dB, and SSIM where it gives one."""

    psnr: float
    ssim: float | None = None


@dataclass(frozen=True)
class TestSet:
    """A public test set."""

    __test__ = False  # pytest: no test in spite of its name

    name: str  # its folder's usual name
    counts: tuple[int, ...]  # numbers of images that downloads of it have; papers' counts differ by one or two
    protocol: str  # how papers score it, a name in `mhnet.evaluation.protocols.PROTOCOLS`
    published: Published | None = None  # MHNet's figures in its paper, where it gives any

    def miscounted(self, name: str, images: int) -> str:
        """How a number of images differs from this set's, as a sentence; '' where it does not."""
        if images in self.counts:
            return ""
        expected = " or ".join(f"{count:,}" for count in self.counts)
        return f"{name} has {images:,} images here, the set {self.name} has {expected}"


@dataclass(frozen=True)
class Task:
    """A task of the paper."""

    name: str  # as noted in checkpoints
    folder: str  # the room's name
    n_feat: int  # width of MHNet's full-resolution stage
    protocol: str  # how images of unknown sets are scored
    sets: tuple[TestSet, ...]  # public test sets
    train_dir: str  # where the room's training pairs lie, below the room
    epochs: int  # length of the paper's training

    def set_named(self, name: str) -> TestSet | None:
        """The public set of that name, whatever its case and separators."""
        return next((one for one in self.sets if plain_name(one.name) == plain_name(name)), None)


def plain_name(name: str) -> str:
    """A set's name as it is compared: without case and separators."""
    return name.lower().replace("-", "").replace("_", "")


DEBLURRING = Task(
    name="deblurring",
    folder="Deblurring",
    n_feat=64,
    protocol="gopro_rgb_matlab",
    sets=(
        TestSet("GoPro", (1111,), "gopro_rgb_matlab", Published(33.19)),
        TestSet("HIDE", (2025,), "gopro_rgb_matlab", Published(30.71)),
        TestSet("RealBlur_J", (980,), "realblur_ecc"),
        TestSet("RealBlur_R", (980,), "realblur_ecc"),
    ),
    train_dir="Datasets/GoPro/train",
    epochs=4500,
)

DERAINING = Task(
    name="deraining",
    folder="Deraining",
    n_feat=40,
    protocol="rain_y_matlab",
    sets=(
        TestSet("Test100", (98, 100), "rain_y_matlab", Published(31.19, 0.903)),
        TestSet("Rain100H", (100,), "rain_y_matlab", Published(30.34, 0.887)),
        TestSet("Rain100L", (100,), "rain_y_matlab", Published(39.47, 0.984)),
        TestSet("Test2800", (2800,), "rain_y_matlab"),
        TestSet("Test1200", (1200,), "rain_y_matlab", Published(33.41, 0.924)),
    ),
    train_dir="Datasets/train",
    epochs=250,
)

TASKS = {task.name: task for task in (DEBLURRING, DERAINING)}

# Pairs in the usual downloads for training: GoPro (Nah et al., CVPR 2017), RealBlur (Rim et al., ECCV 2020), Rain13K
# (the paper counts 13,712).
TRAINING_COUNTS = {"GoPro": (2103,), "RealBlur_J": (3758,), "RealBlur_R": (3758,), "Rain13K": (13711, 13712)}


def known_set(name: str) -> TestSet | None:
    """The public set of that name of any task, whatever its case and separators."""
    return next((found for task in TASKS.values() if (found := task.set_named(name))), None)
