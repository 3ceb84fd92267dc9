"""MHNet in spandrel: the real package recognises files of ours and the authors', and restores by them."""

import subprocess
import sys

import pytest
import torch
from small import PHOTOS
from test_weights import V1, V4, released
from tools import require

require("spandrel", "spandrel")
import spandrel

import mhnet.checkpoints.spandrel
from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.models import MHNet, MHNetV4


@pytest.fixture
def loader() -> spandrel.ModelLoader:
    registry = spandrel.MAIN_REGISTRY.copy()
    mhnet.checkpoints.spandrel.install(registry)
    mhnet.checkpoints.spandrel.install(registry)  # a second time changes nothing
    return spandrel.ModelLoader(registry=registry)


def assert_alike(one: torch.Tensor, other: torch.Tensor) -> None:
    """Up to rounding: weights that a loader left elsewhere in memory are multiplied in another order on some CPUs."""
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [V1, V4], ids=["v1", "v4"])
@pytest.mark.parametrize("file", ["ours.safetensors", "ours.pth", "released.pth", "params.pth", "resuming.safetensors"])
def test_files_of_every_kind_are_recognised_and_restore(tmp_path, loader, case, file):
    network, path = case.network(), tmp_path / file
    if file.startswith("ours"):
        write_checkpoint(path, Checkpoint(network.args, network.state_dict(), "deraining"))
    elif file == "resuming.safetensors":
        write_checkpoint(path, Checkpoint(network.args, network.state_dict(), training={"moment": torch.ones(3)}))
    else:
        wrapper, prefix = ("state_dict", "module.") if file == "released.pth" else ("params", "")
        released(path, case.published_state(), wrapper, prefix)
    model = loader.load_from_file(path)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert model.architecture.id == {MHNet: "MHNet", MHNetV4: "MHNetV4"}[type(network)]
    image = case.input()[:1, :, :37, :50]
    with torch.inference_mode():
        assert_alike(model(image), network(image).clamp(0, 1))


def test_what_spandrel_tells_of_a_model_is_so(loader):
    path = bundled.named("derain-small")
    model = loader.load_from_file(path)
    assert (model.purpose, model.scale, model.input_channels, model.output_channels) == ("Restoration", 1, 3, 3)
    assert model.tags == ["16w", "16nf"]
    assert model.size_requirements.none
    photo = read_rgb(next(iter(find_images(PHOTOS))))[:33, :41]
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        exact = load(path)(image).clamp(0, 1)
    assert_alike(model(image), exact)
    for dtype, tolerance in [(torch.float16, 0.01), (torch.bfloat16, 0.05)]:
        half = model.to(dtype)(image.to(dtype))
        assert half.dtype == dtype
        assert (half.float() - exact).abs().max() < tolerance
    assert model(image[:, :, :1, :1].bfloat16()).shape == (1, 3, 1, 1)


def test_what_leaves_the_range_of_half_precision_is_computed_in_full(tmp_path, loader):
    network = V1.network()
    assert isinstance(network, MHNet)
    with torch.no_grad():
        network.merge.weight *= 1e4
        network.full_resolution.intro.weight *= 1e3  # the norm behind it takes both away again
    write_checkpoint(tmp_path / "large.safetensors", Checkpoint(network.args, network.state_dict()))
    model, image = loader.load_from_file(tmp_path / "large.safetensors").half(), V1.input()[:1]
    with torch.inference_mode():
        assert not model.model(image.half()).isfinite().all()
        assert (model(image.half()).float() - network(image).clamp(0, 1)).abs().max() < 0.01
    assert model.dtype == torch.float16


def test_other_networks_are_left_alone(loader):
    state = V1.network().state_dict()
    del state["full_resolution.intro.weight"]
    for foreign in ({"conv.weight": torch.ones(3)}, state, {"stage1.intro.weight": torch.ones(8, 3, 3, 3)}):
        with pytest.raises(spandrel.UnsupportedModelError):
            loader.load_from_state_dict(foreign)


def test_installing_reaches_every_loader():
    code = "import spandrel, mhnet; mhnet.spandrel.install(); print('MHNet' in spandrel.ModelLoader().registry)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True"


def test_without_spandrel_a_sentence_says_how_to_get_it():
    code = "import sys; sys.modules['spandrel'] = None; import mhnet.checkpoints.spandrel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode
    assert "mhnet.checkpoints.spandrel needs spandrel: pip install 'mhnet[spandrel]'" in done.stderr
