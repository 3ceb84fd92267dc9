"""Photos to try the page with: those of demo/, where the page runs from a clone of the repository."""

import base64
import io
import shutil
from pathlib import Path

from PIL import Image

from mhnet.core.errors import MHNetError
from mhnet.images import rgb

DEMO = Path(__file__).resolve().parent.parent.parent / "demo"
_FOLDERS = {"derain": DEMO / "rainy", "deblur": DEMO / "shaken"}  # by what takes it away
_CLEAN = DEMO / "photos" / "test"
_SIDE = 160  # of a preview, pixels
_CLEAN_NAME = ".clean"  # no upload is called so


def names() -> list[str]:
    """Of the photos that there are."""
    return [path.name for path in rgb.find_images(_CLEAN)] if _CLEAN.is_dir() else []


def preview(name: str) -> str:
    """A square cut from a photo's middle, small, as a data URL."""
    with Image.open(_CLEAN / name) as photo:
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        small = photo.convert("RGB").resize((_SIDE, _SIDE), box=(left, top, left + side, top + side))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getbuffer()).decode()


def copy(name: str, key: str, folder: Path) -> Path:
    """Copies a photo in rain or blur, as the choice of that key takes it away, and beside it the clean one.

    Raises:
        MHNetError: there is no such photo.
    """
    if name not in names():
        raise MHNetError("There is no such example.")
    shutil.copy(_CLEAN / name, folder / _CLEAN_NAME)
    return Path(shutil.copy(_FOLDERS.get(key, _FOLDERS["derain"]) / name, folder))


def clean_of(photo: Path) -> Path | None:
    """The clean photo of an example; None of anything else."""
    path = photo.with_name(_CLEAN_NAME)
    return path if path.is_file() else None
