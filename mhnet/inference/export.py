"""Networks for other runtimes: ONNX, OpenVINO IR and torch.export, each checked before it is written.

What is exported takes one image of any height and width, 1×3×H×W floats in [0, 1], pads it to multiples of 16 itself,
and gives the restored image in the same form, not clamped. Its input is called `image`, its output `restored`.
"""

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mhnet.checkpoints.files import read_checkpoint, sha256
from mhnet.checkpoints.networks import network_of
from mhnet.core.errors import MHNetError
from mhnet.core.files import replacing
from mhnet.models import MHNet, MHNetV4
from mhnet.models.mhnet import pad_to_multiple

TOLERANCE = 1e-4
SIZES = ((64, 96), (51, 83), (112, 48))
SMALLEST = 17
"""Fewest rows and columns of a torch.export program; other formats take any image."""

Runner = Callable[[Tensor], Tensor]


class ExportError(MHNetError):
    """An export that cannot be made or does not compute what the network computes; nothing is written."""


class Format(NamedTuple):
    """A kind of file."""

    suffix: str  # the file's extension
    packages: tuple[str, ...]  # what it needs beside ours
    write: Callable[["AnySize", dict[str, str], Path], None]  # writes the network and its description to a path
    open: Callable[[Path], Runner]  # what is written there, ready to run on an image
    beside: str | None = None  # extension of a second file that belongs to the first, if there is one


class AnySize(nn.Module):
    """A network as it is exported. Sizes are cut by index: a slice would make torch.export guard against sizes that
    need no padding."""

    def __init__(self, network: MHNet | MHNetV4):
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        x = pad_to_multiple(image)
        restored = x + self.network.residual(x, *self.network.context(x))
        for dim in (2, 3):
            restored = restored.index_select(dim, torch.arange(image.shape[dim], device=image.device))
        return restored


def export(weights: Path, out: Path, kind: str | None = None) -> dict[tuple[int, int], float]:
    """Writes the network of a checkpoint in another format, whole or not at all, after comparing what was written with
    the network itself.

    Args:
        weights: a checkpoint of any kind.
        out: the file; its extension names the format.
        kind: a name in `FORMATS`; None: by the extension.

    Returns:
        The largest difference at each height and width that was compared, on images in [0, 1].

    Raises:
        WeightsError: the checkpoint cannot be read.
        ExportError: the format is unknown, its packages are missing, it cannot be written, or the results differ.
    """
    form = choose_format(out, kind)
    checkpoint = read_checkpoint(weights)
    checkpoint.training, checkpoint.progress = {}, {}
    about = {
        "mhnet": checkpoint.describe(),
        "architecture": checkpoint.architecture,
        "task": checkpoint.task or "",
        "provenance": json.dumps(checkpoint.provenance),
        "weights": weights.name,
        "sha256": sha256(weights),
    }
    network = network_of(checkpoint, path=weights)
    try:
        with contextlib.ExitStack() as stack, quietly():
            temporary = stack.enter_context(replacing(out))
            if form.beside:
                stack.enter_context(replacing(out.with_suffix(form.beside)))
            form.write(AnySize(network), about, temporary)
            differences = compare(network, form.open(temporary))
            worst = max(differences, key=lambda size: differences[size])
            if not differences[worst] <= TOLERANCE:  # NaN too
                raise ExportError(
                    f"{out} is not written: at {worst[0]}×{worst[1]} its result is {differences[worst]:.1e} from the "
                    f"network's, more than {TOLERANCE:.0e}; try a newer {' and '.join(form.packages) or 'torch'}"
                )
    except OSError as error:
        raise ExportError(f"{out} cannot be written ({error.strerror or error}): choose another place") from error
    return differences


def choose_format(out: Path, kind: str | None) -> Format:
    """The format that is named, or that belongs to the extension.

    Raises:
        ExportError: there is none, they contradict each other, or a package is missing.
    """
    known = ", ".join(f"{form.suffix} ({name})" for name, form in FORMATS.items())
    by_suffix = {form.suffix: name for name, form in FORMATS.items()}
    name = kind or by_suffix.get(out.suffix)
    if name not in FORMATS or FORMATS[name].suffix != out.suffix:
        what = f"is no file of the format {kind}" if kind else "has an extension of no format"
        raise ExportError(f"{out} {what}: name one that ends in {FORMATS[name].suffix if name in FORMATS else known}")
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ExportError(f"The format {name} needs {' and '.join(missing)}: pip install 'mhnet[{name}]', "
                          f"or pip install {' '.join(missing)}")  # fmt: skip
    return FORMATS[name]


@torch.no_grad()
def compare(network: nn.Module, run: Runner) -> dict[tuple[int, int], float]:
    """The largest difference of an exported network's result from the network's own, at each of `SIZES`."""
    differences = {}
    for height, width in SIZES:
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        differences[height, width] = (run(image) - network(image)).abs().max().item()
    return differences


def traced(network: AnySize) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network, (torch.zeros(1, 3, 75, 90),), dynamic_shapes=(dynamic_sizes(),))


def dynamic_sizes() -> dict[int, Any]:
    return {2: torch.export.Dim("height", min=SMALLEST), 3: torch.export.Dim("width", min=SMALLEST)}


def write_torch(network: AnySize, about: dict[str, str], path: Path) -> None:
    torch.export.save(traced(network), path, extra_files={"mhnet.json": json.dumps(about)})


def open_torch(path: Path) -> Runner:
    return torch.export.load(path).module()


def write_onnx(network: AnySize, about: dict[str, str], path: Path) -> None:
    with torch.no_grad():
        program = torch.onnx.export(
            network, (torch.zeros(1, 3, 75, 90),), dynamo=True, dynamic_shapes=(dynamic_sizes(),),
            input_names=["image"], output_names=["restored"], verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(about)
    program.save(str(path))


def open_onnx(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def write_openvino(network: AnySize, about: dict[str, str], path: Path) -> None:
    import openvino

    model = openvino.convert_model(traced(network))
    model.reshape({"image": [1, 3, -1, -1]})
    model.output(0).set_names({"restored"})
    for key, value in about.items():
        model.set_rt_info(value, ["mhnet", key])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def open_openvino(path: Path) -> Runner:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: torch.from_numpy(compiled(image.numpy())[0].copy())


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, open_onnx),
    "openvino": Format(".xml", ("openvino",), write_openvino, open_openvino, beside=".bin"),
    "torch": Format(".pt2", (), write_torch, open_torch),
}


@contextlib.contextmanager
def quietly() -> Generator[None, None, None]:
    """Keeps to themselves what exporters print, log and warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
