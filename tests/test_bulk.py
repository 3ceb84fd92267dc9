"""`mhnet restore --engine ray`: what comes out, what survives, and what is refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import exif, picture, profile
from small import crops
from test_restore_command import names, restore
from test_tiles import small_network
from tools import require

require("ray", "ray")

from pyarrow import csv, parquet
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem, SubTreeFileSystem

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import read_checkpoint, write_checkpoint
from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.images.header import ImageError
from mhnet.images.metadata import Metadata
from mhnet.images.read import image_size, read_image
from mhnet.images.write import write_image, write_rgb
from mhnet.restore import bulk, bulk_steps, stores
from mhnet.restore.bulk_steps import Item
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Job, Plan, plan
from mhnet.restore.restorer import Restorer
from mhnet.restore.stores import HERE, Store

COUNT, BAD, REPORT = 500, 4, ("report.csv", "report.parquet")
ABOUT = Metadata(profile=profile(), exif=exif(), dpi=(300.0, 300.0))
KINDS = {
    **{name: picture(metadata=ABOUT) for name in ("a.png", "b.jpg", "c.tif", "d.webp", "e.bmp")},
    "deep.png": picture(16), "grey.tif": picture(16, 1), "alpha.png": picture(alpha=True),
    "line\nbreak.png": picture(8, 1, metadata=ABOUT),
}  # fmt: skip
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (of 15, by which tests would wait for all other work)
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes and signals of Linux")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mapping[str, float]]:
    """Ray for all of this file's runs in this process."""
    with bulk.cluster() as resources:
        yield resources


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    network, path = small_network(), tmp_path_factory.mktemp("weights") / "net.safetensors"
    write_checkpoint(path, Checkpoint(network.args, network.state_dict(), "deraining"))
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """500 small images, most of one kind and some of every other, and four files that are none."""
    folder, photo = tmp_path_factory.mktemp("many"), np.concatenate(crops(96), axis=1)
    for name, one in KINDS.items():
        write_image(folder / "kinds" / name, one)
    (folder / "kinds" / os.fsdecode(b"no \xff utf8.png")).write_bytes((folder / "kinds" / "a.png").read_bytes())
    for i in range(COUNT - len(KINDS) - 1):
        top, left = divmod(i * 7, photo.shape[1] - 32)
        write_rgb(folder / f"day {i % 5}" / f"{i}.png", photo[top : top + 32, left : left + 32])
    (folder / "empty.png").write_bytes(b"")
    (folder / "day 1" / "text.png").write_text("not an image")
    (folder / "day 2" / "cut.png").write_bytes((folder / "day 2" / "2.png").read_bytes()[:500])
    (folder / "clip.mp4").write_bytes(b"a video")
    (folder / "day 3" / ".hidden.png").write_bytes(b"not ours to touch")
    return folder


def rows(report: Path) -> dict[str, dict]:
    """A report's rows by file; both tables say the same."""
    table = parquet.read_table(report.with_suffix(".parquet"))
    assert csv.read_csv(report.with_suffix(".csv"))["file"].to_pylist() == table["file"].to_pylist()
    assert len(set(table["file"].to_pylist())) == len(table)
    return {row["file"]: row for row in table.to_pylist()}


def results(folder: Path) -> set[str]:
    """The results that are there under their names."""
    there = names(folder) if folder.exists() else []
    return {name for name in there if not name.startswith("report.") and not Path(name).name.startswith(".")}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def waited_for(folder: Path, count: int, alive: Callable[[], bool]) -> bool:
    """Whether there are so many results, as soon as there are; False where the run ends before."""
    while alive():
        if len(results(folder)) >= count:
            return True
        time.sleep(0.05)
    return False


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it, PyTorch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_killed(mark: Path) -> type[bulk.Computing]:
    """What to compute by so that a process which restores is killed once, at its tenth image, and leaves the mark."""

    class Mortal(bulk.Computing):
        def restorer(self, device: str, threads: int) -> Restorer:
            made, seen = super().restorer(device, threads), []

            def count(*_: object) -> None:
                seen.append(None)
                if len(seen) >= 10 and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            made.network.register_forward_pre_hook(count)
            return made

    return Mortal


