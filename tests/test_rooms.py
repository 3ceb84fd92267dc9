"""The rooms' scripts, run as people run them: from any folder, on images on disk."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import PLAIN
from rooms import NETWORKS
from small import ROOT, crops, make_pairs, settings

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.cli.rooms import default_weights, evaluate_command, test_command
from mhnet.core.devices import choose_device
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, DERAINING, TASKS
from mhnet.data.pairs import Pair
from mhnet.data.sets import FoundTestSet, find_test_sets
from mhnet.evaluation.scoring import evaluate_folder, evaluate_pairs
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.models import MHNet, use_local_statistics
from mhnet.restore.restorer import Restorer

test_command.__test__ = False  # type: ignore[attr-defined]


def find_sets(*place) -> list[FoundTestSet]:
    """The test sets below a folder, where all that are named are there."""
    found, missing = find_test_sets(*place)
    assert not missing
    return found


def run(script: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *map(str, words)], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small network that changes images a little."""
    torch.manual_seed(1)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    with torch.no_grad():
        network.tail.weight *= 0.02
    write_checkpoint(tmp_path / "net.safetensors", Checkpoint(network.args, network.state_dict()))
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("room", ["Deblurring", pytest.param("Deraining", marks=pytest.mark.ci)])
def test_train_test_and_evaluate_end_to_end(tmp_path, room):
    """A copy of the room, trained, tested and scored by its own scripts from another folder."""
    here = tmp_path / room
    shutil.copytree(ROOT / room, here, ignore=shutil.ignore_patterns("Datasets", "checkpoints", "results"))
    name, protocol, layout = {
        "Deblurring": ("GoPro", "gopro_rgb_matlab", "GoPro/test"),
        "Deraining": ("Rain100L", "rain_y_matlab", "test/Rain100L"),
    }[room]
    make_pairs(here / "Datasets" / {"Deblurring": "GoPro/train", "Deraining": "train"}[room], count=5)
    make_pairs(here / "Datasets" / layout, count=3)
    settings(here / "training.yml", DATA={"TRAIN_DIR": f"Datasets/{'GoPro/' if name == 'GoPro' else ''}train"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    checkpoints = here / "checkpoints" / "mhnet"
    trained = run(here / "train.py", "OPTIM.EPOCHS", "2", "TRAINING.SAVE_DIR", checkpoints, cwd=elsewhere)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert "best weights" in trained.stdout
    tested = run(here / "test.py", "--device", "cpu", "--score_input", cwd=elsewhere)
    assert tested.returncode == 0
    for method in ("MHNet", "input"):
        assert re.search(rf"\| {name} +\| {method} +\| {protocol} +\| +3 \|", tested.stdout), tested.stdout
    assert "MHNet's paper (quoted)" in tested.stdout
    assert tested.stderr.startswith("warning:")  # three images are not the whole set
    results = find_images(here / "results" / name)
    assert [path.name for path in results] == ["scene0-0.png", "scene1-1.png", "scene2-2.png"]
    scored = run(here / "evaluate_PSNR_SSIM.py", "--report", tmp_path / "report", cwd=elsewhere)
    table = [line for line in scored.stdout.splitlines() if line.startswith(f"| {name} ")]
    figures = table[-1].split("|")[4:]  # behind the count
    assert "|".join(figures) in tested.stdout
    assert len(scored.stderr.splitlines()) == 1
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"scores.csv", "summary.md", "summary.json", "summary.tex", f"{name}-MHNet-{protocol}.jpg"}

    pairs = [Pair(path, here / "Datasets" / layout / "target" / path.name, path.stem) for path in results]
    mean = evaluate_pairs(pairs, protocol, name=name).mean
    assert f"{mean.psnr:.2f}" in table[-1]
    assert f"{mean.ssim:.4f}" in table[-1]
    assert len(list(csv.DictReader((checkpoints / "metrics.csv").open()))) == 2
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_room_offers_its_network_and_its_data(task, tmp_path):
    code = (
        "from MHNet import MHNet; import dataset, torch\n"
        "with torch.device('meta'): n = sum(p.numel() for p in MHNet().parameters())\n"
        "assert MHNet(n_feat=8).args.n_feat == 8\n"
        "from mhnet.train.config import load_config\n"
        f"words = ['DATA.TRAIN_DIR', {str(tmp_path)!r}, 'DATA.VAL_IMAGES', '2', 'OPTIM.BATCH_SIZE', '2']\n"
        "words += ['DATA.PATCH', '32']\n"
        "crops, validation = dataset.build_data(load_config(dataset.TASK, 'training.yml', words))\n"
        "print(n, len(crops), crops[0, 0].shape[-1], len(validation))"
    )
    make_pairs(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / task.folder, capture_output=True, text=True)
    parameters = {"deblurring": 17_025_114, "deraining": 16_694_418}[task.name]
    assert (done.stdout.split(), done.stderr) == ([str(parameters), "4", "32", "2"], "")


def test_the_rooms_differ_by_task_alone():
    names = [{path.name for path in (ROOT / task.folder).glob("*.*")} for task in TASKS.values()]
    assert names[0] == names[1]
    assert names[0] >= {
        "MHNet.py",
        "dataset.py",
        "train.py",
        "test.py",
        "evaluate_PSNR_SSIM.py",
        "evaluate_PSNR_SSIM.m",
        "training.yml",
        "README.md",
    }
    for name in names[0]:
        if name.endswith(".py") and name != "MHNet.py":  # of which tests/test_copies.py knows more
            texts = [(ROOT / task.folder / name).read_text() for task in TASKS.values()]
            alike = texts[0].replace("deblurring", "deraining").replace("DEBLURRING", "DERAINING")
            assert alike == texts[1]


@pytest.mark.parametrize(
    ("layout", "names", "found"),
    [
        ("GoPro/test", ["GoPro"], "GoPro"),  # MPRNet
        ("test/GoPro", ["GoPro"], "GoPro"),  # Restormer
        ("GoPro", None, "GoPro"),
        ("test/GoPro", None, "GoPro"),
        ("mine", ["mine"], "mine"),
        ("", None, "root"),
    ],
)
def test_sets_are_found_in_the_layouts_people_have(tmp_path, layout, names, found):
    root = tmp_path / "root"
    make_pairs(root / layout, count=2)
    sets = find_sets(DEBLURRING, root, names)
    assert [one.name for one in sets] == [found]
    assert [name for name, _, _ in sets[0].files] == ["scene0-0", "scene1-1"]
    assert all(target is not None for _, _, target in sets[0].files)
    assert sets[0].protocol == "gopro_rgb_matlab"


@pytest.mark.parametrize(
    ("task", "folders", "names", "found"),
    [
        (DERAINING, ["Synthetic_Rain_Datasets/test/Test100", "Synthetic_Rain_Datasets/test/Rain100L"], None, 2),
        (DERAINING, ["Rain13k/train", "Rain13k/test/Rain100H"], ["rain100h"], 1),
        (DEBLURRING, ["GOPRO/train", "GOPRO/test", "RealBlur-J/test"], None, 2),
        (DEBLURRING, ["GoPro/train", "HIDE/test"], None, 1),  # GoPro has nothing to test
        (DEBLURRING, ["HIDE/test"], ["HIDE/", "HIDE"], 1),
    ],
)
def test_sets_are_found_below_and_whatever_their_case(tmp_path, task, folders, names, found):
    for folder in folders:
        make_pairs(tmp_path / folder, count=2)
    sets = find_sets(task, tmp_path, names)
    assert len(sets) == found
    assert all(task.set_named(one.name) for one in sets)
    assert not any("train" in path.parts for one in sets for _, path, _ in one.files)


def test_a_split_folder_is_known_by_the_one_above(tmp_path):
    make_pairs(tmp_path / "RealBlur_J" / "test", count=2)
    assert find_sets(DEBLURRING, tmp_path / "RealBlur_J" / "test", None)[0].protocol == "realblur_ecc"


def test_ambiguous_and_misplaced_images_are_refused(tmp_path):
    for extension in ("jpg", "png"):
        write_rgb(tmp_path / "photos" / f"a.{extension}", crops()[0])
    with pytest.raises(MHNetError, match="would have one result"):
        find_sets(DERAINING, tmp_path / "photos", None)
    make_pairs(tmp_path / "several", count=2)
    make_pairs(tmp_path / "several", sides=("blur", "target"), count=2)
    with pytest.raises(MHNetError, match="blur"):
        find_sets(DERAINING, tmp_path / "several", None)
    with pytest.raises(MHNetError, match="is a path"):
        find_sets(DERAINING, tmp_path, [str(tmp_path / "several")])


def test_only_the_degraded_side_is_restored_where_there_is_no_clean_one(tmp_path):
    make_pairs(tmp_path / "set", sides=("input", "targets"), count=2)
    files = find_sets(DERAINING, tmp_path / "set", None)[0].files
    assert [(name, path.parent.name, target) for name, path, target in files] == [
        ("scene0-0", "input", None),
        ("scene1-1", "input", None),
    ]


def test_originals_are_never_replaced(tmp_path, weights, capsys):
    write_rgb(tmp_path / "photos" / "me.png", crops()[0])
    before = (tmp_path / "photos" / "me.png").read_bytes()
    words = ["--input_dir", tmp_path / "photos", "--weights", weights, "--result_dir", tmp_path]
    assert test_command(DERAINING, tmp_path, NETWORKS, [str(word) for word in words]) == 1
    assert "is an original and would be replaced by a result" in capsys.readouterr().err
    assert (tmp_path / "photos" / "me.png").read_bytes() == before


def test_results_of_an_earlier_run_are_not_scored_as_this_ones(tmp_path, weights, capsys):
    make_pairs(tmp_path / "in", count=2)
    words = ["--input_dir", tmp_path / "in", "--weights", weights, "--result_dir", tmp_path / "out"]
    assert test_command(DERAINING, tmp_path, NETWORKS, [str(word) for word in words]) == 0
    (tmp_path / "in" / "input" / "scene1-1.png").write_bytes(b"")
    capsys.readouterr()
    assert test_command(DERAINING, tmp_path, NETWORKS, [str(word) for word in words]) == 1
    assert "1 of 2" in capsys.readouterr().out


def test_another_protocol_and_a_missing_gpu(tmp_path, weights, capsys, monkeypatch):
    make_pairs(tmp_path / "in", count=2)
    words = ["--input_dir", tmp_path / "in", "--weights", weights, "--result_dir", tmp_path / "out"]
    assert test_command(DERAINING, tmp_path, NETWORKS, [*map(str, words), "--protocol", "rgb_channel_mean"]) == 0
    assert "rgb_channel_mean" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert test_command(DERAINING, tmp_path, NETWORKS, [*map(str, words), "--gpus", "7"]) == 1
    assert "no GPU 7 here" in capsys.readouterr().err
    assert evaluate_command(DERAINING, tmp_path, [*map(str, words[:2]), "--result_dir", str(tmp_path / "no")]) == 1
    assert "run test.py first" in capsys.readouterr().err


def test_several_sets_have_their_own_protocols(tmp_path):
    for name in ("GoPro", "RealBlur_J"):
        make_pairs(tmp_path / name / "test", count=2)
    assert [one.protocol for one in find_sets(DEBLURRING, tmp_path, None)] == ["gopro_rgb_matlab", "realblur_ecc"]
    assert [one.protocol for one in find_sets(DERAINING, tmp_path, ["GoPro"])] == ["rain_y_matlab"]


def test_what_is_there_is_tested_and_what_is_not_is_told(tmp_path, weights, capsys):
    make_pairs(tmp_path / "in" / "GoPro" / "test", count=2)
    found, missing = find_test_sets(DEBLURRING, tmp_path, ["HIDE", "GoPro"])
    assert [one.name for one in found] == ["GoPro"] and "no set HIDE" in missing[0] and len(missing) == 1
    words = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--dataset", "HIDE", "GoPro"]
    for command in (
        lambda given: test_command(DEBLURRING, tmp_path, NETWORKS, [*given, "--weights", str(weights)]),
        lambda given: evaluate_command(DEBLURRING, tmp_path, given),
    ):
        assert command([str(word) for word in words]) == 1
        out, err = capsys.readouterr()
        assert "| GoPro | gopro_rgb_matlab |" in out
        assert err.startswith("left out: There is no set HIDE at or below ")
    assert len(find_images(tmp_path / "out" / "GoPro")) == 2


def test_images_without_clean_ones_are_restored_without_scores(tmp_path, weights, capsys):
    for i, crop in enumerate(crops()[:2]):
        write_rgb(tmp_path / "photos" / f"{i}.jpg", crop)
    code = test_command(
        DERAINING,
        tmp_path,
        NETWORKS,
        [
            "--input_dir",
            str(tmp_path / "photos"),
            "--weights",
            str(weights),
            "--result_dir",
            str(tmp_path / "out"),
            "--tlc",
            "on",
        ],
    )
    assert code == 0
    assert "PSNR" not in capsys.readouterr().out
    assert [path.name for path in find_images(tmp_path / "out" / "tlc" / "photos")] == ["0.png", "1.png"]


def test_both_ways_of_statistics_are_restored_and_scored_from_disk(tmp_path, capsys):
    """By a network of patches smaller than the images, so that the two differ."""
    weights, network = tmp_path / "net.safetensors", PLAIN[1].network()
    write_checkpoint(weights, Checkpoint(network.args, network.state_dict(), None, {"config": {"DATA": {"PATCH": 32}}}))
    make_pairs(tmp_path / "GoPro", count=2)
    out = tmp_path / "out"
    folders = ["--input_dir", str(tmp_path), "--result_dir", str(out)]
    assert test_command(DEBLURRING, tmp_path, NETWORKS, [*folders, "--weights", str(weights), "--tlc", "both"]) == 0
    shown = capsys.readouterr().out
    for method, place in (("MHNet", out / "GoPro"), (r"MHNet \(TLC\)", out / "tlc" / "GoPro")):
        mean = evaluate_folder(place, tmp_path / "GoPro" / "target", "gopro_rgb_matlab").mean
        cells = rf"\| GoPro \| {method} +\| gopro_rgb_matlab \| +2 \| +{mean.psnr:.2f} \| {mean.ssim:.4f} \|"
        assert re.search(cells, shown), shown
        assert re.search(rf"^{method} & {mean.psnr:.2f} & {mean.ssim:.3f} ", shown, re.MULTILINE)
    names = [path.name for path in find_images(out / "GoPro")]
    assert any((read_rgb(out / "GoPro" / name) != read_rgb(out / "tlc" / "GoPro" / name)).any() for name in names)
    # Evaluating again finds both, and what stands on disk is what counts.
    for name in names:
        write_rgb(out / "tlc" / "GoPro" / name, read_rgb(tmp_path / "GoPro" / "target" / name))
    assert evaluate_command(DEBLURRING, tmp_path, folders) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\| GoPro \| MHNet +\|", shown) and re.search(r"\| MHNet \(TLC\) .* inf \| 1.0000 \|", shown)


def test_a_broken_image_does_not_hide_the_rest(tmp_path, weights, capsys):
    make_pairs(tmp_path / "in", count=3)
    (tmp_path / "in" / "input" / "scene1-1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["--input_dir", str(tmp_path / "in"), "--weights", str(weights), "--result_dir", str(tmp_path / "out")]
    assert test_command(DEBLURRING, tmp_path, NETWORKS, words) == 1
    shown = capsys.readouterr()
    assert "scene1-1.png" in shown.err
    assert "2 of 3" in shown.out
    assert evaluate_command(DEBLURRING, tmp_path, words[:2] + words[4:]) == 1


def test_users_mistakes_are_one_sentence_each(tmp_path, weights, monkeypatch, capsys):
    make_pairs(tmp_path / "Datasets", count=2)
    monkeypatch.chdir(tmp_path)
    for words, said in [
        (["--input_dir", tmp_path / "absent"], "There is no folder"),
        (["--input_dir", tmp_path / "Datasets", "--dataset", "HIDE", "--weights", weights], "no set HIDE"),
        (["--input_dir", tmp_path / "Datasets", "--weights", tmp_path / "absent.pth"], "absent.pth cannot be read"),
        (["--input_dir", tmp_path / "Datasets", "--weights", weights, "--device", "gpu"], "no device 'gpu'"),
        (["--input_dir", tmp_path, "--dataset", "net", "--weights", weights], "no set net"),
    ]:
        assert test_command(DEBLURRING, ROOT / "Deblurring", NETWORKS, [str(word) for word in words]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and said in err and err.count("\n") == 1, err
    for script, words, said in [
        ("test.py", ["--input_dir", tmp_path / "absent"], "There is no folder"),
        ("train.py", ["OPTIM.EPOCS", "3"], "did you mean OPTIM.EPOCHS?"),
    ]:
        done = run(ROOT / "Deblurring" / script, *words, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: ") and said in done.stderr


def test_default_weights(tmp_path, weights):
    with pytest.raises(MHNetError, match="no weights"):
        default_weights(tmp_path)
    folder = tmp_path / "pretrained_models"
    folder.mkdir()
    (folder / "README.md").write_text("")
    shutil.copy(weights, folder / "a.pth")
    assert default_weights(tmp_path) == folder / "a.pth"
    shutil.copy(weights, folder / "b.safetensors")
    with pytest.raises(MHNetError, match=r"a\.pth, b\.safetensors"):
        default_weights(tmp_path)
    trained = tmp_path / "checkpoints" / "mhnet" / "model_best.safetensors"
    trained.parent.mkdir(parents=True)
    shutil.copy(weights, trained)
    assert default_weights(tmp_path) == trained


@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 70), (64, 48)])
def test_a_restorer_is_the_network_on_rounded_pixels(height, width):
    network, image = PLAIN[1].network(), crops()[0][:height, :width]
    restored = Restorer(network)(image)
    with torch.no_grad():
        wanted = network(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None])[0].clamp(0, 1) * 255
    assert restored.dtype == np.uint8
    assert np.abs(restored - wanted.permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-3
    with pytest.raises(ValueError, match=r"float32"):
        Restorer(network)(image.astype(np.float32))
    with pytest.raises(ValueError, match=r"\(4, 4, 2\)"):
        Restorer(network)(np.zeros((4, 4, 2), np.uint8))


def test_local_statistics_follow_the_training_patch(tmp_path):
    network = PLAIN[1].network()
    provenance = {"config": {"DATA": {"PATCH": 32}}}
    write_checkpoint(tmp_path / "net.safetensors", Checkpoint(network.args, network.state_dict(), None, provenance))
    image = np.tile(crops()[0], (2, 2, 1))
    local = Restorer.from_weights(tmp_path / "net.safetensors", local_statistics=True)(image)
    plain = Restorer.from_weights(tmp_path / "net.safetensors")(image)
    use_local_statistics(network, 32)
    np.testing.assert_array_equal(local, Restorer(network, local_statistics=32)(image))
    assert (local != plain).any()


def test_weights_can_note_that_they_restore_better_with_local_statistics(tmp_path):
    network = PLAIN[1].network()
    path, image = tmp_path / "net.safetensors", np.tile(crops()[0], (2, 2, 1))
    wanted = {patch: Restorer(network, local_statistics=patch)(image) for patch in (None, 24, 32)}
    assert (wanted[24] != wanted[32]).any() and (wanted[24] != wanted[None]).any()
    for noted, by_choice in ((24, {None: 24, True: 24, False: None}), (None, {None: None, True: 32, False: None}),
                             (True, {None: 32, False: None}), ("x", {None: None}), (0, {None: None})):  # fmt: skip
        provenance = {"config": {"DATA": {"PATCH": 32}}, "local_statistics": noted}
        write_checkpoint(path, Checkpoint(network.args, network.state_dict(), None, provenance))
        for choice, patch in by_choice.items():
            np.testing.assert_array_equal(Restorer.from_weights(path, local_statistics=choice)(image), wanted[patch])
        np.testing.assert_array_equal(Restorer.from_weights(path)(image), wanted[by_choice[None]])


def test_devices():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(MHNetError, match="'tpu'"):
        choose_device("tpu")
