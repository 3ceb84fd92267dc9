"""Files that want to do harm, or that have come to harm: drawn by a number, the same for the same number."""

import io
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from samples import ALPHA, PHOTO, deep, exif, png, profile

Random = np.random.Generator
CASES = Path(__file__).parent / "data" / "cases"

_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_NAMES = ("plain", "with space", "line\nbreak", "tab\there", "-o", "--help", "ünï 雨", "a" * 180, "quote'\"", "%s{0}",
          "[set]*?", "$HOME", "dot.in.name", "~")  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """One case: what was done, its file, and whether the image must be read (True), refused (False), or either."""

    recipe: str
    path: Path
    good: bool | None


def draw(number: int, folder: Path) -> Hostile:
    """Makes case `number` inside a folder that is its own."""
    random = np.random.default_rng((20_261_124, number))
    share = random.random()
    make = _special if share < 0.2 else _crafted if share < 0.4 else _damaged
    return make(random, folder)


@cache
def whole_files() -> dict[str, bytes]:
    """A sound file of each kind, with metadata where it can have them."""
    rgb, grey = Image.fromarray(PHOTO), Image.fromarray(PHOTO[..., 1])
    clear = rgb.copy()
    clear.putalpha(Image.fromarray(ALPHA))
    notes = {"exif": b"Exif\0\0" + exif(6), "icc_profile": profile(), "dpi": (300, 300)}

    def saved(image: Image.Image, kind: str, **options) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    def tiff(pixels: np.ndarray, **options) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, **options)
        return stream.getvalue()

    frames = [Image.fromarray(np.roll(PHOTO, 7 * i, axis=1)) for i in (1, 2)]
    several = {"save_all": True, "append_images": frames}
    return {
        "colour.jpg": saved(rgb, "JPEG", quality=90, **notes),
        "progressive.jpg": saved(rgb, "JPEG", progressive=True, **notes),
        "grey.jpg": saved(grey, "JPEG"),
        "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG", icc_profile=profile("CMYK")),
        "colour.png": saved(rgb, "PNG", **notes),
        "alpha.png": saved(clear, "PNG", exif=notes["exif"]),
        "grey+alpha.png": saved(clear.convert("LA"), "PNG"),
        "palette.png": saved(rgb.quantize(16), "PNG", transparency=3),
        "bilevel.png": saved(grey.convert("1"), "PNG"),
        "deep.png": png(deep(PHOTO), 2, 16, (b"eXIf", exif(3)), (b"tEXt", b"Title\0Lake")),
        "deep grey.png": png(deep(PHOTO[..., :1]), 0, 16, (b"tRNS", b"\1\2")),
        "deep alpha.png": png(deep(np.dstack([PHOTO, ALPHA])), 6, 16),
        "colour.tif": saved(rgb, "TIFF", compression="tiff_adobe_deflate", icc_profile=profile()),
        "lzw.tif": saved(rgb, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": saved(rgb, "TIFF", compression="jpeg"),
        "fax.tif": saved(grey.convert("1"), "TIFF", compression="group4"),
        "cmyk.tif": saved(rgb.convert("CMYK"), "TIFF", icc_profile=profile("CMYK")),
        "alpha.tif": saved(clear, "TIFF"),
        "deep.tif": tiff(deep(PHOTO), photometric="rgb", byteorder=">"),
        "deep deflate.tif": tiff(deep(PHOTO), photometric="rgb", compression="zlib", predictor=True),
        "deep planes.tif": tiff(deep(PHOTO).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "deep tiles.tif": tiff(deep(PHOTO), photometric="rgb", tile=(32, 32)),
        "deep grey+alpha.tif": tiff(deep(np.dstack([PHOTO[..., 0], ALPHA])), photometric="minisblack",
                                    planarconfig="contig", extrasamples=["unassalpha"]),
        "big.tif": tiff(PHOTO, photometric="rgb", bigtiff=True),
        "colour.bmp": saved(rgb, "BMP"),
        "palette.bmp": saved(rgb.quantize(8), "BMP"),
        "lossless.webp": saved(clear, "WEBP", lossless=True, exif=notes["exif"], icc_profile=profile()),
        "lossy.webp": saved(rgb, "WEBP"),
        "colour.jp2": saved(rgb, "JPEG2000"),
        "colour.ppm": saved(rgb, "PPM"),
        "deep.ppm": b"P6\n96 64\n65535\n" + deep(PHOTO).astype(">u2").tobytes(),
        "colour.avif": saved(rgb, "AVIF", **notes),
        "one pixel.png": saved(rgb.crop((0, 0, 1, 1)), "PNG"),
        "one pixel.jpg": saved(rgb.crop((0, 0, 1, 1)), "JPEG"),
        "one pixel.webp": saved(rgb.crop((0, 0, 1, 1)), "WEBP"),
        "one pixel.bmp": saved(rgb.crop((0, 0, 1, 1)), "BMP"),
        "one pixel.tif": saved(rgb.crop((0, 0, 1, 1)), "TIFF"),
        "one row.png": saved(rgb.crop((0, 0, 90, 1)), "PNG"),
        "still.gif.png": saved(rgb.quantize(64), "GIF"),
        "still.gif": saved(rgb.quantize(64), "GIF"),
        "camera.dng": (CASES / "camera.dng").read_bytes(),
        **{name: (CASES / name).read_bytes() for name in ("iphone.heic", "photo.jxl", "ultrahdr.jpg", "arithmetic.jpg",
                                                          "PXL_motion.MP.jpg", "late_srgb_chunk.png")},
        "bad float.tif": tiff(np.full((9, 9), np.nan, np.float32)),
        "bad infinite.tif": tiff(np.full((9, 9, 3), np.inf, np.float64), photometric="rgb"),
        "bad signed.tif": tiff(np.full((9, 9), -5, np.int16)),
        "bad long.tif": tiff(np.full((9, 9), 70_000, np.uint32)),
        "bad half.tif": tiff(np.zeros((9, 9, 3), np.float16), photometric="rgb"),
        "bad animated.webp": saved(rgb, "WEBP", **several),
        "bad animated.png": saved(rgb, "PNG", **several),
        "bad animated.gif.png": saved(rgb, "GIF", **several),
        "pages.tif": saved(rgb, "TIFF", **several),
    }  # fmt: skip


def _damaged(random: Random, folder: Path) -> Hostile:
    """A sound file, cut, flipped, overwritten or put together from two."""
    names = list(whole_files())
    name = names[random.integers(len(names))]
    data, done = bytearray(whole_files()[name]), []
    for _ in range(random.integers(1, 4)):
        damage = _DAMAGES[random.integers(len(_DAMAGES))]
        done.append(damage.__name__.strip("_"))
        data = bytearray(damage(random, data)) or bytearray(b"\0")
    path = _path(random, folder, Path(name).suffix)
    path.write_bytes(data)
    return Hostile(f"{name}: {', '.join(done)}", path, None)


def _cut(random: Random, data: bytearray) -> bytearray:
    return data[: random.integers(len(data) + 1)]


def _flip(random: Random, data: bytearray) -> bytearray:
    for at in random.integers(len(data), size=random.integers(1, 20)):
        data[at] ^= 1 << int(random.integers(8))
    return data


def _flip_early(random: Random, data: bytearray) -> bytearray:
    for at in random.integers(min(len(data), 200), size=random.integers(1, 6)):
        data[at] = random.integers(256)
    return data


def _extreme(random: Random, data: bytearray) -> bytearray:
    """A number of 2 or 4 bytes becomes one where programs go wrong."""
    code = (">H", "<H", ">I", "<I")[random.integers(4)]
    at = int(random.integers(min(len(data), 600)))
    value = _EXTREMES[random.integers(len(_EXTREMES))] & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
    data[at : at + struct.calcsize(code)] = struct.pack(code, value)
    return data


def _blank(random: Random, data: bytearray) -> bytearray:
    start, length = int(random.integers(len(data))), int(random.integers(1, 400))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def _insert(random: Random, data: bytearray) -> bytearray:
    at = int(random.integers(len(data) + 1))
    return data[:at] + random.bytes(int(random.integers(1, 300))) + data[at:]


def _double(random: Random, data: bytearray) -> bytearray:
    start, end = sorted(int(at) for at in random.integers(len(data) + 1, size=2))
    return data[:end] + data[start:]


def _splice(random: Random, data: bytearray) -> bytearray:
    others = list(whole_files().values())
    other = others[random.integers(len(others))]
    return data[: random.integers(len(data) + 1)] + other[random.integers(len(other) + 1) :]


def _seal(random: Random, data: bytearray) -> bytearray:
    """Damage inside a PNG's chunk whose checksum is then right."""
    if not data.startswith(b"\x89PNG"):
        return _extreme(random, data)
    starts, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        starts.append((at, length))
        at += 12 + length
    if starts:
        at, length = starts[random.integers(len(starts))]
        for place in random.integers(max(length, 1), size=random.integers(1, 5)):
            data[at + 8 + place] = random.integers(256)
        data[at + 8 + length : at + 12 + length] = struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length]))
    return data