@pytest.mark.ci
@linux
def test_500_images_survive_an_end_in_the_middle_and_a_killed_worker(
    tmp_path, many, weights, request, capsys, monkeypatch
):
    out = tmp_path / "out"
    words = ["restore", *map(str, [many, "-o", out, "--weights", weights, "--engine", "ray", "--workers", 2])]
    run = subprocess.Popen([sys.executable, "-m", "mhnet", *words], stderr=subprocess.PIPE, text=True)
    waited_for(out, 100, lambda: run.poll() is None)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=500)[1]
    assert (run.returncode, said.count("\n")) == (130, 1), said
    assert said.startswith("interrupted: ") and "the same command goes on from here" in said
    first = results(out)
    assert 100 <= len(first) < COUNT
    assert all(image_size(many / name) == read_image(out / name).pixels.shape[:2] for name in first)
    stamps = {name: (out / name).stat().st_mtime_ns for name in first}

    (out / "day 0" / ".99999999-15.png").write_bytes(b"what a killed process leaves")
    request.getfixturevalue("cluster")
    monkeypatch.setattr(bulk, "Computing", one_killed(tmp_path / "killed"))
    assert main(words) == 1
    monkeypatch.undo()
    assert (tmp_path / "killed").exists()
    said = capsys.readouterr()
    assert f"{COUNT - len(first)} restored, {len(first)} already there" in said.out and f"{BAD} failed" in said.out
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    with threads(1):  # as each of the workers computes
        assert restore(many, "-o", tmp_path / "plain", "--weights", weights) == 1
    assert len(results(tmp_path / "plain")) == COUNT
    there, wanted = contents(out), contents(tmp_path / "plain")
    assert sorted(there) == sorted([*wanted, *REPORT])
    assert [name for name in wanted if there[name] != wanted[name]] == []

    report = rows(out / "report")
    assert len(report) == COUNT - len(first) + BAD  # each once
    failed = {Path(file).name: row for file, row in report.items() if row["status"] == "failed"}
    for name, reason in {"clip.mp4": "is a film", "cut.png": "is damaged", "empty.png": "is empty",
                         "text.png": "is not an image"}.items():  # fmt: skip
        assert f"{name} {reason}" in failed[name]["reason"] and failed[name]["result"] is None
    assert any("no \\udcff utf8.png" in file for file in report) or any("utf8" in name for name in first)
    assert sum(line.startswith("failed: ") for line in said.err.splitlines()) == len(failed) == BAD
    one = next(row for row in report.values() if row["status"] == "restored")
    assert (one["height"], one["width"]) == (32, 32) and one["seconds"] > 0
    assert one["bytes"] == Path(one["file"]).stat().st_size and Path(one["result"]).is_file()


@pytest.mark.ci
def test_stores_give_and_take_files_and_small_ones_are_computed_at_once(tmp_path, weights, cluster):
    for name, one in KINDS.items():
        write_image(tmp_path / "in" / "sub" / name, one)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"nothing")
    share = bulk.shares(cluster, workers=1, batch=4)
    threads = torch.get_num_threads()
    torch.set_num_threads(share.threads)  # whose number decides on the last of 16 bits
    assert restore(tmp_path / "in", "-o", tmp_path / "plain", "--weights", weights) == 1
    torch.set_num_threads(threads)
    wanted = contents(tmp_path / "plain")
    store = Store(SubTreeFileSystem(str(tmp_path), LocalFileSystem()), "tree://")
    for name, data in {"a.png": wanted["sub/a.png"][:900], "b.jpg": b"", "c.tif": wanted["sub/c.tif"]}.items():
        stores.put(store, Path("out/sub") / name, data)
    done: list[Outcome] = []
    planned = plan(["in"], "out", within=(store, store))
    bulk.restore_bulk(planned, bulk.Computing(read_checkpoint(weights)), share, done.append, check=True)
    told = {str(outcome.job.source): outcome for outcome in done}
    assert len(done) == len(told) == len(KINDS) + 1
    assert [name for name, outcome in told.items() if outcome.status == "skipped"] == ["in/sub/c.tif"]
    assert [name for name, outcome in told.items() if outcome.status == "failed"] == ["in/bad.jpg"]
    assert "bad.jpg is not an image" in told["in/bad.jpg"].reason
    assert contents(tmp_path / "out") == wanted


