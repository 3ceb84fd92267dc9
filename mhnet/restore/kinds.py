"""Which files are restored, and which endings their results' names get."""

from pathlib import Path

from mhnet.images.listing import has_image_extension
from mhnet.restore import video_kinds


def is_restorable(path: Path) -> bool:
    """Whether a file's name ends like an image's or a film's."""
    return has_image_extension(path.name) or path.suffix.lower() in video_kinds.EXTENSIONS


def result_extension(source: Path, image_extension: str | None = None) -> str:
    """The extension of a file's result: its own where such files are written, else .mp4 or .png.

    Args:
        image_extension: what images' results get instead, such as ".jpg".
    """
    if video_kinds.is_film(source):
        return video_kinds.result_extension(source)
    return image_extension or (source.suffix if has_image_extension(source.name) else ".png")
