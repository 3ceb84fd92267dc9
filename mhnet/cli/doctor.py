"""The command `mhnet doctor`: versions, packages, devices, file formats, and a small network run on each device."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import first_line
from mhnet.core.terminal import paint

if TYPE_CHECKING:
    import torch
    from packaging.requirements import Requirement

MODULES = {"opencv-python": "cv2", "pillow": "PIL", "pillow-jxl-plugin": "pillow_jxl", "pyyaml": "yaml",
           "scikit-image": "skimage"}  # fmt: skip
"""What packages are imported as, where that is not their name."""

FOR_DEVELOPERS = ("test", "test-all", "lint", "docs")
CODECS = ("libx264", "libx265", "libvpx-vp9")
OK, MISSING, BROKEN = "ok", "missing", "broken"
COLOURS = {OK: "green", MISSING: "yellow", BROKEN: "red"}
NEAR = 1e-3  # by how much devices may differ from the CPU, of 1


class Finding(NamedTuple):
    """One thing that was looked at: OK; MISSING, where MHNet works without it; BROKEN, where it does not.
    `remedy` is what to do where it is not OK."""

    group: str
    name: str
    state: str
    detail: str
    remedy: str = ""


def add_doctor_command(commands: Commands) -> None:
    doctor = add_command(commands, "doctor", _doctor)
    doctor.add_argument("--json", action="store_true", help="print it as JSON")


def _doctor(args: argparse.Namespace) -> int:
    """check that everything is here that MHNet needs

    Prints versions, devices with their memory, what is missing and how to get it; writes and reads each kind of
    image, and runs a small network on each device. Exits with 1 when something is broken that MHNet needs.

    mhnet doctor
    mhnet doctor --json > doctor.json          to go with a report of a defect
    """
    findings: list[Finding] = []
    for finding in examine():
        if not args.json:
            if not findings or findings[-1].group != finding.group:
                print(paint(finding.group, "bold", sys.stdout))
            state = paint(f"{finding.state:<8}", COLOURS[finding.state], sys.stdout)
            words = finding.detail + (f": {finding.remedy}" if finding.remedy not in finding.detail else "")
            print(f"  {state}{finding.name:<20} {words}", flush=True)
        findings.append(finding)
    broken = [finding.name for finding in findings if finding.state == BROKEN]
    if args.json:
        print(json.dumps({"ok": not broken, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        print(f"\n{len(broken)} broken: {', '.join(broken)}" if broken else "\nEverything that MHNet needs is here.")
    return int(bool(broken))


def examine() -> Iterator[Finding]:
    """Looks at everything, one thing after the other."""
    from importlib import metadata

    import torch
    from packaging.requirements import Requirement
    from torch.utils.collect_env import get_env_info

    from mhnet.checkpoints import bundled
    from mhnet.core.version import __version__
    from mhnet.images.kinds import EXTRA_LIBRARIES, KIND_OF_EXTENSION, WRITTEN_EXTENSIONS

    machine = get_env_info()  # of PyTorch's own reports of defects
    yield Finding("system", "mhnet", OK, f"{__version__} in {Path(__file__).resolve().parents[1]}")
    yield Finding("system", "Python", OK, f"{machine.python_version} in {sys.prefix}")
    yield Finding("system", "platform", OK, f"{machine.os}, {machine.python_platform}")
    yield Finding("system", "disk", OK, f"{shutil.disk_usage('.').free / 2**30:.1f} GiB free in {Path.cwd()}")
    gpus = f"{machine.nvidia_gpu_models or 'no GPUs'}, driver {machine.nvidia_driver_version or 'not found'}"
    yield Finding("system", "CUDA", OK, f"{machine.cuda_compiled_version} of PyTorch, {gpus}")

    given_by, extras = metadata.packages_distributions(), metadata.metadata("mhnet").get_all("Provides-Extra") or []
    for one in map(Requirement, metadata.requires("mhnet") or []):
        extra = next((name for name in ["", *extras] if not one.marker or one.marker.evaluate({"extra": name})), "test")
        if not extra:
            remedy = f"pip install --upgrade '{one.name}{one.specifier}'"
            yield _tried("packages", one.name, BROKEN, remedy, package_version, one, given_by)
        elif extra not in FOR_DEVELOPERS:
            remedy = f"pip install 'mhnet[{extra}]'"
            yield _tried("extras", f"{one.name} for {extra}", MISSING, remedy, package_version, one, given_by)

    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    devices += ["mps"] * torch.backends.mps.is_available()
    for name in devices:
        remedy = "name another --device, or install its driver again"
        yield _tried("devices", name, BROKEN, remedy, run_network, torch.device(name))
    if len(devices) == 1:
        cause = "its driver is missing or too old" if torch.version.cuda else "this PyTorch is one without CUDA"
        yield Finding("devices", "GPU", MISSING, "none is seen", f"if there is one, {cause}: see pytorch.org")

    for extension in sorted(WRITTEN_EXTENSIONS):
        further = KIND_OF_EXTENSION[extension] in EXTRA_LIBRARIES
        remedy = "pip install 'mhnet[photos]'" if further else "pip install --force-reinstall pillow opencv-python"
        yield _tried("files", extension, MISSING if further else BROKEN, remedy, write_and_read, extension)
    for codec in CODECS:
        yield _tried("files", codec, MISSING, "pip install --upgrade 'mhnet[video]'", encoder_name, codec)
    for name in bundled.NAMES:
        yield _tried("weights", name, MISSING, "name a file with --weights", bundled.named, name)


def _tried(group: str, name: str, otherwise: str, remedy: str, check: Callable[..., object], *about: Any) -> Finding:
    """A finding of what a check returns, or of what it raises."""
    try:
        return Finding(group, name, OK, str(check(*about)))
    except Exception as error:  # packages and drivers raise whatever they like
        return Finding(group, name, otherwise, first_line(error), remedy)


def package_version(requirement: "Requirement", given_by: Mapping[str, list[str]]) -> str:
    """The version of an installed package; ImportError where it is absent, too old, or cannot be imported. `given_by`
    has the packages that give a name, such as opencv-python-headless for cv2; Python 3.10 does not know them all."""
    import importlib
    from importlib import metadata

    module = MODULES.get(requirement.name, requirement.name.replace("-", "_"))
    package = given_by.get(module, [requirement.name])[0]
    version = next((one.version for one in metadata.distributions(name=package)), None)
    if version is None:
        raise ImportError("not installed")
    if not requirement.specifier.contains(version, prereleases=True):
        raise ImportError(f"{version}, but {requirement.specifier} is needed")
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ImportError(f"{version} cannot be imported ({str(error).strip() or type(error).__name__})") from error
    return version


def run_network(device: "torch.device") -> str:
    """What there is of a device; RuntimeError where a network gives another result there than on the CPU."""
    import torch

    from mhnet.core.devices import faster_in_bf16
    from mhnet.inference.kernels import library
    from mhnet.models import MHNet
    from mhnet.restore import memory

    kind = f"{torch.get_num_threads()} threads"
    if device.type == "cpu" and faster_in_bf16():
        kind += ", fp32, bf16" + (" with kernels in C" if library() else " without a C compiler for its kernels")
    if device.type == "cuda":
        bf16 = ", bf16" * torch.cuda.is_bf16_supported()
        kind = f"{torch.cuda.get_device_name(device)}, fp32, fp16{bf16}"
    torch.manual_seed(0)
    image = torch.rand(1, 3, 48, 64)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1).eval()
    with torch.inference_mode():
        expected = network(image)
        error = (network.to(device)(image.to(device)).cpu() - expected).abs().max().item()
    if not error <= NEAR:
        raise RuntimeError(f"a small network's result is {error:.2g} away from the CPU's")
    return f"{kind}, {memory.free(device) / 2**30:.1f} GiB of memory free; a small network ran"


def write_and_read(extension: str) -> str:
    """Writes a picture and reads it; RuntimeError unless it comes back as it was, nearly."""
    import tempfile

    import numpy as np

    from mhnet.images.read import read_rgb
    from mhnet.images.write import write_rgb

    rows, columns = np.mgrid[0:255:48j, 0:255:64j].astype(np.uint8)
    picture = np.stack([rows, columns, np.full_like(rows, 128)], axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        write_rgb(path := Path(folder) / f"picture{extension}", picture)
        error = np.abs(read_rgb(path).astype(int) - picture).mean()
    if error > 2:
        raise RuntimeError(f"what was written is read {error:.1f} levels away")
    return "is written and read"


def encoder_name(codec: str) -> str:
    """What PyAV calls an encoder of videos; it raises where it has none."""
    import av

    return av.Codec(codec, "w").long_name
