"""Draw fig/demo.jpg: two rainy photographs and a shaken one that `make demo` restored, with their scores.

python fig/demo.py
"""

import sys
from pathlib import Path

from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.core.tasks import DEBLURRING, DERAINING
from mhnet.evaluation import protocols, sheets
from mhnet.images.read import read_rgb

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
SHOWN = (
    ("rainy", "oakland-zoo-otters", DERAINING),
    ("rainy", "roman-colosseum", DERAINING),
    ("shaken", "chelsea", DEBLURRING),
)


@exits_cleanly
def main() -> None:
    rows, captions = [], []
    for folder, name, task in SHOWN:
        restored = DEMO / "out" / folder / f"{name}.png"
        if not restored.is_file():
            raise MHNetError(f"There is no {restored}: run 'make demo' first")
        paths = (DEMO / folder / f"{name}.jpg", restored, DEMO / "photos" / "test" / f"{name}.jpg")
        pictures = [read_rgb(path) for path in paths]
        scores = [protocols.score(picture, pictures[2], task.protocol) for picture in pictures[:2]]
        rows.append(("", pictures))
        captions.append([f"{psnr:.2f} dB / {ssim:.3f}" for psnr, ssim in scores] + [""])
    headers = ["before", "restored by MHNet", "clean"]
    sheets.before_after(rows, headers, captions, HERE / "demo.jpg", width=1200)


if __name__ == "__main__":
    sys.exit(main())
