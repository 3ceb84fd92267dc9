"""Runs that are killed, stopped, damaged or short of disk end as runs that nothing happened to."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from launch import command, finish, kill, start
from rooms import BLUR
from small import ROOT, make_pairs, settings

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, checksum, read_checkpoint
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING
from mhnet.train.config import load_config
from mhnet.train.state import BEST, LATEST, PREVIOUS, read_latest
from mhnet.train.trainer import Stopped, train

EVERYTHING = {
    "DATA": {"REPEAT": 8, "WORKERS": 2},
    "OPTIM": {"OPTIMIZER": "adamw", "EPOCHS": 4, "SCHEDULE": "step", "EMA": 0.9, "GRAD_CLIP": 0.5, "ACCUMULATE": 2},
    "TRAINING": {"SAVE_MINUTES": 1e-9, "VAL_EVERY": 2},
}  # 8 steps an epoch, a checkpoint after each


def stamp(folder: Path) -> int:
    """When the latest checkpoint was written; 0 for never."""
    path = folder / LATEST
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def same(one: Checkpoint, other: Checkpoint) -> None:
    """Asserts that two runs ended alike: weights, optimiser, average, generators, rates, losses, scores."""
    assert one.state.keys() == other.state.keys()
    assert [name for name, tensor in one.state.items() if not torch.equal(tensor, other.state[name])] == []
    assert one.training.keys() == other.training.keys()
    assert [name for name, tensor in one.training.items() if not torch.equal(tensor, other.training[name])] == []
    for checkpoint in (one, other):
        for row in checkpoint.progress["progress"]["history"]:
            del row["seconds"], row["waiting"]
    assert one.progress == other.progress


@pytest.mark.ci
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_at_random_steps_ends_as_one_that_was_not(tmp_path, processes):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", **EVERYTHING)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(command(path, whole, processes=processes))
    dice, kills, resumed = random.Random(processes), 0, []
    while kills < 5 - processes:
        process, before = start(command(path, parts, processes=processes)), stamp(parts)
        while stamp(parts) == before and process.poll() is None:  # let it get at least a step further
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.4))
        if process.poll() is not None:
            break
        kill(process)
        kills += 1
        found = read_latest(parts)
        assert found
        resumed.append(found[0].progress["progress"]["step"])
    assert kills >= 4 - processes
    assert processes > 1 or any(step % 8 for step in resumed)  # some within an epoch
    for half in (".tmp0aB9zZ", f".123-next_{LATEST}", ".123-metrics.csv"):
        (parts / half).write_bytes(b"{")
    assert "resuming after epoch" in finish(command(path, parts, processes=processes))
    same(read_checkpoint(whole / LATEST), read_checkpoint(parts / LATEST))
    for name in (BEST, PREVIOUS):
        assert checksum(read_checkpoint(whole / name).state) == checksum(read_checkpoint(parts / name).state)
    assert not list(parts.glob(".*"))  # what was half-written when it was killed is gone
    rows = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (whole, parts)]
    for row in (row for table in rows for row in table):
        del row["seconds"], row["waiting"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.ci)])
def test_a_run_that_is_asked_to_stop_saves_first(tmp_path, number):
    make_pairs(tmp_path / "pairs")
    quiet = EVERYTHING | {"TRAINING": {"SAVE_MINUTES": 0.0, "VAL_EVERY": 2, "SAVE_EVERY": 100}}
    path = settings(tmp_path / "training.yml", **quiet)
    process = start(command(path, tmp_path / "run", "OPTIM.EPOCHS", 200))
    while not (tmp_path / "run" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(1.5)
    os.killpg(process.pid, number)  # as Ctrl-C in a terminal: the loader's processes get it too
    out, err = process.communicate(timeout=500)
    assert process.returncode == 128 + number, err
    assert err == ""
    step = read_checkpoint(tmp_path / "run" / LATEST).progress["progress"]["step"]
    assert f"stopped by {number.name} and saved after step {step}: the same command goes on" in out
    process = start(command(path, tmp_path / "run", "OPTIM.EPOCHS", 200))
    while "resuming" not in (line := process.stdout.readline()):  # type: ignore[union-attr]
        assert process.poll() is None
    kill(process)
    assert f"step {step}, from" in line


def test_a_stopped_run_goes_on_within_its_epoch(tmp_path, monkeypatch):
    """Stopped after every single step, it still ends as one that never was."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", DATA={"REPEAT": 4}, OPTIM={"EPOCHS": 3})
    whole = read_checkpoint(train(load_config(DEBLURRING, path), BLUR).parent / LATEST)
    parts = load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "parts")])
    monkeypatch.setattr("mhnet.train.trainer.StopRequest.__enter__", lambda self: setattr(self, "number", 15) or self)
    for step in range(1, 13):
        with pytest.raises(Stopped, match=f"SIGTERM and saved after step {step}:"):
            train(parts, BLUR)
    monkeypatch.undo()
    same(whole, read_checkpoint(train(parts, BLUR).parent / LATEST))


