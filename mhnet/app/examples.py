"""Photos to try the page with: those of demo/, where the page runs from a clone of the repository."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from mhnet.app.choices import DEGRADATIONS
from mhnet.core.errors import MHNetError
from mhnet.data.degrade import DEGRADATIONS as MAKE
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

FOLDER = Path(__file__).resolve().parent.parent.parent / "demo" / "photos" / "test"
_SIDE = 160  # of a preview, pixels
_CLEAN = ".clean.png"  # no upload is called so
_SEVERITY = {"rain": (0.45, 0.45), "blur": (0.2, 0.2)}


def names() -> list[str]:
    """Of the photos that there are, without extensions."""
    return [path.stem for path in find_images(FOLDER)] if FOLDER.is_dir() else []


def preview(name: str) -> str:
    """A square cut from a photo's middle, small, as a data URL."""
    with Image.open(_clean(name)) as photo:
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        small = photo.convert("RGB").resize((_SIDE, _SIDE), box=(left, top, left + side, top + side))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getbuffer()).decode()


def make(name: str, key: str, folder: Path) -> Path:
    """Writes a photo in rain or blur, as the choice of that key takes it away, and beside it the clean one.

    Raises:
        MHNetError: there is no such photo.
    """
    kind = DEGRADATIONS.get(key, "rain")
    clean = read_rgb(_clean(name))
    degraded = MAKE[kind](clean, np.random.default_rng(names().index(name)), severity=_SEVERITY[kind])
    photo = folder / f"{name}-in-{kind}.png"
    write_rgb(photo, degraded)
    write_rgb(folder / _CLEAN, clean)
    return photo


def clean_of(photo: Path) -> Path | None:
    """The clean photo of an example; None of anything else."""
    path = photo.with_name(_CLEAN)
    return path if path.is_file() and path != photo else None


def _clean(name: str) -> Path:
    found = {path.stem: path for path in find_images(FOLDER)} if FOLDER.is_dir() else {}
    if name not in found:
        raise MHNetError("There is no such example.")
    return found[name]