@pytest.mark.ci
def test_an_image_that_ends_its_process_each_time_fails_alone(tmp_path, weights, cluster):
    class Deadly(bulk.Computing):
        def restorer(self, device: str, threads: int) -> Restorer:
            made = super().restorer(device, threads)
            made.network.register_forward_pre_hook(end_at_white)
            return made

    def end_at_white(_: object, given: tuple[torch.Tensor]) -> None:
        if any(one.min() == 1 for one in given[0]):
            os._exit(1)

    for i in range(6):
        write_rgb(tmp_path / "in" / f"{i}.png", np.full((16, 16, 3), 255 if i == 2 else 20 * i, np.uint8))
    done: list[Outcome] = []
    planned = plan([str(tmp_path / "in")], tmp_path / "out")
    computing = Deadly(read_checkpoint(weights), options={"fuse": False})
    bulk.restore_bulk(planned, computing, bulk.shares(cluster, workers=1, batch=3), done.append)
    assert names(tmp_path / "out") == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    reasons = {outcome.job.source.name: outcome.reason for outcome in done if outcome.status == "failed"}
    assert list(reasons) == ["2.png"] and "2.png ended its process twice" in reasons["2.png"] and len(done) == 6


def test_a_full_disk_ends_the_run(tmp_path, monkeypatch):
    def full(store: Store, path: Path, picture: object) -> None:
        raise ImageError(f"{path} cannot be written") from OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "write_picture", full)
    monkeypatch.setattr(
        bulk, "_stream", lambda *given: (item for table in tried for item in bulk_steps.unpacked(table))
    )
    jobs = [Job(Path(name), Path("out") / name, Path()) for name in ("a.png", "b.png", "c.png")]
    tried = bulk_steps.write(bulk_steps.packed([Item(1, Outcome(jobs[1]), picture())]), results=HERE)
    done: list[Outcome] = []
    bulk.restore_bulk(
        Plan(jobs, Path("out")), bulk.Computing(read_checkpoint("derain-small")), bulk.shares({}), done.append
    )
    assert [outcome.status for outcome in done] == ["failed", "not tried", "not tried"]
    assert [outcome.reason for outcome in done] == [
        "out/b.png cannot be written",
        *["not tried, since there was no place for out/b.png"] * 2,
    ]


def test_what_is_there_is_divided():
    gib = 1 << 30
    two_cores = bulk.shares({"CPU": 2, "memory": 12 * gib})
    assert (two_cores.workers, two_cores.device, two_cores.threads, two_cores.batch) == (2, "cpu", 1, 1)
    assert two_cores.workers * two_cores.cpus + 2 * two_cores.step_cpus <= 2  # room for reading and writing
    assert bulk.shares({"CPU": 64, "memory": 40 * gib}).workers == 13
    assert bulk.shares({"CPU": 8, "memory": gib}, workers=2).threads == 4
    gpus = bulk.shares({"CPU": 32, "GPU": 4, "memory": 40 * gib})
    assert (gpus.workers, gpus.device, gpus.gpus, gpus.batch) == (4, "cuda", 1, 8)
    assert bulk.shares({"CPU": 32, "GPU": 4}, "cpu", 3).device == "cpu"
    for resources, device, count, said in [
        ({"CPU": 2}, "cuda", None, "sees no CUDA GPU"),
        ({"CPU": 2, "GPU": 1}, "auto", 2, "2 workers are more than the 1 GPU"),
        ({"CPU": 2, "GPU": 1}, "cuda:1", None, "CUDA_VISIBLE_DEVICES"),
    ]:
        with pytest.raises(MHNetError, match=said):
            bulk.shares(resources, device, count)


