"""`mhnet restore --engine ray`: what comes out, what survives, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from samples import PHOTO, deep, exif, picture, profile
from small import crops
from test_restore_command import names, restore, weights  # noqa: F401  (a fixture)

from mhnet import images, pictures
from mhnet.cli import main
from mhnet.errors import MHNetError
from mhnet.pictures import Metadata
from mhnet.restore import bulk_steps, places
from mhnet.restore.places import HERE, Store
from mhnet.restore.restorer import Restorer
from mhnet.weights import read

pytest.importorskip("ray", reason="Ray is not installed")

from pyarrow import csv, parquet
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem, SubTreeFileSystem

from mhnet.restore import bulk
from mhnet.restore.bulk_plan import plan_bulk, plan_stored
from mhnet.restore.bulk_steps import Item

COUNT, BAD = 500, 4
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes and signals of Linux")


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, float]]:
    """Ray for all of this file's runs in this process."""
    with bulk.cluster() as resources:
        yield resources


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """500 small images in subfolders, and four files that are none."""
    folder, photo = tmp_path_factory.mktemp("many"), np.concatenate(crops(96), axis=1)
    for i in range(COUNT):
        top, left = divmod(i * 7, photo.shape[1] - 32)
        images.write(folder / f"day {i % 5}" / f"{i}.png", photo[top : top + 32, left : left + 32])
    (folder / "empty.png").write_bytes(b"")
    (folder / "day 1" / "text.png").write_text("not an image")
    (folder / "day 2" / "cut.png").write_bytes((folder / "day 2" / "2.png").read_bytes()[:500])
    (folder / "clip.mp4").write_bytes(b"a video")
    return folder


def rows(report: Path) -> dict[str, dict]:
    """A report's rows by file; both tables say the same."""
    table = parquet.read_table(report.with_suffix(".parquet"))
    assert csv.read_csv(report.with_suffix(".csv"))["file"].to_pylist() == table["file"].to_pylist()
    assert len(set(table["file"].to_pylist())) == len(table)
    return {row["file"]: row for row in table.to_pylist()}


def reached(folder: Path, count: int, run: "subprocess.Popen[str]") -> set[str]:
    """The results once there are so many."""
    for _ in range(2400):
        there = {name for name in names(folder) if not Path(name).name.startswith(".")} if folder.exists() else set()
        if len(there) >= count:
            return there
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{len(there)} results after two minutes")


def workers(run: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that restore, of a run."""
    of_run = psutil.Process(run.pid).children(recursive=True)
    return [process for process in of_run if process.name().startswith("ray::MapWorker")]


@linux
def test_500_images_survive_a_killed_worker_and_an_end_in_the_middle(tmp_path, many, weights, cluster, capsys):
    out = tmp_path / "out"
    words = ["restore", many, "-o", out, "--weights", weights, "--engine", "ray", "--workers", "2"]
    command = [sys.executable, "-m", "mhnet", *map(str, words)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reached(out, 40, run)
    workers(run)[0].kill()
    first = reached(out, 200, run)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said[1].startswith("interrupted: ") and "the same command goes on from here" in said[1]
    first = {name for name in names(out) if name.endswith(".png") and not Path(name).name.startswith(".")}
    assert 200 <= len(first) < COUNT
    stamps = {name: (out / name).stat().st_mtime_ns for name in first}
    for name in first:
        assert pictures.read(out / name).pixels.shape == (32, 32, 3)  # whole

    (out / "day 0" / ".123-5.png").write_bytes(b"what a killed process leaves")
    assert main(list(map(str, words))) == 1
    said = capsys.readouterr()
    assert f"{COUNT - len(first)} restored, {len(first)} already there" in said.out and "4 failed" in said.out
    assert sorted(names(out)) == sorted(
        [f"day {i % 5}/{i}.png" for i in range(COUNT)] + ["report.csv", "report.parquet"]
    )
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    restorer = Restorer.from_weights(weights)
    for name in names(out):
        if name.endswith(".png"):
            np.testing.assert_array_equal(images.read(out / name), restorer(images.read(many / name)))

    report = rows(out / "report.csv")
    failed = {Path(file).name: row for file, row in report.items() if row["status"] == "failed"}
    assert {name: row["reason"].rpartition(name)[2][:15] for name, row in failed.items()} == {}