def test_other_images_than_before_are_told_and_refused_within_an_epoch(tmp_path, monkeypatch, capsys):
    make_pairs(tmp_path / "pairs")
    make_pairs(tmp_path / "fewer", count=5)
    path = settings(tmp_path / "training.yml")
    fewer = load_config(DEBLURRING, path, ["DATA.TRAIN_DIR", str(tmp_path / "fewer")])
    train(load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    capsys.readouterr()
    monkeypatch.setattr("mhnet.train.trainer.StopRequest.__enter__", lambda self: setattr(self, "number", 15) or self)
    with pytest.raises(Stopped):
        train(load_config(DEBLURRING, path), BLUR)
    with pytest.raises(WeightsError, match="trained on 8 crops an epoch, and the images that are there give 6"):
        train(fewer, BLUR)
    monkeypatch.undo()
    train(load_config(DEBLURRING, path, ["TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    train(fewer, BLUR)
    assert "warning: " in (told := capsys.readouterr().out)
    assert "was trained on 8 crops an epoch, and the images that are there give 6" in told


def test_two_runs_do_not_share_a_folder(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 400})
    first = start(command(path, tmp_path / "run"))
    while not (tmp_path / "run" / LATEST).exists():
        assert first.poll() is None
        time.sleep(0.05)
    before = (tmp_path / "run" / "config.yml").read_bytes()
    config = load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "run"), "TRAINING.MAX_MINUTES", "1e-4"])
    with pytest.raises(MHNetError, match="is being written by another run"):
        train(config, BLUR)
    assert (tmp_path / "run" / "config.yml").read_bytes() == before
    kill(first)
    train(config, BLUR)  # what was killed leaves no lock behind


def test_damaged_weights_are_refused(tmp_path):
    make_pairs(tmp_path / "pairs")
    best = train(load_config(DEBLURRING, settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})), BLUR)
    data = bytearray(best.read_bytes())
    data[-1000] ^= 1
    best.write_bytes(data)
    with pytest.raises(WeightsError, match=r"model_best\.safetensors is damaged"):
        read_checkpoint(best)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    config = load_config(DEBLURRING, path)
    folder = train(config, BLUR).parent
    whole, data = read_checkpoint(folder / LATEST), (folder / LATEST).read_bytes()
    flipped = bytearray(data)
    flipped[-1000] ^= 1
    for damaged in (data[: len(data) // 2], bytes(flipped), b""):
        (folder / LATEST).write_bytes(damaged)
        shutil.copy(folder / PREVIOUS, tmp_path / PREVIOUS)
        train(config, BLUR)
        out = capsys.readouterr().out
        assert f"warning: {folder / LATEST}" in out
        assert f"going on from {PREVIOUS}" in out
        same(whole, read_checkpoint(folder / LATEST))
        shutil.copy(tmp_path / PREVIOUS, folder / PREVIOUS)
        whole = read_checkpoint(folder / LATEST)
    (folder / LATEST).unlink()  # killed between the two renamings of a save
    train(config, BLUR)
    same(whole, read_checkpoint(folder / LATEST))
    (folder / LATEST).write_bytes(b"")
    (folder / PREVIOUS).write_bytes(data[:100])
    with pytest.raises(WeightsError, match=r"latest.*previous.*remove it to start afresh"):
        train(config, BLUR)


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs a small tmpfs: Linux and root")
def test_a_full_disk_leaves_the_checkpoints_before_whole(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 8 << 20  # a checkpoint of this network with Adam's moments takes 3 MB
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this place mounts no tmpfs")
    try:
        config = load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(disk / "run"), "TRAINING.VAL_EVERY", "1"])
        with pytest.raises(MHNetError, match=r"cannot be written: .*[Nn]o space left"):
            train(config, BLUR)
        found = read_latest(disk / "run")
        assert found
        checkpoint, _, warning = found
        assert warning == ""
        assert checkpoint.progress["progress"]["epoch"] in (1, 2, 3)
        assert not list((disk / "run").glob("*next*")) + list((disk / "run").glob(".*"))
        shutil.copytree(disk / "run", tmp_path / "elsewhere")
    finally:
        subprocess.run(["umount", disk], check=True)
    moved = load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "elsewhere"), "TRAINING.VAL_EVERY", "1"])
    again = read_checkpoint(train(moved, BLUR).parent / LATEST)
    same(
        again,
        read_checkpoint(train(load_config(DEBLURRING, path, ["TRAINING.VAL_EVERY", "1"]), BLUR).parent / LATEST),
    )


CRASHING = """
import sys
sys.path.insert(0, "Deblurring")
from train import RECIPE
from mhnet.core.tasks import DEBLURRING
from mhnet.train import trainer
from mhnet.train.config import load_config

def out_of_memory(job, step):
    raise RuntimeError("CUDA out of memory")

trainer.take_step = out_of_memory
trainer.train(load_config(DEBLURRING, sys.argv[1]), RECIPE)
"""


def test_an_error_ends_the_program_and_its_loaders(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", DATA={"WORKERS": 2})
    done = subprocess.run([sys.executable, "-c", CRASHING, path], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: CUDA out of memory")
