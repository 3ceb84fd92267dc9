"""`mhnet reproduce`: what is missing is told, the plan can be typed, ours stands beside the paper's."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small import make_pairs, settings

from mhnet.cli import reproduce
from mhnet.cli.main import main
from mhnet.core.tasks import DERAINING, TASKS, TRAINING_COUNTS, Published, TestSet
from mhnet.train.config import load_config

SETS = (TestSet("Rain100L", (2,), "rain_y_matlab", Published(39.47, 0.984)), TestSet("Test2800", (2800,), "y_float"))


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room with all that a small task needs, as the current folder."""
    room = tmp_path / "Deraining"
    make_pairs(room / "Datasets" / "train")
    make_pairs(room / "Datasets" / "test" / "Rain100L", count=2)
    settings(room / "training.yml", DATA={"TRAIN_DIR": "Datasets/train"})
    monkeypatch.chdir(room)
    monkeypatch.setitem(TASKS, "deraining", replace(DERAINING, sets=SETS))
    monkeypatch.setitem(TRAINING_COUNTS, "Rain13K", (6,))
    return room


def test_all_is_there_and_the_plan_is_printed(room, capsys):
    assert main(["reproduce", "--task", "deraining", "--check", "--step-seconds", "3600"]) == 0
    out = capsys.readouterr().out
    assert "missing" not in out
    assert "6 pairs of 6" in out and "2 pairs of 2" in out
    lines = out.split("\n\n")[1].splitlines()
    assert lines[0] == f"cd {room}"
    assert "python train.py" in lines and "python test.py --dataset Rain100L" in lines
    # 6 pairs, 2 of them held out, each twice: 2 batches of 4, in 4 epochs.
    assert "# 4 epochs, 8 steps: hours = 8 × seconds of a step / 3600 = 8" in lines
    assert "# Rain100L, 39.47 / 0.984 in the paper (quoted), by rain_y_matlab" in lines


def test_what_is_missing_is_told(room, capsys, monkeypatch):
    shutil.rmtree(room / "Datasets" / "test")
    (room / "Datasets" / "train" / "input" / "scene0-0.png").unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    monkeypatch.setattr("mhnet.restore.memory.free", lambda device: 3_000_000)
    assert main(["reproduce", "--task", "deraining", "--check"]) == 1
    missing = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert len(missing) == 4
    assert "scene0-0.png has no degraded image" in missing[0] and "0 pairs of 2" in missing[1]
    assert "0.0 GiB free: make room" in missing[2] and "memory of" in missing[3]


def test_data_elsewhere_and_several_gpus_stand_in_the_plan(room, tmp_path, capsys):
    data = tmp_path / "my data"
    (room / "Datasets").rename(data)
    words = ["reproduce", "--task", "deraining", "--input_dir", str(data)]
    main([*words, "--check", "--gpus", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert f"torchrun --nproc_per_node 2 train.py DATA.TRAIN_DIR '{data}'" in lines
    commands = [shlex.split(line) for line in lines if line.startswith("python test.py")]
    assert commands == [["python", "test.py", "--dataset", "Rain100L", "--input_dir", str(data)]]
    assert main([*words, "--check", "--gpus", "3"]) == 1
    assert "cannot share a batch of 4" in capsys.readouterr().err


def test_ours_stands_beside_the_papers(room, capsys):
    words = ["reproduce", "--task", "deraining"]
    assert main(words) == 1
    assert "There are no results" in capsys.readouterr().err
    shutil.copytree(room / "Datasets" / "test" / "Rain100L" / "input", room / "results" / "Rain100L")
    assert main([*words, "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "| MHNet's paper (quoted) |" in out and "39.47 / 0.984" in out and "rain_y_matlab" in out


def test_a_crop_of_twice_the_side_leaves_four_times_the_maps(room):
    small, large = (
        reproduce.training_bytes(load_config(DERAINING, room / "training.yml", ["DATA.PATCH", str(patch)]))
        for patch in (64, 128)
    )
    assert small[0] == large[0] and large[1] == pytest.approx(4 * small[1], rel=0.02)
