"""Every kind of file that people have: read by its content, written as itself or as what holds it, and what is told."""

import io
import math
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import ALPHA, HEIGHT, PHOTO, WIDTH, deep, exif, picture, profile
from tools import ALL, program, require

require("pillow_heif", "photos")
import pillow_heif

from mhnet.images.header import ImageError
from mhnet.images.kinds import kind_of_file, result_extension
from mhnet.images.listing import find_images, is_image_file
from mhnet.images.metadata import Metadata
from mhnet.images.read import ImageData, image_size, read_image, read_rgb
from mhnet.images.write import check_written, encode_image, losses, write_image

CASES = Path(__file__).parent / "data" / "cases"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
WIDE = Metadata(exif=exif(), xmp=XMP, profile=profile(), codes=(12, 13, 6))  # Display P3's primaries
EXIFTOOL = shutil.which("exiftool")  # looks a second time at what is written, where it is installed


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference, in 8 bits."""
    scale = [257 if pixels.dtype == np.uint16 else 1 for pixels in (one, other)]
    return float(np.abs(one / scale[0] - other / scale[1]).mean())


@pytest.mark.parametrize(
    ("name", "kind", "result"),
    [
        ("iphone.heic", "HEIF", ".heic"),
        ("photo.avif", "AVIF", ".avif"),
        ("photo.jxl", "JXL", ".jxl"),
        ("photo.jfif", "JPEG", ".jfif"),
        ("arithmetic.jpg", "JPEG", ".jpg"),
        ("ultrahdr.jpg", "JPEG", ".jpg"),
        ("PXL_motion.MP.jpg", "JPEG", ".jpg"),
        ("still.gif", "GIF", ".png"),
    ],
)
def test_the_files_of_phones_and_of_today(tmp_path: Path, name: str, kind: str, result: str) -> None:
    source = CASES / name
    read = read_image(source)
    assert read.pixels.shape == read_rgb(source).shape == (75, 97, 3) and image_size(source) == (75, 97)
    assert difference(read.pixels, read_image(CASES / "photo.jfif").pixels) < 8  # all show the same
    assert kind_of_file(source) == read.metadata.kind == kind and result_extension(source) == result
    assert is_image_file(source)
    target = tmp_path / f"a{result}"
    write_image(target, read)
    again = read_image(target)
    assert difference(again.pixels, read.pixels) < 2
    assert again.metadata.kind == (kind if result != ".png" else "PNG")


@pytest.mark.parametrize(("name", "word"), [("ultrahdr.jpg", "gain map"), ("PXL_motion.MP.jpg", "motion photo")])
def test_what_a_phone_adds_is_told_and_not_promised(tmp_path: Path, name: str, word: str) -> None:
    read = read_image(CASES / name)
    (told,) = losses(tmp_path / "a.jpg", read)
    assert word in told
    write_image(tmp_path / "a.jpg", read)
    written = (tmp_path / "a.jpg").read_bytes()
    assert not re.search(rb"hdrgm|GainMap|MotionPhoto|MicroVideo|Container:|ftyp", written)
    assert losses(tmp_path / "b.jpg", read_image(tmp_path / "a.jpg")) == []


def test_honest_xmp_beside_a_promise_stays(tmp_path: Path) -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="Lake" '
        b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", xmp=packet)
    found = read_image(tmp_path / "a.jpg").metadata.xmp
    assert b'dc:title="Lake"' in found and b"MotionPhoto" not in found


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extension", [".heic", ".avif", ".jxl"])
def test_pixels_of_the_new_kinds(tmp_path: Path, extension: str, channels: int, bits: int, alpha: bool) -> None:
    original, path = picture(bits, channels, alpha), tmp_path / f"a{extension}"
    write_image(path, original)
    back = read_image(path)
    assert back.pixels.shape[:2] == (HEIGHT, WIDTH) and back.pixels.flags.c_contiguous
    tolerance = 0.6 if extension == ".jxl" else 4 if extension == ".heic" else 2
    assert difference(back.pixels, original.pixels) < tolerance
    assert back.pixels.dtype == (np.uint8 if extension == ".jxl" else original.pixels.dtype)
    assert (back.alpha is None) == (not alpha)
    if original.alpha is not None and back.alpha is not None:
        assert difference(back.alpha, original.alpha) < 1.5
    told = losses(path, original)
    assert len(told) == (bits == 16)
    if bits == 16:
        assert f"{extension} holds { {'.heic': 10, '.avif': 12, '.jxl': 8}[extension] } of its 16 bits" in told[0]


def test_ten_bits_stay_what_they_are(tmp_path: Path) -> None:
    """Every one of 1,024 levels comes back, lossless or nearly, and stays when it is written again."""
    levels = np.arange(1024, dtype=np.uint16).repeat(16).reshape(64, 256)
    stretched = np.round(levels * (65535 / 1023)).astype(np.uint16)
    encoded = io.BytesIO()
    pillow_heif.encode("L;16", (256, 64), stretched.tobytes(), encoded, quality=-1)
    (tmp_path / "a.heic").write_bytes(encoded.getvalue())
    found = read_image(tmp_path / "a.heic")
    assert found.metadata.depth == 10 and found.pixels.max() == 65535
    assert np.abs(found.pixels[..., 0].astype(int) - stretched).max() <= 65
    cv2.imwrite(str(tmp_path / "a.avif"), levels, [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100])
    found = read_image(tmp_path / "a.avif")
    assert found.metadata.depth == 10
    assert np.abs(found.pixels[..., 0].astype(int) - stretched).max() <= 65
    for kind in ("heic", "avif"):
        one = read_image(tmp_path / f"a.{kind}")
        write_image(tmp_path / f"b.{kind}", one)
        again = read_image(tmp_path / f"b.{kind}")
        assert again.metadata.depth == 10 and again.pixels.dtype == np.uint16 and losses(f"b.{kind}", one) == []
        assert np.abs(again.pixels.astype(int) - one.pixels).mean() < 200  # of 65,535
        write_image(tmp_path / "b.tif", one)
        np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels, one.pixels)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extension", [".heic", ".avif", ".jxl"])
def test_profile_and_metadata_of_the_new_kinds(tmp_path: Path, extension: str, bits: int) -> None:
    path = tmp_path / f"a{extension}"
    write_image(path, picture(bits, metadata=WIDE))
    found = read_image(path).metadata
    assert found.exif == WIDE.exif and found.xmp == XMP
    if extension != ".jxl":  # it says sRGB in its own way
        assert found.profile == WIDE.profile
    for other in (".jpg", ".png", ".tif"):
        write_image(tmp_path / f"b{other}", read_image(path))
        again = read_image(tmp_path / f"b{other}").metadata
        assert again.xmp == XMP and (again.exif == found.exif or other == ".tif")
    if ALL or EXIFTOOL:
        words = [program("exiftool"), "-s", "-n", path]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert re.search(r"Make +: Nikon", said) and re.search(r"GPSLatitudeRef +: N", said)
        assert not re.search(r"(Orientation|Rotation) +: [2-9]", said)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extension", [".heic", ".avif"])
def test_named_colours_stay(tmp_path: Path, extension: str, bits: int) -> None:
    """Primaries, transfer and matrix by number, as a phone's HDR photograph has them, without a profile."""
    path = tmp_path / f"a{extension}"
    write_image(path, picture(bits, metadata=Metadata(codes=(9, 16, 9))))
    found = read_image(path)
    assert found.metadata.codes is not None and found.metadata.codes[:2] == (9, 16)
    write_image(tmp_path / f"b{extension}", found)
    again = read_image(tmp_path / f"b{extension}")
    assert again.metadata.codes == found.metadata.codes
    assert difference(again.pixels, picture(bits).pixels) < 5
    write_image(tmp_path / "b.png", found)  # PNG names them by a chunk
    assert (b"cICP", bytes([9, 16, 0, 1])) in read_image(tmp_path / "b.png").metadata.chunks
    assert any("colours" in one for one in losses("b.jpg", found)) and losses("b.png", found) == []


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["AVIF", "deep AVIF", "JXL", "JPEG in JXL", "RAW"])
def test_new_kinds_are_turned_upright_once(tmp_path: Path, kind: str, orientation: int) -> None:
    path, notes = tmp_path / "a", Image.Exif()
    notes[0x0112] = orientation
    flips = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 6: lambda a: np.rot90(a, -1)}
    flips |= {5: lambda a: a.swapaxes(0, 1), 8: np.rot90, 7: lambda a: np.rot90(a.swapaxes(0, 1), 2)}
    expected = flips[orientation](PHOTO)
    if kind == "AVIF":
        Image.fromarray(PHOTO).save(path, "AVIF", quality=95, exif=notes)
    elif kind == "deep AVIF":
        Image.fromarray(PHOTO).save(tmp_path / "8", "AVIF", quality=95, exif=notes)
        stored = PHOTO[..., ::-1].astype(np.uint16) * 4
        data = cv2.imencode(".avif", stored, [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 95])[1].tobytes()
        if orientation != 1:
            pytest.skip("OpenCV writes no orientation")
        path.write_bytes(data)
    elif "JXL" in kind:
        cjxl = program("cjxl")
        source = tmp_path / ("a.jpg" if "JPEG" in kind else "a.png")
        Image.fromarray(PHOTO).save(source, exif=notes, quality=95)
        subprocess.run([cjxl, source, tmp_path / "a.jxl", "--quiet"], check=True, capture_output=True)
        path.write_bytes((tmp_path / "a.jxl").read_bytes())
    else:
        if orientation not in (1, 3, 6, 8):
            pytest.skip("cameras mirror nothing")
        path.write_bytes(dng(orientation))
        expected = flips[orientation](developed())
    read = read_image(path)
    assert image_size(path) == read.pixels.shape[:2] == expected.shape[:2] == read_rgb(path).shape[:2]
    assert difference(read.pixels, expected) < (1 if kind == "RAW" else 6)


