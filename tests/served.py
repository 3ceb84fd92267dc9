"""The page of `mhnet app`, served for tests, and what they look at from outside."""

import http.client
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from small import PHOTOS

from mhnet.app.restoring import Limits
from mhnet.app.server import Options, serving
from mhnet.cli.main import main
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

LIMITS = Limits(bytes=2_000_000, pixels=250_000, files=4)


@dataclass(frozen=True)
class Page:
    """A page that is served.

    Args:
        address: with a slash at its end.
        folder: where all its files lie.
    """

    address: str
    folder: Path

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer; the path is sent as it is."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="host" in headers)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def files(self) -> list[Path]:
        """All files of all sessions."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        return [path for path in found if path.is_file()]  # folders may go while they are walked through


@contextmanager
def served(limits: Limits = LIMITS) -> Iterator[Page]:
    """The page at a free port, with small limits."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        usual, tempfile.tempdir = tempfile.tempdir, place  # others may serve a page at the same time
        try:
            options = Options(port=0, device="cpu", limits=limits, grace=0.5)
            address = stack.enter_context(serving(options))
        finally:
            tempfile.tempdir = usual
        (folder,) = Path(place).resolve().glob("mhnet-app-*")
        yield Page(address, folder)
        stack.close()
        assert not folder.exists()


def photo(path: Path, height: int = 48, width: int = 64) -> Path:
    """A photograph with streaks, as a file."""
    pixels = read_rgb(find_images(PHOTOS)[0])[:height, :width].copy()
    pixels[np.random.default_rng(0).random((height, width)) < 0.05] = 230
    write_rgb(path, pixels)
    return path


def by_command(source: Path, folder: Path, *options: str) -> bytes:
    """What `mhnet restore` makes of a photo."""
    target = folder / f"by_command_{source.name}"
    assert (
        main(["restore", str(source), "-o", str(target), "--task", "derain", "--device", "cpu", "--quiet", *options])
        == 0
    )
    return target.read_bytes()


def until(true: Callable[[], object], seconds: float = 20) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
