"""Sheets to compare pictures by eye."""

from pathlib import Path

import numpy as np
import pytest

from mhnet.evaluation.sheets import before_after
from mhnet.images.read import image_size, read_rgb

RED, BLUE = (np.full((30, 40, 3), colour, np.uint8) for colour in ([200, 0, 0], [0, 0, 200]))


@pytest.mark.parametrize("width", [200, 1760])
def test_columns_rows_and_words(tmp_path: Path, width: int) -> None:
    tall = np.full((80, 40, 3), [0, 200, 0], np.uint8)
    rows = [("first", [RED, BLUE]), ("", [tall, tall])]
    before_after(rows, ["degraded", "clean"], [["24.31 dB / 0.712", ""], ["", ""]], tmp_path / "sheet.png", width)
    sheet = read_rgb(tmp_path / "sheet.png").astype(int)
    assert sheet.shape[1] == width
    assert (sheet[[0, -1]] == 255).all() and (sheet[:, [0, -1]] == 255).all()
    for picture, half in ((RED, sheet[:, : width // 2]), (BLUE, sheet[:, width // 2 :])):
        ys, xs = np.nonzero((half == picture[0, 0]).all(axis=-1))
        height, breadth = np.ptp(ys) + 1, np.ptp(xs) + 1
        assert abs(height / breadth - 3 / 4) < 0.02 and breadth > 0.4 * width
    assert (sheet.max(axis=-1) < 90).any(), "no dark words"


def test_without_captions_as_jpeg(tmp_path: Path) -> None:
    before_after([("", [RED, BLUE, RED])], ["a", "b", "c"], None, tmp_path / "sheet.jpg", 300)
    assert image_size(tmp_path / "sheet.jpg")[1] == 300


def test_every_row_has_an_image_and_a_caption_per_header(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 images and 3 captions stand below 3 headers"):
        before_after([("", [RED, BLUE])], ["a", "b", "c"], None, tmp_path / "sheet.png")


def test_thin_pictures_do_not_grow_without_bound(tmp_path: Path) -> None:
    thin = np.zeros((9000, 1, 3), np.uint8)
    before_after([("", [thin, thin])], ["a", "b"], None, tmp_path / "sheet.png", 200)
    assert image_size(tmp_path / "sheet.png")[0] < 1200
