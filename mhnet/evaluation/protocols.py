"""PSNR and SSIM as the tables of this field compute them, each way under its own name.

SSIM is of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004: 11×11 Gaussian window with σ 1.5, K1 = 0.01, K2 = 0.03. What differs between the
protocols is the channels it sees, the borders and the rounding; the numbers differ by up to several hundredths, so
none is printed without its protocol's name. Images are uint8 H×W×3 RGB.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from mhnet.core.errors import MHNetError

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
STRIP = 64  # rows at a time

_INNER = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2  # where the window fits


class Score(NamedTuple):
    """PSNR in dB (inf for identical images) and SSIM."""

    psnr: float
    ssim: float


def mean_of(values: Sequence[float]) -> float:
    """The mean; nan for none."""
    return sum(values) / len(values) if values else math.nan


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean SSIM of all and mean PSNR of the finite ones; inf where all are identical, nan for no scores."""
    finite = [one.psnr for one in scores if math.isfinite(one.psnr)]
    psnr = mean_of(finite) if finite or not scores else math.inf
    return Score(psnr, mean_of([one.ssim for one in scores]))


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
    """PSNR in dB for peak 255, over all elements of two arrays of one shape; inf where nothing differs."""
    return _decibels(cv2.norm(restored, target, cv2.NORM_L2SQR) / restored.size / 255**2)


def float_y(image: np.ndarray) -> np.ndarray:
    """BT.601 luma in [16, 235] of uint8 H×W×3, float64 H×W, not rounded."""
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255


