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
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

from mhnet.core.errors import MHNetError
from mhnet.core.files import replacing
from mhnet.evaluation.protocols import Score
from mhnet.images.read import read_rgb
from mhnet.restore.video_frames import read_format, read_frames
from mhnet.restore.video_kinds import is_film

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
    """An image or video of the page.

    Args:
        name: what stands below it.
        before, after: the original and the result.
        target: the clean image, where there is one.
        scores: those of both against it.
        note: a sentence on it.
    """

    name: str
    before: Path
    after: Path
    target: Path | None = None
    scores: Scores | None = None
    note: str = ""


def write_page(
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
    shown, listed = entries[:MOST], entries[MOST:]
    side = _side(len(shown), sum(entry.target is not None for entry in shown))
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_head(title))
            file.writelines(_summary(title, entries, len(failures), about or {}))
            file.write(f"<main{' class=one' if len(shown) == 1 else ''}>\n")
            file.writelines(_figure(entry, path.parent, side) for entry in shown)
            file.write("</main>\n")
            if listed:
                file.write(f"<h2>{len(listed)} more</h2>\n<ul>\n")
                file.writelines(f"<li>{_link(entry.after, path.parent, entry.name)}</li>\n" for entry in listed)
                file.write("</ul>\n")
            if failures:
                file.write('<h2 id="failures">Not restored</h2>\n<ul class="failures">\n')
                file.writelines(
                    f'<li><span class="name">{_text(name)}</span>: {_text(reason)}</li>\n' for name, reason in failures
                )
                file.write("</ul>\n")
            file.write(f"<script>{_part('page.js')}</script>\n</body>\n</html>\n")
    except OSError as error:
        raise MHNetError(f"{path} cannot be written ({error.strerror}); name another --report.") from error


def _side(count: int, targets: int) -> int:
    """The longest side of previews, so that the page stays within its budget where it can."""
    pixels = _BUDGET / max(2 * count + targets, 1) / _BYTES
    return round(min(max(math.sqrt(pixels * 4 / 3), SMALLEST), LARGEST))


def _head(title: str) -> str:
    digest = base64.b64encode(hashlib.sha256(_part("page.js").encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_part('page.css')}</style>\n</head>\n<body>\n"
    )


def _summary(title: str, entries: Sequence[Entry], failed: int, about: Mapping[str, str]) -> Iterator[str]:
    """The page's beginning: its title, how many, the mean scores, further facts."""
    yield f"<header>\n<h1>{_text(title)}</h1>\n"
    failures = f', <a href="#failures">{failed} not</a>' if failed else ""
    yield f"<p>{len(entries):,} restored{failures}. Drag across a picture, or use the arrow keys.</p>\n"
    scored = [entry.scores for entry in entries if entry.scores]
    for protocol in dict.fromkeys(scores.protocol for scores in scored):
        of_protocol = [scores for scores in scored if scores.protocol == protocol]
        means = Scores(protocol, *(_mean([getattr(one, side) for one in of_protocol]) for side in ("before", "after")))
        yield f"{_table(means, f'mean of {len(of_protocol):,}')}\n"
    if about:
        rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in about.items())
        yield f"<dl>{rows}</dl>\n"
    yield "</header>\n"


def _figure(entry: Entry, folder: Path, side: int) -> str:
    """One image with its slider, name, scores and links."""
    places = {"original": entry.before, "result": entry.after} | ({"clean": entry.target} if entry.target else {})
    links = " · ".join(_link(place, folder, word) for word, place in places.items())
    try:
        frame, size = _frame(entry, side)
    except MHNetError as error:
        frame, size = f"<p>{_text(error)}</p>", ""
    offer = '<button type="button" data-clean aria-pressed="false">compare with the clean picture</button>'
    return f"""<figure>
{frame}
<figcaption>
<span class="name"><bdi>{_text(entry.name)}</bdi></span> <span class="faint">{size}{links}</span>
{offer if entry.target and size else ""}{_table(entry.scores) if entry.scores else ""}
{f"<p>{_text(entry.note)}</p>" if entry.note else ""}</figcaption>
</figure>
"""


def _frame(entry: Entry, side: int) -> tuple[str, str]:
    """The pictures with their slider, and their size in words."""
    before, after, name = _pixels(entry.before), _pixels(entry.after), _text(entry.name)
    clean = ""
    if entry.target is not None:
        clean = f'<img class="clean" hidden alt="" src="{_preview(_pixels(entry.target), side)}">'
    height, width = after.shape[:2]
    html = f"""<div class="frame" style="--ratio: {width / height:.5f}">
<img alt="{name}, restored" src="{_preview(after, side)}">
<img class="left" alt="{name}, before" src="{_preview(before, side)}">{clean}
<span class="word on-left">before</span><span class="word on-right">after</span><span class="knob">‹›</span>
<input type="range" min="0" max="100" value="50" aria-label="{name}: from before to after">
</div>"""
    return html, f"{width}×{height} · "


def _pixels(path: Path) -> np.ndarray:
    """An image, or a frame of a video, as uint8 H×W×3."""
    if not is_film(path):
        return read_rgb(path)
    form = read_format(path)
    return next(read_frames(path, form, min(_VIDEO_FRAME, (form.count or 1) // 2))).pixels


def _preview(pixels: np.ndarray, side: int) -> str:
    """A scaled JPEG as a data URL."""
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(round(length * scale), 1) for length in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getbuffer()).decode()


def _table(scores: Scores, title: str = "") -> str:
    """Scores before and after."""
    rows = "".join(
        f"<tr><th>{word}</th><td>{_number(score.psnr, 2)} dB</td><td>{_number(score.ssim, 4)}</td></tr>"
        for word, score in (("before", scores.before), ("after", scores.after))
    )
    caption = f"{title} by {scores.protocol}" if title else scores.protocol
    head = f"<tr><th>{_text(caption)}</th><th>PSNR</th><th>SSIM</th></tr>"
    return f"<table>{head}{rows}</table>"


def _mean(scores: Sequence[Score]) -> Score:
    """The means; images that equal their clean ones have no PSNR to count."""
    finite = [score.psnr for score in scores if math.isfinite(score.psnr)]
    psnr = sum(finite) / len(finite) if finite else math.inf
    return Score(psnr, sum(score.ssim for score in scores) / len(scores))


def _number(value: float, digits: int) -> str:
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _link(path: Path, folder: Path, words: str) -> str:
    """A link to a file, relative to the page's folder."""
    try:
        place = quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute())).replace(os.sep.encode(), b"/"))
    except ValueError:  # on another drive of Windows
        place = path.absolute().as_uri()
    return f'<a href="{place}">{_text(words)}</a>'


def _text(words: object) -> str:
    """Text for HTML: nothing in it is markup, control characters are shown, undecodable bytes become �."""
    plain = str(words).encode("utf-8", "replace" if os.name == "nt" else "surrogateescape").decode("utf-8", "replace")
    return escape("".join(chr(0x2400 + ord(char)) if ord(char) < 32 else char for char in plain))


def _part(name: str) -> str:
    return files("mhnet.restore").joinpath(name).read_text(encoding="utf-8")
