"""Loops in C between products in bfloat16: they compute what PyTorch computes, and are done without where they cannot
be had; `--precision auto` takes bfloat16 for results of 8 bits, where the processor has it."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from samples import PHOTO
from torch import nn

import mhnet
from mhnet.cli.main import main
from mhnet.core.devices import VARIABLE
from mhnet.images.read import ImageData, read_image
from mhnet.images.write import write_image, write_rgb
from mhnet.inference import elementwise, kernels, stripes
from mhnet.inference.fuse import fuse, in_bfloat16
from mhnet.models.mhnet import LayerNorm2d, use_local_statistics
from mhnet.restore.restorer import Restorer

SIZES = [(1, 1, 2), (5, 7, 9), (33, 20, 16), (18, 40, 40), (70, 9, 64), (6, 5, 130)]
HERE = sys.platform == "linux" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() and shutil.which("cc")
needs_kernels = pytest.mark.skipif(not HERE, reason="no C compiler, or a processor without AVX512_BF16")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.bfloat16)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return (found.double() - wanted.double()).abs().max().item()


@pytest.fixture
def bf16_here(monkeypatch):
    """As on a processor that is faster in bfloat16."""
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)


@needs_kernels
@pytest.mark.parametrize(("height", "width", "channels"), SIZES)
def test_each_kernel_computes_what_pytorch_computes_in_float64(height, width, channels):
    assert kernels.library() is not None
    x, y, place = noise(height, width, channels), noise(height, width, channels), noise(height, width)
    room = torch.full((height, width, channels + 1), 5.0, dtype=torch.bfloat16)
    norm = LayerNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)

    out = elementwise.normalise(x, norm, room[..., :-1])
    wanted = elementwise.normalise(x.double(), LayerNorm2d(channels).double())
    assert apart(out, wanted * norm.weight + norm.bias) < 0.04
    assert (room[..., -1] == 1).all()
    assert torch.equal(elementwise.normalise(x.clone(), norm), out)

    both = torch.cat((x, y), 2)
    room[..., -1] = 5
    assert torch.equal(elementwise.gate(both, room[..., :-1]), x * y)
    assert (room[..., -1] == 1).all()

    total = torch.zeros(channels)
    elementwise.keep(x, room[..., :-1], total)
    assert torch.equal(room[..., :-1], x)
    assert (room[..., -1] == 1).all()
    assert apart(total, x.double().sum((0, 1))) < 1e-3

    found = torch.empty(height, width, 2, dtype=torch.bfloat16)
    elementwise.extremes(x, found)
    assert torch.equal(found[..., 0], x.amax(2))
    assert apart(found[..., 1], x.double().mean(2)) < 0.01

    added = y.clone()
    elementwise.add_scaled(x.clone(), place, added)
    assert apart(added, y.double() + x.double() * place.double()[..., None]) < 0.05

    twice = elementwise.doubled(x)
    assert apart(twice, elementwise.doubled(x.double())) < 0.02
    rows = slice(height // 2 * 2, 2 * height)
    base, added = noise(rows.stop - rows.start, 2 * width, channels), torch.empty_like(twice[rows])
    elementwise.add_doubled(x, rows, base, added)
    assert apart(added, elementwise.doubled(x.double())[rows] + base.double()) < 0.04

    bounds = [slice(top, min(top + 4, height)) for top in range(0, height, 4)]
    for window in (1, 2, 5, 8, 30):
        found, wanted = (torch.cat([mean.expand(-1, width, -1) for mean in stripes.window_means(one, window, bounds)])
                         for one in (x, x.double()))  # fmt: skip
        assert apart(found, wanted) < 0.02, window


@needs_kernels
@pytest.mark.parametrize("patch", [None, 16])
def test_a_network_computes_the_same_with_kernels_and_without(patch, monkeypatch):
    network = mhnet.load("derain-small")
    use_local_statistics(network, patch)
    narrow, image = in_bfloat16(fuse(network)), torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)[None].float() / 255
    with_kernels = narrow(image)
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert 0 < apart(with_kernels, narrow(image)) < 0.02
    assert (with_kernels - narrow(image)).square().mean().sqrt() < 0.002


@pytest.mark.parametrize("compiler", ["false", "no such compiler"])
def test_without_a_compiler_pytorch_computes(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(shutil, "which", lambda name, which=shutil.which: None if name == "cc" else which(name))
    kernels.library.cache_clear()
    try:
        assert kernels.library() is None
        restored = Restorer(mhnet.load("derain-small"), precision="bf16")(PHOTO)
    finally:
        monkeypatch.undo()
        kernels.library.cache_clear()
    assert np.abs(restored.astype(int) - Restorer(mhnet.load("derain-small"), precision="fp32")(PHOTO)).max() <= 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@needs_kernels
def test_kernels_are_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = str(shutil.which("cc"))
    assert kernels.right(kernels.loaded(compiler))
    (path,) = (tmp_path / "mhnet").iterdir()
    made = path.stat().st_mtime_ns
    kernels.loaded(compiler)
    assert path.stat().st_mtime_ns == made
    assert list(path.parent.iterdir()) == [path]


def test_auto_takes_bf16_for_8_bits_where_the_processor_has_it(bf16_here, monkeypatch):
    network = mhnet.load("derain-small")
    auto, exact = Restorer(network), Restorer(network, precision="fp32")
    rounded = Restorer(network, precision="bf16")
    assert (auto.precision, exact.precision) == ("bf16", "fp32")
    deep = PHOTO.astype(np.uint16) * 257
    assert np.array_equal(auto(PHOTO), rounded(PHOTO)) and auto.last.precision == "bf16"
    assert np.array_equal(auto(deep), exact(deep)) and auto.last.precision == "fp32"
    assert not np.array_equal(rounded(deep), exact(deep))
    tensor = torch.rand(1, 3, 16, 20)
    assert torch.equal(auto(tensor), exact(tensor))
    assert Restorer(network, fuse=False).precision == "fp32"  # what is computed as it is written
    monkeypatch.setenv(VARIABLE, "0")
    assert Restorer(network).precision == "fp32"


def test_commands_say_what_they_computed_in(bf16_here, tmp_path, capsys):
    write_rgb(tmp_path / "photo.png", PHOTO.copy())
    write_image(tmp_path / "deep.png", ImageData(PHOTO.astype(np.uint16) * 257))
    command = ["restore", str(tmp_path / "photo.png"), str(tmp_path / "deep.png"), "--task", "derain", "--json"]
    assert main([*command, "-o", str(tmp_path / "auto")]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["precision"] for one in told] == ["bf16", "fp32"]
    targets = ["--targets", str(tmp_path)]
    assert main([*command, "-o", str(tmp_path / "scored"), *targets]) == 0  # scores are the same everywhere
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["precision"] for one in told if "precision" in one] == ["fp32", "fp32"]
    assert main([*command, "-o", str(tmp_path / "exact"), "--precision", "fp32"]) == 0
    photos = {name: read_image(tmp_path / name / "photo.png").pixels for name in ("auto", "scored", "exact")}
    assert np.array_equal(photos["scored"], photos["exact"]) and not np.array_equal(photos["auto"], photos["exact"])
    capsys.readouterr()
    assert main(["info", "derain-small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "bf16"
