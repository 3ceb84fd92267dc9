"""Draw fig/demo.jpg: two of the photographs that `make demo` restored, with their scores by `rain_y_matlab`.

python fig/demo.py
"""

import sys
from pathlib import Path

from mhnet import images, metrics, sheets
from mhnet.errors import MHNetError, exits_cleanly

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo" / "out"
NAMES = ("oakland-zoo-otters", "roman-colosseum")
FOLDERS = (OUT / "rainy" / "input", OUT / "results" / "rainy", OUT / "rainy" / "target")


@exits_cleanly
def main() -> None:
    if not FOLDERS[1].is_dir():
        raise MHNetError(f"There is no folder {FOLDERS[1]}: run 'make demo' first")
    rows = [("", [images.read(folder / f"{name}.png") for folder in FOLDERS]) for name in NAMES]
    scores = [
        [metrics.score(picture, pictures[2], "rain_y_matlab") for picture in pictures[:2]] for _, pictures in rows
    ]
    captions = [[f"{psnr:.2f} dB / {ssim:.3f}" for psnr, ssim in row] + [""] for row in scores]
    sheets.before_after(rows, ["rain", "restored by MHNet", "clean"], captions, HERE / "demo.jpg", width=1200)


if __name__ == "__main__":
    sys.exit(main())
