"""Sheets of pictures to compare by eye: a row per photograph, a column per stage."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mhnet.core.files import StrPath
from mhnet.images.write import write_rgb

_TALLEST = 10  # times a column's width that an image may be tall
ERROR_RANGE = 64  # levels of 255 from which an error is drawn white
PAPER, INK, FAINT = (255, 255, 255), (32, 33, 36), (110, 113, 118)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def before_after(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    headers: Sequence[str],
    captions: Sequence[Sequence[str]] | None,
    path: StrPath,
    width: int = 1760,
) -> None:
    """Write one picture of labelled columns, such as degraded, restored and clean.

    Args:
        rows: for each photograph a title ('' for none) and one uint8 H×W×3 image per header; the images are scaled
            to the column's width, very tall ones to less, and keep their proportions. Pillow's own font draws ASCII
            only.
        headers: what stands above the columns.
        captions: by row and column, a line below each image, such as '24.31 dB / 0.712' ('' for none).
        path: the file to write.
        width: of the sheet, in pixels; margins and letters grow with it.

    Raises:
        ValueError: a row or its captions do not have one entry per header.
        ImageError: the picture cannot be written.
    """
    if captions is None:
        captions = [[""] * len(headers)] * len(rows)
    for (_, pictures), line in zip(rows, captions, strict=True):
        if not len(pictures) == len(line) == len(headers):
            raise ValueError(f"{len(pictures)} images and {len(line)} captions stand below {len(headers)} headers")
    margin, gap, near = width // 55, max(width // 220, 1), width // 150
    header, small = (ImageFont.load_default(size) for size in (max(width / 68, 8), max(width / 84, 8)))
    column = (width - 2 * margin - gap * (len(headers) - 1)) // len(headers)
    lefts = [margin + i * (column + gap) for i in range(len(headers))]

    def words(texts: Sequence[str], font: Font, ink: tuple[int, int, int], above: int, below: int) -> Image.Image:
        """A line of text, each piece at its column's left edge, with space above and below."""
        top, bottom = (int(edge) for edge in font.getbbox("Hg")[1::2])
        strip = Image.new("RGB", (width, above + (bottom - top if any(texts) else 0) + below), PAPER)
        for left, text in zip(lefts, texts, strict=False):
            ImageDraw.Draw(strip).text((left, above - top), text, ink, font)
        return strip

    strips = [Image.new("RGB", (width, margin), PAPER), words(headers, header, INK, 0, margin)]
    for (title, pictures), line in zip(rows, captions, strict=True):
        if title:
            strips.append(words([title], small, FAINT, 0, near))
        scales = [min(column / one.shape[1], _TALLEST * column / one.shape[0]) for one in pictures]
        sizes = [
            (max(round(one.shape[1] * scale), 1), max(round(one.shape[0] * scale), 1))
            for one, scale in zip(pictures, scales, strict=True)
        ]
        strip = Image.new("RGB", (width, max(height for _, height in sizes)), PAPER)
        for left, picture, size in zip(lefts, pictures, sizes, strict=True):
            strip.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (left, 0))
        strips += [strip, words(line, small, INK, near, margin)]
    write_rgb(path, np.concatenate([np.asarray(strip) for strip in [*strips, strips[0]]]))


def error_map(restored: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where two uint8 H×W×3 images differ: the largest difference of the three channels, from black for none through
    red and yellow to white from ERROR_RANGE levels; uint8 H×W×3."""
    difference = cv2.absdiff(restored, target).max(axis=2).astype(np.float32)
    levels = np.minimum(difference * (255 / ERROR_RANGE), 255).round().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_HOT), cv2.COLOR_BGR2RGB)
