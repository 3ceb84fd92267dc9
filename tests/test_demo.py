"""`make demo`, with tiny networks in the place of those that ship."""

import importlib.util
import json
import re
import shutil
from types import ModuleType

import pytest
import torch
from small import ROOT

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.data.make import RECORD, degrade_folder
from mhnet.evaluation.protocols import psnr
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.models import MHNet


def loaded(name: str) -> ModuleType:
    """A script of demo/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "demo" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(tmp_path, monkeypatch) -> ModuleType:
    """The demo with two photographs of each kind, made small, and nothing that ships yet."""
    module = loaded("demo")
    for folder in ("rainy", "shaken", "photos/test"):
        for path in find_images(ROOT / "demo" / folder)[:2]:
            write_rgb(tmp_path / folder / path.name, read_rgb(path)[:40, :60])
    monkeypatch.setattr(module, "DEMO", tmp_path)
    monkeypatch.setattr(module, "PHOTOS", tmp_path / "photos" / "test")
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "pretrained")
    return module


def ship(name: str) -> None:
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    with torch.no_grad():
        network.tail.weight *= 0.1
    write_checkpoint(bundled.FOLDER / f"{name}.safetensors", Checkpoint(network.args, network.state_dict()))


def test_it_restores_what_weights_ship_for_and_says_what_it_leaves_out(demo, capsys):
    ship("derain-small")
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert "shake: no weights for deblurring ship with this version" in shown
    assert re.findall(r"^mean of (\w+) .*[+-]\d+\.\d\d dB$", shown, re.MULTILINE) == ["rainy"]
    assert not (demo.OUT / "shaken").exists()
    ship("deblur-small")
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^mean of (\w+) .*[+-]\d+\.\d\d dB$", shown, re.MULTILINE) == ["rainy", "shaken"]
    assert "rain_y_matlab" in shown
    assert "gopro_rgb_matlab" in shown
    for made in ("before_after.png", "index.html"):
        assert str(demo.OUT / made) in shown
        assert (demo.OUT / made).stat().st_size
    assert (demo.OUT / "index.html").read_text().count("<figure>") == 4


def test_its_photographs_are_what_its_script_makes(tmp_path):
    degrade = loaded("degrade")
    (tmp_path / "photos").mkdir()
    shutil.copy(degrade.PHOTOS / "chelsea.jpg", tmp_path / "photos")
    for folder, (kind, severity, seed) in degrade.SETS.items():
        degrade_folder(tmp_path / "photos", tmp_path / folder, kind, severity=severity, seed=seed)
        records = [json.loads((place / folder / RECORD).read_text()) for place in (tmp_path, ROOT / "demo")]
        assert records[0].pop("images")["chelsea"] == records[1].pop("images")["chelsea"]
        assert records[0] == records[1]
        made, there = tmp_path / folder / "input" / "chelsea.png", ROOT / "demo" / folder / "chelsea.jpg"
        assert psnr(read_rgb(there), read_rgb(made)) > 35  # JPEG takes a little away
