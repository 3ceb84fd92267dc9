"""Rain and blur: the same for a seed, as heavy as asked, aligned, and physically right."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mhnet.data.blur import LIGHT, BlurParameters, Region, average, path_kernel, region_mask, shake_path
from mhnet.data.degrade import blur, rain
from mhnet.data.rain import LOOKS, RainParameters, Streaks, smooth_field, streak_layer, streak_profile

PHOTOS = [np.asarray(Image.open(path)) for path in sorted((Path(__file__).parent / "data" / "photos").glob("*.jpg"))]
both = pytest.mark.parametrize("degrade", [rain, blur])


def psnr_y(degraded: np.ndarray, sharp: np.ndarray) -> float:
    weights = np.array([65.481, 128.553, 24.966]) / 255
    error = np.mean(np.square((degraded.astype(float) - sharp) @ weights))
    return 10 * math.log10(255**2 / max(error, 1e-3))


def scores(degrade, severity, draws: int) -> np.ndarray:
    random = np.random.default_rng(5)
    return np.array(
        [psnr_y(degrade(photo, random, severity=severity), photo) for _ in range(draws) for photo in PHOTOS]
    )


@both
def test_same_seed_same_bytes_and_input_untouched(degrade):
    assert len(PHOTOS) == 3
    for seed in range(8):
        photo = PHOTOS[0].copy()
        first = degrade(photo, np.random.default_rng(seed))
        assert np.array_equal(photo, PHOTOS[0])
        assert np.array_equal(first, degrade(photo, np.random.default_rng(seed)))
        assert not np.array_equal(first, degrade(photo, np.random.default_rng(seed + 100)))


@both
def test_a_view_gives_what_its_copy_gives(degrade):
    view = PHOTOS[0][::-1, 3:100:2].swapaxes(0, 1)
    found = degrade(view, np.random.default_rng(1))
    assert np.array_equal(found, degrade(view.copy(order="C"), np.random.default_rng(1)))
    assert found.flags.c_contiguous


@both
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (7, 5), (33, 161)])
def test_any_size(degrade, size):
    image = np.full((*size, 3), 90, np.uint8)
    for seed in range(12):
        result = degrade(image, np.random.default_rng(seed))
        assert result.dtype == np.uint8
        assert result.shape == image.shape
        assert result.flags.c_contiguous


@pytest.mark.parametrize("parameters", [RainParameters, BlurParameters])
def test_parameters_alone_decide(parameters):
    drawn = parameters.draw(np.random.default_rng(3), 0.5)
    assert np.array_equal(drawn.render(PHOTOS[1]), drawn.render(PHOTOS[1]))
    other = dataclasses.replace(drawn, seed=drawn.seed + 1)
    assert not np.array_equal(drawn.render(PHOTOS[1]), other.render(PHOTOS[1]))


@both
@pytest.mark.parametrize("severity", [(-0.1, 0.5), (0.5, 1.1), (0.7, 0.3), (math.nan, 1.0), (0.5,)])
def test_bad_severity(degrade, severity):
    with pytest.raises(ValueError, match="severity must be a range"):
        degrade(PHOTOS[0], np.random.default_rng(0), severity=severity)


@both
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_bad_image(degrade, image):
    with pytest.raises(ValueError, match=r"must be uint8 H×W×3 .* not (float32|uint8) of shape"):
        degrade(image, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("degrade", "severity", "low", "high"),
    [
        (rain, (0.0, 0.0), 29, 34),
        (rain, (0.3, 0.3), 23, 28),
        (rain, (1.0, 1.0), 11.5, 15.5),
        (blur, (0.0, 0.0), 31, 43),
        (blur, (0.5, 0.5), 22, 29),
        (blur, (1.0, 1.0), 18, 26),
    ],
)
def test_severity_gives_its_psnr(degrade, severity, low, high):
    assert low < scores(degrade, severity, 25).mean() < high


@both
def test_heavier_is_worse_on_average(degrade):
    means = [scores(degrade, (level, level), 16).mean() for level in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert all(lighter > heavier for lighter, heavier in itertools.pairwise(means)), means


def test_rain_by_default_is_a_third_light_and_reaches_both_ends():
    drawn = scores(rain, (0.0, 1.0), 60)
    assert 0.27 < (drawn > 25).mean() < 0.45
    assert np.quantile(drawn, 0.95) > 29
    assert np.quantile(drawn, 0.05) < 15


def test_rain_varies():
    random = np.random.default_rng(0)
    draws = [RainParameters.draw(random, random.uniform()) for _ in range(300)]
    assert {drawn.look for drawn in draws} == set(LOOKS)
    assert {drawn.blend for drawn in draws} == {"add", "screen", "cover"}
    assert {len(drawn.layers) for drawn in draws} == {1, 2, 3, 4}
    angles = np.array([layer.angle for drawn in draws for layer in drawn.layers])
    assert 0.7 < (np.abs(angles) < 30).mean() < 0.95
    assert (np.histogram(angles, 6, (-30, 30))[0] > len(angles) / 20).all()
    assert np.abs(angles).max() > 40
    near, far = (
        [layer for drawn in draws for layer in drawn.layers if chosen(layer.length)]
        for chosen in (lambda length: length > 40, lambda length: length < 20)
    )
    assert np.mean([layer.width for layer in near]) > 1.5 * np.mean([layer.width for layer in far])
    assert np.median([layer.density for layer in near]) < np.median([layer.density for layer in far])


@pytest.mark.parametrize("angle", [-50, -20, 0, 35])
def test_streaks_lie_along_their_angle(angle):
    layer = streak_layer(np.random.default_rng(0), 300, 300, Streaks(60, 3, angle, 1.5, 0.001, 0.8))
    down, right = np.gradient(layer)
    # The direction in which the layer changes least, from the structure tensor.
    least = np.arctan2(2 * (right * down).sum(), (right**2).sum() - (down**2).sum()) / 2 + math.pi / 2
    lean = 90 - math.degrees(least)  # 0 is vertical, positive leans down to the right
    assert abs((lean - angle + 90) % 180 - 90) < 4


def test_streaks_cross_the_borders():
    """As much rain in the outermost rows and columns as in the middle."""
    streaks = Streaks(50, 2, 20, 0, 0.002, 0.8)
    mean = np.mean([streak_layer(np.random.default_rng(seed), 64, 64, streaks) for seed in range(200)], axis=0)
    for border in (mean[0], mean[-1], mean[:, 0], mean[:, -1]):
        assert border.mean() == pytest.approx(mean.mean(), rel=0.15)


def test_density_gives_the_mean_square_that_was_asked_for():
    """Campbell's theorem, as RainParameters.draw uses it: all the error of rain without haze is in its layers."""
    found, wanted = [], []
    for seed in range(60):
        drawn = RainParameters.draw(np.random.default_rng(seed), 0.3)
        random = np.random.default_rng(seed)
        streaks = 10 ** -(3.25 - 1.85 * 0.3) - drawn.haze**2 * 0.2
        wanted.append(streaks / 0.3)
        found.append(sum(np.mean(streak_layer(random, 200, 200, layer) ** 2) for layer in drawn.layers))
    assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.2)


