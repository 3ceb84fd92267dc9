"""Reading and writing image files: every kind that people have, every way in which a file is broken."""

import io
import os
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import png
from tools import READERS, needs

from mhnet.images.header import ImageError, read_header
from mhnet.images.kinds import WRITTEN_EXTENSIONS
from mhnet.images.listing import find_images
from mhnet.images.read import image_size, read_image, read_rgb, read_rgb_crop
from mhnet.images.write import write_rgb

LOSSLESS = (".png", ".tif", ".tiff", ".bmp", ".webp", ".jxl")
RNG = np.random.default_rng(0)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), (0, 0), 4)
PICTURE = Image.fromarray(SMOOTH)


def encoded(kind: str, picture: Image.Image = PICTURE, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_alpha() -> Image.Image:
    picture = PICTURE.copy()
    picture.putalpha(Image.fromarray(RNG.integers(0, 256, (40, 60), dtype=np.uint8)))
    return picture


MARKS = {one: needs(package, "photos") for one, package in READERS.items()}


@pytest.mark.parametrize(
    "extension", [pytest.param(one, marks=MARKS.get(one, ())) for one in sorted(WRITTEN_EXTENSIONS)]
)
def test_what_is_written_is_read(tmp_path: Path, extension: str) -> None:
    path = tmp_path / "new folder" / f"ünï cødé 雨{extension.upper()}"
    write_rgb(path, SMOOTH)
    back = read_rgb(path)
    assert back.dtype == np.uint8 and back.flags.c_contiguous and back.flags.writeable
    assert np.abs(back.astype(int) - SMOOTH).max() <= (0 if extension in LOSSLESS else 6)
    assert image_size(path) == (40, 60)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


MODES = [(kind, mode) for kind in ("PNG", "TIFF", "BMP") for mode in ("L", "LA", "P", "1", "RGBA")]


@pytest.mark.parametrize(("kind", "mode"), [*MODES, ("WEBP", "L"), ("WEBP", "RGBA")])
def test_colour_modes_become_rgb_and_alpha_is_dropped(tmp_path: Path, kind: str, mode: str) -> None:
    picture = with_alpha().convert(mode)
    if kind == "BMP" and "A" in mode:
        picture = picture.convert(mode.removesuffix("A"))
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(encoded(kind, picture, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(read_rgb(path), np.asarray(picture.convert("RGB")))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", PICTURE.convert("CMYK"), quality=95, subsampling=0))
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - SMOOTH).max() <= 8


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_rounded_to_8(tmp_path: Path, extension: str, channels: int) -> None:
    values = RNG.integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    values[0, :4, 0] = (0, 128, 129, 65535)
    path = tmp_path / f"deep{extension}"
    cv2.imencode(extension, values)[1].tofile(path)
    expected = np.round(values[..., [0, 0, 0] if channels == 1 else [2, 1, 0]] / 257)
    np.testing.assert_array_equal(read_rgb(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "TIFF16"])
def test_exif_orientation_is_applied_once(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / "turned"
    source = Image.fromarray(SMOOTH[..., 0].astype(np.uint16) * 257) if kind == "TIFF16" else PICTURE
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    path.write_bytes(encoded(kind.removesuffix("16"), source, exif=oriented(orientation), **options))
    flips = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 6: lambda a: np.rot90(a, -1)}
    flips |= {5: lambda a: a.swapaxes(0, 1), 8: np.rot90, 7: lambda a: np.rot90(a.swapaxes(0, 1), 2)}
    expected = flips[orientation](SMOOTH[..., [0, 0, 0]] if kind == "TIFF16" else SMOOTH)
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_allclose(read_rgb(path), expected, atol=25 if kind == "JPEG" else 0)


def test_a_disliked_colour_profile_makes_no_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG", icc_profile=bytes(40) + b"no profile"))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), SMOOTH)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.7, 0.98, -9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive", "BMP", "TIFF", "WEBP"])
def test_truncated_files_are_refused_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, cut: float
) -> None:
    data = encoded("JPEG", progressive=True) if kind == "progressive" else encoded(kind)
    path = tmp_path / "half.image"
    path.write_bytes(data[: int(cut * len(data)) if cut > 0 else int(cut)] if kind != "BMP" else data[:-200])
    with pytest.raises(ImageError, match=r"half\.image"):
        read_rgb(path)
    assert capfd.readouterr().err == ""


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + encoded("JPEG", PICTURE.resize((8, 8)))
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=exif)[:-40])
    for read in (read_rgb, read_image):
        with pytest.raises(ImageError, match=r"a\.jpg is damaged"):
            read(tmp_path / "a.jpg")


