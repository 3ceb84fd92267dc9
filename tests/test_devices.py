"""The same results on every device that is here: the CPU, and a CUDA GPU where there is one."""

import csv
import itertools

import numpy as np
import pytest
import torch
from rooms import BLUR
from small import DEVICES, PHOTOS, make_pairs, settings
from test_tiles import small_network

import mhnet
from mhnet.core.tasks import DEBLURRING
from mhnet.evaluation import protocols
from mhnet.images.read import read_rgb
from mhnet.inference.kernels import library
from mhnet.restore import memory
from mhnet.restore.precision import computing_in
from mhnet.restore.restorer import Restorer
from mhnet.train import processes
from mhnet.train.config import load_config
from mhnet.train.job import prepare
from mhnet.train.trainer import dry_run, train

PHOTO = read_rgb(PHOTOS / "roman-colosseum.jpg")
if not torch.cuda.is_available():
    pytestmark = pytest.mark.ci  # on a CPU alone, other tests see most of it


def test_fp32_on_cuda_is_fp32():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(KeyError), computing_in("fp32", torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        raise KeyError
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize("name", ["derain-small", "deblur-small"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_photo_is_restored_alike(device, name):
    wanted = Restorer.from_weights(name, "cpu", precision="fp32", fuse=False)(PHOTO)
    restored = {p: Restorer.from_weights(name, device, precision=p)(PHOTO) for p in ("fp32", "bf16", "auto")}
    apart = np.abs(restored["fp32"].astype(int) - wanted)
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
    assert protocols.score(restored["auto"], wanted, DEBLURRING.protocol).psnr > 55
    assert protocols.score(restored["bf16"], wanted, DEBLURRING.protocol).psnr > 40


@pytest.mark.parametrize("device", DEVICES)
def test_tiles_and_batches_are_restored_alike(device):
    network = small_network()
    whole = Restorer(network, device, precision="fp32", tile="off")(PHOTO)
    tiled = Restorer(network, device, precision="fp32", tile=160)
    apart = tiled(PHOTO).astype(int) - whole
    assert tiled.last.count > 1
    assert np.abs(apart).mean() < 0.5
    batch = torch.from_numpy(np.stack([PHOTO, PHOTO[:, ::-1]])).permute(0, 3, 1, 2).to(device) / 255
    restored = Restorer(network, device, precision="fp32")(batch)
    assert restored.device.type == device
    levels = (restored[0] * 255).round().permute(1, 2, 0).cpu().numpy()
    assert np.abs(levels - whole).max() <= 1


@pytest.mark.parametrize("device", DEVICES)
def test_memory_is_foreseen(device):
    network = small_network().to(device)
    assert memory.free(torch.device(device)) > 1 << 28
    assert 100 < memory.bytes_per_pixel(network, torch.device(device)) < 50_000


@pytest.mark.parametrize(
    ("device", "precision"), [*itertools.product(DEVICES, ["fp32", "bf16"]), *[("cuda", "fp16")] * (len(DEVICES) > 1)]
)
def test_a_run_goes_on_as_if_never_stopped(tmp_path, device, precision, capsys):
    make_pairs(tmp_path / "pairs")
    run = {"DEVICE": device, "PRECISION": precision, "VAL_EVERY": 3, "WANDB_PROJECT": ""}
    path = settings(
        tmp_path / "training.yml",
        OPTIM={"EPOCHS": 6, "EMA": 0.9, "GRAD_CLIP": 1.0, "OPTIMIZER": "adamw", "LR_INITIAL": 2e-3},
        TRAINING=run,
    )
    dry_run(load_config(DEBLURRING, path), BLUR)
    assert "peak memory" in capsys.readouterr().out
    whole = train(load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "whole")]), BLUR)
    parts, one_epoch = whole, ["TRAINING.SAVE_DIR", str(tmp_path / "parts"), "TRAINING.MAX_MINUTES", "1e-4"]
    for _ in range(6):
        parts = train(load_config(DEBLURRING, path, one_epoch), BLUR)
    scores = []
    for best in (whole, parts):
        rows = list(csv.DictReader((best.parent / "metrics.csv").open()))
        assert [row["step"] for row in rows] == [str(2 * epoch) for epoch in range(1, 7)]
        assert float(rows[-1]["train_psnr"]) > float(rows[0]["train_psnr"]) + 1
        scores.append([float(row["train_psnr"]) for row in rows])
    np.testing.assert_allclose(*scores, atol=0.02 if precision == "fp32" else 0.2)
    restored = Restorer(mhnet.load(parts), device)(PHOTO)
    assert restored.shape == PHOTO.shape


@pytest.mark.parametrize(("faster", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_auto_trains_in_bf16_on_a_cpu_that_is_faster_so(faster, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "faster_in_bf16", lambda: faster)
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", TRAINING={"DEVICE": "cpu", "PRECISION": "auto"})
    config = load_config(DEBLURRING, path)
    dry_run(config, BLUR)
    assert f"parameters on cpu in {wanted}\n" in capsys.readouterr().out
    job = prepare(config, BLUR)
    assert any("forward" in vars(part) for part in job.network.modules()) == (faster and library() is not None)
    job.accelerator.end_training()


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_those_of_the_cpu(device):
    gradients = []
    for where in ("cpu", device):
        network = small_network().to(where).to(memory_format=torch.channels_last).train()
        crop = torch.from_numpy(PHOTO[:96, :96].copy()).permute(2, 0, 1)[None].to(where) / 255
        with computing_in("fp32", torch.device(where)):
            (network(crop).restored - crop).square().mean().backward()
        gradients.append({name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None})
    for name, wanted in gradients[0].items():
        assert (gradients[1][name] - wanted).norm() <= 1e-3 * wanted.norm() + 1e-9, name