def test_profile_is_as_long_and_wide_as_asked():
    upright = streak_profile(31, 3, 0)
    assert upright.max() == pytest.approx(1, abs=1e-3)
    assert (upright > 0.01).sum(0).max() == pytest.approx(31, abs=1)
    assert (upright > 0.01).sum(1).max() == 3
    slanted = streak_profile(31, 3, 40)
    assert slanted.sum() == pytest.approx(upright.sum(), rel=0.03)


@pytest.mark.parametrize(
    ("blend", "wanted"), [("add", 0.4 + 0.5 * 0.8), ("screen", 1 - 0.6 * 0.6), ("cover", 0.4 * 0.5 + 0.8 * 0.5)]
)
def test_blends(monkeypatch, blend, wanted):
    monkeypatch.setattr("mhnet.data.rain.streak_layer", lambda *_: np.full((4, 4), 0.5, np.float32))
    layer = Streaks(10, 1, 0, 0, 0.01, 1)
    drawn = RainParameters(0, "fine", blend, (layer,), (0.8, 0.8, 0.8), haze=0, air=0.9, seed=0)
    assert np.unique(drawn.render(np.full((4, 4, 3), 102, np.uint8))).tolist() == [round(wanted * 255)]


def test_haze_brightens_smoothly():
    drawn = RainParameters(1, "soft", "add", (), (1, 1, 1), haze=0.3, air=0.8, seed=1)
    veiled = drawn.render(np.full((500, 700, 3), 40, np.uint8)).astype(int)
    assert veiled.mean() == pytest.approx(40 + 0.3 * (0.8 * 255 - 40), rel=0.25)
    assert veiled.std() > 3
    assert max(np.abs(np.diff(veiled, axis=axis)).max() for axis in (0, 1)) <= 2
    field = smooth_field(np.random.default_rng(0), 300, 400, 50)
    assert field.shape == (300, 400)