@pytest.mark.parametrize(
    ("extension", "bits", "alpha", "share"),
    [
        (".webp", 8, True, 28 / 12.5),
        (".avif", 8, False, 28 / 12.5),
        (".avif", 10, False, 49 / 12.5),
        (".avif", 10, True, 75 / 12.5),
        (".heic", 8, False, 25 / 12.5),
        (".heic", 10, False, 40 / 12.5),
        (".jxl", 8, False, 47 / 12.5),
        (".dng", 16, False, 18 / 12.5),
    ],
)
def test_what_takes_more_memory_may_have_fewer_pixels(tmp_path, extension, bits, alpha, share):
    """By bytes for a pixel, as docs/restoring.md shows them beside their command."""
    path = tmp_path / f"a{extension}"
    if extension == ".dng":
        path.write_bytes(dng())
    else:
        pixels = PHOTO if bits == 8 else PHOTO.astype(np.uint16) * 257
        write_image(path, ImageData(pixels, pixels[..., 0] if alpha else None))
    height, width = image_size(path)
    most = math.ceil(height * width * share)
    assert image_size(path, most) == (height, width)
    with pytest.raises(ImageError, match=r"megapixels, more than the .* --max-megapixels"):
        image_size(path, most - math.ceil(share))


def dng(orientation: int = 1) -> bytes:
    """A photograph as a sensor behind a Bayer filter sees it."""
    large = cv2.resize(PHOTO, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    sensor = np.zeros(large.shape[:2], np.uint16)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        sensor[row::2, column::2] = (large[row::2, column::2, channel] / 255.0) ** 2.2 * 60_000
    matrix = (3.24, -1.54, -0.5, -0.97, 1.88, 0.04, 0.06, -0.2, 1.06)
    rationals = [number for value in matrix for number in (round(value * 10_000), 10_000)]
    stream = io.BytesIO()
    tags = [(274, "H", 1, orientation, True), (271, "s", 0, "Nikon", True), (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, bytes([0, 1, 1, 2]), True), (50706, "B", 4, bytes([1, 4, 0, 0]), True),
            (50708, "s", 0, "Test", True), (50717, "I", 1, 65535, True), (50721, 10, 9, tuple(rationals), True),
            (50728, 5, 3, (1, 1, 1, 1, 1, 1), True), (50778, "H", 1, 21, True)]  # fmt: skip
    tifffile.imwrite(stream, sensor, photometric=32803, metadata=None, software=False, extratags=tags)
    return stream.getvalue()


def developed() -> np.ndarray:
    import rawpy

    with rawpy.imread(io.BytesIO(dng())) as raw:
        return raw.postprocess(use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92))


