"""The one door for checkpoints: recognise them, read them safely, write them whole, convert them.

Ours are safetensors files that describe themselves: the metadata entry `mhnet` is JSON with the architecture, its
arguments, the task and where the weights come from. Read too are the authors' released `.pth` files and anything that
holds the same parameters. Pickles are read by `torch.load(weights_only=True)` only, which runs no code.
"""

import hashlib
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mhnet.checkpoints.bundled import weights_path
from mhnet.checkpoints.checkpoint import Checkpoint, parse_description
from mhnet.checkpoints.released import Args, blueprint, from_published, recognise, to_published
from mhnet.core.errors import MHNetError, first_line, shortened
from mhnet.core.files import replacing
from mhnet.core.version import __version__

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
_TRAINING = "training."
_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DEEPEST = 4  # wrappers around the parameters


class WeightsError(MHNetError):
    """A checkpoint that cannot be read or written; the message names the file."""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of any kind that is described at the top, or a bundled one, by its name, onto the CPU.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or not an MHNet.
    """
    path = weights_path(path)
    tensors, description = (_read_safetensors if _kind(path) == "safetensors" else _read_pickle)(path)
    return checkpoint_of(tensors, description, path)


def parameters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's parameters among a file's tensors, by names without prefixes such as `module.`."""
    return {_PREFIXES.sub("", name): tensor for name, tensor in tensors.items() if not name.startswith(_TRAINING)}


def checkpoint_of(tensors: Mapping[str, Tensor], description: str | None, path: str | Path) -> Checkpoint:
    """The checkpoint of a file's tensors and description, if it has one; WeightsError, in which `path` is the file's
    name, where they are not an MHNet or not a whole one."""
    state = parameters(tensors)
    training = {name[len(_TRAINING) :]: tensor for name, tensor in tensors.items() if name.startswith(_TRAINING)}
    if len(state) + len(training) < len(tensors):
        raise WeightsError(f"{path} holds parameters twice, with and without a prefix such as 'module.'")
    for name, tensor in state.items():
        _check_tensor(name, tensor, path)
    about, crc32 = None, None
    if description is not None:
        try:
            about, crc32 = parse_description(description)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WeightsError(
                f"{path} describes itself in a way that MHNet {__version__} does not know ({first_line(error)}): "
                "it may need a newer version"
            ) from error
    if crc32 is not None and crc32 != checksum(tensors):
        raise WeightsError(f"{path} is damaged (its values have changed since it was written): copy it again")
    if about and about.edited:
        return replace(about, state=state, training=training)
    args = about.args if about else recognise(state)
    if args is None or sum(args.encoder_blocks) + args.group_blocks > len(state):
        some = ", ".join(list(state)[:3]) or "none at all"
        raise WeightsError(f"{path} is not an MHNet: no MHNet has these {len(state)} parameters ({some} …)")
    expected = {name: tensor.shape for name, tensor in blueprint(args).state_dict().items()}
    if "stage1.intro.weight" in state:
        state = from_published(state, args, expected)
    _check(state, expected, args, path)
    return replace(about, state=state, training=training) if about else Checkpoint(args, state)


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, whole or not at all: `.safetensors` as ours, with a checksum of its values; `.pth` or `.pt`
    by the released names.

    Raises:
        WeightsError: the extension is another one, the released names do not suffice for an edited network, or the file
            cannot be written.
    """
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    more = {_TRAINING + name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.training.items()}
    try:
        if path.suffix == ".safetensors":
            with replacing(path) as temporary:
                about = checkpoint.describe(checksum(state | more))
                save_file(state | more, temporary, metadata={"mhnet": about})
        elif path.suffix in (".pth", ".pt") and checkpoint.edited:
            raise WeightsError(f"{path}: the released names do not fit an edited network: write a .safetensors file")
        elif path.suffix in (".pth", ".pt"):
            published = to_published(state, checkpoint.args)
            with replacing(path) as temporary:
                torch.save({"state_dict": published, "mhnet": checkpoint.describe()}, temporary)
        else:
            raise WeightsError(f"{path}: weights are written as .safetensors (ours) or .pth (the released names)")
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} cannot be written: {first_line(error)}") from error


def convert_checkpoint(source: str | Path, target: str | Path, task: str | None = None) -> Checkpoint:
    """Reads `source` and writes it as `target`, whose extension decides the kind; what only resuming needs is left out.

    Raises:
        WeightsError: either file is refused, or both are the same.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise WeightsError(f"{source} would be overwritten by its own conversion: name another target")
    checkpoint = read_checkpoint(source)
    checkpoint.training, checkpoint.progress = {}, {}
    checkpoint.task = task or checkpoint.task
    checkpoint.provenance.setdefault("source", {"file": source.name, "sha256": sha256(source)})
    write_checkpoint(target, checkpoint)
    return checkpoint


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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
        raise WeightsError(f"{path} is damaged ({first_line(error)}): download or copy it again") from error


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
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))  # what the file asks for, where PyTorch says so
        raise WeightsError(
            f"{path} is refused: it is damaged, or loading it would run code "
            f"{f'({wanted[1]})' if wanted else 'that it brings'}; ask its author for a safetensors file"
        ) from error
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"{path} is damaged ({first_line(error)}): download or copy it again") from error
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


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of all tensors' names and bytes."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        total = zlib.crc32(flat.view(torch.uint8).numpy().data, total)
    return total


def _check(state: dict[str, Tensor], expected: Mapping[str, torch.Size], args: Args, path: str | Path) -> None:
    """Raises WeightsError unless the parameters are exactly the network's."""
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