def test_a_flipped_bit_in_a_png_is_refused_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        read_rgb(tmp_path / "a.png")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("act", [read_rgb, image_size])
def test_what_is_no_image_is_said_in_a_sentence(tmp_path: Path, act) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("not pixels")
    for name, words in {
        "missing.png": "no file .*missing",
        "empty.png": "empty.png is empty",
        "words.png": "words.png is not an image",
        "": "is a folder",
        "words.png/below": "cannot be opened",
    }.items():
        with pytest.raises(ImageError, match=words):
            act(tmp_path / name)


@pytest.mark.parametrize("tag", [256, 257, 277])  # width, height, samples of a pixel
def test_a_tiff_whose_sizes_are_several_numbers_is_refused(tmp_path: Path, tag: int) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.full((9, 9, 3), 90, np.uint8), photometric="rgb")
    data = bytearray(stream.getvalue())
    first = int.from_bytes(data[4:8], "little") + 2
    entries = range(first, first + 12 * int.from_bytes(data[first - 2 : first], "little"), 12)
    entry = next(at for at in entries if int.from_bytes(data[at : at + 2], "little") == tag)
    data[entry + 2 : entry + 12] = b"\3\0\2\0\0\0\11\0\11\0"  # two short numbers: 9, 9
    (tmp_path / "several.tif").write_bytes(data)
    for act in (read_image, read_rgb, image_size):
        with pytest.raises(ImageError, match="damaged"):
            act(tmp_path / "several.tif")


def test_32_bit_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(encoded("TIFF", PICTURE.convert("F")))
    with pytest.raises(ImageError, match="32 bits"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [23_000, 60_000])
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    data = bytearray(encoded("BMP"))
    data[18:26] = side.to_bytes(4, "little") * 2
    (tmp_path / "bomb.bmp").write_bytes(data)
    for act in (read_rgb, image_size):
        with pytest.raises(ImageError, match="megapixels"):
            act(tmp_path / "bomb.bmp")


def test_the_limit_can_be_raised(tmp_path: Path) -> None:
    data = bytearray(encoded("BMP"))
    data[18:26] = (15_000).to_bytes(4, "little") * 2
    (tmp_path / "large.bmp").write_bytes(data)
    with pytest.raises(ImageError, match=r"225 megapixels, more than the 200 .* --max-megapixels 225\."):
        image_size(tmp_path / "large.bmp")
    assert image_size(tmp_path / "large.bmp", 225_000_000) == (15_000, 15_000)
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "large.bmp", 225_000_000)


def test_a_png_whose_compressed_data_do_not_end_is_read_alike(tmp_path: Path) -> None:
    """libpng refuses it, Pillow does not."""
    start = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de")
    (tmp_path / "a.png").write_bytes(
        start + bytes.fromhex("0000000c49444154789c6378f9feb300056802c6b34cecbb0000000049454e44ae426082")
    )
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), read_image(tmp_path / "a.png").pixels)


def test_deep_images_with_an_alpha_have_a_lower_limit(tmp_path: Path) -> None:
    """They take the most memory."""
    path = tmp_path / "a.png"
    path.write_bytes(png(np.zeros((1, 160, 4), np.uint16), 6, 16))
    assert image_size(path, 282) == (1, 160)
    with pytest.raises(ImageError, match="more than"):
        image_size(path, 281)


def test_photographs_over_pillows_own_limit_are_not(tmp_path: Path) -> None:
    data = bytearray(encoded("BMP"))
    data[18:26] = (14_000).to_bytes(4, "little") * 2
    (tmp_path / "large.bmp").write_bytes(data)
    assert image_size(tmp_path / "large.bmp") == (14_000, 14_000)


@pytest.mark.parametrize(
    "image", [SMOOTH.astype(np.float32), SMOOTH[..., 0], SMOOTH[..., :2], SMOOTH.astype(np.uint16), SMOOTH.tolist()]
)
def test_only_uint8_rgb_is_written(tmp_path: Path, image) -> None:
    with pytest.raises(ImageError, match=r"a\.png cannot hold .*uint8 array"):
        write_rgb(tmp_path / "a.png", image)