def matlab_y(image: np.ndarray) -> np.ndarray:
    """Luma as the first channel of MATLAB's `rgb2ycbcr` on uint8: rounded, halves away from zero; uint8 H×W.

    In integers, so that the 194 colours whose luma ends in exactly .5 round as they should.
    """
    weighted = image @ np.array([65481, 128553, 24966], np.int32)
    return (16 + (weighted + 127500) // 255000).astype(np.uint8)


def ssim(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of Wang et al. where the window fits wholly inside, averaged over the channels; uint8 H×W or H×W×3."""
    return _mean_ssim(restored, target, inside=True)


def ssim_2d(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of H×W with peak 255 over the whole map, borders replicated."""
    return _mean_ssim(restored, target)


def ssim_3d(restored: np.ndarray, target: np.ndarray) -> float:
    """SSIM of uint8 H×W×3 taken as a volume, as MATLAB's `ssim` does: 11×11×11 window, all borders replicated."""
    # Along the axis of 3 channels, a replicated border adds the weights that fall outside to the outer channels.
    mixing = np.zeros((3, 3))
    for channel in range(3):
        reached = np.clip(np.arange(WINDOW) - WINDOW // 2 + channel, 0, 2)
        np.add.at(mixing[channel], reached, _gaussian())
    return _mean_ssim(restored, target, mixing)


def _decibels(error: float) -> float:
    """Mean squared error relative to the squared peak, in dB."""
    return float(-10 * np.log10(error)) if error else float("inf")


def _gaussian() -> np.ndarray:
    return cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F).ravel()


def _mean_ssim(a: np.ndarray, b: np.ndarray, mixing: np.ndarray | None = None, inside: bool = False) -> float:
    """Mean of equation 13 of Wang et al. over H×W or H×W×3 with values in [0, 255], borders replicated.

    Strips of rows, so that what is computed stays in the cache. With s = a + b and d = a − b, four windowed means
    give the five of the equation: 4ab = s² − d² and 2(a² + b²) = s² + d². Both images are taken about their mean,
    which changes no variance and keeps the squares small enough for 32 bits: the result is that of 64 to 1e-6.

    Args:
        a: an image.
        b: another of its shape.
        mixing: 3×3 weights of the window over the channels.
        inside: only where the window fits.
    """
    kernel = _gaussian().astype(np.float32)
    kernel[WINDOW // 2] += np.float32(1 - np.sum(kernel, dtype=np.float64))  # a sum of 1 in spite of 32 bits

    def window(strip: np.ndarray) -> np.ndarray:
        strip = cv2.sepFilter2D(strip, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        return strip if mixing is None else cv2.transform(strip, mixing)

    middles = tuple(round(np.mean(cv2.mean(image)[: image[0, 0].size])) for image in (a, b))
    half = WINDOW // 2
    edge = half if inside else 0
    rows, columns = range(edge, len(a) - edge), slice(edge, a.shape[1] - edge)
    sums = []
    for top in rows[::STRIP]:
        bottom = min(top + STRIP, rows.stop)
        reach = slice(max(top - half, 0), bottom + half)
        kept = slice(top - reach.start, bottom - reach.start)
        similarity = _similarity(a[reach], b[reach], middles, window)[kept, columns]
        sums.append(np.sum(similarity, dtype=np.float64))
    return float(sum(sums) / (len(rows) * a[0, columns].size))


def _similarity(
    a: np.ndarray, b: np.ndarray, middles: tuple[int, ...], window: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The SSIM map of two strips, float32, with the means that `window` takes: (p − q)(u − v) / ((p + q)(u + v)) for
    p = mean(s)² + 2 C1, q = mean(d)², u = var(s) + 2 C2 and v = var(d)."""
    c1, c2 = np.float32((K1 * 255) ** 2), np.float32((K2 * 255) ** 2)
    a, b = (image.astype(np.float32) - np.float32(middle) for image, middle in zip((a, b), middles, strict=True))
    s, d = a + b, a - b
    mean_s, mean_d = window(s), window(d)
    u = window(s * s) - mean_s * mean_s + 2 * c2
    v = window(d * d) - mean_d * mean_d
    p = np.square(mean_s + sum(middles)) + 2 * c1
    q = np.square(mean_d + (middles[0] - middles[1]))
    return (p - q) * (u - v) / ((p + q) * (u + v))


def _scores_by(
    similarity: Callable[[np.ndarray, np.ndarray], float], view: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> Callable[[np.ndarray, np.ndarray], Score]:
    """PSNR and an SSIM of what `view` makes of both images."""

    def scores(restored: np.ndarray, target: np.ndarray) -> Score:
        a, b = view(restored), view(target)
        return Score(psnr(a, b), similarity(a, b))

    return scores


def _realblur_ecc(restored: np.ndarray, target: np.ndarray) -> Score:
    """Scored after alignment, over what the warped image covers: RealBlur (Rim et al., ECCV 2020) has two cameras."""
    from skimage.metrics import structural_similarity

    if np.array_equal(restored, target):
        return Score(float("inf"), 1.0)
    z, x, mask = _aligned(restored, target)
    error = np.sum((z - x) ** 2, dtype=np.float64) / np.sum(mask, dtype=np.float64)
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False}
    similarity = structural_similarity(x, z, K1=K1, K2=K2, data_range=1, channel_axis=2, full=True, **options)[1]
    weighted, covered = (
        np.sum(part[_INNER], axis=(0, 1), dtype=np.float64) for part in (np.asarray(similarity) * mask, mask)
    )
    return Score(_decibels(error), float(np.mean(weighted / covered)))


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
    if not mask[_INNER].any():
        raise MHNetError(unlike)
    return z * mask, x * mask, mask


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("rain_y_matlab", "rounded luma, SSIM where the window fits (deraining)", _scores_by(ssim, matlab_y),
                 WINDOW),
        Protocol("gopro_rgb_matlab", "RGB, SSIM of the volume as MATLAB's ssim (GoPro, HIDE)", _scores_by(ssim_3d)),
        Protocol("rgb_channel_mean", "RGB, SSIM per channel where the window fits", _scores_by(ssim), WINDOW),
        Protocol("realblur_ecc", "RGB after ECC alignment, where both overlap (RealBlur)", _realblur_ecc, WINDOW),
        Protocol("y_float", "luma not rounded, SSIM over the whole map (BasicSR-style)", _scores_by(ssim_2d, float_y)),
    )
}  # fmt: skip
