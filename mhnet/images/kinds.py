"""Which kinds of images there are, told by a file's first bytes; which names they have, and how they are written."""

import re
from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of image file."""

    extensions: tuple[str, ...]  # of its files' names
    written: str  # the extension of its result where a file's own name gives none that is written
    bits: int = 0  # the most that a sample has when it is written; 0 for a kind that is not
    alpha: bool = False  # whether transparency is written


KINDS = {
    "JPEG": Kind((".jpg", ".jpeg", ".jpe", ".jfif"), ".jpg", 8),
    "MPO": Kind((".mpo",), ".jpg"),
    "PNG": Kind((".png",), ".png", 16, True),
    "TIFF": Kind((".tif", ".tiff"), ".tif", 16, True),
    "WEBP": Kind((".webp",), ".webp", 8, True),
    "BMP": Kind((".bmp",), ".bmp", 8),
    "HEIF": Kind((".heic", ".heif", ".hif"), ".heic", 10, True),
    "AVIF": Kind((".avif",), ".avif", 12, True),
    "JXL": Kind((".jxl",), ".jxl", 8, True),
    "GIF": Kind((".gif",), ".png"),
    "JPEG2000": Kind((".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"), ".tif"),
    "PPM": Kind((".ppm", ".pgm", ".pbm", ".pnm"), ".tif"),
    "TGA": Kind((".tga",), ".tif"),
    "RAW": Kind((".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".pef",
                 ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mrw", ".mos", ".dcr", ".kdc", ".x3f", ".rwl"), ".tif"),
}  # fmt: skip
KIND_OF_EXTENSION = {extension: name for name, kind in KINDS.items() for extension in kind.extensions}
EXTRA_LIBRARIES = {"HEIF": "pillow_heif", "JXL": "pillow_jxl", "RAW": "rawpy"}  # of the extra `photos`
WRITTEN_EXTENSIONS = frozenset(extension for kind in KINDS.values() if kind.bits for extension in kind.extensions)
START = 128  # bytes that tell a kind

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"FUJIFILMCCD-RAW": "RAW",
    b"IIU\0": "RAW",  # Panasonic, Leica
    b"IIRO": "RAW",  # Olympus
    b"IIRS": "RAW",
    b"MMOR": "RAW",
    b"FOVb": "RAW",  # Sigma
    b"\0MRM": "RAW",  # Minolta
    b"II\x1a\0\0\0HEAPCCDR": "RAW",  # Canon
    b"II*\0\x10\0\0\0CR": "RAW",  # Canon
    b"II*\0": "TIFF",  # or a camera's raw: its name or its directories tell
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "RAW"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIF"
)
_PNM = re.compile(rb"P[1-6]\s")
_TGA = re.compile(rb".[\0\1][\x01\x02\x03\x09\x0a\x0b].{5}.{8}[\x08\x0f\x10\x18\x20]", re.DOTALL)


def kind_of(start: bytes, name: str = "") -> str:
    """The kind of image that begins with these bytes, of at least START if there are so many; '' for none.

    A TGA begins with nothing of its own, and many raws as a TIFF: there the name counts too.
    """
    named = KIND_OF_EXTENSION.get(Path(name).suffix.lower())
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":  # ISO 14496-12, 4.3: the major brand, its version, compatible ones
        places = (8, *range(16, min(int.from_bytes(start[:4], "big"), START), 4))
        found = [_BRANDS[brand] for brand in (start[at : at + 4] for at in places) if brand in _BRANDS]
        return "AVIF" if "AVIF" in found else found[0] if found else ""
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return "RAW" if kind == "TIFF" and named == "RAW" else kind
    if _PNM.match(start):
        return "PPM"
    return "TGA" if named == "TGA" and _TGA.match(start) else ""


def kind_of_file(path: Path) -> str:
    """The kind of image that a file is, by its first bytes; '' for none, and where it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return kind_of(stream.read(START), path.name)
    except (OSError, ValueError):
        return ""


def result_extension(path: Path) -> str:
    """The extension of an image's result: its own where that is written, else what its kind is written as."""
    extension = path.suffix
    if extension.lower() in WRITTEN_EXTENSIONS:
        return extension
    kind = kind_of_file(path) or KIND_OF_EXTENSION.get(extension.lower(), "PNG")
    return KINDS[kind].written
