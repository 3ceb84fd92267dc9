"""Draw contact sheets of the synthetic rain and blur, fig/rain.jpg, fig/filmed_rain.jpg and fig/blur.jpg, from
photographs in demo/photos.

python fig/degradations.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mhnet.data import degrade
from mhnet.evaluation.protocols import score
from mhnet.images.read import read_rgb

HERE = Path(__file__).resolve().parent
PHOTOS = HERE.parent / "demo" / "photos"
SEVERITIES = (0.05, 0.3, 0.6, 0.95)
CELL, GAP, CAPTION = (347, 231), 6, 24  # pixels
LARGEST = 390_000  # bytes
# All CC0. A photograph is shown whole, made smaller after it was degraded, or as a piece with this corner, 1:1.
ROWS = {
    "rain": [
        ("lake-sherburne", None),
        ("oakland-zoo-otters", None),
        ("perched-osprey", (230, 90)),
        ("roman-colosseum", (90, 150)),
        ("chelsea", (60, 10)),
    ],
    "filmed_rain": [
        ("lake-sherburne", (150, 150)),
        ("oakland-zoo-otters", None),
        ("perched-osprey", (230, 90)),
        ("roman-colosseum", (90, 150)),
        ("chelsea", (60, 10)),
    ],
    "blur": [
        ("roman-colosseum", None),
        ("perched-osprey", None),
        ("beacon-street-sunset", (330, 190)),
        ("chelsea", (60, 10)),
        ("the-spices-of-life", (200, 200)),
    ],
}
SEEDS = {"rain": 23, "filmed_rain": 31, "blur": 26}


def sheet(name: str) -> Image.Image:
    """Lay photographs out in rows, severities in columns, each cell with its PSNR (rain_y_matlab)."""
    width = (len(SEVERITIES) + 1) * (CELL[0] + GAP) - GAP
    page = Image.new("RGB", (width, len(ROWS[name]) * (CELL[1] + CAPTION)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for row, (photo, corner) in enumerate(ROWS[name]):
        sharp = read_rgb(next(PHOTOS.glob(f"*/{photo}.jpg")))
        if corner:
            sharp = sharp[corner[1] : corner[1] + CELL[1], corner[0] : corner[0] + CELL[0]]
        cells = [(sharp, f"{photo}{', 1:1' if corner else ''}")]
        for column, severity in enumerate(SEVERITIES):
            random = np.random.default_rng([SEEDS[name], row, column])
            degraded = getattr(degrade, name)(sharp, random, severity=(severity, severity))
            degraded, target = degraded if isinstance(degraded, tuple) else (degraded, sharp)
            psnr = score(degraded, target, "rain_y_matlab").psnr
            cells.append((degraded, f"severity {severity:g}: {psnr:.1f} dB"))
        for column, (cell, caption) in enumerate(cells):
            x, y = column * (CELL[0] + GAP), row * (CELL[1] + CAPTION)
            page.paste(Image.fromarray(cell).resize(CELL, Image.Resampling.LANCZOS), (x, y))
            pen.text((x + CELL[0] / 2, y + CELL[1] + CAPTION / 2), caption, "black", font, anchor="mm")
    return page


def save(page: Image.Image, path: Path) -> None:
    """Write a JPEG of the best quality that stays under the largest size."""
    for quality in range(90, 30, -4):
        page.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            return


if __name__ == "__main__":
    for name in ROWS:
        save(sheet(name), HERE / f"{name}.jpg")
