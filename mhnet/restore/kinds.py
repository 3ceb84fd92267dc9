"""Which files are films, which are restored at all, and which endings their results' names get."""

from contextlib import suppress
from pathlib import Path

from mhnet.images import kinds
from mhnet.images.listing import has_image_extension, is_image_file

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
}
"""FFmpeg's names of the containers that results are written to, by extension: those that keep any frame times."""

_PICTURES_ALONE = (".mjpg", ".mjpeg")  # JPEG after JPEG
FILM_EXTENSIONS = frozenset((
    *CONTAINERS, *_PICTURES_ALONE, ".avi", ".wmv", ".asf", ".flv", ".f4v", ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v",
    ".m2v", ".vob", ".3gp", ".3g2", ".ogv", ".ogm", ".mxf", ".dv", ".rm", ".rmvb", ".divx", ".y4m", ".nut", ".ivf",
    ".h264", ".264", ".h265", ".265", ".hevc", ".gif",
))  # fmt: skip
"""What names of films end in."""

_UNREAD = frozenset((
    ".psd", ".psb", ".xcf", ".eps", ".ai", ".svg", ".svgz", ".exr", ".hdr", ".dds", ".ico", ".icns", ".cur", ".jxr",
    ".wdp", ".hdp", ".pcx", ".sgi", ".ras", ".xbm", ".xpm", ".qoi", ".bpg", ".flif", ".fits", ".dcm", ".djvu", ".wmf",
    ".emf", ".pam", ".pfm", ".mng", ".jng", ".dpx", ".cin", ".wbmp", ".pict", ".pct", ".gpr",
))  # fmt: skip
"""What names of further images end in: these are tried, and named where they cannot be read."""

_NEITHER = frozenset((".thm", ".lrv", ".m4a", ".m4b", ".m4p", ".mka", ".wma", ".aac", ".mp3"))
"""Sidecars and sound, although their content is that of an image or a film."""

_FILMS = (
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"FLV\x01"),
    *((28, start) for start in (b"\x80theora", b"OVP80")),  # Ogg's first page
    (0, b"\0\0\x01\xba"),  # MPEG program stream
    (0, b"\0\0\x01\xb3"),  # MPEG-1 or MPEG-2 pictures alone
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, which .wmv is
    *((4, box) for box in (b"moov", b"mdat", b"wide", b"pnot")),  # QuickTime from before file types were noted
)


def is_restorable(path: Path) -> bool:
    """Whether a file is an image or a film, or claims to be one by its name."""
    if path.suffix.lower() in _NEITHER:
        return False
    return claims_to_be_restorable(path) or is_image_file(path) or is_film(path)


def claims_to_be_restorable(path: Path) -> bool:
    """Whether a file's name ends like an image's or a film's."""
    extension = path.suffix.lower()
    return has_image_extension(path.name) or extension in FILM_EXTENSIONS or extension in _UNREAD


def is_film(path: Path) -> bool:
    """Whether a file is a film: by its content, or by its name where that says nothing or there is no such file.

    A GIF of one picture is not.
    """
    head = b""
    with suppress(OSError, ValueError):
        if path.is_file():  # opening a pipe would wait for a writer
            with path.open("rb") as file:
                head = file.read(1024)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return not is_image_file(path)
    if head[4:8] == b"ftyp":
        return not kinds.kind_of(head[:12])  # by the major brand alone, of photographs and bursts of them
    extension = path.suffix.lower()
    if extension in _PICTURES_ALONE or any(head.startswith(signature, place) for place, signature in _FILMS):
        return True
    if b"GGGGGG" in (head[::188], head[4::192]):  # packets every 188 bytes, or 192 with times (ISO/IEC 13818-1)
        return True
    return extension in FILM_EXTENSIONS and not kinds.kind_of(head)


def result_extension(source: Path, image_extension: str | None = None) -> str:
    """The extension of a file's result: its own where such files are written, else what its kind is written as; of an
    image's `image_extension` instead, such as ".jpg", where there is one."""
    if is_film(source):
        return source.suffix if source.suffix.lower() in CONTAINERS else ".mp4"
    return image_extension or kinds.result_extension(source)
