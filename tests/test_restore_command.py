"""The command `mhnet restore`, as people use and misuse it."""

import errno
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import PHOTOS, crops, make_pairs
from test_tiles import small_network

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.images.header import read_header
from mhnet.images.read import ImageData, read_image, read_rgb
from mhnet.images.write import write_image, write_rgb
from mhnet.restore import folders, stores
from mhnet.restore.change import Change, ChangeMeter, hardly_changed
from mhnet.restore.folders import restore_all
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import plan
from mhnet.restore.restorer import Restorer

linux = pytest.mark.skipif(sys.platform != "linux", reason="permissions and signals of Linux")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    network, path = small_network(), tmp_path_factory.mktemp("weights") / "net.safetensors"
    write_checkpoint(path, Checkpoint(network.args, network.state_dict(), "deraining"))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small photos with subfolders, and files that are none."""
    for name, crop in zip(["a.png", "b.jpg", "sub/c.png", "sub/deep/d.webp"], crops(), strict=False):
        write_rgb(tmp_path / "in" / name, crop)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    write_rgb(tmp_path / "in" / ".hidden.png", crops()[0])
    return tmp_path / "in"


def restore(*words: object) -> int:
    return main(["restore", *map(str, words)])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_mirrored_and_its_originals_stay(tmp_path, photos, weights, capsys):
    before = {name: (photos / name).read_bytes() for name in names(photos)}
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 0
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "sub/c.png", "sub/deep/d.webp"]
    assert "4 restored" in capsys.readouterr().out
    assert {name: (photos / name).read_bytes() for name in names(photos)} == before
    wanted = Restorer.from_weights(weights)(read_rgb(photos / "sub" / "c.png"))
    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "sub" / "c.png"), wanted)


def test_local_statistics_are_as_noted_unless_an_option_says_otherwise(tmp_path):
    network, weights = small_network(), tmp_path / "net.safetensors"
    write_checkpoint(weights, Checkpoint(network.args, network.state_dict(), None, {"local_statistics": 24}))
    write_rgb(tmp_path / "a.png", crops()[0])
    for patch, options in ((24, []), (24, ["--tlc"]), (None, ["--no-tlc"])):
        out, page = tmp_path / "out.png", tmp_path / "page.html"
        words = ["-o", out, "--weights", weights, "--report", page, "--overwrite", *options]
        assert restore(tmp_path / "a.png", *words) == 0
        wanted = Restorer(small_network(), local_statistics=patch)(crops()[0])
        np.testing.assert_array_equal(read_rgb(out), wanted)
        assert ("on, as for patches of 24" in page.read_text()) == (patch == 24)


def test_what_is_whole_is_skipped_and_what_is_not_is_made(tmp_path, photos, weights, capsys):
    out = tmp_path / "out"
    assert restore(photos, "-o", out, "--weights", weights) == 0
    whole = (out / "sub" / "c.png").read_bytes()
    write_rgb(out / "a.png", crops()[5])  # whole, whoever made it
    (out / "b.jpg").write_bytes((out / "b.jpg").read_bytes()[:900])  # cut short by something else
    write_rgb(out / "sub" / "c.png", crops(40)[0])  # of another image
    capsys.readouterr()
    assert restore(photos, "-o", out, "--weights", weights, "--json") == 0
    told = {Path(line["source"]).name: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: line["status"] for name, line in told.items()} == {
        "a.png": "skipped", "b.jpg": "restored", "c.png": "restored", "d.webp": "skipped"}  # fmt: skip
    assert set(told["a.png"]) == {"source", "result", "status", "seconds", "tile", "precision", "change", "reason",
                                  "notes"}  # fmt: skip
    np.testing.assert_array_equal(read_rgb(out / "a.png"), crops()[5])
    assert (out / "sub" / "c.png").read_bytes() == whole
    assert restore(photos, "-o", out, "--weights", weights, "--overwrite", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert (read_rgb(out / "a.png") != crops()[5]).any()


def test_bad_files_are_told_at_the_end_and_the_rest_is_done(tmp_path, photos, weights, capsys):
    (photos / "aa.png").write_bytes(b"")
    (photos / "sub" / "cc.jpg").write_bytes((photos / "b.jpg").read_bytes()[:700])
    (photos / "sub" / "text.png").write_text("hello")
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 1
    said = capsys.readouterr()
    assert "4 restored, 3 failed" in said.out
    lines = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 3 and all(line.startswith("failed: ") for line in lines)
    assert "aa.png is empty" in lines[0] and "cc.jpg" in lines[1] and "text.png is not an image" in lines[2]
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "sub/c.png", "sub/deep/d.webp"]


def test_whatever_a_file_does_the_rest_is_restored(tmp_path, photos, weights, monkeypatch):
    """In reading, computing and writing; what ends the program still does."""
    restorer = Restorer.from_weights(weights)
    faults: dict[str, BaseException] = {"a.png": ValueError("negative strides"), "b.jpg": MemoryError()}

    def faulty_read(path: Path, _: int) -> ImageData:
        if path.name in faults:
            raise faults[path.name]
        return read_image(path)

    def faulty_write(path: Path, picture: ImageData) -> None:
        if path.name == "c.png":
            raise struct.error("int too large\nto pack")
        write_image(path, picture)

    monkeypatch.setattr(stores, "write_image", faulty_write)
    jobs = plan([str(photos)], tmp_path / "out").jobs
    said = {one.job.source.name: one for one in restore_all(jobs, restorer, read=faulty_read, progress=False)}
    assert [one.status for one in said.values()] == ["failed", "failed", "failed", "restored"]
    assert said["a.png"].reason == f"{photos / 'a.png'} cannot be restored (ValueError: negative strides)."
    assert "does not fit in memory" in said["b.jpg"].reason
    assert said["c.png"].reason.endswith("c.png cannot be restored (error: int too large).")
    assert names(tmp_path / "out") == ["sub/deep/d.webp"]
    faults = {"c.png": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        restore_all(jobs, restorer, read=faulty_read, progress=False)
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "sub/deep/d.webp"]


def test_a_large_image_is_restored_alone(tmp_path, weights, monkeypatch):
    for number in range(5):
        side = 40 if number == 2 else 32
        write_rgb(tmp_path / "in" / f"{number}.png", np.zeros((side, side, 3), np.uint8))
    jobs, restorer = plan([str(tmp_path / "in")], tmp_path / "out").jobs, Restorer.from_weights(weights)
    written: list[Outcome] = []
    seen: dict[str, int] = {}

    def counting_read(path: Path, _: int) -> ImageData:
        seen[path.stem] = len(written)
        return read_image(path)

    def run(alone: int) -> list[int]:
        """How many results were written when each image was read."""
        written.clear()
        seen.clear()
        monkeypatch.setattr(folders, "ALONE", alone)
        restore_all(jobs, restorer, overwrite=True, read=counting_read, each=written.append, progress=False)
        return [seen[str(number)] for number in range(5)]

    of_the_large = read_header(tmp_path / "in" / "2.png").memory * 40 * 40
    assert run(0) == [0, 1, 2, 3, 4]
    assert run(of_the_large - 1) == [0, 0, 2, 3, 3]
    assert all(done < number for number, done in enumerate(run(of_the_large)[1:], 1))


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["a.png", "-o", "new.png"], ["new.png"]),
        (["a.png", "-o", "new.jpg"], ["new.jpg"]),
        (["a.png", "-o", "deep/new.tif"], ["deep/new.tif"]),
        (["a.png", "-o", "out"], ["out/a.png"]),
        (["a.png", "sub/c.png", "-o", "out"], ["out/a.png", "out/c.png"]),
        (["a.png", "-o", "out", "--suffix", "_new", "--format", "tif"], ["out/a_new.tif"]),
        (["a.png", "-o", ".", "--suffix", "_restored"], ["a_restored.png"]),
        (["*.png", "-o", "out"], ["out/a.png"]),
        (["**/*.png", "-o", "out"], ["out/a.png", "out/sub/c.png"]),
        (["sub/**/*.*", "-o", "out"], ["out/c.png", "out/deep/d.webp"]),
        (["sub", "-o", "out", "--format", "png"], ["out/c.png", "out/deep/d.png"]),
        (["sub", "sub/deep", "-o", "out"], ["out/sub/c.png", "out/sub/deep/d.webp"]),
        (["a.png", "sub", "-o", "out"], ["out/a.png", "out/c.png", "out/deep/d.webp"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_where_results_go(photos, weights, monkeypatch, words, files):
    monkeypatch.chdir(photos)
    before = set(names(photos))
    assert restore(*words, "--weights", weights) == 0
    assert sorted(set(names(photos)) - before) == files
    assert all(read_rgb(photos / name).shape == (72, 72, 3) for name in files)


def test_a_folder_of_results_within_the_inputs_is_left_alone(photos, weights):
    for _ in range(2):
        assert restore(photos, "-o", photos / "restored", "--weights", weights) == 0
        assert len(names(photos / "restored")) == 4
    for _ in range(2):
        assert restore(photos / "sub", "-o", photos / "sub", "--suffix", "_r", "--weights", weights) == 0
        assert names(photos / "sub") == ["c.png", "c_r.png", "deep/d.webp", "deep/d_r.webp"]


@pytest.mark.parametrize("way", ["the same folder", "through a link", "a hard link", "a link to the folder", "by name"])
def test_originals_are_never_replaced(tmp_path, photos, weights, capsys, way):
    out, words = tmp_path / "out", [photos]
    if way == "the same folder":
        out = photos
    elif way == "by name":
        out, words = photos / "a.png", [photos / "a.png"]
    elif way == "a link to the folder":
        out.symlink_to(photos)
    else:
        out.mkdir()
        if way == "a hard link":
            os.link(photos / "a.png", out / "a.png")
        else:
            (out / "a.png").symlink_to(photos / "a.png")
    before = {name: (photos / name).read_bytes() for name in names(photos)}
    assert restore(*words, "-o", out, "--weights", weights, "--overwrite") == 1
    said = capsys.readouterr().err
    assert "is an original and would be replaced" in said and "suffix" in said and said.count("\n") == 1
    assert {name: (photos / name).read_bytes() for name in names(photos)} == before


def test_results_of_one_name_get_names_of_their_own(tmp_path, photos, weights, capsys):
    write_rgb(photos / "a.jpg", crops()[3])
    for _ in range(2):  # the second time, all of them are there
        assert restore(photos, "-o", tmp_path / "out", "--weights", weights, "--format", "png", "--suffix", "_r") == 0
        assert names(tmp_path / "out") == ["a.jpg_r.png", "a.png_r.png", "b_r.png", "sub/c_r.png", "sub/deep/d_r.png"]
        assert "a.jpg becomes a.jpg_r.png" in capsys.readouterr().err
    wanted = Restorer.from_weights(weights)(read_rgb(photos / "a.jpg"))
    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "a.jpg_r.png"), wanted)


def test_where_no_name_of_its_own_is_left_all_are_told_and_the_rest_is_done(tmp_path, photos, weights, capsys):
    write_rgb(photos / "sub" / "a.png", crops()[3])
    words = [photos / "a.png", photos / "sub" / "a.png", photos / "b.jpg", "-o", tmp_path / "out", "--weights", weights]
    assert restore(*words, "--json") == 1
    said = capsys.readouterr()
    assert [json.loads(line)["status"] for line in said.out.splitlines()] == ["failed", "failed", "restored"]
    assert said.err.count("would become one file") == 2 and names(tmp_path / "out") == ["b.jpg"]
    assert len(plan([str(photos / "a.png")] * 2, tmp_path / "out").jobs) == 1  # twice the same is once


def test_nothing_is_left_out_in_silence(tmp_path, photos, weights, capsys):
    """Pictures are known by content or name; what claims to be one is named; texts and sidecars are counted."""
    content = (photos / "a.png").read_bytes()
    for name in ("no extension", "wrong.txt", "upper.JPE", "IMG.thm"):
        (photos / name).write_bytes(content)
    for name in ("layers.psd", "drawing.svg", "scan.mxf"):
        (photos / name).write_bytes(b"whatever")
    (photos / "sound.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights, "-v") == 1
    said = capsys.readouterr()
    assert "7 restored, 3 failed" in said.out
    for name in ("layers.psd", "drawing.svg"):
        assert f"{name} is not an image of a known kind" in said.err
    why = " cannot be opened as a video" if find_spec("av") else ": Videos need PyAV"
    assert f"scan.mxf{why}" in said.err
    assert "left out, neither images nor films: 3" in said.err
    assert {"no extension.png", "wrong.png", "upper.JPE"} < set(names(tmp_path / "out"))


def test_strength_blends_with_the_original(tmp_path, photos, weights):
    before, outs = read_rgb(photos / "a.png").astype(int), {}
    for strength in (0, 25, 100):
        out = tmp_path / f"{strength}.png"
        assert restore(photos / "a.png", "-o", out, "--weights", weights, "--strength", strength) == 0
        outs[strength] = read_rgb(out).astype(int)
    np.testing.assert_array_equal(outs[0], before)
    assert np.abs(outs[25] - (before + 0.25 * (outs[100] - before))).max() <= 0.63  # both are rounded
    assert (outs[100] != before).any()
    for wrong in ("-1", "101", "much", "nan"):
        with pytest.raises(SystemExit):
            restore(photos / "a.png", "-o", tmp_path / "x.png", "--weights", weights, "--strength", wrong)


def test_a_picture_that_was_hardly_changed_is_told(tmp_path, photos, capsys):
    network, weights, page = small_network(), tmp_path / "net.safetensors", tmp_path / "page.html"
    torch.nn.init.zeros_(network.tail.weight)
    write_checkpoint(weights, Checkpoint(network.args, network.state_dict(), "deraining"))
    given = [photos / "a.png", "-o", tmp_path / "x.png", "--weights", weights, "--overwrite"]
    assert restore(*given, "--report", page) == 0
    assert "a.png: no rain found: hardly changed, by 0.00 of 255 levels" in capsys.readouterr().err
    assert "no rain found" in page.read_text()
    assert restore(*given, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["change"] < 0.5 and "no rain found" in told["notes"][0]
    assert restore(*given, "--json", "--strength", 0) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["change"] is None and told["notes"] == []  # the network was not asked


def test_what_was_changed_is_measured_and_parts_rain_from_none():
    random = torch.Generator().manual_seed(0)
    photo = torch.rand(2, 3, 40, 50, generator=random) * 200
    meter = ChangeMeter(2)
    after = photo.clone()
    after[0] += 3  # other tones alone
    after[1, :, :, :5] += 50  # a tenth of the pixels much, all three samples of them
    for rows in (slice(0, 13), slice(13, 40)):
        meter.add(photo[:, :, rows], after[:, :, rows], 255)
    tones, streaks = meter.changes(40 * 50)
    assert tones == pytest.approx((3, 0, 0), abs=1e-4) and streaks == pytest.approx((5, 0.1, 0.1), abs=1e-4)
    assert "no rain found: hardly changed" in hardly_changed(tones, "deraining")[0]
    assert hardly_changed(streaks, "deraining") == [] == hardly_changed(None, "deraining")
    assert "tones changed by 12.0" in hardly_changed(Change(12, 1, 0.001), "deraining")[0]
    assert hardly_changed(Change(12, 1, 0.001), "deblurring") == []


def test_larger_images_than_are_wanted_are_refused(tmp_path, photos, weights, capsys):
    write_rgb(photos / "large.png", np.tile(crops()[0], (2, 2, 1)))
    words = [photos, "-o", tmp_path / "out", "--weights", weights, "--max-megapixels", "0.011"]
    assert restore(*words) == 1
    said = capsys.readouterr()
    assert "4 restored, 1 failed" in said.out and "large.png" in said.err and "megapixels" in said.err


@linux
def test_what_a_killed_run_left_is_cleared_away_and_what_a_running_one_writes_is_not(tmp_path, photos, weights):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    left = [tmp_path / "out" / ".99999999-a.png", tmp_path / "out" / "sub" / ".99999999-c.png"]
    kept = [tmp_path / "out" / f".{os.getppid()}-a.png", tmp_path / "out" / ".99999999-other.png"]
    for path in left + kept:
        path.write_bytes(b"half")
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 0
    assert [path.exists() for path in left + kept] == [False, False, True, True]


def test_mistakes_are_one_sentence_each(tmp_path, photos, weights, capsys, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    (tmp_path / "empty").mkdir()
    given = ["--weights", weights]
    for words, said in [
        ([photos, "-o", tmp_path / "out"], "--task derain or --task deblur, or name a file with --weights"),
        ([photos, "-o", tmp_path / "out", "--task", "deblur"], "No weights for deblurring ship"),
        ([photos, "-o", tmp_path / "out", "--weights", tmp_path / "no.pth"], "no.pth cannot be read"),
        ([tmp_path / "absent", "-o", tmp_path / "out", *given], "There is no file or folder"),
        ([tmp_path / "empty", "-o", tmp_path / "out", *given], "There are no images or videos in"),
        ([photos / "*.gif", "-o", tmp_path / "out", *given], "There are no images or videos in"),
        ([photos, "-o", photos / "notes.txt", *given], "is a file, not a folder"),
        ([photos, "-o", tmp_path / "out", *given, "--device", "tpu"], "no device 'tpu'"),
        ([photos, "-o", tmp_path / "out", *given, "--suffix", "/../x"], "would lead to another folder"),
        ([photos, "-o", tmp_path / "out", *given, "--targets", tmp_path / "empty"], "There are no images in"),
        ([photos, "-o", tmp_path / "out", *given, "--protocol", "psnr"], "psnr"),
        ([photos / "sub", "-o", photos / "sub", *given, "--suffix", "_r", "--compare"], "sheets would lie among"),
    ]:
        assert restore(*words) == 1, words
        shown = capsys.readouterr().err
        assert said in shown and shown.startswith("error: ") and shown.count("\n") == 1, shown
    for words in (["--tile", "9"], ["--tile", "some"], ["--precision", "fp8"], ["--quiet", "--json"]):
        with pytest.raises(SystemExit) as stopped:
            restore(photos, "-o", tmp_path / "out", *given, *words)
        assert stopped.value.code == 2
    assert not (tmp_path / "out").exists()


def test_weights_of_another_task_are_used_with_a_warning(tmp_path, photos, weights, capsys, monkeypatch):
    assert restore(photos / "a.png", "-o", tmp_path / "x.png", "--weights", weights, "--task", "deblur") == 0
    assert "was trained for deraining, not for deblurring" in capsys.readouterr().err
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    shutil.copy(weights, tmp_path / "derain-small.safetensors")
    assert restore(photos / "a.png", "-o", tmp_path / "y.png", "--task", "derain") == 0
    assert "trained for" not in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()


def test_depth_grey_and_alpha_are_kept(tmp_path, weights):
    crop = crops()[0]
    kinds = {
        "deep.png": ImageData(crop.astype(np.uint16) * 257),
        "deep.tif": ImageData(crop[..., :1].astype(np.uint16) * 200),
        "grey.png": ImageData(crop[..., :1]),
        "alpha.png": ImageData(crop, crop[..., 0]),
        "grey.jpg": ImageData(crop[..., :1]),
    }
    for name, picture in kinds.items():
        write_image(tmp_path / "in" / name, picture)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, "--tile", 64) == 0
    for name, picture in kinds.items():
        restored = read_image(tmp_path / "out" / name)
        assert (restored.pixels.dtype, restored.pixels.shape) == (picture.pixels.dtype, picture.pixels.shape)
        assert (restored.alpha is None) == (picture.alpha is None)
        assert (restored.pixels != picture.pixels).any()
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "alpha.png").alpha, crop[..., 0])


def test_scores_sheets_and_a_page(tmp_path, weights, capsys):
    make_pairs(tmp_path, count=3)
    (tmp_path / "target" / "scene2-2.png").unlink()
    out, words = tmp_path / "out", ["--weights", weights, "--targets", tmp_path / "target"]
    assert restore(tmp_path / "input", "-o", out, *words, "--compare", "--report", tmp_path / "page.html") == 0
    said = capsys.readouterr()
    assert "no clean image for" in said.err and "scene2-2.png" in said.err
    assert "| rain_y_matlab |      2 |" in said.out
    assert [line.split("|")[2].strip() for line in said.out.splitlines()[-2:]] == ["input", "MHNet"]
    assert names(out / "compare") == [f"scene{i}-{i}.png.jpg" for i in range(3)]
    page = (tmp_path / "page.html").read_text()
    assert page.count("scene1-1") >= 1 and "rain_y_matlab" in page
    assert restore(tmp_path / "input", "-o", out, *words, "--protocol", "y_float", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("status", line.get("scores")) for line in lines] == ["skipped"] * 3 + ["input", "MHNet"]
    assert lines[-1]["protocol"] == "y_float" and lines[-1]["images"] == 2


@linux
def test_strange_names(tmp_path, weights, capsys):
    folder = tmp_path / "in"
    strange = ["with space.png", "line\nbreak.png", "[1].png", "-o.png", "ünï.png", os.fsdecode(b"raw\xff.png")]
    for name in strange:
        write_rgb(folder / name, crops()[0])
    (folder / "circle").symlink_to(folder)
    assert restore(folder, "-o", tmp_path / "out", "--weights", weights, "--json") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(strange)
    assert len(capsys.readouterr().out.splitlines()) == len(strange)
    assert restore(folder / "[1].png", "-o", tmp_path / "one.png", "--weights", weights) == 0
    (folder / "line\nbreak.png").write_bytes(b"")
    assert restore(folder, "-o", tmp_path / "out", "--weights", weights, "--overwrite") == 1
    assert r"line\nbreak.png is empty" in capsys.readouterr().err


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_to(tmp_path, photos, weights, capsys):
    (tmp_path / "out").mkdir(mode=0o500)
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_restored(
    tmp_path, photos, weights, capsys, monkeypatch
):
    (photos / "closed").mkdir()
    shut, scandir = [photos / "closed"], os.scandir

    def listed(folder):
        if Path(folder) in shut:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", listed)
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 1
    assert f"failed: The folder {photos / 'closed'} cannot be listed (Permission denied)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir())
    shut.append(photos)
    assert restore(photos, "-o", tmp_path / "more", "--weights", weights) == 1
    assert f"The folder {photos} cannot be listed" in capsys.readouterr().err


def test_what_decoders_print_does_not_reach_the_person(tmp_path, photos, weights):
    """libtiff prints of damaged codes, and says no more to its caller than that it failed."""
    file = io.BytesIO()
    Image.fromarray(crops()[0]).save(file, "TIFF", compression="tiff_lzw")
    damaged = bytearray(file.getvalue())
    damaged[200:1200] = bytes(1000)
    (photos / "damaged.tif").write_bytes(damaged)
    words = [sys.executable, "-m", "mhnet", "restore", photos, "-o", tmp_path / "out", "--weights", weights]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 1 and "4 restored, 1 failed" in done.stderr + done.stdout
    ours = ("failed: ", "note: ", f"{tmp_path / 'out'}: ")
    assert not [line for line in done.stderr.splitlines() if not line.startswith(ours)], done.stderr
    for i in range(6):
        (photos / f"{i}.tif").write_bytes(damaged)
    clean = shutil.copytree(photos, tmp_path / "clean")
    words = [sys.executable, "-m", "mhnet", "evaluate", photos, clean, "--protocol", "y_float", "--processes", "2"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("not scored: ") == 8 and "damaged.tif" in done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith(("not scored: ", "warning: "))]


def test_a_full_disk_stops_the_work(tmp_path, photos, weights, capsys, monkeypatch):
    """And leaves no half of a file."""
    written = []

    def full(path: Path, picture: ImageData) -> None:
        written.append(path)
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise MHNetError(f"{path} cannot be written ({error.strerror}); choose another place.") from error

    monkeypatch.setattr(stores, "write_image", full)
    assert restore(photos, "-o", tmp_path / "out", "--weights", weights) == 1
    said = capsys.readouterr()
    assert 1 <= len(written) <= 2 and said.out.count(f"{len(written)} failed, {4 - len(written)} not tried") == 1
    assert said.err.count("No space left on device") == len(written)
    lines = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == len(written) + 1 and lines[-1].startswith(f"{4 - len(written)} not tried, since there was no")


@linux
def test_an_interrupted_folder_goes_on_where_it_was(tmp_path, weights):
    photo, count = read_rgb(PHOTOS / "lake-sherburne.jpg"), 30  # more than a busy machine does before it looks
    for i in range(count):
        write_rgb(tmp_path / "in" / f"{i}.png", np.roll(photo, i))
    words = [sys.executable, "-m", "mhnet", "restore", "in", "-o", "out", "--weights", weights, "--json"]
    running = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("[0-9]*.png")) and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    told, said = running.communicate(timeout=500)
    assert running.returncode == 130 and "goes on from here" in said and "Traceback" not in said
    done = names(tmp_path / "out")
    assert 1 <= len(done) < count and not any(name.startswith(".") for name in done)
    assert [json.loads(line)["status"] for line in told.splitlines()] == ["restored"] * len(done)
    finished = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0
    statuses = [json.loads(line)["status"] for line in finished.stdout.splitlines()]
    assert statuses == ["skipped"] * len(done) + ["restored"] * (count - len(done))
