"""The one door for checkpoints: recognise them, read them safely, write them whole, convert them.

Ours are safetensors files that describe themselves: the metadata entry `mhnet` is JSON with the architecture, its
arguments, the task and where the weights come from. Read too are the authors' released `.pth` files and anything that
holds the same parameters. Pickles are read by `torch.load(weights_only=True)` only, which runs no code.
"""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mhnet import __version__
from mhnet.errors import MHNetError, shortened
from mhnet.files import replacing
from mhnet.models import MHNet, MHNetArgs, MHNetV4
from mhnet.published import ARCHITECTURES, Args, build, from_published, recognise, to_published
from mhnet.shipped import resolved

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_TRAINING = "training."
_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DEEPEST = 4  # wrappers around the parameters


class WeightsError(MHNetError):
    """A checkpoint that cannot be read or written; the message names the file."""


@dataclass
class Checkpoint:
    """Parameters and what is known of them.

    Args:
        args: the network's arguments.
        state: its parameters by our names.
        task: "deblurring" or "deraining"; None if unknown.
        provenance: where the weights come from: training step, scores, resolved config, source file …; JSON values.
        training: tensors that resuming needs besides the parameters; empty in files made for use.
        progress: plain values that resuming needs; likewise.
    """

    args: Args
    state: dict[str, Tensor]
    task: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Tensor] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        return "mhnet" if isinstance(self.args, MHNetArgs) else "mhnet_v4"

    def describe(self) -> str:
        """The description as JSON text."""
        about = {
            "architecture": self.architecture,
            "arguments": asdict(self.args),
            "task": self.task,
            "provenance": self.provenance,
            "version": __version__,
        }
        return json.dumps(about | ({"progress": self.progress} if self.progress else {}))

    def network(self) -> MHNet | MHNetV4:
        """The network with these parameters in float32, in evaluation mode."""
        with torch.device("meta"):
            network = build(self.args)
        network.load_state_dict({name: tensor.float() for name, tensor in self.state.items()}, assign=True)
        return network.eval()


def load(path: str | Path, device: str | torch.device = "cpu") -> MHNet | MHNetV4:
    """The network that a checkpoint holds, recognised from the file alone, in float32 and evaluation mode.

    `path` may be the name of weights that ship: "derain-small" or "deblur-small".

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or not an MHNet.
    """
    return read(path).network().to(device)