def test_stores_are_planned_like_folders():
    system = FileSystem.from_uri("mock:///")[0]
    for name in (
        "in/b.png",
        "in/a.JPG",
        "in/sub/c.gif",
        "in/sub/d.jp2",
        "in/.x/e.png",
        "in/out/a.JPG",
        "in/a_r.JPG",
        "x/a.png",
    ):
        system.create_dir(name.rpartition("/")[0])
        with system.open_output_stream(name) as stream:
            stream.write(b"?")
    system.create_dir("nothing")
    store = Store(system, "mock://")

    def planned(*names: str, out: str, **options: str) -> dict[str, str]:
        jobs = plan(names, out, within=(store, store), **options).jobs
        return {str(job.source): str(job.target) for job in jobs}

    assert planned("in", out="in/out") == {
        "in/b.png": "in/out/b.png", "in/a.JPG": "in/out/a.JPG", "in/a_r.JPG": "in/out/a_r.JPG",
        "in/sub/c.gif": "in/out/sub/c.mp4", "in/sub/d.jp2": "in/out/sub/d.tif"}  # fmt: skip
    assert planned("in/b.png", "x", out="new") == {"in/b.png": "new/b.png", "x/a.png": "new/a.png"}
    assert planned("in/sub", "x", out="new") == {
        "in/sub/c.gif": "new/sub/c.mp4", "in/sub/d.jp2": "new/sub/d.tif", "x/a.png": "new/x/a.png"}  # fmt: skip
    assert planned("in/b.png", out="new/best.tif") == {"in/b.png": "new/best.tif"}
    assert planned("in/b.png", out="new", suffix="_r", extension=".webp") == {"in/b.png": "new/b_r.webp"}
    assert "in/a_r.JPG" not in planned("in", out="in", suffix="_r")
    for names_, out, said in [
        (["in"], "in", "is an original and would be replaced"),
        (["in/b.png", "absent"], "out", "There is no file or folder mock://absent"),
        (["nothing"], "out", "There are no images or videos in mock://nothing"),
    ]:
        with pytest.raises(MHNetError, match=said):
            planned(*names_, out=out)
    assert planned("in/a.JPG", "x/a.png", out="out", extension=".png") == {
        "in/a.JPG": "out/a.JPG.png", "x/a.png": "out/a.png.png"}  # fmt: skip
    same = plan(["in/a.JPG", "in/out/a.JPG"], "out", within=(store, store))
    assert not same.jobs and len(same.refused) == 2 and "would become one file" in same.refused[0][1]
    for name, data in {"b.png": b"whole", ".7-a.png": b"what a killed process leaves", "c.png": b""}.items():
        stores.put(store, Path("new") / name, data)
    assert stores.results_there(store, [Path("new") / f"{name}.png" for name in "abc"]) == {Path("new/b.png")}
    assert sorted(info.path for info in system.get_file_info(FileSelector("new"))) == ["new/b.png", "new/c.png"]


def test_mistakes_are_one_sentence_each(tmp_path, weights, capsys, monkeypatch):
    write_rgb(tmp_path / "in" / "a.png", crops()[0])
    given, ray = [tmp_path / "in", "-o", tmp_path / "out", "--weights", weights], ["--engine", "ray"]
    for words, said in [
        ([*given, *ray, "--targets", tmp_path], "--targets does not go with --engine ray"),
        ([*given, *ray, "--compare"], "--compare does not go with --engine ray"),
        ([*given, *ray, "--report", "page.html"], "makes no HTML page"),
        ([*given, "--workers", 2], "add --engine ray"),
        (["s3://bucket/in", *given[1:]], "is the address of a store: add --engine ray"),
        (["nowhere://bucket/in", *given[1:], *ray], "cannot be reached"),
        (["mock:///in", tmp_path / "in", *given[1:], *ray], "lies in another store"),
        ([tmp_path / "absent", *given[1:], *ray], "There is no file or folder"),
    ]:
        assert restore(*words) == 1, words
        shown = capsys.readouterr().err
        assert said in shown and shown.startswith("error: ") and shown.count("\n") == 1, shown
    with pytest.raises(SystemExit):
        restore(*given, *ray, "--workers", 0)
    capsys.readouterr()
    monkeypatch.delitem(sys.modules, "mhnet.cli.bulk")
    monkeypatch.setitem(sys.modules, "ray.exceptions", None)
    assert restore(*given, *ray) == 1
    assert "pip install 'mhnet[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ray_is_imported_by_its_engine_alone():
    code = "import sys; from mhnet.cli.main import parser; parser(); " \
           "assert not {'ray', 'pyarrow', 'torch'} & set(sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
