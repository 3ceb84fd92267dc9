"""Which files are restored, and which endings their results' names get."""

from pathlib import Path

from mhnet.images import kinds as image_kinds
from mhnet.images.listing import has_image_extension, is_image_file
from mhnet.restore import video_kinds


def is_restorable(path: Path) -> bool:
    """Whether a file is an image or a film, or claims to be one by its name."""
    return has_restorable_name(path) or is_image_file(path) or video_kinds.is_film(path)


def has_restorable_name(path: Path) -> bool:
    """Whether a file's name ends like an image's or a film's."""
    return has_image_extension(path.name) or path.suffix.lower() in video_kinds.EXTENSIONS


def result_extension(source: Path, image_extension: str | None = None) -> str:
    """The extension of a file's result: its own where such files are written, else what its kind is written as.

    Args:
        image_extension: what images' results get instead, such as ".jpg".
    """
    if video_kinds.is_film(source):
        return video_kinds.result_extension(source)
    return image_extension or image_kinds.result_extension(source)