def read(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of any kind that is described at the top, or one that ships, by its name, onto the CPU.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or not an MHNet.
    """
    path = resolved(path)
    return understood(*(_read_safetensors if _kind(path) == "safetensors" else _read_pickle)(path), path)


def parameters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's parameters among a file's tensors, by names without prefixes such as `module.`."""
    return {_unprefixed(name): tensor for name, tensor in tensors.items() if not name.startswith(_TRAINING)}


def understood(tensors: Mapping[str, Tensor], description: str | None, path: str | Path) -> Checkpoint:
    """What a file's tensors and its description, if it has one, are; `path` is the file's name in errors.

    Raises:
        WeightsError: they are not an MHNet, or not a whole one.
    """
    state = parameters(tensors)
    training = {name[len(_TRAINING) :]: tensor for name, tensor in tensors.items() if name.startswith(_TRAINING)}
    if len(state) + len(training) < len(tensors):
        raise WeightsError(f"{path} holds parameters twice, with and without a prefix such as {_PREFIXES[0]!r}")
    for name, tensor in state.items():
        _check_tensor(name, tensor, path)
    about = None if description is None else _parse(description, path)
    args = about.args if about else recognise(state)
    if args is None or sum(args.encoder_blocks) + args.group_blocks > len(state):
        some = ", ".join(list(state)[:3]) or "none at all"
        raise WeightsError(f"{path} is not an MHNet: no MHNet has these {len(state)} parameters ({some} …)")
    if "stage1.intro.weight" in state:
        state = from_published(state, args)
    _check(state, args, path)
    return replace(about, state=state, training=training) if about else Checkpoint(args, state)


def write(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, whole or not at all: `.safetensors` as ours, `.pth` or `.pt` by the released names.

    Raises:
        WeightsError: the extension is another one, or the file cannot be written.
    """
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    more = {_TRAINING + name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.training.items()}
    try:
        if path.suffix == ".safetensors":
            with replacing(path) as temporary:
                save_file(state | more, temporary, metadata={"mhnet": checkpoint.describe()})
        elif path.suffix in (".pth", ".pt"):
            published = to_published(state, checkpoint.args)
            with replacing(path) as temporary:
                torch.save({"state_dict": published, "mhnet": checkpoint.describe()}, temporary)
        else:
            raise WeightsError(f"{path}: weights are written as .safetensors (ours) or .pth (the released names)")
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} cannot be written: {_first_line(error)}") from error


def convert(source: str | Path, target: str | Path, task: str | None = None) -> Checkpoint:
    """Reads `source` and writes it as `target`, whose extension decides the kind; what only resuming needs is left out.

    Raises:
        WeightsError: either file is refused, or both are the same.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise WeightsError(f"{source} would be overwritten by its own conversion: name another target")
    checkpoint = read(source)
    checkpoint.training, checkpoint.progress = {}, {}
    checkpoint.task = task or checkpoint.task
    checkpoint.provenance.setdefault("source", {"file": source.name, "sha256": sha256(source)})
    write(target, checkpoint)
    return checkpoint


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _kind(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise WeightsError(f"{path} is no file: name a .safetensors or .pth file")
        with path.open("rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if start[8:9] == b"{":  # first: the header's length before it may begin with any byte
        return "safetensors"
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return "pickle"
    if not start:
        raise WeightsError(f"{path} is empty: download or copy it again")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        raise WeightsError(f"{path} is a web page, not a checkpoint: download the file behind it")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not a checkpoint: fetch it with 'git lfs pull'")
    raise WeightsError(f"{path} is not a checkpoint: it is neither a safetensors nor a PyTorch file")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, (file.metadata() or {}).get("mhnet")  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({_first_line(error)}): download or copy it again") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise WeightsError(f"{path} is a compressed archive, not a checkpoint: unpack it first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's newer protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, WeightsError):
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is damaged, or loading it would run code{_wanted(error)}; "
            "ask its author for a safetensors file"
        ) from error
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"{path} is damaged ({_first_line(error)}): download or copy it again") from error
    description = content.get("mhnet") if isinstance(content, dict) else None
    for _ in range(_DEEPEST):
        inner = next((key for key in _WRAPPERS if key in content), None) if isinstance(content, dict) else None
        content = content if inner is None else content[inner]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no parameters: a dict of named tensors was expected")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path} is not a network's parameters: its entry {name!r} is no named tensor")
    return content, description if isinstance(description, str) else None


def _parse(description: str, path: str | Path) -> Checkpoint:
    """A checkpoint without tensors, from the description in a file."""
    try:
        about = json.loads(description)
        args = ARCHITECTURES[about["architecture"]](**about["arguments"])
        task, provenance, progress = about["task"], about["provenance"], about.get("progress", {})
        if not isinstance(provenance, dict) or not isinstance(progress, dict) or not isinstance(task, str | None):
            raise TypeError("its entries have other types")
        return Checkpoint(args, {}, task, provenance, progress=progress)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} describes itself in a way that MHNet {__version__} does not know ({_first_line(error)}): "
            "it may need a newer version"
        ) from error


def _unprefixed(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _check(state: dict[str, Tensor], args: Args, path: str | Path) -> None:
    """Raises WeightsError unless the parameters are exactly the network's."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in build(args).state_dict().items()}
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    wrong = [
        f"{name} is {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)]
    if found := [f"{what}: {shortened(names, 4)}" for what, names in faults if names]:
        raise WeightsError(f"{path} does not fit the network that it describes ({args}); " + "; ".join(found))


def _check_tensor(name: str, tensor: Tensor, path: str | Path) -> None:
    """Raises WeightsError unless a tensor holds finite floats, as many as it claims."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    if not plain or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise WeightsError(f"{path} holds {name} in an unusual form: plain tensors were expected")
    if tensor.dtype not in _TYPES:
        raise WeightsError(f"{path} holds {name} as {tensor.dtype}: floating-point parameters were expected")
    if not tensor.isfinite().all():
        raise WeightsError(f"{path} holds NaN or infinite values in {name}: its training went wrong")


def _wanted(error: pickle.UnpicklingError) -> str:
    """What a refused pickle asks for, where PyTorch says so."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({found[1]})" if found else " that it brings"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
