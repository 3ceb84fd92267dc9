"""`mhnet restore` among files that want to do harm: what is good is restored, nothing else happens.

MHNET_FUZZ and MHNET_FUZZ_SEED are those of `test_hostile.py`: a tenth of its cases go through the whole command.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hostile import draw, whole_files
from samples import PHOTO
from small import ROOT
from test_hostile import CASES, SEED, attempt

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.cli.main import main
from mhnet.images.read import ImageData, image_size, read_image
from mhnet.images.write import write_image
from mhnet.models import MHNet, MHNetArgs

FILES = 10  # in one call of the command
GOOD = ("colour.jpg", "deep.tif", "alpha.png")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits as on Linux and macOS")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    args = MHNetArgs(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_checkpoint(path, Checkpoint(args, MHNet(args=args).state_dict(), "deraining"))
    return path


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder and what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 30
        state = hashlib.sha256(path.read_bytes()).hexdigest() if content else oct(path.lstat().st_mode)
        found[str(path)] = state
    return found


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith(".")]


def add_good(folder: Path) -> list[Path]:
    for name in GOOD:
        (folder / name).write_bytes(whole_files()[name])
    return [folder / name for name in GOOD]


def command(*words: object) -> tuple[list[str], dict[str, str]]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "pytorch-gradual-warmup-lr"), str(ROOT / "tests")])
    return [sys.executable, "-m", "mhnet", *map(str, words)], os.environ | {"PYTHONPATH": paths}


@pytest.mark.ci
@pytest.mark.parametrize("block", range(max(CASES // FILES // 10, 1)))
def test_good_files_are_restored_among_bad_ones(tmp_path: Path, weights: Path, capsys, block: int) -> None:
    random = np.random.default_rng((SEED, block))
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    good = add_good(source)
    cases = []
    for i in range(FILES):
        (source / f"{i}").mkdir()
        cases.append(draw((SEED + 1) * 1_000_000 + block * FILES + i, source / f"{i}"))
    before = snapshot(tmp_path)
    words = ["restore", str(source), "-o", str(out), "--weights", str(weights), "--device", "cpu", "--json"]
    if kind := (None, "png", "tif", "jpg", "webp", "bmp")[random.integers(6)]:
        words += ["--format", kind]
    status = main(words)
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    outcomes = {one["source"]: one for one in map(json.loads, told.out.splitlines())}
    after = {path: state for path, state in snapshot(tmp_path).items() if not Path(path).is_relative_to(out)}
    assert after == before
    assert not hidden(tmp_path)
    for path in good:
        assert outcomes[str(path)]["status"] == "restored"
    for case in cases:
        if str(case.path) in outcomes:
            assert case.good is None or (outcomes[str(case.path)]["status"] == "restored") == case.good, case.recipe
        else:  # folders and what is missing are none of the files in a folder
            assert case.path.is_dir() or not os.path.lexists(case.path), case.recipe
    failed = [one for one in outcomes.values() if one["status"] == "failed"]
    assert status == (1 if failed else 0)
    assert told.err.count("failed: ") >= len(failed)
    for one in outcomes.values():
        if one["result"]:
            assert Path(one["result"]).is_relative_to(out)
            if one["result"].endswith(".mp4"):  # of an animated GIF, whatever its name
                from mhnet.restore.video_frames import read_format

                form = read_format(Path(one["result"]))
                assert (form.height, form.width) == image_size(one["source"])
            else:
                assert read_image(one["result"]).pixels.shape[:2] == image_size(one["source"])
    written = {str(path) for path in out.rglob("*") if path.is_file()}
    assert written == {one["result"] for one in outcomes.values() if one["result"]}


@posix
@pytest.mark.ci
@pytest.mark.parametrize("number", range(max(CASES // 100, 2)))
def test_ctrl_c_at_any_moment(tmp_path: Path, weights: Path, number: int) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for i in range(12):
        write_image(source / f"{i}.png", ImageData(np.tile(np.roll(PHOTO, i, axis=1), (3, 3, 1))))
    before = snapshot(source)
    words, environment = command("restore", source, "-o", out, "--weights", weights, "--device", "cpu", "--quiet")
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline, wanted = time.monotonic() + 120, int(np.random.default_rng((SEED, number)).integers(13))
    while len(list(out.glob("*.png"))) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if wanted == 0:  # while it starts, wherever that is
        time.sleep(1 + 2 * np.random.default_rng((SEED, number)).random())
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=500)
    assert process.returncode in (0, 130), told
    assert "Traceback" not in told
    assert not hidden(out)
    for path in out.glob("*"):
        assert read_image(path).pixels.shape == (3 * PHOTO.shape[0], 3 * PHOTO.shape[1], 3)
    status = main(["restore", str(source), "-o", str(out), "--weights", str(weights), "--device", "cpu", "--quiet"])
    assert status == 0 and len(list(out.iterdir())) == 12
    assert snapshot(source) == before


@posix
def test_a_full_destination(tmp_path: Path, weights: Path) -> None:
    """No file may grow beyond 30 kB: results that would are failed, smaller ones are there."""
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    write_image(source / "large.png", ImageData(np.tile(PHOTO, (5, 5, 1))))
    write_image(source / "small.png", ImageData(PHOTO[:20, :20]))
    words, environment = command("restore", source, "-o", out, "--weights", weights, "--device", "cpu")
    limited = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); " \
              f"sys.argv = {words[2:]!r}; runpy.run_module('mhnet', run_name='__main__')"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", limited], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "large.png cannot be written (File too large)" in done.stderr
    assert [path.name for path in out.iterdir()] == ["small.png"]


@posix
@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk(tmp_path: Path, weights: Path, capsys) -> None:
    source, out = tmp_path / "photos", tmp_path / "disk"
    for folder in (source, out):
        folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", out], capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")
    try:
        for i in range(6):
            write_image(source / f"{i}.png", ImageData(np.tile(PHOTO, (1 + i, 2, 1))))
        status = main(["restore", str(source), "-o", str(out), "--weights", str(weights), "--device", "cpu"])
        told = capsys.readouterr().err
        assert status == 1 and "No space left on device" in told and "Traceback" not in told
        assert not hidden(out)
        for path in out.iterdir():
            assert read_image(path).pixels.shape[1] == 2 * PHOTO.shape[1]
    finally:
        subprocess.run(["umount", out], check=True)


@posix
def test_destinations_that_are_no_folders(tmp_path: Path, weights: Path, capsys) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    add_good(source)
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "alpha.png").mkdir()
    (tmp_path / "taken" / "colour.jpg").symlink_to(source / "colour.jpg")
    (tmp_path / "taken" / "deep.tif").symlink_to("/dev/full")
    before = snapshot(source)
    for place in ("file", "pipe", "circle", "file/below", "taken"):
        words = ["restore", str(source), "-o", str(tmp_path / place), "--weights", str(weights), "--device", "cpu"]
        assert main(words) == 1, place
        told = capsys.readouterr().err
        assert ("error: " in told or "failed: " in told) and "Traceback" not in told
    assert snapshot(source) == before and (tmp_path / "file").read_text() == "mine"
    assert not hidden(tmp_path)


@posix
@pytest.mark.parametrize("name", ["a" * 245, "ü" * 120, "\udcff\udcfe", "-x", " ", "new\nline", "rain.png"])
def test_names_of_all_kinds(tmp_path: Path, weights: Path, capsys, name: str) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    path = source / f"{name}.png"
    write_image(path, ImageData(PHOTO))
    for given, out in ((str(source), tmp_path / "a"), (str(path), tmp_path / "b")):
        assert main(["restore", given, "-o", str(out), "--weights", str(weights), "--device", "cpu"]) == 0
        assert [found.name for found in out.iterdir()] == [path.name]
    capsys.readouterr().out.encode()


@posix
def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path, stop = tmp_path / "a.png", threading.Event()
    versions = [whole_files()[name] for name in ("colour.png", "deep.png", "colour.jpg", "bad float.tif")]
    path.write_bytes(versions[0])

    def change() -> None:
        for i in range(100_000):
            if stop.is_set():
                return
            if i % 3:
                path.write_bytes(
                    versions[i % 4][: 30_000 if i % 2 else 300]
                )  # in its place, so that it is short for a moment
            else:
                (tmp_path / "b.png").write_bytes(versions[i % 4])
                (tmp_path / "b.png").replace(path)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            found = attempt(read_image, path)
            assert found is None or sorted(found.pixels.shape) == sorted(PHOTO.shape)
    finally:
        stop.set()
        thread.join()
