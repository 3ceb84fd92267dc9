"""`mhnet data check`: what is there is named, what is wrong is found, what is right passes."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from small import PHOTOS, crops, make_pairs

from mhnet.cli.main import main
from mhnet.data.blur import GAMMA, LIGHT, average, path_kernel, shake_path
from mhnet.data.check import check, format_checked
from mhnet.data.pack import Pack, write_pack
from mhnet.data.pairs import find_pairs
from mhnet.data.sets import find_pair_sets
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb


def set_of(root: Path, place: str, sides: tuple[str, str] = ("input", "target"), numbers: range = range(1)) -> Path:
    """Pairs `1.png`, …: a noisy crop and its photograph, other ones for other numbers."""
    random = np.random.default_rng(0)
    for number in numbers:
        clean = np.roll(crops()[number % 6], number // 6, 1)
        noisy = np.clip(clean + random.normal(0, 40, clean.shape), 0, 255).astype(np.uint8)
        for side, image in zip(sides, (noisy, clean), strict=True):
            write_rgb(root / place / side / f"{number:06}.png", image)
    return root


@pytest.mark.parametrize(
    ("place", "sides", "known"),
    [
        ("GoPro/train", ("input", "target"), ("GoPro", "train", "deblurring", "MPRNet")),
        ("HIDE/test", ("input", "target"), ("HIDE", "test", "deblurring", "MPRNet")),
        ("test/Rain100L", ("input", "target"), ("Rain100L", "test", "deraining", "MPRNet")),
        ("Rainy/train", ("input", "target"), ("Rainy", "train", "deraining", "MPRNet")),
        ("train/Rain13K", ("input", "target"), ("Rain13K", "train", "deraining", "MPRNet")),
        ("val/GoPro", ("input_crops", "target_crops"), ("GoPro", "val", "deblurring", "Restormer crops")),
        ("GoPro/train", ("blur_crops", "sharp_crops"), ("GoPro", "train", "deblurring", "NAFNet crops")),
        ("GOPRO_Large/test/GOPR0384_11_00", ("blur", "sharp"), ("GoPro", "test", "deblurring", "raw GoPro")),
        ("Rain12", ("rainy", "norain"), ("Rain12", None, "deraining", "PReNet")),
        ("RealBlur-J_ECC/scene050", ("blur", "gt"), ("RealBlur_J", None, "deblurring", "raw RealBlur")),
        ("mine", ("lq", "hq"), ("mine", None, None, "lq/hq")),
        ("test/Test1000", ("input", "target"), ("Test1000", "test", None, "MPRNet")),
    ],
)  # fmt: skip
def test_layouts_tasks_and_splits_are_told(tmp_path: Path, place: str, sides: tuple[str, str], known: tuple) -> None:
    (found,) = find_pair_sets(set_of(tmp_path, place, sides))
    assert (found.name, found.split, found.task, found.layout) == known
    assert len(found.pairs) == 1


def test_sequences_are_one_set_and_counts_are_compared(tmp_path: Path) -> None:
    for sequence in ("GOPR0372_07_00", "GOPR0384_11_00"):
        set_of(tmp_path, f"GOPRO_Large/train/{sequence}", ("blur", "sharp"), range(2))
    (report,), faults = check(tmp_path)
    assert report.expected == (2103,)
    assert report.notes[0] == "GoPro: 4 pairs, its downloads have 2,103."
    assert not report.faults + faults
    assert {pair.name for pair in report.pairs} >= {"GOPRO_Large/train/GOPR0372_07_00/000001"}


def test_a_sound_folder_passes_and_its_table_says_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    set_of(set_of(tmp_path, "train", numbers=range(4)), "test/Rain100L", numbers=range(10, 13))
    assert main(["data", "check", str(tmp_path)]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["set", "split", "task", "layout", "pairs", "expected", "clean", "sizes", "modes", "faults"]
    assert ["Rain100L", "test", "deraining", "MPRNet", "3", "100", "3", "72×72", "RGB", "none"] in cells


def wrong_size(root: Path) -> None:
    write_rgb(root / "train/input/000002.png", crops(40)[2])


def grey(root: Path) -> None:
    Image.fromarray(crops()[2]).convert("L").save(root / "train/target/000002.png")


def cut_off(root: Path) -> None:
    path = root / "train/target/000002.png"
    path.write_bytes(path.read_bytes()[:-3000])


def no_image(root: Path) -> None:
    (root / "train/input/000002.png").write_text("<html>404</html>")


def no_partner(root: Path) -> None:
    (root / "train/target/000002.png").unlink()


def no_input(root: Path) -> None:
    (root / "train/input/000002.png").unlink()


def folder_for_an_input(root: Path) -> None:
    (root / "train/input/000002.png").unlink()
    (root / "train/input/000002.png").mkdir()


def with_fractions(root: Path) -> None:
    (root / "train/target/000002.png").unlink()
    tifffile.imwrite(root / "train/target/000002.tif", crops()[2][..., 0] / np.float32(255))


def two_of_a_name(root: Path) -> None:
    write_rgb(root / "train/target/000002.bmp", crops()[2])


def identical(root: Path) -> None:
    write_rgb(root / "train/input/000002.png", read_rgb(root / "train/target/000002.png"))


def trained_on(root: Path) -> None:
    write_rgb(root / "test/Rain100L/target/000002.bmp", read_rgb(root / "train/target/000002.png"))
    write_rgb(root / "test/Rain100L/input/000002.png", crops()[3])


def other_task(root: Path) -> None:
    set_of(root, "train/GoPro")
    set_of(root, "train/Rain13K", numbers=range(3, 4))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_input, "target/000002.png has no degraded image in "),
        (folder_for_an_input, "target/000002.png has no degraded image in "),
        (with_fractions, "target/000002.tif "),
        (wrong_size, "input/000002.png has 40×40 pixels and its clean image "),
        (grey, "input/000002.png is RGB and its clean image "),
        (cut_off, "target/000002.png is damaged"),
        (no_image, "input/000002.png is not an image of a known kind"),
        (no_partner, "input/000002.png has no clean image in "),
        (two_of_a_name, "have the same name when extension"),
        (identical, "in 1 pairs both images are the same, such as "),
        (trained_on, "1 clean images of Rain100L (test) are trained on in "),
        (other_task, "train holds GoPro (deblurring) and Rain13K (deraining)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, spoil, sentence: str) -> None:
    root = set_of(set_of(tmp_path, "train", numbers=range(4)), "test/Rain100L", numbers=range(10, 12))
    spoil(root)
    assert main(["data", "check", str(root)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    assert sentence in line
    assert str(root) in line or spoil is other_task


def test_all_shows_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    set_of(tmp_path, "train", numbers=range(14))
    for path in find_images(tmp_path / "train/target")[:13]:
        path.unlink()
    main(["data", "check", str(tmp_path)])
    assert "wrong: … and 3 more; --all shows them." in (shown := capsys.readouterr().out)
    assert shown.count("wrong: ") == 11
    main(["data", "check", "--all", str(tmp_path)])
    assert capsys.readouterr().out.count("wrong: ") == 13


@pytest.mark.parametrize("in_light", [True, False])
@pytest.mark.parametrize("name", ["GoPro", "HandShake-blur"])
def test_gamma_is_suspected_by_brightness(tmp_path: Path, in_light: bool, name: str) -> None:
    """Three photographs averaged along paths, in light or as stored; their stored means differ by a level or two."""
    for i, path in enumerate(find_images(PHOTOS)):
        sharp = read_rgb(path)
        kernel = path_kernel(shake_path(np.random.default_rng(i), 20, 0.5, 1))
        values = average(LIGHT[sharp] if in_light else sharp.astype(np.float32) / 255, kernel)
        blurred = np.clip(values, 0, 1) ** (1 / GAMMA if in_light else 1)
        write_rgb(tmp_path / name / "train/input" / f"{i}.png", np.rint(blurred * 255).astype(np.uint8))
        write_rgb(tmp_path / name / "train/target" / f"{i}.png", sharp)
    (report,), _ = check(tmp_path)
    assert any("blur_gamma" in fault for fault in report.faults) == (in_light and name == "GoPro")
    assert any("gamma suspected" in note for note in report.notes) == (in_light and name != "GoPro")


def test_packs_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pack = write_pack(find_pairs(make_pairs(tmp_path / "plain")), tmp_path / "pack")
    assert main(["data", "check", str(pack.folder)]) == 0
    path = pack.folder / Pack(pack.folder).shards[0].file
    data = bytearray(path.read_bytes())
    data[-9] ^= 255
    path.write_bytes(data)
    assert main(["data", "check", str(pack.folder)]) == 1
    assert f"wrong: {path} is damaged: its checksum is wrong" in capsys.readouterr().out


def test_two_folders_and_small_grey_images(tmp_path: Path) -> None:
    for side in ("mine", "theirs"):
        (tmp_path / side).mkdir()
        Image.fromarray(crops()[side == "mine"]).convert("L").save(tmp_path / side / "1.png")
    reports, faults = check(tmp_path / "mine", tmp_path / "theirs")
    assert not faults + reports[0].faults
    text = format_checked(reports, faults)
    assert "1 pairs are smaller than 256×256" in text
    assert f"2 images are grey, not RGB, such as {tmp_path / 'mine' / '1.png'}" in text


def test_no_pairs_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "check", str(tmp_path)]) == 1
    assert main(["data", "check"]) == 1
    assert main(["data", "check", "--input", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: No pairs at or below")
    assert lines[1] == lines[2] == "error: Name one folder of pairs, or --input and --target both."


def test_names_reach_the_terminal_escaped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    set_of(tmp_path, "a\x1b]0;owned\x07\nall fine", numbers=range(2))
    bad = next(tmp_path.glob("a*")) / "input" / "wrong: none\n\x1b[2J.png"
    bad.write_bytes(b"<html>404</html>")
    (bad.parent.parent / "target" / bad.name).write_bytes(b"<html>404</html>")
    assert main(["data", "check", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.replace("\n", "").isprintable() and not err
    assert sum(line.startswith("wrong: ") for line in out.splitlines()) == 2
    assert r"a\x1b]0;owned\x07\nall fine" in out and r"wrong: none\n\x1b[2J.png is not an image" in out
