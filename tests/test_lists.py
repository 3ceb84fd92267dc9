"""RealBlur's list files."""

import itertools
from pathlib import Path

import pytest
from small import crops

from mhnet.data.pairs import PairError, find_pairs
from mhnet.images.write import write_rgb


def listed(root: Path, name: str, *scenes: str) -> Path:
    """Writes one of RealBlur's list files: lines of a clean image and its blurred one."""
    lines = [f"{place}/gt/gt_{n}.png {place}/blur/blur_{n}.png " for place in scenes for n in (1, 2)]
    (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def realblur(tmp_path: Path) -> Path:
    """RealBlur-J as it is downloaded: three scenes, and lists that part them."""
    root = tmp_path / "RealBlur"
    for scene, side, n in itertools.product(("001", "002", "003"), ("blur", "gt"), (1, 2)):
        write_rgb(root / "RealBlur-J_ECC" / f"scene{scene}" / side / f"{side}_{n}.png", crops(12)[n])
    scenes = [f"RealBlur-J_ECC/scene{number}" for number in ("001", "002", "003")]
    listed(root, "RealBlur_J_train_list.txt", *scenes[:1])
    return listed(root, "RealBlur_J_test_list.txt", scenes[1])


def test_realblurs_lists_part_its_scenes(realblur: Path) -> None:
    names = [f"RealBlur-J_ECC/scene001/blur_{n}" for n in (1, 2)]
    assert [pair.name for pair in find_pairs(realblur, "train")] == names
    for pair in find_pairs(realblur, "test"):
        assert pair.target == pair.degraded.parent.parent / "gt" / pair.degraded.name.replace("blur", "gt")
        assert "scene002" in pair.name
    with pytest.raises(PairError, match="holds test and train; name the split"):
        find_pairs(realblur)


def test_realblurs_lists_count_beside_the_named_folder_too(realblur: Path) -> None:
    inner = realblur / "RealBlur-J_ECC"
    assert [pair.name for pair in find_pairs(inner, "test")] == ["scene002/blur_1", "scene002/blur_2"]
    assert find_pairs(inner, "test")[0].degraded == inner / "scene002" / "blur" / "blur_1.png"


def test_realblurs_lists_name_what_is_missing(realblur: Path) -> None:
    (realblur / "RealBlur-J_ECC/scene002/gt/gt_2.png").unlink()
    with pytest.raises(PairError, match=r"RealBlur_J_test_list\.txt names .*gt_2\.png, which is missing"):
        find_pairs(realblur, "test")
    (realblur / "RealBlur_J_test_list.txt").write_text("scene002/blur/blur_1.png scene002/blur/blur_2.png\n")
    with pytest.raises(PairError, match=r"test_list\.txt, line 1, names no clean image and its blurred one"):
        find_pairs(realblur, "test")


def test_realblurs_scenes_are_found_from_inside_their_folder(realblur: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(realblur / "RealBlur-J_ECC")
    assert [pair.name for pair in find_pairs(".", "train")] == ["scene001/blur_1", "scene001/blur_2"]
