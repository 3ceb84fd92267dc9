"""Which files are restored, known by their names' endings, and which endings their results get."""

from pathlib import Path

from mhnet.images import rgb

VIDEO_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
}
"""FFmpeg's containers that results are written to, by extension: those that keep any frame times."""

VIDEO_EXTENSIONS = frozenset({*VIDEO_FORMATS, ".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".3gp", ".ogv", ".vob", ".gif"})
"""What is taken for a video. GIFs are: their frames have times."""


def is_video(path: Path) -> bool:
    """Whether a file's name ends like a video's."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def is_restorable(path: Path) -> bool:
    """Whether a file's name ends like an image's or a video's."""
    return rgb.has_image_extension(path.name) or is_video(path)


def result_extension(source: Path, image_extension: str | None = None) -> str:
    """The extension of a file's result: its own where such files are written, else .mp4 or .png.

    Args:
        image_extension: what images' results get instead, such as ".jpg".
    """
    if is_video(source):
        return source.suffix if source.suffix.lower() in VIDEO_FORMATS else ".mp4"
    return image_extension or (source.suffix if rgb.has_image_extension(source.name) else ".png")