def test_a_cameras_raw_is_developed_to_16_bits(tmp_path: Path) -> None:
    for name in ("a.dng", "a.tif", "a.nef"):  # told by its content, or by its name and a TIFF's start
        (tmp_path / name).write_bytes(dng())
        read = read_image(tmp_path / name)
        assert read.pixels.dtype == np.uint16 and read.pixels.shape == (2 * HEIGHT, 2 * WIDTH, 3)
        assert read.metadata.kind == "RAW"
    assert result_extension(tmp_path / "a.dng") == ".tif"
    large = cv2.resize(PHOTO, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    assert np.corrcoef(read.pixels.ravel(), large.ravel())[0, 1] > 0.9  # it shows the photograph
    write_image(tmp_path / "b.tif", read)
    with Image.open(tmp_path / "b.tif") as seen:
        assert seen.getexif().get(271) == "Nikon" and seen.getexif().get(274, 1) == 1
    again = read_image(tmp_path / "b.tif")
    np.testing.assert_array_equal(again.pixels, read.pixels)
    assert again.metadata.kind == "TIFF" and again.metadata.profile


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["a.jp2", "a.ppm", "a.pgm"])
def test_jpeg_2000_and_ppm(tmp_path: Path, name: str, bits: int) -> None:
    pixels = deep(PHOTO) if bits == 16 else PHOTO
    pixels = pixels[..., 1] if name == "a.pgm" else pixels
    assert cv2.imwrite(str(tmp_path / name), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    found = read_image(tmp_path / name)
    assert found.pixels.dtype == pixels.dtype
    assert difference(found.pixels.squeeze(), pixels) <= (8 if name == "a.jp2" else 0)
    assert result_extension(tmp_path / name) == ".tif"


def test_ppm_of_other_ranges(tmp_path: Path) -> None:
    levels = np.arange(1024, dtype=">u2").reshape(32, 32)
    (tmp_path / "a.pgm").write_bytes(b"P5\n32 32\n1023\n" + levels.tobytes())
    found = read_image(tmp_path / "a.pgm").pixels[..., 0]
    np.testing.assert_array_equal(found, np.round(levels * (65535 / 1023)).astype(np.uint16))


def test_tga_and_the_first_of_a_mpo(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([PHOTO, ALPHA])).save(tmp_path / "a.tga")
    found = read_image(tmp_path / "a.tga")
    np.testing.assert_array_equal(found.pixels, PHOTO)
    np.testing.assert_array_equal(np.zeros(1) if found.alpha is None else found.alpha, ALPHA)
    second = Image.fromarray(PHOTO[::-1].copy())
    Image.fromarray(PHOTO).save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=95)
    found = read_image(tmp_path / "a.mpo")
    assert difference(found.pixels, PHOTO) < 3 and result_extension(tmp_path / "a.mpo") == ".jpg"
    assert losses("a.jpg", found) == ["Its further pictures are not kept: the first was restored."]


