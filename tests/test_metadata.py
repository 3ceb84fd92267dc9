"""What stands beside the pixels of an image file, kept from kind to kind."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from samples import PHOTO, deep, exif, picture, png, profile, saved
from tools import needs

from mhnet.images.kinds import WRITTEN_EXTENSIONS
from mhnet.images.metadata import Metadata
from mhnet.images.read import image_size, read_image, read_rgb
from mhnet.images.write import write_image

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6">Glacier</rdf:Description></x:xmpmeta>'
CAPTION = b"\x1c\x02\x78\x00\x07Glacier"  # IPTC-IIM, record 2, field 120


def tags(data: bytes) -> tuple[dict, dict, dict]:
    """What Pillow finds besides orientation and resolution: first directory, the photograph's, the place's."""
    found = Image.Exif()
    found.load(b"Exif\0\0" + data if data else b"")
    first = {tag: value for tag, value in found.items() if tag not in (0x0112, 0x8769, 0x8825, 282, 283, 296)}
    return first, found.get_ifd(0x8769), found.get_ifd(0x8825)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "late png", "tif", "webp", "16-bit png", "16-bit tif", "16-bit planes"])
def test_orientation_is_applied_once(tmp_path: Path, kind: str, orientation: int) -> None:
    """Written again in every format, the image stays upright for every program."""
    source = tmp_path / f"a.{kind.split()[-1].replace('planes', 'tif')}"
    pixels = deep(PHOTO) if "16" in kind else PHOTO
    notes = exif(orientation)
    if kind in ("late png", "16-bit png"):
        source.write_bytes(png(pixels, 2, 16 if "16" in kind else 8, (b"eXIf", notes), late="late" in kind))
    elif "16" in kind:
        planes: dict = {"planarconfig": "separate"} if "planes" in kind else {}
        stored = pixels.transpose(2, 0, 1) if planes else pixels
        tifffile.imwrite(source, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)], **planes)
    else:
        options = {"jpg": {"quality": 95}, "webp": {"lossless": True}}.get(kind, {})
        image = Image.fromarray(pixels)
        found = Image.Exif()
        found.load(b"Exif\0\0" + notes)
        saved(source, image, exif=found if kind == "tif" else b"Exif\0\0" + notes, **options)
    flips = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 6: lambda a: np.rot90(a, -1)}
    flips |= {5: lambda a: a.swapaxes(0, 1), 8: np.rot90, 7: lambda a: np.rot90(a.swapaxes(0, 1), 2)}
    expected = flips[orientation](pixels)
    read = read_image(source)
    np.testing.assert_allclose(read.pixels, expected, atol=25 if kind == "jpg" else 0)
    assert image_size(source) == expected.shape[:2] == read_rgb(source).shape[:2]
    for extension in (".jpg", ".png", ".tif", ".webp"):
        result = tmp_path / f"result{extension}"
        write_image(result, read)
        np.testing.assert_array_equal(read_image(result).pixels.shape, expected.shape)
        with Image.open(result) as seen:
            assert seen.getexif().get(274, 1) == 1
            assert seen.size == expected.shape[1::-1]
            if kind not in ("16-bit tif", "16-bit planes"):
                inner = seen.getexif().get_ifd(0x8769)
                assert (inner[0xA002], inner[0xA003]) == seen.size


@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_keeps_its_bytes_but_orientation_and_thumbnail(tmp_path: Path, endian: str) -> None:
    small = io.BytesIO()
    Image.fromarray(PHOTO[:8, :8]).save(small, "JPEG")
    source = saved(tmp_path / "a.jpg", Image.fromarray(PHOTO), exif=b"Exif\0\0" + exif(3, endian, small.getvalue()))
    found = read_image(source).metadata.exif
    expected = bytearray(exif(1, endian, b""))
    expected = expected.ljust(400, b"\0")
    expected[190:250] = exif(3, endian, small.getvalue())[190:250]  # the thumbnail's directory, which nothing leads to
    assert found == expected
    assert small.getvalue()[:40] not in (tmp_path / "a.jpg").read_bytes()[-200:]
    for extension in (".jpg", ".png", ".webp"):
        write_image(tmp_path / f"b{extension}", read_image(source))
        assert read_image(tmp_path / f"b{extension}").metadata.exif == found
    write_image(tmp_path / "b.tif", read_image(source))
    assert tags(read_image(tmp_path / "b.tif").metadata.exif) == tags(found)


def sources(folder: Path) -> dict[str, Path]:
    """A file of each kind with all that it can hold."""
    image, notes = Image.fromarray(PHOTO), b"Exif\0\0" + exif(6)
    resource = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
    markers = b"\xff\xed" + struct.pack(">H", 2 + len(resource)) + resource
    packet = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    markers += b"\xff\xe1" + struct.pack(">H", 2 + len(packet)) + packet
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "Lake Sherburne")
    texts.add_itxt("Author", "Jürgen", "de", "Urheber")
    texts.add_text("Long", "words " * 400, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    texts.add(b"gAMA", struct.pack(">I", 45455))
    structured = Image.Exif()
    structured.load(notes)
    structured[700], structured[33723] = XMP, CAPTION
    common = {"icc_profile": profile(), "dpi": (300, 240)}
    return {
        "JPEG": saved(folder / "a.jpg", image, exif=notes, extra=markers, comment=b"at dawn", quality=95, **common),
        "PNG": saved(folder / "a.png", image, exif=notes, pnginfo=texts, **common),
        "TIFF": saved(folder / "a.tif", image, exif=structured, **common),
        "WEBP": saved(folder / "a.webp", image, exif=notes, xmp=XMP, lossless=True, **common),
        "BMP": saved(folder / "a.bmp", image, dpi=(300, 240)),
    }


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_metadata_goes_along(tmp_path: Path, kind: str, target: str) -> None:
    read = read_image(sources(tmp_path)[kind])
    given = read.metadata
    assert given.kind == kind and given.depth == 8
    path = tmp_path / f"result{target}"
    write_image(path, read)
    found = read_image(path).metadata
    if target != ".webp" or not given.exif:  # there it is a part of the EXIF
        assert given.dpi is None or found.dpi == pytest.approx(given.dpi, abs=0.02)
    if kind != "BMP":
        assert given.profile == profile() and tags(given.exif)[0][271] == "Nikon"
        assert given.xmp == XMP.replace(b'"6"', b'"1"')
    if target == ".bmp":
        assert (found.profile, found.exif, found.xmp) == (b"", b"", b"")
        return
    assert (found.profile, found.xmp) == (given.profile, given.xmp)
    assert tags(found.exif) == tags(given.exif)
    if {kind, target} <= {"JPEG", "TIFF", ".jpg", ".tif"}:
        assert found.iptc == given.iptc == CAPTION
    if (kind, target) == ("JPEG", ".jpg"):
        assert found.comment == b"at dawn"
    if (kind, target) == ("PNG", ".png"):
        assert found.chunks == given.chunks and len(found.chunks) == 4
    with Image.open(path) as seen:  # Pillow agrees
        seen.load()
        assert (seen.info.get("icc_profile") or b"") == given.profile
        assert seen.getexif().get(271) == ("Nikon" if given.exif else None)
        if (kind, target) == ("JPEG", ".png"):
            assert seen.info["Comment"] == "at dawn"


def test_a_profile_of_other_colours_is_not_attached(tmp_path: Path) -> None:
    for space, channels, extension in [
        ("GRAY", 3, ".png"),
        ("CMYK", 3, ".tif"),
        ("RGB", 1, ".png"),
        ("GRAY", 1, ".webp"),
    ]:
        path = tmp_path / f"a{extension}"
        write_image(path, picture(channels=channels, metadata=Metadata(profile=profile(space))))
        assert read_image(path).metadata.profile == b""
    for extension in (".jpg", ".png", ".tif"):
        write_image(tmp_path / f"a{extension}", picture(channels=1, metadata=Metadata(profile=profile("GRAY"))))
        assert read_image(tmp_path / f"a{extension}").metadata.profile == profile("GRAY")


def test_what_is_too_long_for_a_jpeg_is_left_out(tmp_path: Path) -> None:
    long = Metadata(exif=exif() + bytes(70_000), xmp=XMP + b" " * 70_000, iptc=bytes(70_000), comment=b"c" * 70_000)
    write_image(tmp_path / "a.jpg", picture(metadata=long))
    found = read_image(tmp_path / "a.jpg").metadata
    assert (found.exif, found.xmp, found.iptc) == (b"", b"", b"")
    write_image(tmp_path / "a.png", picture(metadata=long))
    assert read_image(tmp_path / "a.png").metadata.exif == long.exif


@needs("pillow_heif", "photos")
def test_fields_that_lie_on_top_of_each_other_take_no_memory(tmp_path: Path) -> None:
    """5,000 fields that all name the same 60 kB, and an EXIF directory that names itself."""
    entries = b"".join(struct.pack("<HHII", 40000 + i, 7, 60_000, 8) for i in range(5000))
    data = b"II*\0" + struct.pack("<IH", 8, 5001) + struct.pack("<HHII", 0x8769, 4, 1, 8) + entries + bytes(4)
    source = saved(tmp_path / "a.png", Image.fromarray(PHOTO), exif=b"Exif\0\0" + data)
    read = read_image(source)
    for extension in WRITTEN_EXTENSIONS:
        write_image(tmp_path / f"b{extension}", read)
    assert (tmp_path / "b.tif").stat().st_size < 1e6


@pytest.mark.parametrize("name", ["late_srgb_chunk", "late_chrm_chunk"])
def test_chunks_at_the_wrong_place_do_not_make_a_result_unreadable(tmp_path: Path, name: str) -> None:
    """An `sRGB` without content and a `cHRM` of 4,883 bytes, both behind the pixels."""
    source = Path(__file__).parent / "data" / "cases" / f"{name}.png"
    read = read_image(source)
    write_image(tmp_path / "a.png", read)
    with Image.open(tmp_path / "a.png") as seen:
        seen.load()
        assert seen.size == read.pixels.shape[1::-1]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, read.pixels)
