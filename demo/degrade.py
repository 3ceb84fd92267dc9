"""Make demo/rainy and demo/shaken again: the four photographs of demo/photos/test in the rain, and by a shaken camera.

python demo/degrade.py

They are what `mhnet data degrade demo/photos/test OUT --kind KIND --severity LOW HIGH --seed SEED` writes, saved as
JPEG of quality 95. `parameters.json` beside them says what was done to each.
"""

import shutil
import tempfile
from pathlib import Path

from mhnet.data.make import RECORD, degrade_folder
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

DEMO = Path(__file__).resolve().parent
PHOTOS = DEMO / "photos" / "test"
SETS = {"rainy": ("rain", (0.3, 0.8), 1), "shaken": ("blur", (0.2, 0.6), 1)}  # kind, severity, seed


def main() -> None:
    for folder, (kind, severity, seed) in SETS.items():
        with tempfile.TemporaryDirectory() as place:
            made = Path(place)
            degrade_folder(PHOTOS, made, kind, severity=severity, seed=seed)
            for path in find_images(made / "input"):
                write_rgb(DEMO / folder / f"{path.stem}.jpg", read_rgb(path))
            shutil.copyfile(made / RECORD, DEMO / folder / RECORD)


if __name__ == "__main__":
    main()