_DAMAGES: tuple[Callable[[Random, bytearray], bytearray], ...] = (
    _cut, _flip, _flip_early, _extreme, _extreme, _blank, _insert, _double, _splice, _seal, _seal,
)  # fmt: skip


def _crafted(random: Random, folder: Path) -> Hostile:
    """Bombs, and sound files under another name."""
    kind = int(random.integers(6))
    names = list(whole_files())
    name = names[random.integers(len(names))]
    if kind == 0:
        side = int(random.choice([23_000, 60_000, 100_000, 2**31 - 1]))
        data = bytearray(whole_files()[("colour.bmp", "colour.png", "deep.png")[random.integers(3)]])
        if data.startswith(b"BM"):
            data[18:26] = struct.pack("<II", side, side)
        else:
            data[16:24] = struct.pack(">II", side, side)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path = _path(random, folder, ".png")
        path.write_bytes(data)
        return Hostile(f"bomb of {side}²", path, False)
    if kind == 1:
        side = int(random.choice([23_000, 65_535, 2**31 - 1]))
        data = bytearray(whole_files()[("colour.tif", "deep deflate.tif", "deep.tif")[random.integers(3)]])
        endian = "<" if data.startswith(b"II") else ">"
        (at,) = struct.unpack_from(endian + "I", data, 4)
        for i in range(struct.unpack_from(endian + "H", data, at)[0]):
            place = at + 2 + 12 * i
            if struct.unpack_from(endian + "H", data, place)[0] in (256, 257):
                data[place + 2 : place + 12] = struct.pack(endian + "HII", 4, 1, side)
        path = _path(random, folder, ".tif")
        path.write_bytes(data)
        return Hostile(f"TIFF bomb of {side}²", path, False)
    if kind == 2:  # the pixels unpack to nearly nothing: long runs of zeros, and too few of them
        rows = zlib.compress(bytes(int(random.integers(1, 5_000_000))))
        head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
        parts = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(part)) + tag + part + struct.pack(">I", zlib.crc32(tag + part)) for tag, part in parts
        )
        path = _path(random, folder, ".png")
        path.write_bytes(data)
        return Hostile("PNG of 400 megapixels in a few kilobytes", path, False)
    if kind == 3:
        thing, data = _foreign(random)
        path = _path(random, folder, (".png", ".jpg", ".tif", ".webp", ".bmp")[random.integers(5)])
        path.write_bytes(data)
        return Hostile(f"{thing} named {path.suffix}", path, False)
    path = _path(random, folder, (".png", ".jpg", ".TIFF", ".webp", ".bmp")[random.integers(5)])
    path.write_bytes(whole_files()[name])
    return Hostile(f"{name} named {path.suffix}", path, not name.startswith("bad"))


