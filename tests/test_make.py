"""Sets made on disk: degraded photographs with their record, and crops."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import PHOTOS, make_pairs

from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.data.blur import BlurParameters, Region
from mhnet.data.make import RECORD, cut_pairs, degrade_folder, starts
from mhnet.data.pack import is_pack
from mhnet.data.pairs import find_pairs
from mhnet.data.rain import RainParameters, Streaks
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["rain", "blur"])
def test_a_photograph_can_be_degraded_again_from_the_record(tmp_path: Path, kind: str) -> None:
    assert main(["data", "degrade", str(PHOTOS), str(tmp_path), "--kind", kind, "--seed", "3"]) == 0
    record = json.loads((tmp_path / RECORD).read_text())
    assert (record["kind"], record["seed"], record["severity"]) == (kind, 3, [0, 1])
    pairs = find_pairs(tmp_path)
    assert len(pairs) == len(record["images"]) == 3
    for pair in pairs:
        photo = read_rgb(PHOTOS / f"{pair.name}.jpg")
        noted = record["images"][pair.name]
        if kind == "rain":
            layers = tuple(Streaks(**layer) for layer in noted.pop("layers"))
            drawn = RainParameters(**{**noted, "layers": layers, "colour": tuple(noted["colour"])})
        else:
            region = noted.pop("region")
            drawn = BlurParameters(**noted, region=Region(**region) if region else None)
        np.testing.assert_array_equal(read_rgb(pair.target), photo)
        np.testing.assert_array_equal(read_rgb(pair.degraded), drawn.render(photo))


def test_severity_and_seed_count_and_the_other_photographs_do_not(tmp_path: Path) -> None:
    degrade_folder(PHOTOS, tmp_path / "all", "rain", severity=(0.2, 0.3), seed=1)
    write_rgb(tmp_path / "one" / "perched-osprey.bmp", read_rgb(PHOTOS / "perched-osprey.jpg"))
    degrade_folder(tmp_path / "one", tmp_path / "alone", "rain", severity=(0.2, 0.3), seed=1)
    noted = [json.loads((tmp_path / name / RECORD).read_text())["images"] for name in ("all", "alone")]
    assert all(0.2 <= one["severity"] <= 0.3 for one in noted[0].values())
    assert noted[0]["perched-osprey"] == noted[1]["perched-osprey"]
    degrade_folder(PHOTOS, tmp_path / "other", "rain", severity=(0.2, 0.3), seed=2)
    assert files(tmp_path / "other")["input/perched-osprey.png"] != files(tmp_path / "all")["input/perched-osprey.png"]


def test_a_stopped_run_goes_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    degrade_folder(PHOTOS, tmp_path, "blur", versions=2)
    whole = files(tmp_path)
    assert len(find_pairs(tmp_path)) == 6
    assert len(find_images(tmp_path / "target")) == 3
    kept = tmp_path / "input" / "lake-sherburne_1.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "input" / "lake-sherburne_2.png").unlink()
    (tmp_path / "target" / "perched-osprey.png").unlink()
    degrade_folder(PHOTOS, tmp_path, "blur", versions=2)
    assert files(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(MHNetError, match=r"parameters\.json tells of other photographs or settings"):
        degrade_folder(PHOTOS, tmp_path, "blur", versions=2, seed=1)


def test_wrong_ways_to_degrade(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    degrade = ["data", "degrade", str(tmp_path), str(tmp_path / "out"), "--kind", "rain"]
    assert main(degrade) == 1
    for name in ("a.png", "a.bmp"):
        write_rgb(tmp_path / name, read_rgb(PHOTOS / "perched-osprey.jpg")[:9, :9])
    assert main(degrade) == 1
    (tmp_path / "a.bmp").rename(tmp_path / "a_1.bmp")
    assert main([*degrade, "--versions", "2"]) == 1
    assert main([*degrade, "--severity", "0.5", "2"]) == 1
    errors = capsys.readouterr().err.splitlines()
    for line, sentence in zip(
        errors,
        ("holds no photographs", "differ in extension", "a_1.bmp has the name of another", "must be a range in [0, 1]"),
        strict=True,
    ):
        assert sentence in line


def test_starts() -> None:
    assert starts(1280, 512, 256) == [0, 256, 512, 768]
    assert starts(720, 512, 256) == [0, 208]
    assert starts(512, 512, 256) == starts(300, 512, 256) == [0]


def test_crops_cover_their_images_and_pair(tmp_path: Path) -> None:
    root = make_pairs(tmp_path / "plain", count=2)  # 72×72
    write_rgb(root / "input" / "scene1-1_x2.png", read_rgb(root / "input" / "scene1-1.png"))
    assert cut_pairs(find_pairs(root), tmp_path / "crops", 40, 20) == 3 * 9
    pairs = find_pairs(tmp_path / "crops")
    assert len(pairs) == 27
    assert pairs[0].degraded == tmp_path / "crops" / "input_crops" / "scene0-0_s001.png"
    whole = read_rgb(root / "target" / "scene0-0.png")
    seen = np.zeros((72, 72), int)
    for number, (top, left) in enumerate([(t, x) for t in (0, 20, 32) for x in (0, 20, 32)]):
        crop = read_rgb(pairs[number].target)
        np.testing.assert_array_equal(crop, whole[top : top + 40, left : left + 40])
        seen[top : top + 40, left : left + 40] += 1
    assert seen.min() > 0
    assert all(pair.target.name == pair.degraded.name for pair in pairs)


def test_crops_go_on_where_they_stopped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = make_pairs(tmp_path / "plain", count=2)
    command = ["data", "crops", str(root), str(tmp_path / "crops"), "--size", "40", "--step", "40"]
    assert main(command) == 0
    whole = files(tmp_path / "crops")
    (tmp_path / "crops" / "target_crops" / "scene1-1_s002.png").unlink()
    assert main(command) == 0
    assert files(tmp_path / "crops") == whole
    assert main([*command[:-1], "41"]) == 1
    assert "step 41 must be at least 1 and at most the size 40" in capsys.readouterr().err


def test_pairs_made_by_hand_are_packed_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = make_pairs(tmp_path, ("before", "after"), 3)
    sides = ["--input", str(root / "before"), "--target", str(root / "after")]
    assert main(["data", "pack", *sides, str(tmp_path / "pack")]) == 0
    assert is_pack(tmp_path / "pack")
    assert "3 pairs in 1 files" in capsys.readouterr().out
    assert main(["data", "crops", str(tmp_path / "pack"), str(tmp_path / "crops")]) == 1
    assert "is a pack already" in capsys.readouterr().err
