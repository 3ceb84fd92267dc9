"""A folder in which the pages' commands find what they name, in small."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
import yaml
from pages import Block
from small import NETWORK, PHOTOS, ROOT, crops, make_pairs

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.images.write import write_rgb
from mhnet.models import MHNet

ASK = f'exec "{sys.executable}" -S -E "{Path(__file__).with_name("forks.py")}" "$FORKS"'
PYTHON = f"""#!/bin/sh
if [ "$DRY_RUN" ] && [ "$1" = train.py ]; then set -- "$@" --dry-run; fi
{ASK} "$@"
"""
MHNET = f"""#!/bin/sh
{ASK} -m mhnet "$@"
"""
PIP = "#!/bin/sh\n# what it would install is checked without it\n"
IMAGES = "import torch; images = torch.rand(1, 3, 20, 30)"
BEFORE = {  # what a page's Python takes for granted
    "README.md": IMAGES,
    "docs/weights.md": IMAGES,
    "mhnet/checkpoints/pretrained/derain-small.md": IMAGES,
    "mhnet/checkpoints/pretrained/deblur-small.md": IMAGES,
    "docs/restoring.md": "import numpy as np; image = np.zeros((20, 30, 3), np.uint8); "
    "__import__('pathlib').Path('clear.mp4').unlink(missing_ok=True)",
}


class Outcome(NamedTuple):
    text: str
    status: int
    output: str


def lay_out(folder: Path) -> Path:
    """Makes the folder: rooms with settings for a training of a second, pairs, photographs, a clip, weights."""
    for name, program in {"python": PYTHON, "mhnet": MHNET, "pip": PIP}.items():
        (path := folder / "bin" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)
    left_out = shutil.ignore_patterns("Datasets", "checkpoints", "results", "__pycache__")
    for room in ("Deblurring", "Deraining"):
        shutil.copytree(ROOT / room, folder / room, ignore=left_out)
        for path in (folder / room).glob("training*.yml"):
            _shorten(path)
    for place in ("demo/photos/test", "demo/rainy", "tests/data/metrics", "matlab"):
        shutil.copytree(ROOT / place, folder / place)
    _pairs(folder)
    _photographs(folder)
    _weights(folder)
    return folder


@contextmanager
def python() -> Iterator[dict[str, str]]:
    """The environment in which the folder's programs run, while the process lives that runs them."""
    packages = os.pathsep.join([str(ROOT), str(ROOT / "pytorch-gradual-warmup-lr")])
    with TemporaryDirectory(dir="/tmp") as folder:  # a short path, as sockets need
        socket = Path(folder, "socket")
        environment = os.environ | {"PYTHONPATH": packages, "FORKS": str(socket)}
        server = subprocess.Popen([sys.executable, Path(__file__).with_name("forks.py"), socket], env=environment)
        try:
            while not socket.exists():
                assert server.poll() is None
                time.sleep(0.1)
            yield environment
        finally:
            server.kill()
            server.wait()


def run(blocks: list[Block], sandbox: Path, page: Path, environment: dict[str, str]) -> list[Outcome]:
    """Runs a page's blocks one after the other, until one fails: from the room's folder if it is a room's page."""
    name = page.relative_to(ROOT).as_posix()
    here = sandbox / page.parent.name if page.parent.name in ("Deblurring", "Deraining") else sandbox
    paths = os.pathsep.join([str(sandbox / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    outcomes: list[Outcome] = []
    for block in blocks:
        if block.how == "not run" or ("octave-cli" in block.text and not shutil.which("octave-cli")):
            continue
        command = ["bash", "-euo", "pipefail", "-c", block.text]
        if block.language == "python":
            command = [sandbox / "bin" / "python", "-c", f"{BEFORE.get(name, '')}\n{block.text}"]
        done = subprocess.run(
            command, cwd=here, timeout=500, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment | {"PATH": paths, "DRY_RUN": "1" if block.how == "dry run" else ""},
        )  # fmt: skip
        outcomes.append(Outcome(block.text, done.returncode, done.stdout))
        if done.returncode:
            break
    return outcomes


def _shorten(path: Path) -> None:
    """Lets a room's settings ask for a small network, small crops and an epoch."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    small = {
        "MODEL": NETWORK,
        "DATA": {
            "PATCH": 48,
            "VAL_PATCH": 48,
            "VAL_IMAGES": 2,
            "WORKERS": 0,
            "REPEAT": 64,
            "PROGRESSIVE": [],
            "SHARP_VAL_IMAGES": 1,
        },
        "OPTIM": {"BATCH_SIZE": 64, "EPOCHS": 1, "WARMUP_EPOCHS": 0},
        "TRAINING": {"DEVICE": "cpu", "TENSORBOARD": False},
    }
    for section, values in small.items():
        settings.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(settings))


def _pairs(folder: Path) -> None:
    """Pairs below the names that the pages use; those to train on have no scene in common with the others."""
    deblurring, deraining = folder / "Deblurring" / "Datasets", folder / "Deraining" / "Datasets"
    for place in (deblurring / "GoPro/train", deraining / "train", folder / "Datasets/GoPro/train"):
        make_pairs(place, scenes=range(2, 6))
    for place in (
        deblurring / "GoPro/test",
        deblurring / "HIDE/test",
        deraining / "test/Test100",
        deraining / "test/Rain100L",
        folder / "GoPro/train",
        folder / "GT-Rain/test",
        folder / "rainy",
    ):
        make_pairs(place, scenes=range(2))
    make_pairs(folder / "mine", ("blurred", "sharp"))
    make_pairs(folder, ("INPUTS", "TARGETS"), scenes=range(2))
    shutil.copytree(folder / "INPUTS", folder / "RESULTS")
    shutil.copytree(deraining / "test/Rain100L/input", folder / "Deraining/results/Rain100L")


def _photographs(folder: Path) -> None:
    import av

    shutil.copytree(PHOTOS, folder / "photographs")
    for name, crop in zip(("photo.jpg", "a.jpg", "holiday/b.jpg", "holiday/day 2/a.jpg"), crops(), strict=False):
        write_rgb(folder / name, crop)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for crop in crops(64)[:2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(crop), format="rgb24")))
        container.mux(stream.encode(None))


def _weights(folder: Path) -> None:
    """A small network under the names that the pages give to weights."""
    torch.manual_seed(0)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    with torch.no_grad():
        network.tail.weight *= 0.02
    checkpoint = Checkpoint(network.args, network.state_dict(), None, {"config": {"DATA": {"PATCH": 48}}})
    for name in ("model_best.safetensors", "mine.safetensors", "model_deblurring.pth", "model_deraining.pth"):
        write_checkpoint(folder / name, checkpoint)