def test_kernels_sum_to_one_and_are_centred():
    for seed in range(50):
        random = np.random.default_rng(seed)
        extent = random.uniform(0.5, 35)
        kernel = path_kernel(shake_path(random, extent, random.uniform(), random.uniform(0, 3)))
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert kernel.min() >= 0
        half = kernel.shape[0] // 2
        offsets = np.arange(-half, half + 1)
        assert abs((kernel.sum(0) * offsets).sum()) < 1e-3
        assert abs((kernel.sum(1) * offsets).sum()) < 1e-3
        rows, columns = np.nonzero(kernel > 1e-6)
        assert extent - 3 < math.hypot(np.ptp(rows), np.ptp(columns)) < extent + 3


def test_inertia_sweeps_and_its_lack_wanders():
    def straightness(inertia: float) -> float:
        found = []
        for seed in range(40):
            path = shake_path(np.random.default_rng(seed), 20, inertia, 0)
            spread = np.linalg.svd(path, compute_uv=False)
            found.append(spread[1] / spread[0])
        return float(np.mean(found))

    assert straightness(1) < 1e-6
    assert straightness(0) > 0.1


def test_kernel_is_not_mirrored():
    """A scene that dwells at the right leaves its light at the right."""
    path = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [-1.0, 1.0]])
    point = np.zeros((9, 9, 1), np.float32)
    point[4, 4] = 1
    seen = average(point, path_kernel(path))
    assert seen[4, 6, 0] == pytest.approx(0.75)
    assert seen[5, 3, 0] == pytest.approx(0.25)


def test_light_is_averaged_not_grey_levels(monkeypatch):
    """Half black and half white is 255·0.5^(1/2.2) = 186, not 128."""
    still = BlurParameters(0, 0, 1, 0, region=None, noise=0, jpeg=None, seed=0)
    monkeypatch.setattr("mhnet.data.blur.shake_path", lambda *_: np.array([[-0.5, 0.0], [0.5, 0.0]]))
    edge = np.zeros((6, 8, 3), np.uint8)
    edge[:, 4:] = 255
    # The two positions half a pixel apart from the centre make the kernel 1/4, 1/2, 1/4.
    wanted = [0, 0, 0, round(255 * 0.25 ** (1 / 2.2)), round(255 * 0.75 ** (1 / 2.2)), 255, 255, 255]
    assert still.render(edge)[3, :, 0].tolist() == wanted
    assert LIGHT[186].item() == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("region", [None, Region(0.5, 0.4, 0.3, 0.2, 25.0)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_flat_image_stays_flat(region, value):
    drawn = BlurParameters(1, 30, 0.5, 1, region, noise=0, jpeg=None, seed=4)
    flat = np.full((70, 90, 3), value, np.uint8)
    assert np.array_equal(drawn.render(flat), flat)


def test_only_the_region_moves():
    region = Region(0.5, 0.5, 0.2, 0.2, 20.0)
    drawn = BlurParameters(1, 0, 0.5, 1, region, noise=0, jpeg=None, seed=4)
    checks = np.kron(np.indices((40, 40)).sum(0) % 2, np.ones((5, 5)))[..., None].repeat(3, 2).astype(np.uint8) * 200
    change = np.abs(drawn.render(checks).astype(int) - checks).mean(2)
    assert change[:25].max() <= 1
    assert change[85:115, 85:115].mean() > 20
    mask = region_mask(np.random.default_rng(0), 200, 200, region)
    assert mask[100, 100] == 1
    assert mask[:25].max() == 0


@pytest.mark.parametrize(("noise", "jpeg"), [(2.0, None), (0.0, 75)])
def test_noise_and_compression_are_slight(noise, jpeg):
    clean = BlurParameters(0.5, 8, 0.5, 1, region=None, noise=0, jpeg=None, seed=4)
    drawn = dataclasses.replace(clean, noise=noise, jpeg=jpeg)
    difference = drawn.render(PHOTOS[2]).astype(float) - clean.render(PHOTOS[2])
    assert 0.5 < difference.std() < 4
    assert abs(difference.mean()) < 0.5


def test_blurred_image_stays_aligned():
    """The shift that fits best, from the phase of the cross spectrum, is under half a pixel."""
    random = np.random.default_rng(0)
    shifts = []
    for _ in range(20):
        drawn = BlurParameters.draw(random, 0.4)
        photo = PHOTOS[0]
        shaken = dataclasses.replace(drawn, region=None, noise=0, jpeg=None).render(photo)
        window = np.outer(np.hanning(200), np.hanning(240))
        a, b = (np.fft.fft2((LIGHT[i][..., 1] - 0.2) * window) for i in (photo, shaken))
        cross = b * a.conj()
        shifts.append([np.angle(cross[0, 1]) * 240, np.angle(cross[1, 0]) * 200])
    assert np.abs(shifts).max() / (2 * math.pi) < 0.5
