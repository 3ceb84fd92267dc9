"""Is everything here that MHNet needs? Versions, devices with their memory, file formats, and a small network run."""

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.version import Version

from mhnet.checkpoints import bundled
from mhnet.core.errors import MHNetError
from mhnet.core.version import __version__
from mhnet.images.kinds import EXTRA_LIBRARIES, KIND_OF_EXTENSION, WRITTEN_EXTENSIONS
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.models import MHNet
from mhnet.restore import memory

MODULES = {
    "opencv-python": "cv2",
    "pillow": "PIL",
    "pillow-jxl-plugin": "pillow_jxl",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}
"""What packages are imported as, where that is not their name."""

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Packages that each give cv2; any will do."""

FOR_DEVELOPERS = ("test", "lint", "figures", "docs")
CODECS = ("libx264", "libx265", "libvpx-vp9")
OK, MISSING, BROKEN = "ok", "missing", "broken"

_NEAR = 1e-3  # by how much devices may differ from the CPU, of 1


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        group: "system", "packages", "extras", "devices", "files" or "weights".
        name: what it is.
        state: OK; MISSING, where it can be done without; BROKEN, where it cannot.
        detail: what was found.
        remedy: what to do, where it is not OK.
    """

    group: str
    name: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Looks at everything, one thing after the other."""
    yield from _system()
    yield from _packages()
    yield from _devices()
    yield from _formats()
    for name, task in bundled.NAMES.items():
        there = (bundled.FOLDER / f"{name}.safetensors").is_file()
        state, detail = (OK, f"for {task.name}") if there else (MISSING, "does not ship with this version")
        yield Finding("weights", name, state, detail, "" if there else "name a file with --weights")


def _system() -> Iterator[Finding]:
    yield Finding("system", "mhnet", OK, f"{__version__} in {Path(__file__).resolve().parent.parent}")
    python = f"{platform.python_version()} in {sys.prefix}"
    old = sys.version_info < (3, 10)
    yield Finding("system", "Python", BROKEN if old else OK, python, "install Python 3.10 or newer" if old else "")
    yield Finding("system", "platform", OK, f"{platform.platform()}, {platform.machine()}")
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("system", "disk", OK, f"{_size(free)} free in {Path.cwd()}")


def _packages() -> Iterator[Finding]:
    """The packages that pyproject.toml asks for, first those that are needed, then those of the extras."""
    needed = [Requirement(line) for line in metadata.requires("mhnet") or []]
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            state, detail = _package(requirement)
            remedy = "" if state == OK else f"pip install --upgrade '{requirement.name}{requirement.specifier}'"
            yield Finding("packages", requirement.name, BROKEN if remedy else OK, detail, remedy)
    for extra in metadata.metadata("mhnet").get_all("Provides-Extra") or []:
        if extra in FOR_DEVELOPERS:
            continue
        for requirement in needed:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.marker.evaluate({"extra": extra}):
                state, detail = _package(requirement)
                remedy = "" if state == OK else f"pip install 'mhnet[{extra}]'"
                yield Finding("extras", f"{requirement.name} for {extra}", state, detail, remedy)


def _package(requirement: Requirement) -> tuple[str, str]:
    """Whether a package is there, new enough, and can be imported."""
    names = OPENCV if requirement.name in OPENCV else (requirement.name,)
    version = next((found for name in names if (found := _version(name))), None)
    if version is None:
        return MISSING, "not installed"
    if not requirement.specifier.contains(Version(version), prereleases=True):
        return BROKEN, f"{version}, but {requirement.specifier} is needed"
    try:
        importlib.import_module(MODULES.get(requirement.name, requirement.name.replace("-", "_")))
    except Exception as error:  # whatever a package does when it is imported
        return BROKEN, f"{version} cannot be imported ({str(error).strip() or type(error).__name__})"
    return OK, version


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    """Each device with its memory, and whether the network gives the same there as on the CPU."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 48, 64)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1).eval()
    with torch.inference_mode():
        expected = network(image)
    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    names += ["mps"] * torch.backends.mps.is_available()
    for name in names:
        yield _device(torch.device(name), network, image, expected)
    if len(names) == 1:
        cause = "its driver is missing or too old" if torch.version.cuda else "this PyTorch is one without CUDA"
        yield Finding("devices", "GPU", MISSING, "none is seen", f"if there is one, {cause}: see pytorch.org")


def _device(device: torch.device, network: MHNet, image: torch.Tensor, expected: torch.Tensor) -> Finding:
    """What there is of a device, and how a network does on it."""
    try:
        about = _about_device(device)
        network, image = network.to(device), image.to(device)
        start = time.perf_counter()
        with torch.inference_mode():
            result = network(image).cpu()
        seconds = time.perf_counter() - start
        error = float((result - expected).abs().max())
        if not error <= _NEAR:
            raise RuntimeError(f"a small network's result is {error:.2g} away from the CPU's")
    except Exception as error:  # drivers raise whatever they like
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return Finding("devices", str(device), BROKEN, reason, "name another --device, or install its driver again")
    return Finding("devices", str(device), OK, f"{about}; a small network ran in {seconds:.2f} s")


def _about_device(device: torch.device) -> str:
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        properties = torch.cuda.get_device_properties(device)
        kinds = "fp32, fp16, bf16" if torch.cuda.is_bf16_supported() else "fp32, fp16"
        return f"{properties.name}, {_size(free)} of {_size(whole)} free, {kinds}, CUDA {torch.version.cuda}"
    free = f"{_size(memory.free(device))} of memory free"
    return free if device.type == "mps" else f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {free}"


def _formats() -> Iterator[Finding]:
    """Each kind of image written and read; each codec of videos looked for."""
    with tempfile.TemporaryDirectory() as folder:
        for extension in sorted(WRITTEN_EXTENSIONS):
            library = EXTRA_LIBRARIES.get(KIND_OF_EXTENSION[extension])
            if library and importlib.util.find_spec(library) is None:
                continue  # told among the extras
            yield _format(Path(folder) / f"picture{extension}")
    try:
        av = importlib.import_module("av")
    except ImportError:
        return
    for codec in CODECS:
        there = codec in av.codecs_available
        state, detail = (OK, "encodes videos") if there else (MISSING, "this PyAV has no such encoder")
        yield Finding("files", codec, state, detail, "" if there else "pip install --upgrade av")


def _format(path: Path) -> Finding:
    """Whether images of the path's kind can be written and read."""
    try:
        _round_trip(path)
    except (MHNetError, ValueError) as error:
        remedy = "pip install --upgrade --force-reinstall pillow opencv-python"
        return Finding("files", path.suffix, BROKEN, str(error), remedy)
    return Finding("files", path.suffix, OK, "is written and read")


def _round_trip(path: Path) -> None:
    """Writes a picture and reads it; ValueError unless it comes back as it was, nearly."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[None], ramp[:48, None], 128 * np.ones((48, 64), np.uint8)), axis=-1)
    write_rgb(path, picture)
    error = np.abs(read_rgb(path).astype(int) - picture).mean()
    if error > 2:
        raise ValueError(f"what was written is read {error:.1f} levels away")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
