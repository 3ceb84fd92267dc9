"""Photos to try the page with: those of demo/, where the page runs from a clone of the repository."""

import base64
import io
import shutil
from pathlib import Path

from PIL import Image, ImageOps

from mhnet.core.errors import MHNetError
from mhnet.images.listing import find_images

DEMO = Path(__file__).resolve().parent.parent.parent / "demo"
_CLEAN = DEMO / "photos" / "test"
_DEGRADED = {"derain": DEMO / "rainy", "deblur": DEMO / "shaken"}  # synthetic, by what takes it away
_UNTOUCHED = DEMO / "photos" / "train" / "coffee.jpg"  # with nothing to remove
_SIDE = 160  # of a preview, pixels
_CLEAN_NAME = ".clean"  # no upload is called so


def examples() -> list[dict[str, str]]:
    """What there is: names of files, words for them, previews."""
    if not _CLEAN.is_dir():
        return []
    found = [(path, path.stem.replace("-", " ")) for path in find_images(_CLEAN)]
    found.append((_UNTOUCHED, f"{_UNTOUCHED.stem}, with nothing to remove"))
    return [{"name": path.name, "words": words, "preview": _preview(path)} for path, words in found]


def copy(name: str, key: str, folder: Path) -> Path:
    """Copies an example: in rain or blur, as the choice of that key takes it away, and beside it the clean one."""
    if name == _UNTOUCHED.name:
        return Path(shutil.copy(_UNTOUCHED, folder))
    if name not in [path.name for path in find_images(_CLEAN)]:
        raise MHNetError("There is no such example.")
    shutil.copy(_CLEAN / name, folder / _CLEAN_NAME)
    return Path(shutil.copy(_DEGRADED.get(key, _DEGRADED["derain"]) / name, folder))


def clean_of(photo: Path) -> Path | None:
    """The clean photo of an example; None of anything else."""
    path = photo.with_name(_CLEAN_NAME)
    return path if path.is_file() else None


def _preview(path: Path) -> str:
    """A square cut from a photo's middle, small, as a data URL."""
    encoded = io.BytesIO()
    with Image.open(path) as photo:
        ImageOps.fit(photo.convert("RGB"), (_SIDE, _SIDE)).save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getbuffer()).decode()
