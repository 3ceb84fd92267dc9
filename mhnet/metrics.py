"""PSNR and SSIM as the tables of this field compute them, each way under its own name.

SSIM is of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004: 11×11 Gaussian window with σ 1.5, K1 = 0.01, K2 = 0.03. What differs between the
protocols is the channels it sees, the borders and the rounding; the numbers differ by up to several hundredths, so
none is printed without its protocol's name. Images are uint8 H×W×3 RGB.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from mhnet.errors import MHNetError

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


class Score(NamedTuple):
    """PSNR in dB (inf for identical images) and SSIM."""

    psnr: float
    ssim: float


class Protocol(NamedTuple):
    """A named way to score; `score` takes two uint8 H×W×3 images of one size, at least `smallest` pixels a side."""

    name: str
    description: str
    score: Callable[[np.ndarray, np.ndarray], Score]
    smallest: int = 1


def score(restored: np.ndarray, target: np.ndarray, protocol: str) -> Score:
    """PSNR and SSIM of a restored image against its clean one, both uint8 H×W×3 RGB, by a protocol of PROTOCOLS.

    Raises MHNetError for an unknown protocol, another type or shape, two sizes that differ, images smaller than the
    protocol's window, and (realblur_ecc) images that cannot be aligned.
    """
    chosen = get_protocol(protocol)
    for side, image in (("restored", restored), ("clean", target)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MHNetError(
                f"The {side} image is {image.dtype} of shape {image.shape}; scores need uint8 of shape H×W×3."
            )
    (height, width), (target_height, target_width) = restored.shape[:2], target.shape[:2]
    if (height, width) != (target_height, target_width):
        raise MHNetError(
            f"The restored image has {height}×{width} pixels and the clean one {target_height}×{target_width}; "
            "only images of one size can be compared."
        )
    if min(height, width) < chosen.smallest:
        raise MHNetError(
            f"{height}×{width} pixels are too few for {chosen.name}, whose window needs {chosen.smallest} a side; "
            "use larger images, or y_float or gopro_rgb_matlab, which extend the borders."
        )
    return chosen.score(restored, target)


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; MHNetError lists the names there are."""
    if name not in PROTOCOLS:
        raise MHNetError(f"There is no protocol '{name}'; use one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def psnr(restored: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for peak 255 over all elements; inf where nothing differs."""
    return _decibels(np.mean((restored.astype(np.float64) - target.astype(np.float64)) ** 2) / 255**2)


def float_y(image: np.ndarray) -> np.ndarray:
    """BT.601 luma in [16, 235] of uint8 H×W×3, float64 H×W, not rounded."""
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255


def matlab_y(image: np.ndarray) -> np.ndarray:
    """Luma as the first channel of MATLAB's `rgb2ycbcr` on uint8: rounded, halves away from zero; uint8 H×W.

    In integers, so that the 194 colours whose luma ends in exactly .5 round as they should.
    """
    thousandths = image.astype(np.int32) @ np.array([65481, 128553, 24966], dtype=np.int32)
    return (16 + (thousandths + 127_500) // 255_000).astype(np.uint8)


def ssim(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of Wang et al. where the window fits wholly inside, averaged over the channels; uint8 H×W or H×W×3."""
    planes = zip(_planes(restored), _planes(target), strict=True)
    return float(np.mean([_skimage_ssim(a, b, 255)[0] for a, b in planes]))


def ssim_2d(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of H×W with peak 255 over the whole map, borders replicated."""
    return _ssim_everywhere(restored, target, _blur)


def ssim_3d(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of uint8 H×W×3 taken as a volume, as MATLAB's `ssim` does: 11×11×11 window, all borders replicated."""
    # Along the axis of 3 channels, a replicated border adds the weights that fall outside to the outer channels.
    taps = _gaussian()
    mixing = np.zeros((3, 3))
    for channel in range(3):
        reached = np.clip(np.arange(WINDOW) - WINDOW // 2 + channel, 0, 2)
        np.add.at(mixing[channel], reached, taps)
    return _ssim_everywhere(restored, target, lambda volume: cv2.transform(_blur(volume), mixing))


def _decibels(error: float) -> float:
    """Mean squared error relative to the squared peak, in dB."""
    return float(-10 * np.log10(error)) if error else float("inf")


def _gaussian() -> np.ndarray:
    return cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F).ravel()


def _blur(image: np.ndarray) -> np.ndarray:
    """Gaussian window over the height and width of float64 H×W or H×W×3, borders replicated."""
    return cv2.sepFilter2D(image, cv2.CV_64F, _gaussian(), _gaussian(), borderType=cv2.BORDER_REPLICATE)


def _ssim_everywhere(a: np.ndarray, b: np.ndarray, window: Callable[[np.ndarray], np.ndarray]) -> float:
    """Mean of equation 13 of Wang et al. at every element, with the means that `window` takes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    mean_a, mean_b = window(a), window(b)
    aa, bb, ab = mean_a**2, mean_b**2, mean_a * mean_b
    spread = (window(a * a) - aa) + (window(b * b) - bb)
    together = window(a * b) - ab
    return float(np.mean((2 * ab + c1) * (2 * together + c2) / ((aa + bb + c1) * (spread + c2))))


def _planes(image: np.ndarray) -> np.ndarray:
    """H×W or H×W×C to C×H×W."""
    return image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _skimage_ssim(a: np.ndarray, b: np.ndarray, peak: float) -> tuple[float, np.ndarray]:
    """scikit-image's SSIM with the window of Wang et al.: its mean where the window fits, and its whole map."""
    from skimage.metrics import structural_similarity

    mean_and_map: Any = structural_similarity(
        a, b, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, K1=K1, K2=K2, data_range=peak, full=True
    )
    return mean_and_map


def _rain_y_matlab(restored: np.ndarray, target: np.ndarray) -> Score:
    a, b = matlab_y(restored), matlab_y(target)
    return Score(psnr(a, b), ssim(a, b))


def _gopro_rgb_matlab(restored: np.ndarray, target: np.ndarray) -> Score:
    return Score(psnr(restored, target), ssim_3d(restored, target))


def _rgb_channel_mean(restored: np.ndarray, target: np.ndarray) -> Score:
    return Score(psnr(restored, target), ssim(restored, target))


def _y_float(restored: np.ndarray, target: np.ndarray) -> Score:
    a, b = float_y(restored), float_y(target)
    return Score(psnr(a, b), ssim_2d(a, b))


def _realblur_ecc(restored: np.ndarray, target: np.ndarray) -> Score:
    """Scored after alignment, over what the warped image covers: RealBlur (Rim et al., ECCV 2020) has two cameras."""
    if np.array_equal(restored, target):
        return Score(float("inf"), 1.0)
    z, x, mask = _aligned(restored, target)
    error = np.sum((z - x) ** 2, dtype=np.float64) / np.sum(mask, dtype=np.float64)
    inner = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2
    similarities = []
    for plane_z, plane_x, plane_mask in zip(_planes(z), _planes(x), _planes(mask), strict=True):
        weighted = _skimage_ssim(plane_x, plane_z, 1)[1] * plane_mask
        similarities.append(np.sum(weighted[inner], dtype=np.float64) / np.sum(plane_mask[inner], dtype=np.float64))
    return Score(_decibels(error), float(np.mean(similarities)))


def _aligned(restored: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The restored image fitted to the clean one by brightness and a homography, the clean one, and what is covered.

    All three are float32 H×W×3 in about [0, 1] and 0 where nothing is covered. The homography is found by ECC
    (Evangelidis and Psarakis, IEEE TPAMI 30(10), 2008), whose result differs in the third decimal of a dB between
    OpenCV releases.
    """
    z, x = (image.astype(np.float32) / np.float32(255) for image in (restored, target))
    z = z * (np.sum(x * z) / max(np.sum(z * z), np.float32(1e-12)))
    grey_x, grey_z = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (x, z))
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    start = np.eye(3, dtype=np.float32)
    unlike = "The two images are too unlike for realblur_ecc to align them; check that they are a pair."
    try:
        everywhere = np.ones_like(grey_x, dtype=np.uint8)
        _, homography = cv2.findTransformECC(grey_x, grey_z, start, cv2.MOTION_HOMOGRAPHY, until, everywhere, 5)
    except cv2.error as error:
        raise MHNetError(unlike) from error
    size = (x.shape[1], x.shape[0])
    cubic, nearest = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    z = cv2.warpPerspective(z, homography, size, flags=cubic, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(np.ones_like(x), homography, size, flags=nearest, borderMode=cv2.BORDER_CONSTANT)
    if not mask[WINDOW // 2 : -(WINDOW // 2), WINDOW // 2 : -(WINDOW // 2)].any():
        raise MHNetError(unlike)
    return z * mask, x * mask, mask


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("rain_y_matlab", "rounded luma, SSIM where the window fits (deraining)", _rain_y_matlab, WINDOW),
        Protocol("gopro_rgb_matlab", "RGB, SSIM of the volume as MATLAB's ssim (GoPro, HIDE)", _gopro_rgb_matlab),
        Protocol("rgb_channel_mean", "RGB, SSIM per channel where the window fits", _rgb_channel_mean, WINDOW),
        Protocol("realblur_ecc", "RGB after ECC alignment, where both overlap (RealBlur)", _realblur_ecc, WINDOW),
        Protocol("y_float", "luma not rounded, SSIM over the whole map (BasicSR-style)", _y_float),
    )
}
