"""Rain as cameras film it, and pictures with nothing to remove: what lies on which side, and how streaks look."""

import cv2
import numpy as np
import pytest
from rooms import data
from small import ROOT, crops

from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DERAINING
from mhnet.data.camera import CameraParameters
from mhnet.data.degrade import filmed_rain, untouched
from mhnet.data.filmed import FilmedLayer, FilmedRainParameters
from mhnet.data.sources import Degradation, SharpSource
from mhnet.train.config import load_config
from mhnet.train.sources import find_degradation

PHOTO = np.concatenate(crops(96), axis=1)
STILL = CameraParameters((1.0, 1.0, 1.0), 0, 0.8, 0, "", 90, 1)
LAYER = FilmedLayer(length=15, width=2.3, angle=3, softness=0.5, coverage=0.03, added=0.14, broken=0.4)


def rain_of(**changes: object) -> FilmedRainParameters:
    given = {"severity": 0.5, "layers": (LAYER,), "light": 0.6, "veil": 0, "air": 0.8, "splashes": 0, "drops": 0,
             "camera": STILL, "seed": 7} | changes  # fmt: skip
    return FilmedRainParameters(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("degrade", [filmed_rain, untouched])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 5), (96, 160)])
def test_both_sides_are_images_of_the_same_size_and_repeat(degrade, size):
    image = np.ascontiguousarray(PHOTO[: size[0], : size[1]])
    kept = image.copy()
    for seed in range(8):
        sides = degrade(image, np.random.default_rng(seed))
        again = degrade(image, np.random.default_rng(seed))
        assert all(np.array_equal(one, other) for one, other in zip(sides, again, strict=True))
        assert all(side.dtype == np.uint8 and side.shape == image.shape for side in sides)
    assert np.array_equal(image, kept)
    with pytest.raises(ValueError, match="severity must be a range"):
        degrade(image, np.random.default_rng(0), severity=(0.5, 2))


def test_nothing_is_to_be_removed_from_an_untouched_picture():
    changed = 0
    for seed in range(20):
        taken, target = untouched(PHOTO, np.random.default_rng(seed))
        assert np.array_equal(taken, target)
        changed += not np.array_equal(taken, PHOTO)
    assert changed > 10
    assert np.array_equal(untouched(PHOTO, np.random.default_rng(0), severity=(0, 0))[0], PHOTO)


def test_what_the_camera_does_lies_on_both_sides():
    camera = CameraParameters((1.3, 1.1, 0.9), 0.8, 0.9, 3.0, ".jpg", 60, 5)
    rainy, target = rain_of(camera=camera).render(PHOTO)
    dry = rain_of(camera=camera, layers=()).render(PHOTO)
    assert np.array_equal(*dry) and np.array_equal(dry[1], target)  # the same noise and compression without rain
    assert np.abs(target.astype(int) - PHOTO).mean() > 5
    assert np.abs(rainy.astype(int) - target).mean() > 0.5


def test_veils_splashes_and_drops_are_removed():
    for changes in ({"veil": 1.0}, {"splashes": 0.05}, {"drops": 5}):
        rainy, target = rain_of(layers=(), **changes).render(PHOTO)
        assert np.array_equal(target, PHOTO) and not np.array_equal(rainy, PHOTO)


def test_in_rain_what_looks_like_fog_is_to_be_removed():
    drawn = [FilmedRainParameters.draw(np.random.default_rng(seed), 1) for seed in range(40)]
    assert not any(one.camera.fog for one in drawn) and 15 < sum(one.veil > 0 for one in drawn) < 33
    assert any(CameraParameters.draw(np.random.default_rng(seed), 1).fog for seed in range(40))


def test_streaks_have_the_sizes_and_directions_that_were_filmed():
    """Against the table of filmed rain: length 9 to 95 pixels (median 13 to 19), width 1.3 to 12.6 (2 to 4), added
    brightness 17 to 57 of 255 (23 to 37), within about 10 degrees of one direction."""
    grey, found = np.full((512, 512, 3), 90, np.uint8), []
    for seed in range(6):
        random = np.random.default_rng(seed)
        drawn = FilmedRainParameters.draw(random, 0.3)
        made = rain_of(layers=drawn.layers, light=drawn.light, seed=seed)
        rainy, target = made.render(grey)
        added = rainy.astype(int).mean(2) - target.mean(2)
        count, labels, *_ = cv2.connectedComponentsWithStats((added > 14).astype(np.uint8))
        for i in range(1, count):
            y, x = np.nonzero(labels == i)
            if len(y) >= 6:
                (_, _), sides, _ = cv2.minAreaRect(np.stack([x, y], 1).astype(np.float32))
                found.append((max(sides) + 1, len(y) / (max(sides) + 1), float(np.median(added[y, x]))))
    length, width, brightness = np.median(np.array(found), axis=0)
    assert len(found) > 100
    assert 8 <= length <= 25 and 1.3 <= width <= 5 and 17 <= brightness <= 50


def test_rain_takes_the_light_around_it_and_hides_what_is_behind():
    bright, dark = (np.full((96, 96, 3), value, np.uint8) for value in (200, 40))
    gains = [rain_of().render(image)[0].astype(int).mean() - image.mean() for image in (bright, dark)]
    assert all(0 < gain < 10 for gain in gains)
    heavy = FilmedLayer(length=15, width=3, angle=0, softness=0.4, coverage=0.5, added=0.4, broken=0)
    striped = np.repeat(np.arange(96)[:, None] // 8 % 2 * 60 + 90, 96, 1).astype(np.uint8)[..., None].repeat(3, 2)
    rainy = rain_of(layers=(heavy,)).render(striped)[0].astype(int).mean(1)
    assert rainy[8:88].std() < striped.mean(1)[8:88].std()


def named(written: str) -> Degradation:
    """What DATA.DEGRADE names, among degradations that give pictures of one value."""
    kinds = {name: (lambda image, random, severity, value=value: np.full_like(image, value))
             for value, name in enumerate(("rain", "blur", "untouched"))}  # fmt: skip
    settings = load_config(DERAINING, ROOT / "Deraining" / "training.yml", ["DATA.DEGRADE", written])
    return find_degradation(settings, kinds)


def test_shares_of_a_mixture_are_kept():
    random = np.random.default_rng(0)
    degrade = named("rain 2, untouched 1")
    drawn = [int(np.asarray(degrade(PHOTO[:1, :1], random)).max()) for _ in range(600)]
    assert set(drawn) == {0, 2} and 350 < drawn.count(0) < 450
    assert np.asarray(named("blur")(PHOTO[:1, :1], random)).max() == 1


@pytest.mark.parametrize("written", ["rain 1, blur", "rain 0, blur 1", "rain x, blur 1", "rain 2", "rain -1, blur 2",
                                     "rain nan, blur 1", "snow 1, rain 1", "rain,", ","])  # fmt: skip
def test_a_mixture_that_is_none_is_refused(written):
    with pytest.raises(MHNetError, match=r"DATA\.DEGRADE is"):
        named(written)


def test_a_source_takes_one_side_or_both():
    random = np.random.default_rng(0)
    one = SharpSource([], lambda image, _: image + 1)
    both = SharpSource([], lambda image, _: (image + 1, image + 2))
    assert [side[0, 0, 0] for side in one.finish(0, [np.zeros((2, 2, 3))], random)] == [1, 0]
    assert [side[0, 0, 0] for side in both.finish(0, [np.zeros((2, 2, 3))], random)] == [1, 2]
    assert set(data.DEGRADATIONS) == {"rain", "blur", "filmed_rain", "untouched"}
