"""One image of any kind through a network: arrays, PIL images and tensors, 8 and 16 bits, precisions."""

import platform

import numpy as np
import pytest
import torch
from PIL import Image
from small import PHOTOS
from test_tiles import small_network
from torch import Tensor, nn

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, write_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.models import MHNet
from mhnet.restore import memory
from mhnet.restore.precision import PRECISIONS, choose_precision, computing_in
from mhnet.restore.restorer import Restorer, RestoreWarning

PHOTO = read_rgb(PHOTOS / "roman-colosseum.jpg")[:100, :150]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> MHNet:
    return small_network()


def wanted(network: MHNet, floats: np.ndarray) -> np.ndarray:
    """What the network makes of H×W×3 floats."""
    with torch.inference_mode():
        return network(torch.from_numpy(floats).permute(2, 0, 1)[None])[0].clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("tile", ["off", 96])
def test_sixteen_bits_stay_sixteen_bits(network, tile):
    random = np.random.default_rng(0)
    deep = PHOTO.astype(np.uint16) * 257 + random.integers(0, 257, PHOTO.shape, dtype=np.uint16)
    restored = Restorer(network, tile=tile)(deep)
    assert restored.dtype == np.uint16 and restored.shape == deep.shape
    assert len(np.unique(restored % 257)) > 200  # not eight bits in disguise
    if tile == "off":
        expected = wanted(network, deep.astype(np.float32) / 65535) * 65535
        assert np.abs(restored - expected).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey(network, dtype):
    grey = PHOTO[..., 1].astype(dtype) * (257 if dtype == np.uint16 else 1)
    flat, deep = Restorer(network)(grey), Restorer(network)(grey[..., None])
    assert flat.shape == grey.shape and flat.dtype == dtype
    np.testing.assert_array_equal(flat, deep[..., 0])
    most = np.iinfo(dtype).max
    colour = torch.from_numpy(grey.astype(np.float32) / most).expand(1, 3, -1, -1)
    with torch.inference_mode():
        mean = network(colour)[0].mean(0).clamp(0, 1).numpy() * most
    assert np.abs(flat - mean).max() <= 0.51


