"""Scores against the field's own scripts, run in GNU Octave and Python: data/metrics/expected.json."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import correlate1d

from mhnet.core.errors import MHNetError
from mhnet.evaluation import protocols
from mhnet.images.read import read_rgb

DATA = Path(__file__).parent / "data" / "metrics"
EXPECTED = json.loads((DATA / "expected.json").read_text())
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
@pytest.mark.parametrize("name", EXPECTED)
def test_agrees_with_the_fields_scripts(name: str, protocol: str) -> None:
    restored, target = (read_rgb(DATA / side / f"{name}.png") for side in ("input", "target"))
    score = protocols.score(restored, target, protocol)
    # The result of the alignment differs a little between OpenCV releases.
    within = (0.02, 1e-3) if protocol == "realblur_ecc" else (1e-4, 1e-5)
    assert score.psnr == pytest.approx(EXPECTED[name][protocol]["psnr"], abs=within[0], rel=0)
    assert score.ssim == pytest.approx(EXPECTED[name][protocol]["ssim"], abs=within[1], rel=0)


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_identical_images(protocol: str) -> None:
    score = protocols.score(NOISE, NOISE.copy(), protocol)
    assert score.psnr == float("inf")
    assert score.ssim == pytest.approx(1, abs=1e-12)


def luma_thousandths() -> np.ndarray:
    """Unrounded luma less 16 of every colour, 256×256×256, in thousandths of its 255th part."""
    red, green, blue = np.ogrid[:256, :256, :256]
    return 65481 * red + 128553 * green + 24966 * blue


def luma_halves() -> np.ndarray:
    """The colours whose luma ends in exactly .5, uint8 1×194×3."""
    return np.argwhere(luma_thousandths() % 255_000 == 127_500).astype(np.uint8)[np.newaxis]


def test_matlab_rounds_halves_away_from_zero() -> None:
    thousandths, halves = luma_thousandths(), luma_halves()
    assert halves.shape == (1, 194, 3)
    np.testing.assert_array_equal(protocols.matlab_y(halves), np.floor(protocols.float_y(halves) + 0.51))
    every = np.moveaxis(np.indices((256, 256, 256), np.uint8), 0, -1).reshape(4096, 4096, 3)
    np.testing.assert_array_equal(protocols.matlab_y(every).ravel(), 16 + (thousandths.ravel() + 127_500) // 255_000)
    np.testing.assert_array_equal(protocols.matlab_y(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)), [[16, 235]])


def definition(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map of SSIM in float64, step by step, with the window along every axis and replicated borders."""
    taps = np.exp(-(np.arange(-5.0, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def mean(volume: np.ndarray) -> np.ndarray:
        for axis in range(volume.ndim):
            volume = correlate1d(volume, taps, axis, mode="nearest")
        return volume

    x, y = x.astype(np.float64), y.astype(np.float64)
    variance_x, variance_y = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    c1, c2 = 2.55**2, 7.65**2
    top = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    return top / ((mean(x) ** 2 + mean(y) ** 2 + c1) * (variance_x + variance_y + c2))


def hard_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Photographs, and what 32 bits find hardest: noise beside nothing, and flat images at both ends."""
    white, few = np.full_like(NOISE, 255), NOISE % 2
    inputs, targets = ({name: read_rgb(DATA / side / f"{name}.png") for name in EXPECTED}
                       for side in ("input", "target"))  # fmt: skip
    return {name: (inputs[name], targets[name]) for name in EXPECTED} | {
        "noise": (NOISE, OTHER),
        "nearly white": (white - few, white),
        "nearly black": (few, np.zeros_like(few)),
        "opposite": (white - few, few),
        "more than a strip": (np.tile(NOISE, (9, 1, 1)), np.tile(OTHER, (9, 1, 1))),
    }


@pytest.mark.parametrize("name", hard_pairs())
def test_ssim_in_strips_of_32_bits_is_its_definition(name: str) -> None:
    x, y = hard_pairs()[name]
    assert protocols.ssim_3d(x, y) == pytest.approx(np.mean(definition(x, y)), abs=3e-7)
    x, y = protocols.matlab_y(x), protocols.matlab_y(y)
    assert protocols.ssim(x, y) == pytest.approx(np.mean(definition(x, y)[5:-5, 5:-5]), abs=3e-7)
    assert protocols.ssim_2d(x, y) == pytest.approx(np.mean(definition(x, y)), abs=3e-7)


def test_psnr_of_one_level() -> None:
    grey = np.full((12, 12, 3), 100, np.uint8)
    assert protocols.psnr(grey, grey + 1) == pytest.approx(48.1308, abs=1e-4)


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_small_images_are_scored_or_refused_in_a_sentence(protocol: str) -> None:
    small, other = NOISE[:10, :10], OTHER[:10, :10]
    if protocols.PROTOCOLS[protocol].smallest > 1:
        with pytest.raises(MHNetError, match=f"10×10 pixels are too few for {protocol}"):
            protocols.score(small, other, protocol)
    else:
        assert np.isfinite(protocols.score(small[:1, :1], other[:1, :1], protocol)).all()


def test_alignment_undoes_a_shift_and_a_change_of_brightness() -> None:
    scene = cv2.GaussianBlur(RNG.integers(0, 256, (160, 180, 3), dtype=np.uint8), (0, 0), 3)
    scene = cv2.normalize(scene, scene, 0, 200, cv2.NORM_MINMAX)
    moved = np.clip(scene[10:150, 13:173] * 1.15, 0, 255).astype(np.uint8)
    target = scene[10:150, 10:170]
    assert protocols.score(moved, target, "rgb_channel_mean").psnr < 25
    assert protocols.score(moved, target, "realblur_ecc").psnr > 40


@pytest.mark.parametrize("restored", [np.zeros_like(NOISE), np.full_like(NOISE, 90), NOISE])
def test_what_cannot_be_aligned_is_said(restored: np.ndarray) -> None:
    target = OTHER if restored is not NOISE else np.full_like(NOISE, 90)
    with pytest.raises(MHNetError, match="too unlike"):
        protocols.score(restored, target, "realblur_ecc")


@pytest.mark.parametrize(
    ("restored", "target", "words"),
    [
        (NOISE, OTHER[:, :30], "24×31 pixels and the clean one 24×30"),
        (NOISE.astype(np.float32) / 255, OTHER, "restored image is float32"),
        (NOISE, OTHER[..., 0], r"clean image is uint8 of shape \(24, 31\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(restored: np.ndarray, target: np.ndarray, words: str) -> None:
    with pytest.raises(MHNetError, match=words):
        protocols.score(restored, target, "y_float")


def test_an_unknown_protocol_lists_those_there_are() -> None:
    with pytest.raises(MHNetError, match=r"'psnr'; use one of rain_y_matlab, gopro_rgb_matlab"):
        protocols.score(NOISE, OTHER, "psnr")
