"""Files that want to do harm are read or refused in a sentence, and nothing else happens.

MHNET_FUZZ=2000 draws so many cases instead of 200, MHNET_FUZZ_SEED=1 others.
"""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hostile import Hostile, draw, whole_files
from tools import READERS, installed

from mhnet.images.header import ImageError
from mhnet.images.read import ImageData, image_size, read_image, read_rgb
from mhnet.images.write import write_image

CASES = int(os.environ.get("MHNET_FUZZ", "200"))
SEED = int(os.environ.get("MHNET_FUZZ_SEED", "0"))
BLOCK = 20
SECONDS = 20  # for one case, on a busy machine; the usual one takes a hundredth


def fingerprint(path: Path) -> str | None:
    """What must not change; None for what has no contents, or far too many."""
    if not path.is_file() or path.stat().st_size > 1 << 30:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attempt(act, path: Path):
    """What `act` makes of the file, or its refusal, which must be a sentence."""
    try:
        return act(path)
    except ImageError as error:
        assert str(path) in str(error)
        sentence = str(error).replace(str(path), "image")
        assert 20 < len(sentence) < 500 and "\n" not in sentence, sentence
        assert sentence.endswith(".") and "Traceback" not in sentence, sentence
        return None


def check(case: Hostile, out: Path) -> None:
    before = fingerprint(case.path)
    found = attempt(read_image, case.path)
    eight = attempt(read_rgb, case.path)
    size = attempt(image_size, case.path)
    if case.good is not None:
        assert (found is not None) == case.good
    if found is not None:
        assert found.pixels.dtype in (np.uint8, np.uint16) and found.pixels.shape[2] in (1, 3)
        assert found.alpha is None or (found.alpha.dtype, found.alpha.shape) == (
            found.pixels.dtype,
            found.pixels.shape[:2],
        )
        assert eight is not None and eight.shape == (*found.pixels.shape[:2], 3)
        assert size == found.pixels.shape[:2]
        rewrite(found, out)
    assert fingerprint(case.path) == before


def rewrite(found: ImageData, out: Path) -> None:
    """A picture that was read is written in every format, whatever its metadata are."""
    for extension in (".png", ".tif", ".jpg", ".webp", ".bmp", ".heic", ".avif", ".jxl"):
        target = out / f"result{extension}"
        if attempt(lambda path: write_image(path, found) or True, target) is None:
            assert max(found.pixels.shape) > 16383 or extension in (".heic", ".avif"), (
                "only what is too large for a format is refused"
            )
            continue
        again = read_image(target)
        assert again.pixels.shape[:2] == found.pixels.shape[:2]
        if extension in (".png", ".tif"):
            np.testing.assert_array_equal(again.pixels, found.pixels)
            assert (again.alpha is None) == (found.alpha is None)
        target.unlink()
    assert not list(out.iterdir())


@pytest.mark.ci
@pytest.mark.parametrize("block", range(CASES // BLOCK))
def test_hostile_files(tmp_path: Path, block: int) -> None:
    for i in range(BLOCK):
        number = SEED * 1_000_000 + block * BLOCK + i
        folder, out = tmp_path / f"{i}", tmp_path / f"{i} out"
        folder.mkdir()
        out.mkdir()
        case = draw(number, folder)
        start = time.perf_counter()
        try:
            check(case, out)
        except Exception as error:
            raise AssertionError(f"case {number}: {case.recipe} ({case.path})") from error
        assert time.perf_counter() - start < SECONDS, f"case {number}: {case.recipe}"
        assert [path for path in folder.rglob("*") if path != case.path] == []


def test_sound_files_are_read(tmp_path: Path) -> None:
    for name, data in whole_files().items():
        if not installed(READERS.get(Path(name).suffix, "PIL")):
            continue
        path = tmp_path / name
        path.write_bytes(data)
        if name.startswith("bad"):
            with pytest.raises(ImageError):
                read_image(path)
        else:
            read_image(path)
