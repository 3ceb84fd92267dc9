"""The loop: it follows the recipe, it learns, it goes on where it stopped, and it says what is wrong."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rooms import BLUR, RAIN
from rooms import data as room_data
from small import PHOTOS, make_pairs, settings
from tools import installed

from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.cli.rooms import train_command
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, DERAINING
from mhnet.images.listing import find_images
from mhnet.images.read import image_size, read_rgb
from mhnet.train.config import load_config
from mhnet.train.job import prepare
from mhnet.train.state import BEST, LATEST, PREVIOUS
from mhnet.train.trainer import take_step, train
from mhnet.train.validation import to_floats, validate

CPU = torch.device("cpu")


def test_a_step_is_the_recipe(tmp_path):
    """Adam, the PSNR loss and the first learning rate, computed here in a few plain lines."""
    make_pairs(tmp_path / "pairs")
    optim = {"LR_INITIAL": 2e-4, "WARMUP_EPOCHS": 3}
    job = prepare(load_config(DEBLURRING, settings(tmp_path / "training.yml", OPTIM=optim)), BLUR)
    batch = torch.stack([room_data.build_data(job.config)[0][0, i] for i in range(4)])
    degraded, target = to_floats(batch, CPU)
    before = {name: p.detach().clone() for name, p in job.network.named_parameters()}
    job.scheduler.step()
    restored, _ = job.network.train()(degraded)
    mse = ((restored - target) ** 2).flatten(1).mean(1)
    grads = torch.autograd.grad((10 / math.log(10) * torch.log(mse + 1e-8)).mean(), list(job.network.parameters()))
    psnr_sum, rgb = take_step(job, (batch,))
    assert rgb == 4
    assert psnr_sum == pytest.approx((-10 * torch.log10(mse + 1e-8)).sum().item(), rel=1e-6)
    lr = 2e-4 / 3
    for (name, p), grad in zip(job.network.named_parameters(), grads, strict=True):
        wanted = before[name] - lr * grad / (grad.abs() + 1e-8)  # Adam's first step: m/(1-β1) = g, v/(1-β2) = g²
        torch.testing.assert_close(p.detach(), wanted, rtol=0, atol=1e-6, msg=name)


def test_gradients_are_clipped(tmp_path):
    """Plain gradient descent at rate 1 moves the weights by the clipped gradient itself."""
    make_pairs(tmp_path / "pairs")
    config = load_config(DEBLURRING, settings(tmp_path / "training.yml", OPTIM={"GRAD_CLIP": 0.01}))
    job = prepare(config, BLUR)
    job.optimizer = job.accelerator.prepare(torch.optim.SGD(job.network.parameters(), lr=1.0))
    before = torch.cat([p.detach().flatten().double() for p in job.network.parameters()])
    job.model.train()
    take_step(job, (next(iter(job.batches)),))
    after = torch.cat([p.detach().flatten().double() for p in job.network.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_rates_follow_the_schedule_across_interruptions(tmp_path, warmup, recwarn):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 5, "WARMUP_EPOCHS": warmup, "LR_INITIAL": 1e-3})
    for _ in range(5):  # one epoch at a time
        train(load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates(5, warmup, 1e-3, 1e-6))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10]  # every epoch whole
    assert not [warning for warning in recwarn if "lr_scheduler" in str(warning.message)]


def rates(epochs: int, warmup: int, peak: float, low: float) -> list[float]:
    cosine = [low + (peak - low) * (1 + math.cos(math.pi * t / (epochs - warmup))) / 2 for t in range(epochs - warmup)]
    return [peak * (e + 1) / warmup for e in range(warmup)] + cosine


def test_training_learns_and_leaves_what_it_should(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    path = settings(
        tmp_path / "training.yml",
        OPTIM={
            "OPTIMIZER": "adamw",
            "EPOCHS": 30,
            "LR_INITIAL": 2e-3,
            "GRAD_CLIP": 0.1,
            "WARMUP_EPOCHS": 2,
            "BATCH_SIZE": 2,
        },
        TRAINING={"VAL_EVERY": 10},
    )
    best = train(load_config(DEBLURRING, path), BLUR)
    run = tmp_path / "run"
    assert best == run / BEST
    kept = {"run.lock", BEST, LATEST, PREVIOUS, "config.yml", "run.json", "metrics.csv", "curves.png"}
    assert {child.name for child in run.iterdir()} == kept | ({"tensorboard"} if installed("tensorboard") else set())
    assert image_size(run / "curves.png") == (600, 960)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates(30, 2, 2e-3, 1e-6))
    validated = [float(row["val_psnr"]) for row in rows if row["val_psnr"]]
    assert len(validated) == 3
    assert validated[-1] > validated[0] + 1
    assert float(rows[-1]["train_psnr"]) > float(rows[0]["train_psnr"]) + 5
    shown = capsys.readouterr().out
    assert f"validation {validated[-1]:.2f} dB (degraded" in shown
    assert "effective batch 2" in shown

    checkpoint = read_checkpoint(best)
    assert checkpoint.task == "deblurring"
    assert checkpoint.provenance["config"]["OPTIM"]["LR_INITIAL"] == 2e-3
    assert checkpoint.provenance["validation_psnr"] == pytest.approx(max(validated))
    assert not checkpoint.training
    network = load(best)
    job = prepare(load_config(DEBLURRING, path), BLUR)
    psnr, degraded, shown = validate(network, job.validation, job.accelerator)
    assert [image.shape for image in shown] == [(64, 3 * 64, 3)] * 2
    assert psnr == pytest.approx(max(validated), abs=1e-4)
    assert degraded == pytest.approx(float(rows[9]["val_input_psnr"]), abs=1e-4)


def test_two_folders_named_on_the_command_line_are_trained_on(tmp_path, capsys):
    for place in ("some pairs", "others"):
        make_pairs(tmp_path / place, ("7", "clean 1"))  # a folder whose name YAML takes for a number
    sides = ["--input", str(tmp_path / "some pairs/7"), "--target", str(tmp_path / "some pairs/clean 1")]
    others = ["DATA.VAL_DIR", f"{tmp_path}/others/7", "DATA.VAL_TARGET_DIR", f"{tmp_path}/others/clean 1"]
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    assert train_command(RAIN, tmp_path, ["--config", str(path), *sides, *others]) == 0
    assert "12 crops an epoch; 6 validation images" in capsys.readouterr().out
    assert train_command(RAIN, tmp_path, ["--config", str(path), *sides[:2]]) == 1
    assert "No pairs at or below" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, workers):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", DATA={"WORKERS": workers})
    whole = read_checkpoint(
        train(load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "whole")]), BLUR).parent / LATEST
    )

    class Killed(Exception):
        pass

    parts = load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "parts")])
    for epochs in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            seen = iter(range(epochs))

            def dies(row, progress, seen=seen):
                if next(seen, None) is None:
                    raise Killed

            patch.setattr("mhnet.train.trainer.report", dies)
            try:
                train(parts, BLUR)
            except Killed:
                continue
    again = read_checkpoint(train(parts, BLUR).parent / LATEST)
    assert again.provenance["step"] == whole.provenance["step"] == 4 * 2
    assert again.state.keys() == whole.state.keys()
    assert all(torch.equal(again.state[name], tensor) for name, tensor in whole.state.items())
    assert [name for name, tensor in whole.training.items() if not torch.equal(again.training[name], tensor)] == []
    histories = [one.progress["progress"]["history"] for one in (again, whole)]
    for history in histories:
        for row in history:
            del row["seconds"], row["waiting"]
    assert histories[0] == histories[1]


def test_a_finished_run_is_left_alone(tmp_path):
    make_pairs(tmp_path / "pairs")
    config = load_config(DEBLURRING, settings(tmp_path / "training.yml"))
    best = train(config, BLUR)

    def files() -> dict[Path, bytes]:
        return {child: child.read_bytes() for child in best.parent.rglob("*") if child.is_file()}

    before = files()
    assert train(config, BLUR) == best
    assert files() == before


def test_training_on_photographs_and_with_the_stage1_loss(tmp_path):
    path = settings(
        tmp_path / "training.yml",
        DATA={"TRAIN_DIR": str(PHOTOS), "VAL_IMAGES": 1, "DEGRADE": "rain", "SEVERITY": [0.2, 0.4], "REPEAT": 2},
        OPTIM={"EPOCHS": 2, "STAGE1_WEIGHT": 0.5},
    )
    network = load(train(load_config(DERAINING, path), RAIN))
    assert network.args.stage1_head


def test_of_pairs_only_the_clean_side_is_degraded(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", DATA={"DEGRADE": "blur"})
    training, validation = room_data.build_data(load_config(DEBLURRING, path))
    both: list[Any] = [training.source, validation.source]
    sources = {source for source, _ in both[0].places} | {both[1]}
    paths = [path for source in sources for path in source.paths]
    assert {path.parent.name for path in paths} == {"target"}
    assert len(paths) == len(set(paths)) == 6


def test_the_later_design_trains(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", MODEL={"ARCHITECTURE": "mhnet_v4"}, OPTIM={"EPOCHS": 2})
    assert read_checkpoint(train(load_config(DEBLURRING, path), BLUR)).architecture == "mhnet_v4"


def test_a_time_limit_leaves_a_checkpoint_to_go_on_from(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    config = load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"])
    best = train(config, BLUR)
    assert read_checkpoint(best.parent / LATEST).provenance["epoch"] == 1
    train(load_config(DEBLURRING, path), BLUR)
    assert read_checkpoint(best.parent / LATEST).provenance["epoch"] == 4


def changed(path: Path, **sections: dict) -> None:
    train(load_config(DEBLURRING, settings(path, **sections)), BLUR)


def test_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "training.yml"
    with pytest.raises(MHNetError, match=r"pairs: put training images there"):
        changed(path)
    make_pairs(tmp_path / "pairs")
    with pytest.raises(MHNetError, match=r"6 images cannot be held out of 6.*VAL_IMAGES"):
        changed(path, DATA={"VAL_IMAGES": 6})
    with pytest.raises(MHNetError, match="8 crops an epoch, fewer than a batch of 9"):
        changed(path, OPTIM={"BATCH_SIZE": 9})
    with pytest.raises(MHNetError, match="holds no photographs"):
        (tmp_path / "empty").mkdir()
        changed(path, DATA={"DEGRADE": "rain", "TRAIN_DIR": "empty"})
    with pytest.raises(MHNetError, match="no device 'cuda:77'"):
        changed(path, TRAINING={"DEVICE": "cuda:77"})
    with pytest.raises(MHNetError, match=r"file.run cannot be written"):
        (tmp_path / "file").write_text("")
        changed(path, TRAINING={"SAVE_DIR": "file/run"})
    changed(path, OPTIM={"EPOCHS": 2})
    before = (tmp_path / "run" / LATEST).read_bytes()
    with pytest.raises(MHNetError, match="RESUME true"):
        changed(path, OPTIM={"EPOCHS": 2}, TRAINING={"RESUME": False})
    with pytest.raises(WeightsError, match="another network"):
        changed(path, MODEL={"N_FEAT": 10}, OPTIM={"EPOCHS": 2})
    with pytest.raises(WeightsError, match=r"OPTIM\.EPOCHS was 2, is 3.*SAVE_DIR"):
        changed(path, OPTIM={"EPOCHS": 3})
    assert (tmp_path / "run" / LATEST).read_bytes() == before
    with pytest.raises(WeightsError, match="is for deblurring, not for deraining"):
        train(load_config(DERAINING, settings(path, OPTIM={"EPOCHS": 2})), RAIN)
    for name in (LATEST, PREVIOUS):
        (tmp_path / "run" / name).write_bytes((tmp_path / "run" / BEST).read_bytes())
    with pytest.raises(WeightsError, match="weights alone"):
        changed(path, OPTIM={"EPOCHS": 2})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_from_any_process(tmp_path, workers):
    from mhnet.core.errors import sentence

    make_pairs(tmp_path / "pairs")
    broken = tmp_path / "pairs" / "input" / "scene0-0.png"
    data = bytearray(broken.read_bytes())
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(MHNetError) as raised:
        changed(tmp_path / "training.yml", DATA={"WORKERS": workers})
    said = sentence(raised.value)
    assert str(broken) in said
    assert "Traceback" not in said
    assert "\n" not in said


def test_settings_are_kept_with_the_run(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    changed(path, OPTIM={"EPOCHS": 2})
    again = load_config(DEBLURRING, tmp_path / "run" / "config.yml")
    assert again == load_config(DEBLURRING, path)
    described = json.dumps(read_checkpoint(tmp_path / "run" / BEST).provenance["config"])
    assert str(tmp_path) not in described


def test_images_reach_the_network_in_0_to_1():
    batch = torch.from_numpy(np.arange(2 * 2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 2, 3, 4, 4))
    degraded, target = to_floats(batch, CPU)
    assert torch.equal((degraded * 255).round().byte(), batch[:, 0])
    assert torch.equal((target * 255).round().byte(), batch[:, 1])


def test_pairs_and_degraded_photographs_are_trained_on_together(tmp_path):
    make_pairs(tmp_path / "pairs")
    data = {"SHARP_DIR": str(PHOTOS), "DEGRADE": "blur", "SHARP_REPEAT": 3, "SHARP_VAL_IMAGES": 1, "REPEAT": 2}
    path = settings(tmp_path / "training.yml", DATA=data, OPTIM={"EPOCHS": 2})
    config = load_config(DEBLURRING, path)
    training, validation = room_data.build_data(config)
    assert training.candidates == 1
    assert room_data.build_data(load_config(DEBLURRING, path, ["DATA.CANDIDATES", "3"]))[0].candidates == 3
    photographs = len(find_images(PHOTOS))
    assert len(training) == 2 * (6 - 2) + 3 * (photographs - 1)
    assert len(validation) == 2 + 1
    both = [training[0, item] for item in range(len(training))]
    pairs = {path.name: read_rgb(path) for path in (tmp_path / "pairs" / "input").iterdir()}
    known = [any(is_crop_of(one[0].numpy(), pair) for pair in pairs.values()) for one in both]
    assert known == [True] * 8 + [False] * (len(training) - 8)
    with pytest.raises(MHNetError, match=r"no folder .*absent: name another with DATA\.SHARP_DIR"):
        room_data.build_data(load_config(DEBLURRING, path, ["DATA.SHARP_DIR", str(tmp_path / "absent")]))
    assert train(config, BLUR).is_file()


def is_crop_of(crop: np.ndarray, image: np.ndarray) -> bool:
    """Whether a 3×P×P crop, turned or flipped in one of 8 ways, stands somewhere in an H×W×3 image."""
    side = crop.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), (0, 1))
    turned = [np.rot90(one, turns, (1, 2)) for one in (crop, crop[:, :, ::-1]) for turns in range(4)]
    return any((windows == one).all((2, 3, 4)).any() for one in turned)


def test_training_starts_from_given_weights(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    first = train(load_config(DEBLURRING, settings(tmp_path / "training.yml")), BLUR)
    given = {"WEIGHTS": "run/model_best.safetensors"}
    path = settings(tmp_path / "tuning.yml", MODEL=given, TRAINING={"SAVE_DIR": "tuned"}, OPTIM={"EPOCHS": 2})
    begun = prepare(load_config(DEBLURRING, path), BLUR)
    for name, tensor in read_checkpoint(first).state.items():
        assert torch.equal(begun.network.state_dict()[name], tensor)
    tuned = train(load_config(DEBLURRING, path), BLUR)
    first.unlink()  # a run that goes on does not need it any more
    assert train(load_config(DEBLURRING, path), BLUR) == tuned
    other = settings(tmp_path / "other.yml", MODEL={"WEIGHTS": "derain-small"}, TRAINING={"SAVE_DIR": "other"})
    capsys.readouterr()
    prepare(load_config(DERAINING, other), RAIN)
    told = capsys.readouterr().out
    assert re.search(r"starting from derain-small: \d+ of the network's \d+ parameters; not in it or of another", told)
    assert "; in it and not taken: " in told
