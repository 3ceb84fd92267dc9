"""What is said of the weights that ship: measured by one command, and of the files that do ship."""

import re

import numpy as np
import pytest
import small_models
import torch
from small import PHOTOS, ROOT

from mhnet import images, shipped
from mhnet.models import MHNet
from mhnet.weights import Checkpoint, sha256, write

NAMES = list(shipped.NAMES)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A tree with two small photographs, tiny networks, and cards without numbers."""
    for i, path in enumerate(images.find_images(PHOTOS)[:2]):
        images.write(tmp_path / "photos" / f"{i}.png", images.read(path)[:40, : 60 + i])
        images.write(tmp_path / "pairs" / "input" / f"a{i}.png", images.read(path)[:40, :60])
        images.write(tmp_path / "pairs" / "target" / f"a{i}.png", images.read(path)[:40, :60])
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    with torch.no_grad():
        network.tail.weight *= 0.1
    about = {"step": 7, "validation_psnr": 30.0, "config": {"DATA": {"PATCH": 96, "VAL_IMAGES": 12}}}
    for name, task in shipped.NAMES.items():
        path = tmp_path / "pretrained" / f"{name}.safetensors"
        write(path, Checkpoint(network.args, network.state_dict(), task.name, about))
        path.with_suffix(".md").write_text((shipped.FOLDER / f"{name}.md").read_text())
    (tmp_path / "page.md").write_text((ROOT / "docs" / "small-models.md").read_text())
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "pretrained")
    for what, where in {"DEMO": "photos", "PAGE": "page.md", "FIGURES": "fig"}.items():
        monkeypatch.setattr(small_models, what, tmp_path / where)
    return tmp_path


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["small_models.py", *map(str, words)])
    return small_models.main()


def labels(page: str) -> list[str]:
    return re.findall(r"^\| ([^|]+?) \| `--", page, re.MULTILINE)


def test_one_command_writes_cards_page_and_pictures(place, monkeypatch, capsys):
    assert run(monkeypatch, "--write") == 0
    assert run(monkeypatch, "derain-small", "--gt-rain", place / "pairs", "--write") == 0
    card, page = ((place / name).read_text() for name in ("pretrained/derain-small.md", "page.md"))
    demo = [f"demo/photos, {word}" for word in ("light rain", "heavy rain", "nothing to remove")]
    assert labels(card) == ["GT-Rain, real rain", *demo]
    assert labels(page) == [*labels(card), "demo/photos, shake", "demo/photos, nothing to remove"]
    assert "7 steps" in card
    assert "30.00 dB (RGB) on 12 held-out images" in card
    for name in NAMES:
        assert (place / "fig" / f"{name}-failures.jpg").stat().st_size
        assert f"fig/{name}-failures.jpg" in (place / "pretrained" / f"{name}.md").read_text()
    assert "light rain" in capsys.readouterr().out


def test_rows_of_other_weights_are_not_kept(place, monkeypatch):
    run(monkeypatch, "derain-small", "--gt-rain", place / "pairs", "--write")
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    write(place / "pretrained" / "derain-small.safetensors", Checkpoint(network.args, network.state_dict()))
    run(monkeypatch, "derain-small", "--photos", place / "photos", "--write")
    assert labels((place / "pretrained" / "derain-small.md").read_text()) == [
        f"2 photographs, {word}" for word in ("light rain", "heavy rain", "nothing to remove")
    ]


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
    assert "Nothing ships under the name derain-large" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_card_of_what_ships_is_of_the_file_that_ships(name):
    card = (shipped.FOLDER / f"{name}.md").read_text()
    if name not in shipped.shipping():
        assert "of sha256" not in card
        return
    mark = f"Weights of sha256 {sha256(shipped.named(name))[:12]}"
    assert mark in card, "run 'python benchmarks/small_models.py --write'"
    assert mark in (ROOT / "docs" / "small-models.md").read_text()
