"""What stands in a room is what runs: edits of its network, data and loss take effect, or are refused."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rooms import import_room
from small import ROOT, make_pairs, settings

import mhnet
from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.cli.main import main
from mhnet.restore.restorer import Restorer

EDITS = {
    "NAFBlock": ("t = t * self.sca(self.pool(t))", "t = t * self.sca(self.pool(t)).sigmoid()"),
    "SCAB": ("self.sca(self.pointwise2(self.pool(t)))", "self.sca(self.pool(self.pointwise2(t))).sigmoid()"),
    "DualAttention": ("return x + self.merge(", "return 2 * x + self.merge("),
    "CASNet": ("x = step(x, e, d)\n", "x = step(x, e, d) + x\n"),
    "ChannelAttention": ("return similarity.softmax(dim=-1)", "return similarity.relu()"),
    "residual": ("return self.tail(self.full_resolution(features, encoded, decoded))",
                 "return 0.5 * self.tail(self.full_resolution(features, encoded, decoded))"),
    "a layer more": ("return x + scaled(self.pointwise2, t, attention)",
                     "return self.more(x + scaled(self.pointwise2, t, attention))"),
}  # fmt: skip


def copy_room(folder: Path, **sections: dict) -> Path:
    """A copy of the room for deraining with a training of a second on pairs whose middle is scored, too."""
    room = folder / "Deraining"
    shutil.copytree(ROOT / "Deraining", room, ignore=shutil.ignore_patterns("Datasets", "checkpoints", "results"))
    for place in ("train", "val", "test/Rain100L"):
        make_pairs(room / "Datasets" / place, count=4)
    data = {"TRAIN_DIR": "Datasets/train", "VAL_DIR": "Datasets/val", "VAL_PATCH": 0, "WORKERS": 0}
    sections = {"DATA": data, "OPTIM": {"EPOCHS": 3, "WARMUP_EPOCHS": 0, "LR_INITIAL": 2e-3}, **sections}
    settings(room / "training.yml", **sections, TRAINING={"SAVE_DIR": "checkpoints/mhnet"})
    return room


def edit(room: Path, name: str, before: str, after: str) -> None:
    path = room / name
    text = path.read_text()
    assert text.count(before) == 1, (name, before)
    path.write_text(text.replace(before, after))


@pytest.fixture
def run(capsys):
    """Runs a script of a room, or the command `mhnet`, in this process; gives what it printed."""

    def call(room: Path, script: str, *words: object, status: int = 0) -> str:
        command = main if script == "mhnet" else import_room(room, script).main
        capsys.readouterr()
        found = command([str(word) for word in words])
        shown = capsys.readouterr()
        assert found == status, shown
        return shown.out + shown.err

    return call


def validated(output: str) -> float:
    return float(re.findall(r"best (\d+\.\d+)\)", output)[-1])


def scored(output: str) -> float:
    found = re.search(r"\| Rain100L +\| rgb_channel_mean +\| +4 \| +(\d+\.\d+)", output)
    assert found, output
    return float(found[1])


def edit_network(room: Path, name: str) -> None:
    edit(room, "MHNet.py", *EDITS[name])
    if name == "a layer more":
        before = "        self.depthwise1 = depthwise3x3(channels)\n"
        edit(room, "MHNet.py", before, before + "        self.more = conv3x3(channels, channels)\n")


def test_a_room_without_edits_computes_fast_and_as_it_validated(run, tmp_path):
    room = copy_room(tmp_path)
    trained = run(room, "train")
    assert "edited" not in trained
    tested = run(room, "test", "--protocol", "rgb_channel_mean")
    assert "as it is written" not in tested
    assert scored(tested) == pytest.approx(validated(trained), abs=0.06)  # what is saved is rounded
    assert not (room / "checkpoints/mhnet/network").exists()
    assert not read_checkpoint(room / "checkpoints/mhnet/model_best.safetensors").edited


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_network_is_trained_and_tested_as_edited(run, tmp_path, name):
    room = copy_room(tmp_path)
    edit_network(room, name)
    trained = run(room, "train")
    assert "of the edited MHNet.py" in trained
    best = room / "checkpoints/mhnet/model_best.safetensors"
    assert (room / "checkpoints/mhnet/network/MHNet.py").read_text() == (room / "MHNet.py").read_text()
    tested = run(room, "test", "--protocol", "rgb_channel_mean")
    assert "computing MHNet.py as it is written" in tested
    assert scored(tested) == pytest.approx(validated(trained), abs=0.06)
    as_written = run(room, "test", "--protocol", "rgb_channel_mean", "--no-fuse")
    assert scored(as_written) == scored(tested)

    network = mhnet.load(best, network=import_room(room, "MHNet").MHNet)
    image = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(Restorer(network)(image), network(image).clamp(0, 1))


def test_no_command_computes_an_edited_network_with_the_published_one(run, tmp_path):
    room = copy_room(tmp_path)
    edit_network(room, "SCAB")
    run(room, "train")
    best = room / "checkpoints/mhnet/model_best.safetensors"
    with pytest.raises(WeightsError, match=r"edited network \(MHNet\.py\).*mhnet\.load\(path, network=MHNet\)"):
        mhnet.load(best)
    photo = room / "Datasets/val/input/scene0-0.png"
    for words in (
        ["restore", photo, "-o", tmp_path / "out.png", "--weights", best],
        ["export", best, tmp_path / "net.pt2"],
    ):
        assert "edited network (MHNet.py)" in run(room, "mhnet", *words, status=1)
    assert not list(tmp_path.glob("*.png"))
    assert "edited" in run(room, "mhnet", "info", best)


def test_a_checkpoint_is_not_computed_with_another_edit(run, tmp_path):
    room = copy_room(tmp_path)
    edit_network(room, "NAFBlock")
    run(room, "train")
    edit_network(room, "SCAB")
    assert "was trained with another MHNet.py" in run(room, "test", status=1)
    assert "of another MHNet.py" in run(room, "train", status=1)
    shutil.copy(ROOT / "Deraining" / "MHNet.py", room)
    assert "was trained with another MHNet.py" in run(room, "test", status=1)
    shutil.copy(room / "checkpoints/mhnet/network/MHNet.py", room)
    run(room, "test")
    assert "all 3 epochs are done" in run(room, "train")


def test_weights_of_the_published_network_in_an_edited_room_are_told(run, tmp_path):
    room = copy_room(tmp_path)
    run(room, "train")
    edit_network(room, "residual")
    told = run(room, "test")
    assert "was trained with MHNet as published, and MHNet.py here is edited" in told
    assert "as it is written" in told


def test_weights_to_start_from_are_taken_as_far_as_they_fit(run, tmp_path):
    room = copy_room(tmp_path)
    run(room, "train")
    edit_network(room, "a layer more")
    best = room / "checkpoints/mhnet/model_best.safetensors"
    told = run(room, "train", "MODEL.WEIGHTS", best, "TRAINING.SAVE_DIR", room / "checkpoints/second")
    assert re.search(r"starting from .*: \d+ of the network's \d+ parameters; not in it .*more\.weight", told), told
    assert f"restoring with {room / 'checkpoints/second/model_best.safetensors'}" in run(room, "test")


def test_an_edited_augmentation_changes_the_batches(tmp_path):
    room = copy_room(tmp_path)
    config = mhnet_settings(room)
    before = import_room(room, "dataset").build_data(config)[0]
    whole = torch.stack([before[0, place] for place in range(len(before))])
    edit(room, "dataset.py", "    return [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in crops]",
         "    return [255 - crop for crop in crops]")  # fmt: skip
    after = import_room(room, "dataset").build_data(config)[0]
    edited = torch.stack([after[0, place] for place in range(len(after))])
    assert edited.shape == whole.shape
    assert torch.equal((255 - edited).sum((3, 4), dtype=torch.long), whole.sum((3, 4), dtype=torch.long))
    assert not torch.equal(edited, whole)


def test_an_own_loss_and_an_own_network_train_from_one_file(run, tmp_path):
    room = copy_room(tmp_path)
    constant = "    return lambda restored, target: restored.sum() * 0 + 7\n"
    edit(room, "train.py", "    return with_edges(", constant + "    return with_edges(")
    untouched = run(room, "train", "TRAINING.SAVE_DIR", room / "checkpoints/constant")
    shutil.copy(ROOT / "Deraining" / "train.py", room)
    assert validated(run(room, "train")) != validated(untouched)

    (room / "mine.py").write_text(
        "from torch import nn\n\n\nclass Mine(nn.Module):\n"
        "    def __init__(self, width, **_):\n        super().__init__()\n"
        "        self.body = nn.Conv2d(3, 3, 3, padding=1)\n        self.width = width\n\n"
        "    def forward(self, image):\n        return image + self.body(image)\n"
    )
    edit(room, "train.py", "from MHNet import MHNet\n", "from mine import Mine\n")
    edit(room, "train.py", '"mhnet": MHNet,', '"mhnet": Mine,')
    trained = run(room, "train", "TRAINING.SAVE_DIR", room / "checkpoints/mine")
    tested = run(room, "test", "--protocol", "rgb_channel_mean")
    assert "checkpoints/mine/model_best" in tested
    assert scored(tested) == pytest.approx(validated(trained), abs=0.06)


def test_a_third_room_is_a_copy_with_another_task(run, tmp_path):
    room = copy_room(tmp_path).rename(tmp_path / "Dehazing")
    (room / "Datasets/test/Rain100L").rename(room / "Datasets/test/SOTS")
    edit(room, "dataset.py", "from mhnet.core.tasks import DERAINING\n", "from mhnet.core.tasks import Task, TestSet\n")
    edit(room, "dataset.py", "TASK = DERAINING\n", 'TASK = Task("dehazing", "Dehazing", 40, "rgb_channel_mean", '
         '(TestSet("SOTS", (4,), "y_float"),), "Datasets/train", 100)\n')  # fmt: skip
    run(room, "train")
    assert read_checkpoint(room / "checkpoints/mhnet/model_best.safetensors").task == "dehazing"
    tested = run(room, "test")
    assert re.search(r"\| SOTS +\| y_float", tested), tested
    done = subprocess.run([sys.executable, "evaluate_PSNR_SSIM.py"], cwd=room, capture_output=True, text=True)
    assert re.search(r"\| SOTS +\| y_float", done.stdout), done.stderr


def mhnet_settings(room: Path):
    from mhnet.core.tasks import DERAINING
    from mhnet.train.config import load_config

    return load_config(DERAINING, room / "training.yml")
