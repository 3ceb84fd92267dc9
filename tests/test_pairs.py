"""Finding pairs: every layout that people have on disk, and every way in which names can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import crops

from mhnet.core.errors import MHNetError
from mhnet.data.pairs import PairError, check_pairs, find_pairs, find_sides, match_folders, pair_folders
from mhnet.images.write import write_rgb

PICTURE = crops(12)[0][:2, :3]  # of a photograph


def tree(root: Path, *names: str) -> Path:
    """Makes small real images of these names below a folder; `{a,b}` in a name stands for both."""
    for name in names:
        if "{" in name:
            before, rest = name.split("{", 1)
            choices, after = rest.split("}", 1)
            tree(root, *(before + choice + after for choice in choices.split(",")))
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_rgb((root / name).with_suffix(".bmp"), PICTURE)
            (root / name).with_suffix(".bmp").replace(root / name)
    return root


def found(root: Path, split: str | None = None) -> list[tuple[str, str, str]]:
    pairs = find_pairs(root, split)
    return [(p.name, p.degraded.relative_to(root).as_posix(), p.target.relative_to(root).as_posix()) for p in pairs]


GOPRO = "GOPR0384_11_00-000285.png"

LAYOUTS = {
    "MPRNet deblurring": (
        ["GoPro/{train,test}/{input,target}/" + GOPRO],
        "test",
        [("GoPro/GOPR0384_11_00-000285", f"GoPro/test/input/{GOPRO}", f"GoPro/test/target/{GOPRO}")],
    ),
    "MPRNet deraining, train": (
        ["train/{input,target}/7.jpg", "test/{Test100,Rain100L}/{input,target}/1.png"],
        "train",
        [("7", "train/input/7.jpg", "train/target/7.jpg")],
    ),
    "MPRNet deraining, test": (
        ["train/{input,target}/7.jpg", "test/{Test100,Rain100L}/{input,target}/1.png"],
        "test",
        [
            ("Rain100L/1", "test/Rain100L/input/1.png", "test/Rain100L/target/1.png"),
            ("Test100/1", "test/Test100/input/1.png", "test/Test100/target/1.png"),
        ],
    ),
    "Restormer": (
        ["train/GoPro/{input_crops,target_crops}/a-1.png", "val/GoPro/{input_crops,target_crops}/a-2.png"],
        "val",
        [("GoPro/a-2", "val/GoPro/input_crops/a-2.png", "val/GoPro/target_crops/a-2.png")],
    ),
    "NAFNet, crops": (
        ["{blur_crops,sharp_crops}/a_s001.png"],
        None,
        [("a_s001", "blur_crops/a_s001.png", "sharp_crops/a_s001.png")],
    ),
    "NAFNet, crops beside whole images": (
        ["{input,target}/a.png", "{blur_crops,sharp_crops}/a_s001.png"],
        None,
        [("a", "input/a.png", "target/a.png")],
    ),
    "MIMO-UNet": (
        ["GOPRO/{train,test}/{blur,sharp}/GOPR0384_11_00_000285.png"],
        "train",
        [
            (
                "GOPRO/GOPR0384_11_00_000285",
                "GOPRO/train/blur/GOPR0384_11_00_000285.png",
                "GOPRO/train/sharp/GOPR0384_11_00_000285.png",
            )
        ],
    ),
    "raw GoPro": (
        ["test/{s10,s2}/{blur,blur_gamma,sharp}/000001.png"],
        None,
        [
            ("test/s2/000001", "test/s2/blur/000001.png", "test/s2/sharp/000001.png"),
            ("test/s10/000001", "test/s10/blur/000001.png", "test/s10/sharp/000001.png"),
        ],
    ),
    "PReNet, rainy": (
        ["rainy/rain-{001,002}.png", "norain-{001,002}.png", "{rainstreak,rainregion}-001.png"],
        None,
        [("rain-001", "rainy/rain-001.png", "norain-001.png"), ("rain-002", "rainy/rain-002.png", "norain-002.png")],
    ),
    "PReNet, one folder": (
        ["{rain,norain,rainstreak}-1.png"],
        None,
        [("rain-1", "rain-1.png", "norain-1.png")],
    ),
    "PReNet, folders": (
        ["Rain12/rain/{rain,rainstreak}-1.png", "Rain12/norain/norain-1.png"],
        None,
        [("Rain12/rain-1", "Rain12/rain/rain-1.png", "Rain12/norain/norain-1.png")],
    ),
    "raw RealBlur": (
        ["scene050/{blur/blur,gt/gt}_{1,2}.png"],
        None,
        [
            ("scene050/blur_1", "scene050/blur/blur_1.png", "scene050/gt/gt_1.png"),
            ("scene050/blur_2", "scene050/blur/blur_2.png", "scene050/gt/gt_2.png"),
        ],
    ),
    "MPRNet deraining, Synthetic_Rain_Datasets": (
        ["Synthetic_Rain_Datasets/{train,test/Test1200,test/Test2800}/{input,target}/9.jpg"],
        "train",
        [
            (
                "Synthetic_Rain_Datasets/9",
                "Synthetic_Rain_Datasets/train/input/9.jpg",
                "Synthetic_Rain_Datasets/train/target/9.jpg",
            )
        ],
    ),
    "Restormer, Rain13K": (
        ["train/Rain13K/{input,target}/7.jpg", "test/Rain100H/{input,target}/1.png"],
        "train",
        [("Rain13K/7", "train/Rain13K/input/7.jpg", "train/Rain13K/target/7.jpg")],
    ),
    "NAFNet, train and test": (
        ["GoPro/train/{blur_crops,sharp_crops}/a_s001.png", "GoPro/test/{input,target}/b.png"],
        "train",
        [("GoPro/a_s001", "GoPro/train/blur_crops/a_s001.png", "GoPro/train/sharp_crops/a_s001.png")],
    ),
    "HINet, Rain13k": (
        ["Rain13k/{train,test/Rain100L}/{input,target}/4.png"],
        "test",
        [("Rain13k/Rain100L/4", "Rain13k/test/Rain100L/input/4.png", "Rain13k/test/Rain100L/target/4.png")],
    ),
    "subfolders in the sides": (
        ["{LQ,GT}/day/{2,10}.png", "{LQ,GT}/night/2.png"],
        None,
        [
            ("day/2", "LQ/day/2.png", "GT/day/2.png"),
            ("day/10", "LQ/day/10.png", "GT/day/10.png"),
            ("night/2", "LQ/night/2.png", "GT/night/2.png"),
        ],
    ),
    "a side's name on the way down": (
        ["rain/heavy/{degraded,clean}/1.png"],
        None,
        [("rain/heavy/1", "rain/heavy/degraded/1.png", "rain/heavy/clean/1.png")],
    ),
}


@pytest.mark.parametrize(("names", "split", "pairs"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path: Path, names: list[str], split: str | None, pairs: list[tuple[str, str, str]]) -> None:
    assert found(tree(tmp_path, *names), split) == pairs


@pytest.mark.parametrize(
    ("degraded", "target"),
    [
        ("a-1.png", "a_1.png"),
        ("A.PNG", "a.jpg"),
        ("rain-001.png", "norain-001.jpg"),
        ("blur_1.png", "gt_1.png"),
        ("Rain-1.webp", "1.tif"),
        ("12_x2.png", "12.png"),
        ("901_14.jpg", "901.jpg"),
        ("rain-7-heavy.png", "norain-7.png"),
        ("gru\u0308n.png", "gr\u00fcn.png"),
        ("v1.2.png", "v1.2.bmp"),
    ],
)
def test_names_that_belong_together(tmp_path: Path, degraded: str, target: str) -> None:
    root = tree(tmp_path, f"input/{degraded}", f"target/{target}", "target/0.png", "target/rainbow.png")
    pairs, _, unused = match_folders(root / "input", root / "target")
    assert [(pair.degraded.name, pair.target.name) for pair in pairs] == [(degraded, target)]
    assert {path.name for path in unused} == (set() if "norain" in target else {"0.png", "rainbow.png"})


def test_of_the_wanted_images_alone(tmp_path: Path) -> None:
    root = tree(tmp_path, "input/1.jpg", "input/2.jpg", "input/2.png", "target/1.png", "target/2.png")
    with pytest.raises(PairError, match="have the same name"):
        match_folders(root / "input", root / "target")
    found = match_folders(root / "input", root / "target", {root / "input" / "1.jpg"})
    assert [(pair.degraded.name, pair.target.name) for pair in found.pairs] == [("1.jpg", "1.png")]
    assert found.without_target == []


@pytest.mark.parametrize(
    ("degraded", "target"),
    [("12x2.png", "12.png"), ("rainbow.png", "bow.png"), ("1.png", "01.png"), ("12.png", "12_x2.png")],
)
def test_names_that_do_not(tmp_path: Path, degraded: str, target: str) -> None:
    root = tree(tmp_path, f"input/{degraded}", f"target/{target}")
    with pytest.raises(PairError, match=rf"No image in .*target has the name of .*{degraded}"):
        find_pairs(root)


def test_one_clean_image_serves_several_and_the_longest_name_wins(tmp_path: Path) -> None:
    root = tree(tmp_path, "rain/{1,1_x2,1_x10,1_2_x2}.png", "clean/{1,1_2}.png")
    assert [(pair.name, pair.target.stem) for pair in find_pairs(root)] == [
        ("1", "1"),
        ("1_2_x2", "1_2"),
        ("1_x2", "1"),
        ("1_x10", "1"),
    ]


def test_equal_names_come_before_stripped_ones(tmp_path: Path) -> None:
    root = tree(tmp_path, "{input,target}/{rain-forest,forest}.png")
    assert all(pair.degraded.name == pair.target.name for pair in find_pairs(root))


@pytest.mark.parametrize(
    "names",
    [
        ["input/1.{png,jpg}", "target/1.png"],
        ["input/a{-,_}1.png", "target/a-1.png"],
        ["input/{rain-1,1}.png", "target/1.png"],
        ["input/1.png", "target/1.{png,jpg}"],
        ["input/rain-1.png", "target/{gt-1,blur_1}.png"],
        ["input/1-x2.png", "target/1.{png,jpg}"],
    ],
)
def test_ambiguous_names_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(PairError, match=r"1\.\w+ and .*1\.\w+ have the same name"):
        find_pairs(tree(tmp_path, *names))


def test_missing_clean_images_are_named_and_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "input/{1,2,3,4,5}.png", "target/3.png")
    with pytest.raises(PairError, match=r"input/1\.png, .*input/2\.png, .*input/4\.png and 1 more"):
        find_pairs(root)


def test_missing_degraded_images_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path, "input/1.png", "target/{1,2}.png")
    (root / "input" / "2.png").mkdir()
    with pytest.raises(PairError, match=r"No image in .*input has the name of .*target/2\.png; add it there"):
        find_pairs(root)


def test_splits(tmp_path: Path) -> None:
    both = tree(tmp_path / "both", "{train,test}/{input,target}/1.png")
    with pytest.raises(PairError, match="holds test and train; name the split"):
        find_pairs(both)
    with pytest.raises(PairError, match="holds pairs for test and train but none in a folder 'val'"):
        find_pairs(both, "val")
    with pytest.raises(PairError, match="no split 'tset'; use one of train, val, test"):
        find_pairs(both, "tset")
    own = tree(tmp_path / "own", "{input,target}/1.png")
    assert len(find_pairs(own, "train")) == len(find_pairs(own, "test")) == 1


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(MHNetError, match=r"no folder .*nowhere"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(PairError, match=r"No pairs at or below .* input, blur, .* beside one of target, sharp"):
        find_pairs(tree(tmp_path / "one side", "input/1.png", "blur_gamma/1.png"))
    (tmp_path / "empty" / "input").mkdir(parents=True)
    (tmp_path / "empty" / "target").mkdir()
    with pytest.raises(PairError, match=r"no images in .*input"):
        find_pairs(tmp_path / "empty")
    with pytest.raises(PairError, match=r"several sides holds blur and input for one side"):
        find_pairs(tree(tmp_path / "several sides", "{blur,input,sharp}/1.png"))
    with pytest.raises(MHNetError, match=r"no folder .*results"):
        pair_folders(tmp_path / "results", tmp_path / "empty")


def test_results_are_paired_with_prenets_clean_images(tmp_path: Path) -> None:
    root = tree(tmp_path, "Rain100H/{rainy/rain,rain,norain}-1.png", "results/rain-1.png")
    assert [pair.target.name for pair in pair_folders(root / "results", root / "Rain100H")] == ["norain-1.png"]
    assert match_folders(root / "results", root / "Rain100H").without_input == []


def test_a_folder_pairs_with_itself(tmp_path: Path) -> None:
    root = tree(tmp_path, "norain-{1,2}.png")
    assert [(pair.degraded.name, pair.target.name) for pair in pair_folders(root, root)] == [
        ("norain-1.png", "norain-1.png"),
        ("norain-2.png", "norain-2.png"),
    ]


def test_find_sides(tmp_path: Path) -> None:
    root = tree(tmp_path, "set 10/{Input,Target}/1.png", "set 2/{lq,hq}/1.png", ".trash/{input,target}/1.png")
    assert [sides.holder.name for sides in find_sides(root)] == ["set 2", "set 10"]


def test_sizes_that_differ_name_both_files(tmp_path: Path) -> None:
    root = tree(tmp_path, "{input,target}/{1,2}.png")
    check_pairs(find_pairs(root))
    write_rgb(root / "target" / "2.png", np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(PairError, match=r"input/2\.png has 2×3 pixels and its clean image .*target/2\.png 2×4"):
        check_pairs(find_pairs(root))


def test_grey_beside_colour_names_both_files(tmp_path: Path) -> None:
    root = tree(tmp_path, "{input,target}/1.png")
    Image.new("L", (3, 2)).save(root / "target" / "1.png")
    with pytest.raises(PairError, match=r"input/1\.png is RGB and its clean image .*target/1\.png grey"):
        check_pairs(find_pairs(root))


def test_numbers_with_a_fraction_are_told_as_that(tmp_path: Path) -> None:
    root = tree(tmp_path, "{input,target}/1.png")
    (root / "target" / "1.png").unlink()
    Image.new("F", (3, 2)).save(root / "target" / "1.tif")
    with pytest.raises(PairError, match=r"target/1\.tif holds numbers with a fraction; export it again"):
        check_pairs(find_pairs(root))


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, "{input,target}/1.png")
    (root / "input" / "1.png").write_bytes(b"<html>404</html>")
    with pytest.raises(MHNetError, match=r"input/1\.png is not an image of a known kind"):
        check_pairs(find_pairs(root))


def test_prefixes_need_no_separator_before_a_number(tmp_path: Path) -> None:
    for number in (1, 2):
        for name in (f"rain{number:03}", f"norain{number:03}"):
            write_rgb(tmp_path / "loose" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
        write_rgb(tmp_path / "sides" / "rain" / f"rain{number:03}.png", np.zeros((2, 2, 3), np.uint8))
        write_rgb(tmp_path / "sides" / "norain" / f"norain{number:03}.png", np.zeros((2, 2, 3), np.uint8))
    for layout in ("loose", "sides"):
        found = [(pair.degraded.name, pair.target.name) for pair in find_pairs(tmp_path / layout)]
        assert found == [("rain001.png", "norain001.png"), ("rain002.png", "norain002.png")]
