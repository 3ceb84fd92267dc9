"""The pixels of image files kept as they are: every kind against decoders that are not ours."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import ALPHA, HEIGHT, PHOTO, RNG, WIDTH, deep, exif, picture, png, profile, saved
from small import PHOTOS

from mhnet.images.header import ImageError
from mhnet.images.listing import find_images
from mhnet.images.read import ImageData, image_size, read_image, read_rgb
from mhnet.images.write import losses, write_image

LOSSLESS = [".bmp", ".png", ".tif", ".tiff", ".webp"]


def test_every_photo_is_as_other_decoders_see_it(tmp_path: Path) -> None:
    for source in find_images(PHOTOS):
        photo = Image.open(source)
        np.testing.assert_array_equal(read_image(source).pixels, np.asarray(photo))
        np.testing.assert_array_equal(read_image(source).pixels, read_rgb(source))
        for extension in LOSSLESS:
            path = saved(tmp_path / f"a{extension}", photo, **({"lossless": True} if extension == ".webp" else {}))
            np.testing.assert_array_equal(read_image(path).pixels, np.asarray(photo))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_png_and_tiff_hold_everything(tmp_path: Path, extension: str, bits: int, channels: int, alpha: bool) -> None:
    path, original = tmp_path / f"a{extension}", picture(bits, channels, alpha)
    write_image(path, original)
    back = read_image(path)
    np.testing.assert_array_equal(back.pixels, original.pixels)
    assert back.pixels.dtype == original.pixels.dtype and back.pixels.flags.c_contiguous
    assert (back.alpha is None) == (original.alpha is None)
    if original.alpha is not None and back.alpha is not None:
        np.testing.assert_array_equal(back.alpha, original.alpha)
    stored = original.pixels if original.alpha is None else np.dstack([original.pixels, original.alpha])
    if extension == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path).reshape(stored.shape), stored)
    if not (extension == ".tif" and alpha and (bits, channels) != (16, 3)):  # OpenCV multiplies the others' alpha in
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert seen is not None
        order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[stored.shape[2]]
        np.testing.assert_array_equal(seen.reshape(HEIGHT, WIDTH, -1), stored[..., order])
    if bits == 8:
        with Image.open(path) as seen:
            assert seen.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[stored.shape[2]]
            np.testing.assert_array_equal(np.asarray(seen).reshape(stored.shape), stored)
    assert (back.metadata.kind, back.metadata.depth, back.metadata.lossless) == (
        {".png": "PNG", ".tif": "TIFF"}[extension],
        bits,
        True,
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (513, 700), (2, 3)])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_any_shape_in_16_bits(tmp_path: Path, extension: str, shape: tuple[int, int]) -> None:
    for channels in (1, 3):
        pixels = RNG.integers(0, 65536, (*shape, channels), dtype=np.uint16)
        write_image(tmp_path / f"a{extension}", ImageData(pixels))
        np.testing.assert_array_equal(read_image(tmp_path / f"a{extension}").pixels, pixels)
        seen = cv2.imread(str(tmp_path / f"a{extension}"), cv2.IMREAD_UNCHANGED)
        assert seen is not None
        np.testing.assert_array_equal(seen.reshape(pixels.shape), pixels[..., ::-1])


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".bmp", ".webp"])
def test_other_kinds_hold_8_bits(tmp_path: Path, extension: str, bits: int, channels: int, alpha: bool) -> None:
    path, original = tmp_path / f"a{extension}", picture(bits, channels, alpha)
    write_image(path, original)
    back = read_image(path)
    expected = original.pixels if bits == 8 else np.round(original.pixels / 257).astype(np.uint8)
    if extension == ".webp":
        expected = np.broadcast_to(expected, (HEIGHT, WIDTH, 3))
        assert (back.alpha is None) == (not alpha)
        if original.alpha is not None and back.alpha is not None:
            np.testing.assert_array_equal(back.alpha, original.alpha if bits == 8 else np.round(original.alpha / 257))
    elif original.alpha is not None:  # laid on white
        share = (
            (original.alpha / original.alpha.max())[..., None] if bits == 8 else np.round(original.alpha / 257) / 255
        )
        share = share.reshape(HEIGHT, WIDTH, 1)
        expected = np.floor(expected * share + 255 * (1 - share) + 0.5)
        assert back.alpha is None
    tolerance = 12 if extension.startswith(".j") else 0
    np.testing.assert_allclose(back.pixels.astype(int), expected, atol=tolerance)
    assert back.pixels.shape[2] == (3 if extension == ".webp" else channels)


def test_jpeg_keeps_its_quality(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.jpg", Image.fromarray(PHOTO), quality=92, subsampling=2)
    write_image(tmp_path / "b.jpg", read_image(source))
    with Image.open(tmp_path / "b.jpg") as result:
        assert [part[1:3] for part in result.layer] == [(1, 1)] * 3  # pyright: ignore[reportAttributeAccessIssue]
    difference = read_image(tmp_path / "b.jpg").pixels.astype(float) - read_image(source).pixels
    assert np.sqrt(np.mean(difference**2)) < 1.5


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_stays_lossless_or_lossy(tmp_path: Path, lossless: bool) -> None:
    source = saved(tmp_path / "a.webp", Image.fromarray(PHOTO), lossless=lossless, exif=exif())
    found = read_image(source)
    write_image(tmp_path / "b.webp", found)
    assert found.metadata.lossless == read_image(tmp_path / "b.webp").metadata.lossless == lossless
    error = np.abs(read_image(tmp_path / "b.webp").pixels.astype(int) - found.pixels).mean()
    assert error == 0 if lossless else 0 < error < 3


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_and_its_transparent_value(tmp_path: Path, depth: int) -> None:
    packed = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(packed, 0, depth, (b"tRNS", b"\0\1")))
    values = (packed[..., None] >> np.arange(8 - depth, -1, -depth)) & (2**depth - 1)
    values = values.reshape(6, -1)
    found = read_image(tmp_path / "a.png")
    assert found.alpha is not None
    np.testing.assert_array_equal(found.pixels[..., 0], values * (255 // (2**depth - 1)))
    np.testing.assert_array_equal(found.alpha, np.where(values == 1, 0, 255))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [0, 2])
def test_a_transparent_colour_becomes_an_alpha(tmp_path: Path, colour: int, depth: int) -> None:
    pixels = picture(depth, 1 if colour == 0 else 3).pixels
    key = struct.pack(f">{pixels.shape[2]}H", *(int(value) for value in pixels[3, 4]))
    (tmp_path / "a.png").write_bytes(png(pixels, colour, depth, (b"tRNS", key)))
    found = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, pixels)
    expected = np.where((pixels == pixels[3, 4]).all(axis=2), 0, np.iinfo(pixels.dtype).max)
    np.testing.assert_array_equal(np.zeros(1) if found.alpha is None else found.alpha, expected)


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_palettes_and_their_alpha(tmp_path: Path, kind: str) -> None:
    coloured = Image.fromarray(PHOTO).quantize(16)
    opaque = read_image(saved(tmp_path / f"a.{kind}", coloured, **({"lossless": True} if kind == "webp" else {})))
    np.testing.assert_array_equal(opaque.pixels, np.asarray(coloured.convert("RGB")))
    assert opaque.alpha is None
    if kind == "webp":
        return
    clear = read_image(saved(tmp_path / f"b.{kind}", coloured, transparency=3))
    assert clear.alpha is not None
    np.testing.assert_array_equal(clear.alpha, np.where(np.asarray(coloured) == 3, 0, 255))
    shown = clear.alpha > 0
    np.testing.assert_array_equal(clear.pixels[shown], opaque.pixels[shown])


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("layout", ["rgb", "rgba", "planes", "tiles", "deflate", "miniswhite", "grey+alpha", "bigtiff"])
def test_16_bit_tiffs_of_other_programs(tmp_path: Path, layout: str, endian: str) -> None:
    pixels, alpha = deep(PHOTO), deep(ALPHA)
    options: dict = {"photometric": "rgb", "byteorder": endian}
    stored = pixels
    if layout == "rgba":
        stored, options["extrasamples"] = np.dstack([pixels, alpha]), ["unassalpha"]
    elif layout == "planes":
        stored, options["planarconfig"] = pixels.transpose(2, 0, 1), "separate"
    elif layout == "tiles":
        options["tile"] = (32, 32)
    elif layout == "deflate":
        options |= {"compression": "zlib", "predictor": True}
    elif layout == "miniswhite":
        pixels = pixels[..., :1]
        stored, options["photometric"] = 65535 - pixels[..., 0], "miniswhite"
    elif layout == "grey+alpha":
        pixels = pixels[..., :1]
        stored = np.dstack([pixels, alpha])
        options |= {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    elif layout == "bigtiff":
        options["bigtiff"] = True
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.alpha is None) == (
        "a" not in layout.removeprefix("planes").removeprefix("deflate") or layout == "tiles"
    )
    if found.alpha is not None:
        np.testing.assert_array_equal(found.alpha, alpha)
    eight = np.round(pixels / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), np.broadcast_to(eight, PHOTO.shape))


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_multiplied_into_the_colours_is_taken_out(tmp_path: Path, bits: int) -> None:
    most = 2**bits - 1
    original = picture(bits, alpha=True)
    assert original.alpha is not None
    alpha = np.maximum(original.alpha, most // 4)
    multiplied = np.round(original.pixels * (alpha[..., None] / most)).astype(alpha.dtype)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.zeros(1) if found.alpha is None else found.alpha, alpha)
    assert np.abs(found.pixels.astype(int) - original.pixels).max() <= 4


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_cmyk_becomes_srgb(tmp_path: Path, kind: str) -> None:
    inks = Image.fromarray(PHOTO).convert("CMYK")
    plain = read_image(saved(tmp_path / f"a.{kind}", inks, **({"quality": 95} if kind == "jpg" else {})))
    assert plain.pixels.shape == PHOTO.shape and np.abs(plain.pixels.astype(int) - PHOTO).mean() < 3
    marked = read_image(saved(tmp_path / f"b.{kind}", inks, icc_profile=profile("CMYK")))
    assert marked.metadata.profile == b""


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_several_frames_are_refused(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.roll(PHOTO, 9 * i, axis=1)) for i in range(3)]
    path = saved(tmp_path / f"a.{kind}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=rf"a\.{kind} has 3 frames.*files of their own"):
        read_image(path)
    assert read_rgb(path).shape == PHOTO.shape


def test_pages_and_channels_that_are_left_behind_are_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.dstack([PHOTO, ALPHA, ALPHA]), photometric="rgb", extrasamples=["unassalpha", "unspecified"])
        writer.write(PHOTO, photometric="rgb")
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.pixels, PHOTO)
    np.testing.assert_array_equal(np.zeros(1) if found.alpha is None else found.alpha, ALPHA)
    assert losses(tmp_path / "b.tif", found) == [
        "It has 2 pages: the first was restored, the others are not kept.",
        "1 channel beside its colours is not kept.",
    ]


def test_previews_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PHOTO, photometric="rgb")
        writer.write(PHOTO[::4, ::4], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, PHOTO)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint32, np.int16, np.int8])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_numbers_are_refused_in_a_sentence(tmp_path: Path, channels: int, dtype: type) -> None:
    values = np.full((20, 30, channels), np.nan if np.issubdtype(dtype, np.floating) else 7).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    for read in (read_image, read_rgb):
        with pytest.raises(ImageError, match=r"a\.tif is damaged or of a rare kind \(its samples have \d+ bits"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "wrong",
    [
        ImageData(PHOTO.astype(np.float32)),
        ImageData(PHOTO[..., :2]),
        ImageData(PHOTO[..., 0]),
        ImageData(PHOTO, deep(ALPHA)),
        ImageData(PHOTO, ALPHA[1:]),
        ImageData(PHOTO[:0]),
    ],
)
def test_only_pictures_are_written(tmp_path: Path, wrong: ImageData) -> None:
    with pytest.raises(ImageError, match=r"a\.png cannot hold"):
        write_image(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [8, 16])
def test_tiffs_whose_header_promises_too_much(tmp_path: Path, bits: int) -> None:
    """Lengths beyond the file's end are harmless; rows that no strip holds would be black."""
    pixels = picture(bits).pixels
    for tag, value, whole in ((279, pixels.nbytes + 1000, True), (257, 2 * HEIGHT, False)):
        path = tmp_path / f"{tag}.tif"
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=HEIGHT)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].aspage().tags[tag].overwrite(value)
        if whole:
            np.testing.assert_array_equal(read_image(path).pixels, pixels)
        else:
            for read in (read_image, read_rgb):
                with pytest.raises(ImageError, match="truncated"):
                    read(path)


def test_sides_that_are_absurd_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(np.zeros((1, (1 << 20) + 1), np.uint8), 0, 8))
    for act in (read_image, read_rgb, image_size):
        with pytest.raises(ImageError, match=r"has 1×1048577 pixels, more than .* a side"):
            act(path)


def test_what_a_format_cannot_hold_is_said() -> None:
    for extension, deep_words, clear_words in [
        (".png", 0, 0),
        (".TIF", 0, 0),
        (".webp", 1, 0),
        (".jpg", 1, 1),
        (".bmp", 1, 1),
    ]:
        assert losses(f"a{extension}", picture()) == []
        assert len(losses(f"a{extension}", picture(16))) == deep_words
        assert len(losses(f"a{extension}", picture(8, alpha=True))) == clear_words
        assert len(losses(f"a{extension}", picture(16, alpha=True))) == deep_words + clear_words
