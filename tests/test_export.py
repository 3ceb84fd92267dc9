"""Networks in other formats: what is written computes what the network computes, or is not written."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from small import PHOTOS, ROOT
from tools import installed
from torch import Tensor

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import sha256, write_checkpoint
from mhnet.cli.main import main
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.inference import export
from mhnet.models import MHNet, MHNetV4

TINY = {"width": 8, "encoder_blocks": (1, 1, 1, 1), "group_blocks": 1}
SUFFIXES = {name: form.suffix for name, form in export.FORMATS.items()}


def needs(name: str):
    missing = [package for package in export.FORMATS[name].packages if not installed(package)]
    return pytest.mark.skipif(bool(missing), reason=f"without {', '.join(missing)}")


FORMATS = [pytest.param(name, marks=needs(name)) for name in export.FORMATS]


def network(kind: Callable[..., MHNet | MHNetV4]) -> MHNet | MHNetV4:
    torch.manual_seed(0)
    made = kind(**TINY, **({"n_feat": 8} if kind is MHNet else {})).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("beta", "gamma")):
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def weights(folder: Path, kind: Callable[..., MHNet | MHNetV4] = MHNet) -> Path:
    made = network(kind)
    path = folder / "weights.safetensors"
    write_checkpoint(path, Checkpoint(made.args, made.state_dict(), "deraining", {"step": 7}))
    return path


def photo(height: int, width: int) -> Tensor:
    pixels = torch.from_numpy(read_rgb(find_images(PHOTOS)[0])[:height, :width].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def code_of_the_page(file: str) -> str:
    """The lines of docs/export.md that load a file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    return next(block for block in blocks if f'"{file}"' in block)


def description(name: str, path: Path) -> dict[str, str]:
    """What the file says of itself, read as its users would; a torch.export program as the zip that it is."""
    if name == "torch":  # torch.export.load(path, extra_files=…) takes ten seconds
        with ZipFile(path) as file:
            (extra,) = [one for one in file.namelist() if one.endswith("/extra/mhnet.json")]
            return json.loads(file.read(extra))
    if name == "onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    import openvino

    model = openvino.Core().read_model(str(path))
    return {key: model.get_rt_info(["mhnet", key]).astype(str) for key in ("task", "sha256", "architecture", "mhnet")}


@pytest.mark.ci
@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
@pytest.mark.parametrize("name", FORMATS)
def test_photographs_of_any_size_come_out_alike(tmp_path, name, kind, capfd, monkeypatch):
    source, out = weights(tmp_path, kind), tmp_path / f"network{SUFFIXES[name]}"
    assert main(["export", str(source), str(out)]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 2
    assert "at 51×83" in said.out
    left = {path.name for path in tmp_path.iterdir()} - {source.name}
    assert left == {out.name} | ({"network.bin"} if name == "openvino" else set())
    expected = network(kind)
    monkeypatch.chdir(tmp_path)
    write_rgb(Path("photo.png"), read_rgb(find_images(PHOTOS)[0])[:50, :70])
    loaded: dict[str, Any] = {"image": photo(50, 70)}
    exec(code_of_the_page(out.name), loaded)
    kept = loaded["network"] if name == "torch" else None  # reading it again takes ten seconds
    loaded.clear()  # before OpenVINO opens the file again: two of its networks, ended late, damage the heap
    run = kept or export.FORMATS[name].open(out)
    with torch.no_grad():
        for size in [(64, 64), (57, 91), (17, 40)]:
            torch.testing.assert_close(run(photo(*size)), expected(photo(*size)), rtol=0, atol=1e-5)
    if name != "torch":
        pixels = (expected(photo(50, 70))[0].clamp(0, 1) * 255).round().permute(1, 2, 0)
        assert abs(read_rgb(Path("restored.png")).astype(int) - pixels.detach().int().numpy()).max() <= 1
    about = description(name, out)
    assert (about["task"], about["sha256"]) == ("deraining", sha256(source))
    assert json.loads(about["mhnet"])["provenance"] == {"step": 7}
    assert about["architecture"] == ("mhnet" if kind is MHNet else "mhnet_v4")


@pytest.mark.ci
@pytest.mark.parametrize("name", FORMATS[1:])  # of one file and of two
def test_an_export_that_computes_something_else_is_not_written(tmp_path, name, monkeypatch, capsys):
    """The network that is exported gets another bias than the one it is compared with; an older file stays."""
    plain = export.AnySize.forward

    def wrong(self, image):
        return plain(self, image) + 2e-4

    monkeypatch.setattr(export.AnySize, "forward", wrong)
    source, out = weights(tmp_path), tmp_path / f"network{SUFFIXES[name]}"
    out.write_text("older")
    assert main(["export", str(source), str(out)]) == 1
    assert "more than 1e-04" in capsys.readouterr().err
    assert out.read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name}


def test_missing_packages_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(weights(tmp_path)), str(tmp_path / "network.onnx")]) == 1
    assert "pip install 'mhnet[onnx]', or pip install onnx onnxscript onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["network.tflite"], ".onnx (onnx), .xml (openvino), .pt2 (torch)"),
        (["network.onnx", "--format", "torch"], "ends in .pt2"),
    ],
)
def test_unknown_formats_are_refused(tmp_path, arguments, said, capsys):
    source = weights(tmp_path)
    assert main(["export", str(source), str(tmp_path / arguments[0]), *arguments[1:]]) == 1
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_missing_weights_are_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none.pth"), str(tmp_path / "network.pt2")]) == 1
    assert "none.pth" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