def test_write_refuses_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    too_wide = np.zeros((1, 70_000, 3), np.uint8)
    for path, image, words in [
        (tmp_path / "a.gif", SMOOTH, "no extension of an image"),
        (tmp_path / "a.jpg", too_wide, "1×70000 pixels: .* at most 65500"),
        (tmp_path / "a.png", np.zeros((0, 5, 3), np.uint8), "0×5 pixels"),
        (tmp_path / "file" / "a.png", SMOOTH, "cannot be written"),
        (tmp_path / "folder.png", SMOOTH, "cannot be written"),
    ]:
        with pytest.raises(ImageError, match=words):
            write_rgb(path, image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_rgb(path, SMOOTH)
    with mock.patch.object(os, "fsync", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        write_rgb(path, np.zeros_like(SMOOTH))
    np.testing.assert_array_equal(read_rgb(path), SMOOTH)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_jpeg_has_full_colour_resolution(tmp_path: Path) -> None:
    write_rgb(tmp_path / "a.jpg", SMOOTH)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert [part[1:3] for part in picture.layer] == [(1, 1)] * 3  # pyright: ignore[reportAttributeAccessIssue]


def test_find_images_in_natural_order(tmp_path: Path) -> None:
    for name in ["10.png", "2.JPG", "1.tiff", "notes.txt", ".hidden.png", "b/3.webp", "b/.x/4.png", "a 1/5.bmp"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in find_images(tmp_path)] == ["1.tiff", "2.JPG", "10.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, recursive=True)] == [
        "1.tiff",
        "2.JPG",
        "10.png",
        "a 1/5.bmp",
        "b/3.webp",
    ]
    with pytest.raises(ImageError, match=r"no folder .*nowhere"):
        find_images(tmp_path / "nowhere")


CROPS = [(0, 0, 40, 60), (0, 0, 1, 1), (39, 59, 1, 1), (7, 11, 20, 30), (20, 0, 20, 60), (0, 45, 40, 15)]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("box", CROPS)
def test_a_crop_is_a_part_of_the_image(tmp_path: Path, mode: str, box: tuple[int, int, int, int]) -> None:
    path, (top, left, height, width) = tmp_path / "image.png", box
    picture = Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else None
    path.write_bytes(encoded("PNG", picture or with_alpha().convert(mode)))
    crop = read_rgb_crop(path, *box)
    assert crop.flags.c_contiguous
    np.testing.assert_array_equal(crop, read_rgb(path)[top : top + height, left : left + width])


@pytest.mark.parametrize("strategy", range(5))
def test_crops_of_every_row_filter(tmp_path: Path, strategy: int) -> None:
    """None, sub, up, average and Paeth, as OpenCV's encoder is told to use them."""
    flag = (cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_FILTER_SUB, cv2.IMWRITE_PNG_FILTER_UP,
            cv2.IMWRITE_PNG_FILTER_AVG, cv2.IMWRITE_PNG_FILTER_PAETH)[strategy]  # fmt: skip
    large = cv2.resize(SMOOTH, (300, 200))
    assert cv2.imwrite(str(tmp_path / "a.png"), large[..., ::-1], [cv2.IMWRITE_PNG_FILTER, flag])
    for top, left, height, width in ((0, 0, 64, 64), (100, 200, 100, 100), (13, 57, 1, 243)):
        found = read_rgb_crop(tmp_path / "a.png", top, left, height, width)
        np.testing.assert_array_equal(found, large[top : top + height, left : left + width])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_crops_are_of_the_upright_image(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(encoded(kind, exif=oriented(orientation)))
    np.testing.assert_array_equal(read_rgb_crop(path, 5, 9, 20, 25), read_rgb(path)[5:25, 9:34])


def test_a_crop_of_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = encoded("PNG", Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)))
    path = tmp_path / "image.png"
    for data in (whole[:-2000], whole[:5000] + b"?" + whole[5001:]):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"image\.png is damaged"):
            read_rgb_crop(path, 0, 0, 20, 20)


def test_the_kind_of_pixels_is_told(tmp_path: Path) -> None:
    for mode, in_colour in {"RGB": True, "P": True, "RGBA": True, "L": False, "LA": False, "1": False}.items():
        (tmp_path / "image.png").write_bytes(encoded("PNG", with_alpha().convert(mode)))
        found = read_header(tmp_path / "image.png")
        assert (*found.upright_size, found.mode, found.grey) == (40, 60, mode, not in_colour)


@pytest.mark.parametrize("size", [(1, 56), (56, 1), (1, 1)])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_thin_images_are_turned_without_tricks(tmp_path: Path, kind: str, orientation: int, size) -> None:
    """NumPy calls a mirrored row contiguous, and PyTorch refuses it."""
    path = tmp_path / "thin"
    path.write_bytes(encoded(kind, PICTURE.crop((0, 0, *size)), exif=oriented(orientation)))
    for pixels in (read_rgb(path), read_image(path).pixels):
        assert pixels.flags.c_contiguous and min(pixels.strides) > 0
        assert pixels.shape[:2] == (size if orientation >= 5 else size[::-1]) == image_size(path)
