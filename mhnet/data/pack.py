"""Packs: the pixels of a set of pairs in a few large files, for fast crops of large images.

A pack is a folder with `pack.json`, which names the pairs, and files of about 256 MB in the safetensors format
(https://huggingface.co/docs/safetensors), one uint8 tensor H×W×3 to an image. Of several reasons for that container:
it holds plain bytes behind a header of JSON, so that a crop is a copy of its rows out of mapped memory; nothing in it
can run; and the checkpoints use it already. The same images give the same bytes. A clean image that serves several
degraded ones is packed once.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from mhnet.checkpoints.files import sha256
from mhnet.core.errors import MHNetError
from mhnet.core.files import StrPath, replacing
from mhnet.data.names import Pair
from mhnet.data.pairs import check_pairs, find_pairs, pair_folders
from mhnet.data.sources import Box, ImageFiles, Images
from mhnet.images.read import image_size, read_rgb

INDEX = "pack.json"
VERSION = 1


class PackError(MHNetError):
    """A pack that cannot be made or read."""


@dataclass
class Shard:
    """One of the large files: its name, its images with their sizes, and its checksum once it is written."""

    file: str
    images: dict[str, tuple[int, int]]
    sha256: str | None = field(default=None, compare=False)

    @property
    def bytes(self) -> int:
        """Of its pixels."""
        return sum(3 * math.prod(size) for size in self.images.values())


class Pack:
    """A finished pack, opened: its pairs, whose paths lie below its folder in name only, and crops of their images
    through mapped memory; PackError where it is unfinished, of another version or damaged, or names what is not there.
    """

    def __init__(self, folder: StrPath):
        self.folder = Path(folder)
        content, self.shards = read_index(self.folder)
        self.pairs = [Pair(self.folder / d, self.folder / t, name) for d, t, name in content["pairs"]]
        self._opened: dict[str, Any] = {}
        self._where = {
            self.folder / key: (shard, key, size) for shard in self.shards for key, size in shard.images.items()
        }
        for path in (path for pair in self.pairs for path in pair[:2]):
            if path not in self._where:
                raise PackError(f"{path} is in no file of the pack, but in its pairs; pack the images again.")
        for shard in self.shards:
            path = self.folder / shard.file
            if shard.sha256 is None or not path.is_file():
                raise PackError(f"{path} is missing; run `mhnet data pack` again, which goes on where it stopped.")
            if path.stat().st_size <= shard.bytes:
                raise PackError(f"{path} is cut short; remove it and run `mhnet data pack` again.")
            file = self._open(shard)
            there = set(file.keys())
            for key, size in shard.images.items():
                found = file.get_slice(key) if key in there else None
                if found is None or (found.get_shape(), found.get_dtype()) != ([*size, 3], "U8"):
                    raise PackError(f"{path} does not hold {key} as {size[0]}×{size[1]} pixels; pack the images again.")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}  # each process maps the files itself

    def size(self, path: Path) -> tuple[int, int]:
        return self._where[path][2]

    def crop(self, path: Path, box: Box) -> np.ndarray:
        shard, key, _ = self._where[path]
        top, left, height, width = box
        return self._open(shard).get_slice(key)[top : top + height, left : left + width]

    def _open(self, shard: Shard) -> Any:
        if shard.file not in self._opened:
            path = self.folder / shard.file
            try:
                self._opened[shard.file] = safe_open(path, "numpy")
            except (OSError, SafetensorError) as error:
                raise PackError(f"{path} cannot be read ({error}); pack the images again.") from error
        return self._opened[shard.file]

    def damaged(self) -> list[Path]:
        """Its files whose checksums are wrong."""
        return [self.folder / one.file for one in _bar(self.shards, "verifying") if not _whole(self.folder, one)]


def is_pack(folder: StrPath) -> bool:
    return (Path(folder) / INDEX).is_file()


def open_pairs(
    root: StrPath, split: str | None = None, targets: StrPath | None = None, cache_mb: int = 0
) -> tuple[list[Pair], Images]:
    """The pairs of a pack, of a folder of any layout, or of two folders; and where their pixels come from.

    Args:
        root: the pack or folder; with `targets`, the folder of degraded images.
        split: as for `find_pairs`. A pack holds one.
        targets: the folder of clean images.
        cache_mb: megabytes of decoded images that are kept; a pack needs none.

    Raises:
        MHNetError: there are no pairs, or an image lacks its partner; sizes and colours are not looked at.
    """
    if targets:
        return pair_folders(root, targets), ImageFiles(cache_mb)
    if is_pack(root):
        pack = Pack(root)
        return pack.pairs, pack
    return find_pairs(root, split), ImageFiles(cache_mb)


def write_pack(pairs: Sequence[Pair], out: StrPath, shard_mb: int = 256) -> Pack:
    """Packs pairs in files of up to `shard_mb` MiB, going on where an earlier call stopped, and verifies them.

    Raises:
        PackError: the folder holds a pack of other images, the disk refuses, or verifying fails.
        PairError, ImageError: the images are no pairs, or cannot be read.
    """
    out = Path(out)
    check_pairs(pairs)
    files = list(dict.fromkeys(path for pair in pairs for path in pair[:2]))
    try:
        base = os.path.commonpath([os.path.abspath(path.parent) for path in files])  # noqa: PTH100  (links stay)
    except ValueError as error:
        raise PackError("The two sides lie on different drives; copy one of them to the other's.") from error
    key_of = {path: Path(os.path.relpath(path, base)).as_posix() for path in files}
    content = {
        "format": "mhnet pack",
        "version": VERSION,
        "pairs": [[key_of[pair.degraded], key_of[pair.target], pair.name] for pair in pairs],
        "source_bytes": {key_of[path]: path.stat().st_size for path in files},
    }
    shards = _plan(files, key_of, shard_mb << 20)
    if is_pack(out):  # of an earlier, perhaps interrupted call
        earlier, found = read_index(out)
        if found != shards or any(earlier.get(key) != content[key] for key in ("pairs", "source_bytes")):
            raise PackError(f"{out} holds a pack of other images; name another folder, or remove this one.")
        shards = found
    try:
        _write_index(out, content, shards)
        for shard in _bar(shards, "packing"):
            if shard.sha256 and _whole(out, shard):
                continue
            with ThreadPoolExecutor() as pool, replacing(out / shard.file) as temporary:
                pixels = pool.map(read_rgb, [path for path in files if key_of[path] in shard.images])
                save_file(dict(zip(shard.images, pixels, strict=True)), temporary)
                shard.sha256 = sha256(temporary)
            _write_index(out, content, shards)
    except OSError as error:
        raise PackError(f"{out} cannot be written ({error.strerror}); choose another place.") from error
    except UnicodeEncodeError as error:
        raise PackError(f"{error.object} is no name in UTF-8; rename it.") from error
    pack = Pack(out)
    if damaged := pack.damaged():
        raise PackError(f"{damaged[0]} does not hold what was written to it; check the disk and pack again.")
    return pack


def read_index(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """What `pack.json` says, and the files it names; PackError where it is no index of this version."""
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != "mhnet pack" or content["version"] != VERSION:
            raise PackError(f"{path} is of another version than {VERSION}; pack the images again.")
        if not content["pairs"]:
            raise ValueError("it names no pairs")
        if not all(len(list(map(_below, pair))) == 3 for pair in content["pairs"]):
            raise ValueError("a pair has two paths and a name")
        shards = [
            Shard(_below(one["file"]), {_below(key): _size(size) for key, size in one["images"].items()}, one["sha256"])
            for one in content["shards"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PackError(f"{path} is no index of a pack ({error}); pack the images again.") from error
    return content, shards


def _below(name: Any) -> str:
    """A path, as pack.json gives it; ValueError where it is none below the pack's folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{str(name)[:80]!r} is no path")
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or ".." in path.parts:
            raise ValueError(f"{name} lies outside of its folder")
    return name