def _foreign(random: Random) -> tuple[str, bytes]:
    things = {
        "nothing": b"",
        "one byte": b"\x89",
        "text": b"these are no pixels\n" * 20,
        "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "pickle": pickle.dumps({"a": np.arange(9)}),
        "zip": b"PK\3\4" + bytes(60),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file quit\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "PDF": b"%PDF-1.4\n" + bytes(99),
        "program": b"\x7fELF" + bytes(99),
        "Photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(60),
        "noise": random.bytes(int(random.integers(1, 4000))),
        "start of a PNG": b"\x89PNG\r\n\x1a\n",
        "start of a JPEG": b"\xff\xd8\xff\xe0",
        "start of a TIFF": b"II*\0\x08\0\0\0",
        "TIFF that names itself": b"II*\0\x08\0\0\0"
        + struct.pack("<H", 1)
        + struct.pack("<HHII", 330, 4, 1, 8)
        + b"\x08\0\0\0",
        "start of a BigTIFF": b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(40),
        "start of a WebP": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(30),
    }
    name = list(things)[random.integers(len(things))]
    return name, things[name]


def _special(random: Random, folder: Path) -> Hostile:
    """What is no file, or one that is not as it seems."""
    path = _path(random, folder, (".png", ".jpg", ".tif")[random.integers(3)])
    kind = int(random.integers(9))
    if kind == 0:
        path.mkdir()
        return Hostile("folder", path, False)
    if kind == 1 and hasattr(os, "mkfifo"):
        os.mkfifo(path)
        return Hostile("pipe", path, False)
    if kind == 2 and hasattr(socket, "AF_UNIX") and len(bytes(path)) < 100:
        server = socket.socket(socket.AF_UNIX)
        server.bind(bytes(path))
        server.close()
        return Hostile("socket", path, False)
    if kind == 3 and os.name == "posix":
        device = ("/dev/zero", "/dev/null", "/dev/full", "/dev/tty", "/dev/random")[random.integers(5)]
        path.symlink_to(device)
        return Hostile(device, path, False)
    if kind == 4 and os.name == "posix":
        path.symlink_to(path.name)
        return Hostile("link to itself", path, False)
    if kind == 5 and os.name == "posix":
        path.symlink_to("nowhere.png")
        return Hostile("link to nowhere", path, False)
    if kind == 6 and os.name == "posix":
        with path.open("wb") as file:
            file.write(whole_files()["colour.png"])
            file.truncate(1 << 40)
        return Hostile("a terabyte of nothing behind a PNG", path, False)
    if kind == 7:
        return Hostile("missing", path, False)
    name = ("colour.png", "deep.tif", "alpha.png", "colour.jpg")[random.integers(4)]
    path.write_bytes(whole_files()[name])
    return Hostile(f"{name} as {path.name!r}", path, True)


def _path(random: Random, folder: Path, suffix: str) -> Path:
    """An ordinary name, often, or one that programs stumble over."""
    if os.name != "posix" or random.random() < 0.6:
        return folder / f"image{suffix}"
    name = _NAMES[random.integers(len(_NAMES))]
    if random.random() < 0.1:
        name = os.fsdecode(b"not \xff\xfe utf-8")
    return folder / f"{name}{suffix}"
