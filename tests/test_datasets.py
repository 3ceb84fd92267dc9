"""Crops: right, aligned, and the same whatever loads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rooms import TrainingCrops, ValidationImages
from small import PHOTOS, crops, make_pairs
from torch.utils.data import DataLoader

from mhnet.data.crops import detail, pad_to
from mhnet.data.degrade import rain
from mhnet.data.pairs import PairError, find_pairs
from mhnet.data.sampling import EpochBatches, start_worker
from mhnet.data.sources import ImageFiles, MixedSource, PairSource, SharpSource
from mhnet.data.split import hold_out
from mhnet.images.listing import find_images
from mhnet.images.write import write_rgb
from mhnet.models.mhnet import pad_to_multiple


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels say where they are."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0 + 7], 2).astype(np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> PairSource:
    """Pairs whose degraded side tells each pixel's place and whose target is its negative."""
    for name, (height, width) in {"a": (90, 70), "b": (60, 200), "small": (20, 33)}.items():
        write_rgb(tmp_path / "input" / f"{name}.png", coordinates(height, width))
        write_rgb(tmp_path / "target" / f"{name}.png", 255 - coordinates(height, width))
    return PairSource(find_pairs(tmp_path))


def test_crops_are_aligned_within_the_image_and_in_all_8_ways(mapped):
    data = TrainingCrops(mapped, 48, seed=3)
    ways, corners = set(), set()
    for epoch in range(60):
        crop = data[epoch, 0]
        assert crop.shape == (2, 3, 48, 48)
        assert crop.dtype == torch.uint8
        assert torch.equal(crop[1], 255 - crop[0])
        rows, columns = crop[0, 0].int(), crop[0, 1].int()
        assert rows.max() - rows.min() == columns.max() - columns.min() == 47
        assert rows.max() < 90
        assert columns.max() < 70
        down, right = [(rows[i] - rows[0, 0], columns[i] - columns[0, 0]) for i in ((1, 0), (0, 1))]
        ways.add((*map(int, down), *map(int, right)))
        corners.add((int(rows.min()), int(columns.min())))
    assert len(ways) == 8
    assert len(corners) > 50
    assert len({top for top, _ in corners}) > 25
    assert len({left for _, left in corners}) > 15


def test_of_several_candidates_the_one_with_most_detail_is_taken(tmp_path):
    flat = np.full((64, 256, 3), 90, np.uint8)
    flat[:, 128:] = crops(128)[0][:64, :128]
    write_rgb(tmp_path / "half.png", flat)
    source = SharpSource([tmp_path / "half.png"], lambda image, random: image)
    means = [
        np.mean([detail(TrainingCrops(source, 48, 2, candidates=n)[epoch, 0][1].numpy().transpose(1, 2, 0)) > 1
                 for epoch in range(60)])
        for n in (1, 2, 4)
    ]  # fmt: skip
    assert means[0] < 0.75 < means[1] < means[2]


def test_candidates_of_pairs_are_aligned_and_drawn_from_the_same_numbers(tmp_path):
    for name, size in {"a": (90, 200), "b": (20, 33)}.items():
        image = coordinates(*size)
        image[:, 100:, 2] += np.random.default_rng(0).integers(0, 99, image[:, 100:, 2].shape, np.uint8)
        write_rgb(tmp_path / "input" / f"{name}.png", image)
        write_rgb(tmp_path / "target" / f"{name}.png", 255 - image)
    source = PairSource(find_pairs(tmp_path))
    one, three = (TrainingCrops(source, 48, seed=3, candidates=n) for n in (1, 3))
    for epoch in range(30):
        crop = three[epoch, 0]
        assert torch.equal(crop[1], 255 - crop[0])
    firsts = [int(one[epoch, 0][0, :2].sum()) == int(three[epoch, 0][0, :2].sum()) for epoch in range(30)]
    assert 0 < sum(firsts) < 30  # the first place, or a later one with more detail
    assert three[0, 1].shape == (2, 3, 48, 48)  # an image smaller than its patch


def test_small_images_are_padded_as_the_networks_pad():
    image = crops()[0][:20, :33]
    padded = pad_to(image, 48)
    wanted = pad_to_multiple(torch.from_numpy(image).permute(2, 0, 1)[None].float(), 48)
    np.testing.assert_array_equal(padded, wanted[0].permute(1, 2, 0).numpy())
    assert pad_to(image[:1, :1], 16).shape == (16, 16, 3)
    assert pad_to(padded, 30) is padded


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_samples_do_not_depend_on_the_number_of_workers(workers):
    source = MixedSource((SharpSource(find_images(PHOTOS), rain, ImageFiles(workers)), 4))
    data, batches = TrainingCrops(source, 32, seed=5), EpochBatches(12, 5, lambda _: 4)
    loader = DataLoader(
        data, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0, worker_init_fn=start_worker
    )
    seen = []
    for batches.epoch in (2, 3):
        seen.append(torch.cat(list(loader)))
        keys = [key for batch in batches for key in batch]
        assert sorted(keys) == [(batches.epoch, item) for item in range(12)]
        alone = torch.stack([TrainingCrops(source, 32, seed=5)[key] for key in keys])
        assert torch.equal(seen[-1], alone)
    assert not torch.equal(seen[0], seen[1])