def _size(size: Any) -> tuple[int, int]:
    """Height and width; ValueError where they are none."""
    height, width = size
    if not (type(height) is type(width) is int and height > 0 and width > 0):
        raise ValueError(f"{str(size)[:80]} is no height and width")
    return height, width


def _plan(files: Iterable[Path], key_of: dict[Path, str], limit: int) -> list[Shard]:
    """Which images go to which file: in the pairs' order, until a file is full."""
    shards: list[Shard] = []
    for path in files:
        size = image_size(path)
        if not shards or shards[-1].bytes + 3 * math.prod(size) > limit:
            shards.append(Shard(f"{len(shards):05}.safetensors", {}))
        shards[-1].images[key_of[path]] = size
    return shards


def _write_index(out: Path, content: dict[str, Any], shards: list[Shard]) -> None:
    with replacing(out / INDEX) as temporary:
        temporary.write_text(json.dumps({**content, "shards": [asdict(shard) for shard in shards]}, indent=0))


def _whole(folder: Path, shard: Shard) -> bool:
    path = folder / shard.file
    return path.is_file() and sha256(path) == shard.sha256


def _bar(shards: list[Shard], what: str) -> Iterable[Shard]:
    return tqdm(shards, what, unit="file", delay=2, leave=False, disable=None)
