"""What is said of the weights that ship: measured by one command, and of the files that do ship."""

import re

import numpy as np
import pytest
import small_models
import torch
from small import PHOTOS, ROOT

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import sha256, write_checkpoint
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.models import MHNet

NAMES = list(bundled.NAMES)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A tree with two small photographs, tiny networks, and cards without numbers."""
    for i, path in enumerate(find_images(PHOTOS)[:2]):
        write_rgb(tmp_path / "photos" / f"{i}.png", read_rgb(path)[:40, : 60 + i])
    photo = read_rgb(next(iter(find_images(PHOTOS))))
    for i in range(6):  # frames of one sequence, of which 4 are held back
        for side, darker in (("input", 20), ("target", 0)):
            write_rgb(tmp_path / "pairs" / side / f"a-{i}.png", photo[i : i + 40, :60] // 2 + 20 - darker)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    with torch.no_grad():
        network.tail.weight *= 0.1
    about = {"step": 7, "validation_psnr": 30.0, "local_statistics": True,
             "config": {"DATA": {"PATCH": 96, "VAL_IMAGES": 12, "PROGRESSIVE": [[3, 128, 2]]}}}  # fmt: skip
    for name, task in bundled.NAMES.items():
        path = tmp_path / "pretrained" / f"{name}.safetensors"
        write_checkpoint(path, Checkpoint(network.args, network.state_dict(), task.name, about))
        path.with_suffix(".md").write_text((bundled.FOLDER / f"{name}.md").read_text())
    (tmp_path / "page.md").write_text((ROOT / "docs" / "small-models.md").read_text())
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "pretrained")
    for what, where in {"DEMO": "photos", "PAGE": "page.md", "FIGURES": "fig"}.items():
        monkeypatch.setattr(small_models, what, tmp_path / where)
    return tmp_path


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["small_models.py", *map(str, words)])
    return small_models.main()


def labels(page: str) -> list[str]:
    return re.findall(r"^\| ([^|]+?) \| `--", page, re.MULTILINE)


def test_one_command_writes_cards_page_and_pictures(place, monkeypatch, capsys):
    assert run(monkeypatch, "--demo", "--gt-rain", place / "pairs", "--gopro", place / "pairs", "--write") == 0
    card, page = ((place / name).read_text() for name in ("pretrained/derain-small.md", "page.md"))
    demo = [f"demo/photos, {word}" for word in ("light rain", "heavy rain", "nothing to remove")]
    assert labels(card) == ["GT-Rain, real rain", *demo]
    deblurring = ["GoPro, held back", "demo/photos, shake", "demo/photos, nothing to remove"]
    assert labels(page) == [*labels(card), *deblurring]
    assert "| GoPro, held back | `--gopro DIR` | 4 |" in page
    assert "7 steps of None crops of 96×96, after epoch 3 2 of 128×128" in card
    assert "| local statistics | on, as for patches of 96 |" in card
    assert "30.00 dB (RGB) on 12 held-out images" in card
    for name in NAMES:
        assert (place / "fig" / f"{name}-failures.jpg").stat().st_size
        assert f"fig/{name}-failures.jpg" in (place / "pretrained" / f"{name}.md").read_text()
    assert "light rain" in capsys.readouterr().out


def test_rows_stay_until_the_weights_change(place):
    cells = ("2", "20.00 / 0.5", "21.00 / 0.6", "+1.00")
    real = small_models.MeanScores("GT-Rain, real rain", "--gt-rain DIR", cells)
    made = small_models.MeanScores("demo/photos, rain", "--demo", cells)
    first = small_models.table("derain-small", [real], "")
    assert labels(small_models.table("derain-small", [made], first)) == [real.label, made.label]
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    write_checkpoint(bundled.named("derain-small"), Checkpoint(network.args, network.state_dict()))
    assert labels(small_models.table("derain-small", [made], first)) == [made.label]


def test_the_piece_that_is_shown_is_the_one_furthest_from_clean():
    clean = np.zeros((500, 700, 3), np.uint8)
    spoilt = clean.copy()
    spoilt[290:300, 500:510] = 90
    rows, columns = small_models.furthest(spoilt, clean)
    assert rows.start <= 290 < 300 <= rows.stop
    assert columns.start <= 500 < 510 <= columns.stop
    assert clean[rows, columns].shape[:2] == small_models.PIECE


def test_a_name_that_nothing_has_is_a_sentence(monkeypatch, capsys):
    assert run(monkeypatch, "derain-large") == 1
    assert "There are no bundled weights called derain-large" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_card_of_what_ships_is_of_the_file_that_ships(name):
    card = (bundled.FOLDER / f"{name}.md").read_text()
    if name not in bundled.shipping():
        assert "of sha256" not in card
        return
    mark = f"Weights of sha256 {sha256(bundled.named(name))[:12]}"
    assert mark in card, "run 'python benchmarks/small_models.py --write'"
    assert mark in (ROOT / "docs" / "small-models.md").read_text()
