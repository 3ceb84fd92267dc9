"""Which files are restored, and which endings their results' names get."""

from pathlib import Path

from mhnet.images import kinds as image_kinds
from mhnet.images.listing import has_image_extension, is_image_file
from mhnet.restore import video_kinds

_UNREAD = frozenset((
    ".psd", ".psb", ".xcf", ".eps", ".ai", ".svg", ".svgz", ".exr", ".hdr", ".dds", ".ico", ".icns", ".cur", ".jxr",
    ".wdp", ".hdp", ".pcx", ".sgi", ".ras", ".xbm", ".xpm", ".qoi", ".bpg", ".flif", ".fits",
    ".dcm", ".djvu", ".wmf", ".emf",
    ".asf", ".f4v", ".3g2", ".m2v", ".m1v", ".mpe", ".mpv", ".ogm", ".mxf", ".dv", ".rm", ".rmvb", ".divx", ".y4m",
))  # fmt: skip
"""What names of further images and films end in: these are tried, and named where they cannot be read."""

_NEITHER = frozenset((".thm", ".lrv", ".m4a", ".m4b", ".m4p", ".mka", ".wma", ".aac", ".ogg", ".oga", ".opus", ".mp3"))
"""Sidecars and sound, although their content is that of an image or a film."""


def is_restorable(path: Path) -> bool:
    """Whether a file is an image or a film, or claims to be one by its name."""
    if path.suffix.lower() in _NEITHER:
        return False
    return claims_to_be_restorable(path) or is_image_file(path) or video_kinds.is_film(path)


def claims_to_be_restorable(path: Path) -> bool:
    """Whether a file's name ends like an image's or a film's."""
    extension = path.suffix.lower()
    return has_image_extension(path.name) or extension in video_kinds.EXTENSIONS or extension in _UNREAD


def is_result_name(path: Path) -> bool:
    """Whether results are written under names with such an ending."""
    extension = path.suffix.lower()
    return extension in image_kinds.WRITTEN_EXTENSIONS or extension in video_kinds.CONTAINERS


def result_extension(source: Path, image_extension: str | None = None) -> str:
    """The extension of a file's result: its own where such files are written, else what its kind is written as.

    Args:
        image_extension: what images' results get instead, such as ".jpg".
    """
    if video_kinds.is_film(source):
        return video_kinds.result_extension(source)
    return image_extension or image_kinds.result_extension(source)