def test_pil_images_give_pil_images(network):
    restorer = Restorer(network)
    colour = Image.fromarray(PHOTO)
    colour.info["icc_profile"] = b"profile"
    np.testing.assert_array_equal(np.asarray(restorer(colour)), restorer(PHOTO))
    assert restorer(colour).info["icc_profile"] == b"profile"
    alpha = Image.fromarray(PHOTO[..., 0])
    for mode, result in [("L", "L"), ("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("LA", "LA"), ("RGBA", "RGBA")]:
        picture = colour.convert(mode)
        if "A" in mode:
            picture.putalpha(alpha)
        restored = restorer(picture)
        assert (restored.mode, restored.size) == (result, colour.size)
        if "A" in mode:
            np.testing.assert_array_equal(np.asarray(restored.getchannel("A")), np.asarray(alpha))
    deep = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    assert restorer(deep).mode == "I;16"
    with pytest.raises(ValueError, match="full scale"):
        restorer(Image.fromarray(PHOTO[..., 0].astype(np.float32)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("tile", ["off", 64])
def test_tensors_give_tensors(network, dtype, tile):
    photos = (
        torch.stack([torch.from_numpy(PHOTO[:90]), torch.from_numpy(PHOTO[10:])]).permute(0, 3, 1, 2).to(dtype) / 255
    )
    before = photos.clone()
    restored = Restorer(network, tile=tile)(photos)
    assert (restored.dtype, restored.shape, restored.device) == (dtype, photos.shape, photos.device)
    torch.testing.assert_close(photos, before)
    assert restored.min() >= 0 and restored.max() <= 1
    with torch.inference_mode():
        torch.testing.assert_close(restored.float(), network(photos.float()).clamp(0, 1), rtol=0, atol=0.02)
    grey = Restorer(network)(photos[:, :1])
    assert grey.shape == photos[:, :1].shape


@pytest.mark.parametrize(
    "image",
    [
        PHOTO.astype(np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8),
        [1, 2],
    ],
    ids=str,
)
def test_what_is_no_image_is_refused(network, image):
    with pytest.raises(ValueError, match="image"):
        Restorer(network)(image)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_keeps_its_norms_whole(network, precision):
    kinds = set()
    restorer = Restorer(network, precision=precision, fuse=False)
    conv, norm = network.tail, network.context.encoders[0][0].norm1  # type: ignore[index]
    hooks = [conv.register_forward_hook(lambda module, inputs, output: kinds.add(("conv", output.dtype)))]
    inside = nn.functional.layer_norm

    def layer_norm(pixels: Tensor, *words: object) -> Tensor:
        kinds.add(("norm", pixels.dtype))
        return inside(pixels, *words)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "layer_norm", layer_norm)
        restored = restorer(PHOTO)
    hooks[0].remove()
    assert norm.weight.dtype == torch.float32
    assert ("norm", torch.float32) in kinds and ("norm", torch.bfloat16) not in kinds
    assert ("conv", {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]) in kinds
    difference = np.abs(restored.astype(int) - Restorer(network)(PHOTO))
    assert difference.max() <= (8 if precision == "bf16" else 2)
    assert restorer.last.notes == []


def test_half_precision_that_overflows_is_computed_again(tmp_path):
    network = small_network()
    with torch.no_grad():  # values of about 1e6 inside, and the same result in fp32
        network.shallow.weight *= 1e6
        network.merge.weight[:, :8] *= 1e-6
    whole = Restorer(network, precision="fp32")(PHOTO)
    restorer = Restorer(network, precision="fp16")
    with pytest.warns(RestoreWarning, match="left the range of fp16, so it was computed in fp32"):
        restored = restorer(PHOTO)
    np.testing.assert_array_equal(restored, whole)
    assert len(restorer.last.notes) == 1


def test_a_result_that_is_not_finite_is_no_picture(network):
    with pytest.raises(MHNetError, match="not finite"):
        Restorer(network)(torch.full((1, 3, 32, 32), torch.nan))


def test_precisions_by_device(monkeypatch):
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    for capability, chosen in (((6, 1), "fp32"), ((7, 5), "fp16"), ((9, 0), "fp16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert choose_precision("auto", torch.device("cuda")) == chosen
    with pytest.raises(MHNetError, match="use --precision fp32"):
        choose_precision("fp16", torch.device("mps"))
    with pytest.raises(MHNetError, match="fp8"):
        choose_precision("fp8", CPU)  # type: ignore[arg-type]
    assert set(PRECISIONS) == {"auto", "fp32", "bf16", "fp16"}
    with computing_in("fp32", CPU):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("found", ["avx512_bf16", "amx_tile", ""])
def test_a_processor_that_computes_bf16_slowly_is_told(monkeypatch, tmp_path, capsys, found):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda here=name == found: here, raising=False)
    write_rgb(tmp_path / "photo.png", PHOTO.copy())
    for precision in ("bf16", "fp32"):
        command = ["restore", tmp_path / "photo.png", "-o", tmp_path / f"{precision}.png", "--task", "derain"]
        assert main([*map(str, command), "--precision", precision]) == 0
        told = "slower than --precision fp32" in capsys.readouterr().err
        assert told == (precision == "bf16" and not found)


def test_ticks_count_the_tiles(network):
    ticks: list[tuple[int, int]] = []
    restorer = Restorer(network, tile=96)
    restorer(PHOTO, lambda done, count: ticks.append((done, count)))
    assert ticks == [(done, restorer.last.count) for done in range(restorer.last.count + 1)]
    assert restorer.last.count > 1


def test_a_restorer_from_a_file(tmp_path, network):
    write_checkpoint(tmp_path / "net.safetensors", Checkpoint(network.args, network.state_dict(), "deraining"))
    restorer = Restorer.from_weights(tmp_path / "net.safetensors", "auto", precision="fp32", tile=96)
    assert restorer.task == "deraining" and len(restorer.identity) == 64
    np.testing.assert_array_equal(restorer(PHOTO), Restorer(network, tile=96)(PHOTO))
    with pytest.raises(MHNetError, match="no device 'tpu'"):
        Restorer.from_weights(tmp_path / "net.safetensors", "tpu")


def test_weights_that_ship_are_known_by_name(tmp_path, network, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    with pytest.raises(MHNetError, match=r"No weights for deblurring ship .* name a file"):
        load("deblur-small")
    write_checkpoint(tmp_path / "derain-small.safetensors", Checkpoint(network.args, network.state_dict(), "deraining"))
    assert load("derain-small").args == network.args
    assert Restorer.from_weights("derain-small").task == "deraining"
    with pytest.raises(WeightsError, match="derain-large"):
        load("derain-large")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_memory_is_told_from_other_faults(error, answer):
    assert memory.ran_out(error) is answer
