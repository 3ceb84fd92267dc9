"""A page to look at results: one HTML file with a slider between before and after on every image.

The page holds everything that it shows, so that it can be sent to others; the images in it are previews, the originals
and results are linked. It asks nothing of the network, and its names are text, whatever they look like.
"""

import base64
import hashlib
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from mhnet.core.errors import MHNetError, printable
from mhnet.core.files import replacing
from mhnet.evaluation.protocols import Score, mean_score
from mhnet.images.read import read_rgb
from mhnet.restore.kinds import is_film

LARGEST, SMALLEST = 1600, 320
"""Longest side of a preview, in pixels, in a page of few and of many images."""

MOST = 1000
"""So many images are shown; the others are listed."""

_BUDGET = 48e6  # bytes of a page, about
_BYTES = 0.35  # of a preview pixel as JPEG in base64, about
_VIDEO_FRAME = 48  # the frame of a video that is shown


@dataclass(frozen=True)
class Scores:
    """How near two images are to the clean one, by a named protocol."""

    protocol: str
    before: Score
    after: Score


@dataclass(frozen=True)
class Entry:
    """An image or video of the page."""

    name: str  # what stands below it
    before: Path  # the original
    after: Path  # the result
    target: Path | None = None  # the clean image, where there is one
    scores: Scores | None = None  # of both sides against it
    note: str = ""  # a sentence on it


def write_report(
    path: Path,
    entries: Sequence[Entry],
    title: str,
    *,
    failures: Sequence[tuple[Path | str, str]] = (),
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: the .html file; links are relative to its folder.
        entries: what was restored, in the order of the page; in the place of one that cannot be read stands the reason.
        title: of the page.
        failures: what could not be restored, each with the reason.
        about: further facts, such as the weights and the device, by their names.

    Raises:
        MHNetError: the system refuses.
    """
    loader = PackageLoader("mhnet", "restore")
    environment = Environment(loader=loader, autoescape=True, finalize=_as_text, trim_blocks=True, lstrip_blocks=True)
    environment.tests["infinite"] = math.isinf
    style, script = (Markup(loader.get_source(environment, f"report.{kind}")[0]) for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown, listed = entries[:MOST], entries[MOST:]
    pictures = 2 * len(shown) + sum(entry.target is not None for entry in shown)
    side = min(max(round(math.sqrt(_BUDGET / max(pictures, 1) / _BYTES * 4 / 3)), SMALLEST), LARGEST)
    chunks = environment.get_template("report.html").generate(
        title=title, style=style, script=script, digest=digest, restored=len(entries), failures=failures, about=about,
        means=_means(entries), single=len(shown) == 1, figures=(_figure(entry, path.parent, side) for entry in shown),
        listed=[(entry.name, _link(entry.after, path.parent)) for entry in listed],
    )  # fmt: skip
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(chunks)
    except OSError as error:
        raise MHNetError(f"{printable(path)} cannot be written ({error.strerror}); choose another place.") from error


def _means(entries: Sequence[Entry]) -> Iterator[tuple[str, Scores]]:
    """The mean scores by each protocol, and what they are called."""
    of_protocol: dict[str, list[Scores]] = {}
    for scores in (entry.scores for entry in entries if entry.scores):
        of_protocol.setdefault(scores.protocol, []).append(scores)
    for protocol, found in of_protocol.items():
        before, after = mean_score([one.before for one in found]), mean_score([one.after for one in found])
        yield f"mean of {len(found):,} by {protocol}", Scores(protocol, before, after)


def _figure(entry: Entry, folder: Path, side: int) -> dict[str, Any]:
    """What the template shows of an entry."""
    files = {"original": entry.before, "result": entry.after} | ({"clean": entry.target} if entry.target else {})
    links = {word: _link(path, folder) for word, path in files.items()}
    try:
        pixels = {word: _pixels(path) for word, path in files.items()}
    except MHNetError as error:
        return {"entry": entry, "links": links, "fault": error}
    height, width = pixels["result"].shape[:2]
    previews = {word: _preview(image, side) for word, image in pixels.items()}
    return {"entry": entry, "links": links, "previews": previews, "height": height, "width": width}


def _pixels(path: Path) -> np.ndarray:
    """An image, or a frame of a video, as uint8 H×W×3."""
    if not is_film(path):
        return read_rgb(path)
    from mhnet.restore.video_frames import read_format, read_frames

    form = read_format(path)
    return next(read_frames(path, form, min(_VIDEO_FRAME, (form.count or 1) // 2))).pixels


def _preview(pixels: np.ndarray, side: int) -> Markup:
    """A scaled JPEG as a data URL."""
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(round(length * scale), 1) for length in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=88)
    return Markup("data:image/jpeg;base64," + base64.b64encode(encoded.getbuffer()).decode())


def _link(path: Path, folder: Path) -> str:
    """A link to a file, relative to the page's folder."""
    try:
        return quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute())).replace(os.sep.encode(), b"/"))
    except ValueError:  # on another drive of Windows
        return path.absolute().as_uri()


def _as_text(value: object) -> object:
    """What is shown of a value in the page: control characters as pictures of them, undecodable bytes as �."""
    if isinstance(value, Markup):
        return value
    plain = str(value).encode("utf-8", "replace" if os.name == "nt" else "surrogateescape").decode("utf-8", "replace")
    return "".join(chr(0x2400 + ord(char)) if ord(char) < 32 else char for char in plain)
