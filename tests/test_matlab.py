"""The rooms' evaluate_PSNR_SSIM.m in GNU Octave against `mhnet evaluate`: one table, and one figure for every image."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small import ROOT, crops
from test_metrics import DATA, EXPECTED, luma_halves
from tools import needs_program

from mhnet.evaluation import protocols, scoring, tables
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

ROOMS = {"Deraining": "rain_y_matlab", "Deblurring": "gopro_rgb_matlab"}
OCTAVE = shutil.which("octave-cli")
pytestmark = [pytest.mark.ci, needs_program("octave-cli")]


def octave(room: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs a room's script on folders."""
    call = f"evaluate_PSNR_SSIM({', '.join(str(word) if str(word)[0] == '{' else repr(str(word)) for word in words)})"
    command = [OCTAVE or "octave-cli", "--no-gui", "--eval", call]
    return subprocess.run(command, cwd=ROOT / room, capture_output=True, text=True)


def lines(path: Path) -> dict[str, dict[str, str]]:
    """The lines of a CSV file of scores by their images' names."""
    with path.open(newline="", encoding="utf-8") as stream:
        return {line["name"]: line for line in csv.DictReader(stream)}


def make_folders(root: Path, below: str) -> tuple[Path, Path]:
    """Results and clean images with the names that people have: two results of one, prefixes, subfolders, 10 after 2;
    photographs, odd sizes, noise, an image that equals its clean one, colours whose luma ends in .5.

    `below` is the subfolder for names with prefixes: where clean images named norain-* lie loose ('.', PReNet's
    layout), those alone are the clean ones.
    """
    results, clean = root / "results", root / "clean"
    if below != ".":
        shutil.copytree(DATA / "input", results / "a-set")
        shutil.copytree(DATA / "target", clean / "A_Set")
    else:
        write_rgb(clean / "stray.png", crops()[0])
    random = np.random.default_rng(0)
    for i, photo in enumerate(crops(61)):
        photo = photo[: 61 - 7 * i]
        noisy = np.clip(photo + random.normal(0, 8 * i, photo.shape), 0, 255).astype(np.uint8)
        write_rgb(results / below / f"rain-{2 * i}_x2.png", noisy)
        write_rgb(clean / below / f"norain-{2 * i}.png", photo)
    write_rgb(results / below / "rain-10_x3.png", crops(61)[5][:26] // 2)
    halves = np.tile(luma_halves().reshape(2, 97, 3), (12, 1, 1))
    write_rgb(results / below / "12.PNG", halves)
    write_rgb(clean / below / "norain-12.png", np.roll(halves, 1, axis=1))
    return results, clean


@pytest.mark.parametrize("below", [".", "photos"])
@pytest.mark.parametrize(("room", "protocol"), ROOMS.items())
def test_octave_and_python_print_one_table(room: str, protocol: str, below: str, tmp_path: Path) -> None:
    results, clean = make_folders(tmp_path, below)
    done = octave(room, results, clean, tmp_path / "octave.csv")
    assert done.returncode == 0, done.stderr
    evaluation = scoring.evaluate_folder(results, clean, protocol)
    assert done.stdout == tables.format_table([evaluation]) + "\n"
    tables.to_csv([evaluation], tmp_path / "python.csv")
    theirs, ours = lines(tmp_path / "octave.csv"), lines(tmp_path / "python.csv")
    assert list(theirs) == list(ours) and len(ours) == (8 if below == "." else 11)
    for name, line in ours.items():
        assert (line["set"], line["protocol"]) == (theirs[name]["set"], theirs[name]["protocol"])
        assert float(theirs[name]["psnr"]) == pytest.approx(float(line["psnr"]), abs=1e-4, rel=0), name
        assert float(theirs[name]["ssim"]) == pytest.approx(float(line["ssim"]), abs=1e-5, rel=0), name


@pytest.mark.parametrize(("room", "protocol"), ROOMS.items())
def test_octave_agrees_with_the_fields_own_scripts(room: str, protocol: str, tmp_path: Path) -> None:
    done = octave(room, DATA / "input", DATA / "target", tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    for name, line in lines(tmp_path / "scores.csv").items():
        assert float(line["psnr"]) == pytest.approx(EXPECTED[name][protocol]["psnr"], abs=1e-4, rel=0)
        assert float(line["ssim"]) == pytest.approx(EXPECTED[name][protocol]["ssim"], abs=1e-5, rel=0)


def test_luma_is_that_of_octaves_image_package(tmp_path: Path) -> None:
    photo, out = DATA / "target" / "coffee-rain.png", tmp_path / "luma.txt"
    code = f"pkg load image; y = rgb2ycbcr(imread('{photo}')); dlmwrite('{out}', y(:, :, 1))"
    done = subprocess.run([OCTAVE or "octave-cli", "--eval", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(protocols.matlab_y(read_rgb(photo)), np.loadtxt(out, delimiter=","))


def test_octave_takes_several_sets_and_names_what_is_broken(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(DATA / "input", tmp_path / name)
    (tmp_path / "two" / "chelsea-blur.png").write_bytes((DATA / "input" / "chelsea-blur.png").read_bytes()[:5000])
    (tmp_path / "two" / "coffee-rain.png").unlink()
    cells = "{" + ", ".join(repr(str(tmp_path / name)) for name in ("one", "two")) + "}"
    targets = "{" + ", ".join([repr(str(DATA / "target"))] * 2) + "}"
    done = octave("Deraining", cells, targets, tmp_path / "scores.csv")
    assert done.returncode == 1
    sets = [scoring.evaluate_folder(tmp_path / name, DATA / "target", "rain_y_matlab") for name in ("one", "two")]
    table = tables.format_table(sets)
    assert done.stdout.startswith(table + "\n") and "| 1 of 3 |" in table and "mean of 2 sets" in table
    assert "not scored: chelsea-blur" in done.stdout and "nothing was restored for 1 clean" in done.stdout
    assert lines(tmp_path / "scores.csv")["chelsea-blur"]["failure"]


@pytest.mark.parametrize("room", ROOMS)
def test_octave_refuses_what_python_refuses(room: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "input", tmp_path / "results")
    (tmp_path / "empty").mkdir()
    write_rgb(tmp_path / "results" / "stray.png", crops()[0])
    for words, said in [
        ([tmp_path / "absent", DATA / "target"], "There is no folder"),
        ([tmp_path / "empty", DATA / "target"], "There are no images in"),
        ([tmp_path / "results", DATA / "target"], "stray.png"),
        ([DATA / "target"], "Two folders are needed"),
    ]:
        done = octave(room, *words)
        assert done.returncode == 1 and said in done.stderr, done.stderr