def test_a_name_does_not_make_a_kind(tmp_path: Path) -> None:
    names = {"iphone.heic": "a.jpg", "photo.avif": "a.png", "photo.jxl": "a", "photo.jfif": "a.heic"}
    for source, name in names.items():
        shutil.copy(CASES / source, tmp_path / name)
        assert difference(read_image(tmp_path / name).pixels, read_image(CASES / source).pixels) == 0
        assert result_extension(tmp_path / name) == (".jxl" if name == "a" else Path(name).suffix)
    (tmp_path / "notes.txt").write_text("no image")
    found = [path.name for path in sorted(tmp_path.iterdir()) if is_image_file(path)]
    assert found == ["a", "a.heic", "a.jpg", "a.png"]
    assert [path.name for path in find_images(tmp_path)] == ["a.heic", "a.jpg", "a.png"]
    frames = [Image.fromarray(np.roll(PHOTO, i, axis=1)) for i in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert not is_image_file(tmp_path / "film.gif") and is_image_file(CASES / "still.gif")


@pytest.mark.parametrize("name", ["iphone.heic", "photo.jxl", "a.dng"])
def test_an_absent_library_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source, library = CASES / name, {"c": "pillow_heif", "l": "pillow_jxl", "g": "rawpy"}[name[-1]]
    if name == "a.dng":
        source = tmp_path / name
        source.write_bytes(dng())
    monkeypatch.setitem(sys.modules, library, None)
    for act in (read_image, read_rgb, image_size):
        with pytest.raises(ImageError, match=rf"{name} is \w+ and needs {library}; pip install 'mhnet\[photos\]'"):
            act(source)
    if name != "a.dng":
        with pytest.raises(ImageError, match=rf"needs {library}; pip install 'mhnet\[photos\]'"):
            write_image(tmp_path / f"a{source.suffix}", picture())
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".webp", ".bmp", ".heic", ".avif", ".jxl"])
def test_what_was_written_is_looked_at(extension: str) -> None:
    data = encode_image(f"a{extension}", picture(metadata=Metadata(exif=exif(), xmp=XMP)))
    check_written(f"a{extension}", io.BytesIO(data), (HEIGHT, WIDTH))
    with pytest.raises(ImageError, match="can be read again"):
        check_written(f"a{extension}", io.BytesIO(data), (HEIGHT, WIDTH + 1))
    with pytest.raises(ImageError):
        check_written(f"a{extension}", io.BytesIO(data[: len(data) * 2 // 3]), (HEIGHT, WIDTH))
    if extension == ".png":
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        with pytest.raises(ImageError, match="checksum"):
            check_written("a.png", io.BytesIO(flipped), (HEIGHT, WIDTH))


def test_a_result_that_cannot_be_read_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", picture())
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setitem(sys.modules["mhnet.images.encode"].ENCODERS, "PNG", lambda *given: [before[:-30]])
    with pytest.raises(ImageError, match="can be read again"):
        write_image(tmp_path / "a.png", picture())
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_large_heics_are_written_in_tiles_that_can_be_read(tmp_path: Path) -> None:
    """HEVC's levels end at 35 megapixels, and phones write tiles."""
    pixels = np.zeros((600, 4200, 3), np.uint8)
    pixels[:, 2000:] = 200
    write_image(tmp_path / "a.heic", picture())
    write_image(tmp_path / "b.heic", type(picture())(pixels))
    assert difference(read_image(tmp_path / "b.heic").pixels, pixels) < 1
    assert b"grid" in (tmp_path / "b.heic").read_bytes() and b"grid" not in (tmp_path / "a.heic").read_bytes()


@pytest.mark.parametrize("white", [300, 600, 1023, 65535])
def test_the_white_of_a_pgm_is_white(tmp_path: Path, white: int) -> None:
    values = np.linspace(0, white, 256).round().astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n16 16\n%d\n" % white + values.tobytes())
    pixels = read_image(tmp_path / "a.pgm").pixels.reshape(-1).astype(int)
    assert np.abs(pixels - np.round(values.astype(int) * 65535 / white)).max() <= 1


def test_a_tiff_that_begins_with_a_small_copy_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PHOTO[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(PHOTO, photometric="rgb", subfiletype=0)
    with pytest.raises(ImageError, match="first page is a small copy"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", PHOTO[::4, ::4], photometric="rgb", subfiletype=1)  # there is nothing else
    assert read_image(tmp_path / "b.tif").pixels.shape == PHOTO[::4, ::4].shape


def test_channels_beside_the_colours_count_as_memory(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 80), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig", compression="zlib")
    assert image_size(tmp_path / "a.tif", math.ceil(10_000 * (12 + 2 * 79) / 12.5)) == (100, 100)
    with pytest.raises(ImageError, match="megapixels, more than"):
        image_size(tmp_path / "a.tif", 10_000 * 6)


def test_profile_and_resolution_of_a_bigtiff_go_along(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PHOTO, photometric="rgb", bigtiff=True, iccprofile=profile(),
                     resolution=(300, 300), resolutionunit="INCH")  # fmt: skip
    found = read_image(tmp_path / "a.tif").metadata
    assert found.profile == profile() and found.dpi == (300, 300) and "BigTIFF" in found.left[0]


def test_the_profile_of_a_jpeg_2000_goes_along(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jp2")
    data = (tmp_path / "a.jp2").read_bytes()
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    colours = (len(profile()) + 11).to_bytes(4, "big") + b"colr\2\0\0" + profile()
    head = data.index(b"jp2h") - 4
    whole = int.from_bytes(data[head : head + 4], "big") - length + len(colours)
    data = data[:head] + whole.to_bytes(4, "big") + data[head + 4 : at] + colours + data[at + length :]
    (tmp_path / "b.jp2").write_bytes(data)
    read = read_image(tmp_path / "b.jp2")
    assert read.metadata.profile == profile()
    write_image(tmp_path / "b.tif", read)
    assert read_image(tmp_path / "b.tif").metadata.profile == profile()


def test_the_colours_of_a_heic_are_those_of_its_main_picture(tmp_path: Path) -> None:
    codes = [(9, 16, 9), (12, 13, 6)]
    both = pillow_heif.HeifFile()
    for named in codes:
        one = both.add_frombytes("RGB", (WIDTH, HEIGHT), PHOTO.tobytes())
        names = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
        one.info["nclx_profile"] = {**dict(zip(names, named, strict=True)), "full_range_flag": 1}
    both.save(tmp_path / "a.heic", primary_index=1, save_nclx_profile=True)
    assert read_image(tmp_path / "a.heic").metadata.codes == codes[1]


def test_packed_metadata_of_a_jpeg_xl_is_told(tmp_path: Path) -> None:
    code, start = (CASES / "photo.jxl").read_bytes(), b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
    packed = b"\0\0\0\x0dbrobExif\x06"  # of nothing
    (tmp_path / "a.jxl").write_bytes(start + (len(code) + 8).to_bytes(4, "big") + b"jxlc" + code + packed)
    assert any("compressed EXIF" in sentence for sentence in read_image(tmp_path / "a.jxl").metadata.left)


def test_a_panorama_is_no_promise(tmp_path: Path) -> None:
    packet = XMP.replace(b"<rdf:RDF", b"<rdf:RDF xmlns:GPano='http://ns.google.com/photos/1.0/panorama/'").replace(
        b"/></x:", b"><rdf:Description GPano:ProjectionType='equirectangular'/></rdf:RDF></x:"
    )
    write_image(tmp_path / "a.jpg", ImageData(PHOTO, metadata=Metadata(xmp=packet)))
    assert b"equirectangular" in read_image(tmp_path / "a.jpg").metadata.xmp


def test_it_says_what_it_writes_instead(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.tga")
    read = read_image(tmp_path / "a.tga")
    assert losses(tmp_path / "a.tif", read) == ["It is written as .tif, because files of its kind (.tga) are not."]
    assert losses(tmp_path / "a.png", read) == []  # which was asked for


def grey_profile() -> bytes:
    """A linear grey (ICC.1:2022, 8.3.4): the white of D50 and a curve."""
    white = b"XYZ " + bytes(4) + bytes.fromhex("0000f6d6 00010000 0000d32d")
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, 0x0100, 0)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 14) + white + curve
    head = bytearray(profile()[:128])
    head[0:4], head[16:20] = struct.pack(">I", 128 + len(tags)), b"GRAY"
    return bytes(head) + tags


@pytest.mark.parametrize("samples", [1, 2])
def test_a_grey_jpeg_xl_with_a_profile_stays_grey(samples: int) -> None:
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))
    alpha = None if samples == 1 else grey
    source = ImageData(grey[..., None], alpha, Metadata(kind="JXL", profile=grey_profile()))
    with Image.open(io.BytesIO(encode_image("a.jxl", source))) as written:
        assert written.mode == ("L" if samples == 1 else "LA")
        found = np.asarray(written)[..., None].reshape(*grey.shape, -1)[..., 0]
    assert difference(found, np.round(255 * (1.055 * (grey / 255) ** (1 / 2.4) - 0.055)).clip(0, 255)) < 1


@pytest.mark.parametrize("spelt", [b'tiff:Orientation="6"', b"tiff:Orientation='6'", b"<tiff:Orientation>6<"])
def test_xmp_says_upright_however_it_is_spelt(tmp_path: Path, spelt: bytes) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", xmp=XMP.replace(b"/></x:", b">" + spelt + b"</rdf:RDF></x:"))
    assert spelt.replace(b"6", b"1") in read_image(tmp_path / "a.jpg").metadata.xmp


def test_xmp_that_goes_on_elsewhere_and_films_of_old_phones_are_told(tmp_path: Path) -> None:
    packet = XMP.replace(b"/></x:", b" xmlns:xmpNote='http://ns.adobe.com/xmp/note/' xmpNote:HasExtendedXMP='9F'/></x:")
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", xmp=packet)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0\0\0\x18ftyp3gp4\0\0\0\0isom3gp4")
    found = read_image(tmp_path / "a.jpg").metadata
    assert b"HasExtendedXMP" not in found.xmp
    assert {sentence[:20] for sentence in found.left} == {"Its XMP beyond the f", "The film of its moti"}


@pytest.mark.parametrize("name", ["photo.avif", "photo.jxl", "still.gif", "photo.jfif", "camera.dng"])
def test_damage_is_told_in_words_of_the_file(tmp_path: Path, name: str) -> None:
    random, data = np.random.default_rng(0), (CASES / name).read_bytes()
    said = set()
    for number in range(30):
        spoilt = bytearray(data[: int(len(data) * random.random())])
        spoilt[20 : 20 + number] = random.integers(0, 256, len(spoilt[20 : 20 + number]), np.uint8).tobytes()
        (path := tmp_path / name).write_bytes(spoilt)
        try:
            read_image(path)
        except ImageError as told:
            said.add(str(told))
    assert said and not [words for words in said if re.search(r"_io|build|b'", words)]
