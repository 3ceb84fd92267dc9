"""Folders of results against their clean images: tables, means, failures, processes, and what the doors answer."""

import csv
import math
import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mhnet.cli.main import main
from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.evaluation import protocols, scoring
from mhnet.evaluation.scoring import Evaluation, ImageScore, evaluate_folder
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

RNG = np.random.default_rng(0)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Twenty small results and their clean images."""
    for number in range(1, 21):
        clean = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        write_rgb(tmp_path / "clean" / f"norain-{number}.png", clean)
        write_rgb(tmp_path / "results" / f"rain-{number}.png", np.clip(clean, number, 250))
    return tmp_path / "results", tmp_path / "clean"


@pytest.mark.parametrize("processes", [1, 2])
def test_scores_pairs_by_name(folders: tuple[Path, Path], processes: int) -> None:
    results, clean = folders
    evaluation = evaluate_folder(results, clean, "gopro_rgb_matlab", processes=processes)
    assert (evaluation.name, evaluation.failures, evaluation.unrestored) == ("results", [], [])
    assert [row.name for row in evaluation.rows] == [f"rain-{number}" for number in range(1, 21)]
    for row in evaluation.rows:
        number = row.name.removeprefix("rain-")
        pair = read_rgb(results / f"{row.name}.png"), read_rgb(clean / f"norain-{number}.png")
        assert row[1:3] == pytest.approx(protocols.score(*pair, "gopro_rgb_matlab"))
    assert evaluation.mean.psnr == pytest.approx(np.mean([row.psnr for row in evaluation.rows]))
    assert evaluation.mean.ssim == pytest.approx(np.mean([row.ssim for row in evaluation.rows]))


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_broken_is_named_and_the_rest_scored(
    folders: tuple[Path, Path], processes: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results, clean = folders
    whole = (results / "rain-2.png").read_bytes()
    (results / "rain-2.png").write_bytes(whole[:-100])
    write_rgb(results / "rain-3.png", np.zeros((16, 21, 3), np.uint8))
    (results / "rain-4.png").unlink()
    evaluation = evaluate_folder(results, clean, "y_float", processes=processes)
    assert [name for name, _ in evaluation.failures] == ["rain-2", "rain-3"]
    assert "rain-2.png is damaged" in evaluation.failures[0].reason
    assert "16×21 pixels and the clean one 16×20" in evaluation.failures[1].reason
    assert [path.name for path in evaluation.unrestored] == ["norain-4.png"]

    words = ["evaluate", results, clean, "--protocol", "y_float", "--csv", tmp_path / "scores.csv"]
    assert main([*map(str, words), "--processes", str(processes)]) == 1
    out, err = capsys.readouterr()
    assert "| 17 of 20 |" in out and "y_float" in out
    assert "not scored: rain-2: " in err and "norain-4.png" in err and "Traceback" not in err
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 19 and {line["protocol"] for line in lines} == {"y_float"}
    assert float(lines[0]["psnr"]) == evaluation.rows[0].psnr
    assert lines[-2]["psnr"] == "" and "damaged" in lines[-2]["failure"]


def test_identical_images_do_not_poison_the_mean() -> None:
    evaluation = Evaluation("Test100", "y_float", [ImageScore("a", math.inf, 1.0), ImageScore("b", 30.0, 0.5)])
    assert evaluation.mean == (30.0, 0.75) and evaluation.identical == ["a"]
    assert Evaluation("x", "y_float", [ImageScore("a", math.inf, 1.0)]).mean == (math.inf, 1.0)
    assert all(math.isnan(value) for value in Evaluation("x", "y_float").mean)


@pytest.mark.parametrize(
    ("name", "targets", "known"),
    [
        ("", "GoPro/test/target", "GoPro"),
        ("", "HIDE/target", "HIDE"),
        ("", "rain-100l", "Rain100L"),
        ("", "mine", None),
        ("Test100", "GoPro/test/target", "Test100"),
        ("mine", "GoPro/test/target", None),
    ],
)
def test_public_sets_are_known_by_name(folders: tuple[Path, Path], name: str, targets: str, known: str | None) -> None:
    results, clean = folders
    place = clean.parent / targets
    place.parent.mkdir(parents=True, exist_ok=True)
    clean.rename(place)
    evaluation = evaluate_folder(results, place, "gopro_rgb_matlab", name=name)
    assert (evaluation.known.name if evaluation.known else None) == known
    assert bool(evaluation.published) == (known in ("GoPro", "HIDE"))
    assert evaluation.total == 20 and bool(evaluation.doubts) == bool(known)


def test_mistakes_are_told_before_anything_is_read(folders: tuple[Path, Path]) -> None:
    results, clean = folders
    with pytest.raises(MHNetError, match="no protocol 'psnr'"):
        evaluate_folder(results, clean, "psnr")
    write_rgb(results / "stray.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(MHNetError, match=r"stray\.png"):
        evaluate_folder(results, clean, "y_float")


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("processes", [2, 4])
def test_a_killed_process_is_a_sentence_and_leaves_no_other(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(scoring, "_start_process", partial(os._exit, 1))
    with pytest.raises(MHNetError, match="stopped, perhaps for want of memory"):
        evaluate_folder(*folders, "y_float", processes=processes)
    assert multiprocessing.active_children() == []


def raising(error: BaseException):
    @exits_cleanly
    def main() -> int:
        raise error

    return main


def test_doors_answer_mistakes_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(MHNetError("There is no file a.png; check the path."))() == 1
    assert raising(KeyboardInterrupt())() == 130
    assert capsys.readouterr() == ("", "error: There is no file a.png; check the path.\ninterrupted\n")
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()
    assert exits_cleanly(lambda: None)() == 0
    assert exits_cleanly(lambda status: status)(3) == 3


def test_a_reader_that_leaves_is_no_error() -> None:
    code = """
import sys
from mhnet.core.errors import exits_cleanly
@exits_cleanly
def main():
    for _ in range(100_000):
        print("line")
sys.exit(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_the_folder_of_a_set_stands_for_its_clean_side(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results, clean = folders
    (tmp_path / "set").mkdir()
    clean.rename(tmp_path / "set" / "target")
    write_rgb(tmp_path / "set" / "input" / "rain-1.png", np.zeros((16, 20, 3), np.uint8))
    direct = evaluate_folder(results, tmp_path / "set" / "target", "y_float", processes=1)
    assert evaluate_folder(results, tmp_path / "set", "y_float", processes=1).rows == direct.rows
    with pytest.raises(MHNetError, match="compared with itself"):
        evaluate_folder(results, tmp_path / "set" / ".." / "results", "y_float")


def test_names_reach_the_terminal_escaped(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    results, clean = folders
    name = "rain-2\n\x1b]0;owned\x07.png"
    (results / "rain-2.png").rename(results / name)
    (clean / "norain-2.png").rename(clean / f"no{name}")
    (results / name).write_bytes(b"<html>404</html>")
    command = ["evaluate", str(results), str(clean), "--protocol", "y_float"]
    assert main([*command, "--set", "a|b\n\x1b[2J"]) == 1
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert r"| a\|b\n\x1b[2J |" in out
    assert err.startswith(r"not scored: rain-2\n\x1b]0;owned\x07: ") and err.count("\n") == 2
    assert main([*command[:2], str(results / "x\n\x1b[2J"), *command[3:]]) == 1
    assert capsys.readouterr().err.count("\n") == 1
