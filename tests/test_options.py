"""What the settings can switch on does what it says: precision, averages, parts, progressive patches, skipped steps."""

import json
import time
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from launch import command, finish
from rooms import BLUR
from small import ROOT, make_pairs, settings
from tools import needs
from torch.optim import Adam

from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.cli.rooms import train_command
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, TASKS
from mhnet.images.read import read_rgb
from mhnet.inference.kernels import library
from mhnet.models.mhnet import LayerNorm2d
from mhnet.train.config import ConfigError, load_config, stage_of, stages
from mhnet.train.job import prepare
from mhnet.train.state import BEST, LATEST
from mhnet.train.trainer import take_step, train


def job(tmp_path, **sections):
    """A run that is built and not started."""
    if not (tmp_path / "pairs").exists():
        make_pairs(tmp_path / "pairs")
    made = prepare(load_config(DEBLURRING, settings(tmp_path / "training.yml", **sections)), BLUR)
    made.model.train()
    return made


def first_step(made):
    batches = iter(made.batches)
    return tuple(next(batches) for _ in range(made.config.OPTIM.ACCUMULATE))


def weights(made) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in made.network.parameters()])


def test_a_batch_in_parts_is_the_same_batch(tmp_path):
    ends = []
    for parts in (1, 2, 4):
        made = job(tmp_path, OPTIM={"ACCUMULATE": parts})
        made.optimizer = made.accelerator.prepare(torch.optim.SGD(made.network.parameters(), lr=0.1))
        step = first_step(made)
        assert [len(part) for part in step] == [4 // parts] * parts
        psnr_sum, images_seen = take_step(made, step)
        assert images_seen == 4
        ends.append((weights(made), psnr_sum))
    for moved, psnr_sum in ends[1:]:
        torch.testing.assert_close(moved, ends[0][0], rtol=1e-5, atol=1e-6)
        assert psnr_sum == pytest.approx(ends[0][1], abs=1e-4)


def test_the_average_is_the_exponential_one_and_soon_forgets_the_first_weights(tmp_path):
    made = job(tmp_path, OPTIM={"EMA": 0.25, "LR_INITIAL": 1e-2, "WARMUP_EPOCHS": 0, "BATCH_SIZE": 1})
    wanted, decays = None, []
    for done, batch in enumerate(made.batches):
        take_step(made, (batch,))
        decays.append(min(0.25, (1 + done) / (10 + done)))
        wanted = weights(made) if wanted is None else decays[-1] * wanted + (1 - decays[-1]) * weights(made)
    assert decays[1] < decays[2] == decays[-1] == 0.25
    average = torch.cat([p.detach().flatten() for p in made.result.parameters()])
    torch.testing.assert_close(average, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.equal(average, weights(made))


def test_the_average_is_what_is_kept(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EMA": 0.5, "EPOCHS": 2})
    folder = train(load_config(DEBLURRING, path), BLUR).parent
    latest, best = read_checkpoint(folder / LATEST), read_checkpoint(folder / BEST)
    for name, tensor in best.state.items():
        assert torch.equal(tensor, latest.training[f"average.module.{name}"])


@pytest.mark.parametrize("faster", [False, True])
def test_half_precision_keeps_norms_attention_and_losses_in_full(faster, tmp_path, monkeypatch):
    if not faster:
        monkeypatch.setattr("mhnet.train.parts.library", lambda: None)
    made = job(tmp_path, TRAINING={"PRECISION": "bf16"}, OPTIM={"LR_INITIAL": 1e-3, "WARMUP_EPOCHS": 0})
    seen: dict[str, set[torch.dtype]] = {"convolution": set(), "softmax": set(), "norm": set(), "loss": set()}
    network: Any = made.network
    network.tail.register_forward_hook(lambda _m, _i, out: seen["convolution"].add(out.dtype))
    plain, made.loss = made.loss, noting(made.loss, seen["loss"])
    inside = torch.nn.functional.layer_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mhnet.models.mhnet.F.layer_norm", noting(inside, seen["norm"]))
        patch.setattr(network.context.attention, "weights", noting(network.context.attention.weights, seen["softmax"]))
        take_step(made, first_step(made))
    in_c = faster and library() is not None  # norms, which tests/test_parts.py compares with float64
    assert seen == {"convolution": {torch.bfloat16}, "softmax": {torch.float32},
                    "norm": set() if in_c else {torch.float32}, "loss": {torch.float32}}  # fmt: skip
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert any(type(module).__name__ == LayerNorm2d.__name__ for module in network.modules())
    assert plain is not made.loss


def noting(function, seen: set):
    """The function, with the type of its first argument noted."""

    def noted(first, *more, **named):
        seen.add(first.dtype)
        return function(first, *more, **named)

    return noted


@pytest.mark.ci
def test_half_precision_trains(tmp_path):
    make_pairs(tmp_path / "pairs")
    optim = {"OPTIMIZER": "adamw", "EPOCHS": 12, "LR_INITIAL": 2e-3, "BATCH_SIZE": 2, "GRAD_CLIP": 0.1}
    path = settings(tmp_path / "training.yml", OPTIM=optim, TRAINING={"PRECISION": "bf16", "VAL_EVERY": 12})
    train(load_config(DEBLURRING, path), BLUR)
    rows = read_checkpoint(tmp_path / "run" / LATEST).progress["progress"]["history"]
    assert rows[-1]["train_psnr"] > rows[0]["train_psnr"] + 3


def test_a_step_that_overflows_lowers_the_scale_and_changes_nothing(tmp_path, monkeypatch):
    """fp16's loss scaling, on the CPU: the scaler that accelerate would make on a GPU is put in its place."""
    made = job(tmp_path, OPTIM={"WARMUP_EPOCHS": 0, "EMA": 0.5})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    made.accelerator.scaler = scaler
    made.accelerator.native_amp = True
    monkeypatch.setattr(type(made.accelerator), "mixed_precision", property(lambda self: "fp16"))
    made.accelerator._optimizers.clear()
    made.optimizer = made.accelerator.prepare(Adam(made.network.parameters(), 1e-3))
    before, step = weights(made), first_step(made)
    take_step(made, step)
    assert torch.equal(weights(made), before)
    assert (made.progress.skipped, made.progress.skipped_in_a_row) == (1, 1)
    assert scaler.get_scale() == 2.0**126
    scaler.update(1024.0)
    take_step(made, step)
    assert not torch.equal(weights(made), before)
    assert (made.progress.skipped, made.progress.skipped_in_a_row) == (1, 0)
    plain = job(tmp_path, OPTIM={"WARMUP_EPOCHS": 0})
    plain.optimizer = plain.accelerator.prepare(Adam(plain.network.parameters(), 1e-3))
    monkeypatch.undo()
    take_step(plain, step)
    torch.testing.assert_close(weights(made), weights(plain), rtol=0, atol=1e-5)
    made.save()
    other = torch.amp.GradScaler("cpu")
    plain.accelerator.scaler, plain.average = other, made.average
    plain.provenance = made.provenance
    plain.resume(read_checkpoint(made.folder / LATEST), made.folder / LATEST)
    assert other.get_scale() == 1024.0


def test_steps_that_are_not_finite_are_skipped_counted_and_shown(tmp_path, capsys, monkeypatch):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EMA": 0.5, "EPOCHS": 3, "BATCH_SIZE": 2})
    calls = iter(range(1000))

    def sometimes_nan(settings):
        from mhnet.train.losses import psnr_loss

        return lambda restored, target: psnr_loss(restored, target) * (float("nan") if next(calls) in (1, 2, 6) else 1)

    folder = train(load_config(DEBLURRING, path), replace(BLUR, loss=sometimes_nan)).parent
    assert "3 steps skipped" in capsys.readouterr().out
    latest = read_checkpoint(folder / LATEST)  # whose reading refuses weights that are not finite
    assert [row["skipped"] for row in latest.progress["progress"]["history"]] == [2, 3, 3]
    assert latest.progress["progress"]["step"] == 12
    steps = {name: int(tensor) for name, tensor in latest.training.items() if name.endswith(".step")}
    assert set(steps.values()) == {9}  # Adam has not seen the three


def test_too_many_skipped_steps_in_a_row_end_the_run(tmp_path, recwarn):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 20, "MAX_SKIPPED": 5, "WARMUP_EPOCHS": 0})
    broken = replace(BLUR, loss=lambda settings: lambda restored, _target: restored.mean() / 0)
    with pytest.raises(MHNetError, match=r"5 steps in a row, up to step 5, .*lower OPTIM\.LR_INITIAL"):
        train(load_config(DEBLURRING, path), broken)
    assert read_checkpoint(tmp_path / "run" / LATEST).provenance["step"] == 4
    assert not [one for one in recwarn if "lr_scheduler" in str(one.message)]


def test_progressive_training_changes_crops_and_batches_by_epoch(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    data = {"PATCH": 32, "PROGRESSIVE": [[1, 48, 2], [3, 64, 1]], "WORKERS": 1}
    path = settings(tmp_path / "training.yml", DATA=data, OPTIM={"EPOCHS": 4, "SCHEDULE": "step"})
    config = load_config(DEBLURRING, path)
    assert [stage_of(stages(config), epoch)[1:] for epoch in range(5)] == [(32, 4), (48, 2), (48, 2), (64, 1), (64, 1)]
    made = prepare(config, BLUR)
    assert "from epoch 2: 2 of 48; from epoch 4: 1 of 64" in capsys.readouterr().out
    for epoch, (patch, batch, steps) in enumerate([(32, 4, 2), (48, 2, 4), (48, 2, 4), (64, 1, 8)]):
        made.shares.epoch = epoch
        assert [tuple(crops.shape) for crops in made.batches] == [(batch, 2, 3, patch, patch)] * steps
    rows = read_checkpoint(train(config, BLUR).parent / LATEST).progress["progress"]["history"]
    assert [row["step"] for row in rows] == [2, 6, 10, 18]
    assert rows[-1]["lr"] < 1e-4  # the cosine ends with the last step
    for wrong in ([1, 2, 3], [[5, 48, 2]], [[2, 48, 2], [1, 64, 1]], [[1, 48]], [[1, 48, 0]], "no"):
        with pytest.raises(ConfigError, match=r"DATA\.PROGRESSIVE"):
            load_config(DEBLURRING, path, ["DATA.PROGRESSIVE", json.dumps(wrong)])


def test_the_rate_moves_by_step_where_asked(tmp_path):
    made = job(tmp_path, DATA={"REPEAT": 4}, OPTIM={"EPOCHS": 3, "SCHEDULE": "step", "LR_INITIAL": 1e-3})
    rates = []
    for _ in range(12):
        made.scheduler.step()
        rates.append(made.scheduler.get_last_lr()[0])
    rising = [1e-3 * step / 4 for step in range(1, 5)]
    falling = [1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * step / 8)) / 2 for step in range(8)]
    assert rates == pytest.approx(rising + falling)