def test_degraded_photographs_stay_aligned_with_their_targets():
    source = SharpSource(find_images(PHOTOS), rain)
    degraded, target = TrainingCrops(source, 64, seed=1)[0, 1].float()
    assert not torch.equal(degraded, target)
    assert np.corrcoef(degraded.flatten(), target.flatten())[0, 1] > 0.6


def test_validation_crops_are_central_and_always_the_same(mapped):
    data = ValidationImages(mapped, 48, seed=1)
    rows, columns = data[0][0, 0], data[0][0, 1]
    assert (rows[0, 0], rows[-1, 0], columns[0, 0], columns[0, -1]) == (21, 68, 11, 58)
    assert data[2].shape == (2, 3, 20, 33)
    assert ValidationImages(mapped, 0, seed=1)[1].shape == (2, 3, 60, 200)
    source = SharpSource(find_images(PHOTOS), rain)
    assert torch.equal(ValidationImages(source, 64, 1)[1], ValidationImages(source, 64, 1)[1])


def test_sizes_that_differ_are_named(tmp_path):
    make_pairs(tmp_path, count=2)
    write_rgb(tmp_path / "target" / "scene1-1.png", crops(40)[0])
    source = PairSource(find_pairs(tmp_path))
    with pytest.raises(PairError, match=r"scene1-1\.png"):
        TrainingCrops(source, 32, seed=0)[0, 1]


GOPRO = [f"GOPR0{scene}_11_00-{frame:06}" for scene in (372, 374, 378, 384) for frame in range(10)]


@pytest.mark.parametrize(
    ("names", "count", "held"),
    [
        (GOPRO, 5, [20, 22, 25, 27, 29]),  # a whole scene is held out, five of its frames are looked at
        ([f"one-{i:03}" for i in range(28)], 4, [24, 25, 26, 27]),  # one scene: its last frames
        ([f"train/target/{i}" for i in range(1, 101)], 4, [12, 37, 62, 87]),  # images that are no video
        (["lake", "cat", "otter"], 1, [1]),
    ],
)
def test_whole_scenes_are_held_out(names, count, held):
    training, validation = hold_out(names, count)
    assert len(validation) == count
    assert not set(training) & set(validation)
    scene = {name: name.rstrip("0123456789").rstrip("-") for name in names}
    if names is GOPRO:
        assert {scene[names[i]] for i in training}.isdisjoint({scene[names[i]] for i in validation})
        assert len(training) == 30
        assert len(validation) == len(held)
    else:
        assert validation == held
        assert sorted(training + validation) == list(range(len(names)))


@pytest.mark.parametrize("suffix", ["-{}", "_s{:03}"])
def test_crops_of_one_scene_stay_on_one_side(suffix):
    names = [f"train/target_crops/{frame}{suffix.format(crop)}" for frame in GOPRO for crop in (1, 2, 3)]
    training, validation = hold_out(names, 6)
    scenes = [{names[i].split("/")[-1][:13] for i in part} for part in (training, validation)]
    assert len(scenes[0]) == 3
    assert len(scenes[1]) == 1
    assert not scenes[0] & scenes[1]


@pytest.mark.parametrize(
    ("names", "count", "most_left_aside"),
    [
        ([f"IMG_{i:04}" for i in range(49)] + ["cat", "dog"], 5, 0),
        ([f"DSC_{i}" for i in range(49)] + [f"IMG_{i}" for i in range(49)], 5, 0),
        ([f"Rain13K/{i}" for i in range(1, 1371)] + [f"Rain800/{i}" for i in range(1, 81)], 32, 0),
        ([f"{i}" for i in range(1, 1371)] + ["1_a"], 32, 0),
        ([f"seq{scene}/sharp/{frame:06}" for scene in range(22) for frame in range(95)], 32, 63),
        ([f"target_crops/{image}-{crop}" for image in range(200) for crop in range(8)], 32, 0),
    ],
)
def test_little_is_left_aside(names, count, most_left_aside):
    training, validation = hold_out(names, count)
    assert len(validation) == count
    assert not set(training) & set(validation)
    assert len(names) - len(training) - len(validation) <= most_left_aside


@pytest.mark.parametrize("count", [3, 4])
def test_holding_out_everything_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} images cannot be held out of 3"):
        hold_out(["lake", "cat", "otter"], count)


def test_all_processes_and_parts_of_a_batch_make_the_batch():
    whole = EpochBatches(22, 7, lambda epoch: 8 if epoch < 3 else 4)
    for epoch, steps in ((0, 2), (3, 5)):
        whole.epoch = epoch
        assert [len(batch) for batch in whole] == [8 if epoch < 3 else 4] * steps
        shares = [EpochBatches(22, 7, whole.batch, 2, process, 2) for process in range(2)]
        for share in shares:
            share.epoch = epoch
        parts = [list(share) for share in shares]
        for step, batch in enumerate(whole):
            together = [key for part in (2 * step, 2 * step + 1) for process in parts for key in process[part]]
            assert together == batch
        whole.start = 1
        assert len(whole) == steps - 1
        assert [key for share in parts for key in share[2]][:2] == next(iter(whole))[:2]
        whole.start = 0
