"""Draw the pictures of docs/restoring.md: restoring_photos.jpg, restoring_video.jpg and restoring_report.jpg.

python fig/restoring.py WEIGHTS

The photographs are those of demo/photos/test, in rain of our own. The report is photographed by Chromium, where it is
installed.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from PIL import Image

from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.data.degrade import rain
from mhnet.data.rain import RainParameters
from mhnet.evaluation import protocols, sheets
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.restore.report import Entry, Scores, write_report
from mhnet.restore.restorer import Restorer
from mhnet.restore.video import restore_video

HERE = Path(__file__).resolve().parent
PHOTOS = HERE.parent / "demo" / "photos" / "test"
SHOWN = ("lake-sherburne", "oakland-zoo-otters")
PROTOCOL = "rain_y_matlab"
FRAMES, SIZE, STEP = 24, (320, 480), 8  # of the film: how many, height and width, pixels the camera moves for each
STILLS = (0, 12, 23)
WIDTH = 1200


def photographs(restorer: Restorer, folder: Path) -> list[Entry]:
    """The photographs in rain, restored, with their scores, as files."""
    entries = []
    for number, path in enumerate(find_images(PHOTOS)):
        clean = read_rgb(path)
        rainy = rain(clean, np.random.default_rng(number), severity=(0.3, 0.6))
        restored = restorer(rainy)
        before, after, target = (folder / side / f"{path.stem}.png" for side in ("rainy", "restored", "clean"))
        for place, image in ((before, rainy), (after, restored), (target, clean)):
            write_rgb(place, image)
        scores = Scores(PROTOCOL, *(protocols.score(image, clean, PROTOCOL) for image in (rainy, restored)))
        entries.append(Entry(path.stem, before, after, target, scores))
    return entries


def film(path: Path) -> None:
    """A camera's way across a photograph, in rain that is new in every frame."""
    photo = read_rgb(PHOTOS / "lake-sherburne.jpg")
    random = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 24, options={"crf": "12"})
        (stream.height, stream.width), stream.pix_fmt = SIZE, "yuv420p"
        weather = RainParameters.draw(random, 0.35)
        for number in range(FRAMES):
            view = np.ascontiguousarray(photo[60 : 60 + SIZE[0], number * STEP : number * STEP + SIZE[1]])
            rainy = replace(weather, seed=number).render(view)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rainy, format="rgb24")))
        container.mux(stream.encode(None))


def stills(path: Path) -> list[np.ndarray]:
    """Some of a film's frames."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [frames[number] for number in STILLS]


def photograph_page(page: Path, target: Path) -> None:
    """What a browser shows of a page, smaller."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: the report is not photographed", file=sys.stderr)
        return
    shot = page.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1060"]
    subprocess.run([browser, *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
    with Image.open(shot) as picture:
        picture.convert("RGB").save(target, quality=85, optimize=True)


@exits_cleanly
def main() -> None:
    if len(sys.argv) != 2:
        raise MHNetError("Name a file of weights for deraining: python fig/restoring.py WEIGHTS")
    restorer = Restorer.from_weights(sys.argv[1], precision="fp32")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = photographs(restorer, folder)
        rows = [("", [read_rgb(path) for path in (entry.before, entry.after)])
                for entry in entries if entry.name in SHOWN]  # fmt: skip
        sheets.before_after(rows, ["rainy/", "restored/"], None, HERE / "restoring_photos.jpg", 960)
        film(folder / "clip.mp4")
        restore_video(restorer, folder / "clip.mp4", folder / "clear.mp4")
        rows = [("", stills(folder / name)) for name in ("clip.mp4", "clear.mp4")]
        headers = [f"frame {number + 1}" for number in STILLS]
        sheets.before_after(rows, headers, None, HERE / "restoring_video.jpg", WIDTH)
        about = {"weights": Path(sys.argv[1]).name, "device": "cpu"}
        write_report(folder / "report.html", entries, "rainy", about=about)
        photograph_page(folder / "report.html", HERE / "restoring_report.jpg")


if __name__ == "__main__":
    sys.exit(main())