@pytest.mark.parametrize("sections", [{"TRAINING": {"CHANNELS_LAST": False}}, {"TRAINING": {"RECOMPUTE": True}}])
def test_layout_and_recomputing_change_rounding_alone(tmp_path, sections):
    ends = []
    for given in ({}, sections):
        made = job(tmp_path, **given)
        made.optimizer = made.accelerator.prepare(torch.optim.SGD(made.network.parameters(), lr=0.1))
        take_step(made, first_step(made))
        ends.append(weights(made))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.ci
def test_a_compiled_network_trains_alike(tmp_path, monkeypatch):
    """With the compiler's own back end left out, which needs a C++ compiler and a minute."""
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: plain(self, backend="aot_eager"))
    ends = []
    for compiled in (False, True):
        made = job(tmp_path, TRAINING={"COMPILE": compiled})
        assert (made.network._compiled_call_impl is not None) == compiled
        take_step(made, first_step(made))
        ends.append(weights(made))
        assert not any("_orig_mod" in name for name in made.network.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


def test_choosing_by_a_test_set_has_to_be_asked_for(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    make_pairs(tmp_path / "GoPro" / "test")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    named = ["DATA.VAL_DIR", str(tmp_path / "GoPro" / "test")]
    with pytest.raises(ConfigError, match=r"test is a test set.*SELECT_BY_TEST_SET true"):
        load_config(DEBLURRING, path, named)
    with pytest.raises(ConfigError, match="needs the test set in DATA"):
        load_config(DEBLURRING, path, ["DATA.SELECT_BY_TEST_SET", "true"])
    best = train(load_config(DEBLURRING, path, [*named, "DATA.SELECT_BY_TEST_SET", "true"]), BLUR)
    assert "6 validation images of a test set, which chooses the weights" in capsys.readouterr().out
    assert read_checkpoint(best).provenance["config"]["DATA"]["SELECT_BY_TEST_SET"] is True


def test_another_runs_folder_is_refused_before_its_first_checkpoint_too(tmp_path, monkeypatch):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mhnet.train.trainer.train_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(load_config(DEBLURRING, path), BLUR)
    monkeypatch.undo()
    before = (tmp_path / "run" / "config.yml").read_bytes()
    with pytest.raises(WeightsError, match=r"config\.yml is of a run .*OPTIM\.LR_INITIAL was 0\.001, is 0\.002"):
        train(load_config(DEBLURRING, path, ["OPTIM.LR_INITIAL", "0.002"]), BLUR)
    assert (tmp_path / "run" / "config.yml").read_bytes() == before
    train(load_config(DEBLURRING, path), BLUR)


def test_a_dry_run_tells_what_to_expect_and_leaves_nothing(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"ACCUMULATE": 2, "EMA": 0.5})
    before = sorted(tmp_path.rglob("*"))
    assert train_command(BLUR, tmp_path, ["--config", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    for said in ("effective batch 4", "peak memory", "GiB", "an epoch of 2 steps", "nothing was written", "degraded"):
        assert said in out
    (tmp_path / "pairs" / "target" / "scene0-0.png").unlink()
    assert train_command(BLUR, tmp_path, ["--config", str(path), "--dry-run"]) == 1


@needs("tensorboard", "logs")
def test_tensorboard_shows_scalars_and_the_same_images_every_time(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 4})
    train(load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    time.sleep(1.1)  # TensorBoard reads a folder's files in the order of their names, which tell the second
    train(load_config(DEBLURRING, path), BLUR)  # goes on in the same log
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert {"lr", "train_psnr", "val_psnr", "waiting"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train_psnr")] == [2, 4, 6, 8]
    assert events.Tags()["images"] == ["validation/0", "validation/1"]
    shown = events.Images("validation/0")
    assert [event.step for event in shown] == [2, 4, 8]
    pictures = []
    for number, event in enumerate(shown):
        (tmp_path / f"{number}.png").write_bytes(event.encoded_image_string)
        pictures.append(read_rgb(tmp_path / f"{number}.png"))
    width = pictures[0].shape[1] // 3
    assert all((one[:, :width] == pictures[0][:, :width]).all() for one in pictures)  # degraded
    assert all((one[:, 2 * width :] == pictures[0][:, 2 * width :]).all() for one in pictures)  # target
    assert (pictures[0][:, width : 2 * width] != pictures[2][:, width : 2 * width]).any()


@needs("wandb", "test-all")
def test_wandb_is_used_when_asked_for(tmp_path, monkeypatch):
    """In a process of its own, which ends with the service that W&B starts."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2}, TRAINING={"WANDB_PROJECT": "mhnet-test"})
    finish(command(path, tmp_path / "run"))
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_missing_loggers_are_told_or_left_out(tmp_path, monkeypatch):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    monkeypatch.setattr("mhnet.train.journal.find_spec", lambda name: None)
    with pytest.raises(MHNetError, match="wandb is not installed: pip install wandb"):
        train(load_config(DEBLURRING, path, ["TRAINING.WANDB_PROJECT", "mine"]), BLUR)
    folder = train(load_config(DEBLURRING, path), BLUR).parent
    assert not (folder / "tensorboard").exists()


def test_every_start_of_a_run_is_noted(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    folder = tmp_path / "run"
    for _ in range(2):
        train(load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    starts = json.loads((folder / "run.json").read_text())
    assert [start["from_step"] for start in starts] == [0, 2]
    assert starts[0]["run"] == starts[1]["run"]
    assert starts[0]["packages"]["torch"] == version("torch")
    assert {"command", "revision", "python", "device", "processes"} <= set(starts[0])
    assert read_checkpoint(folder / BEST).provenance["revision"] == starts[0]["revision"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_presets_load(task):
    """And say nothing that the recipe of training.yml says already."""
    recipe = load_config(task, ROOT / task.folder / "training.yml")
    found = sorted(path.name for path in (ROOT / task.folder).glob("training_*.yml"))
    assert found == ["training_nafnet.yml", "training_small.yml", "training_small_gpu.yml"]
    for name in found:
        path = ROOT / task.folder / name
        config = load_config(task, path)
        for section, values in yaml.safe_load(path.read_text()).items():
            for key in {*values} - {"TRAIN_DIR"}:
                assert config[section][key] != recipe[section][key], (name, key)
    nafnet = load_config(task, ROOT / task.folder / "training_nafnet.yml").OPTIM
    assert (nafnet.OPTIMIZER, nafnet.LR_INITIAL, nafnet.LR_MIN, nafnet.BETAS) == ("adamw", 1e-3, 1e-7, [0.9, 0.9])
    assert (nafnet.WEIGHT_DECAY, nafnet.GRAD_CLIP, nafnet.SCHEDULE) == (1e-3, 0.01, "step")


def test_a_process_with_no_terminal_signals_trains_in_a_thread(tmp_path):
    """Python allows signal handlers in the main thread alone; notebooks and servers train in others."""
    from threading import Thread

    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    thread = Thread(target=train, args=(load_config(DEBLURRING, path), BLUR))
    thread.start()
    thread.join()
    assert load(tmp_path / "run" / BEST)
