"""HDR metadata of a video: from its frames to the encoders' options, or what is said where it cannot be kept."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av import VideoFrame

_LOST = {
    "DYNAMIC_HDR_PLUS": "its HDR10+ metadata is not kept",
    "DOVI_METADATA": "its Dolby Vision metadata is not kept",
    "AMBIENT_VIEWING_ENVIRONMENT": "its ambient viewing environment is not kept",
    "SPHERICAL": "its 360° projection is not kept",
    "STEREO3D": "its stereo 3D metadata is not kept",
    "A53_CC": "the closed captions inside its pictures are not kept",
}

# An encoder's options for a mastering display and for light levels, and its units of chromaticity and of luminance.
_OPTIONS = {
    "libx264": ("x264-params", "mastering-display", "cll", 50000, 10000),
    "libx265": ("x265-params", "master-display", "max-cll", 50000, 10000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", None, None),
}


class HdrMetadata(NamedTuple):
    """Of the mastering display (SMPTE ST 2086) and of the light (CTA-861.3); () for what is not noted."""

    display: tuple[Fraction, ...]  # x, y (CIE 1931) of red, green, blue, white; least, greatest luminance, cd/m²
    light: tuple[int, ...]  # MaxCLL and MaxFALL, cd/m²


def read_hdr(frame: VideoFrame) -> HdrMetadata:
    """The HDR metadata that comes with a frame."""
    display, light = frame.side_data.get("MASTERING_DISPLAY_METADATA"), frame.side_data.get("CONTENT_LIGHT_LEVEL")
    values = np.frombuffer(bytes(display), np.int32)[:20].reshape(10, 2).tolist() if display is not None else []
    levels = np.frombuffer(bytes(light), np.uint32)[:2].tolist() if light is not None else []
    return HdrMetadata(tuple(Fraction(above, below or 1) for above, below in values), tuple(levels))


def lost_metadata(frame: VideoFrame) -> list[str]:
    """What else comes with a frame and no encoder takes, as sentences."""
    return [note for kind, note in _LOST.items() if frame.side_data.get(kind) is not None]


def hdr_options(hdr: HdrMetadata, encoder: str) -> dict[str, str] | None:
    """The options that give HDR metadata to FFmpeg's encoder of that name; None where it takes none."""
    if not any(hdr):
        return {}
    if encoder not in _OPTIONS:
        return None
    name, display, light, chromaticity, luminance = _OPTIONS[encoder]
    given = []
    if hdr.display:
        units = [chromaticity] * 8 + [luminance] * 2
        values = [round(value * unit) if unit else float(value) for value, unit in zip(hdr.display, units, strict=True)]
        given.append(display + "=G({2},{3})B({4},{5})R({0},{1})WP({6},{7})L({9},{8})".format(*values))
    if hdr.light:
        given.append(f"{light}={hdr.light[0]},{hdr.light[1]}")
    return {name: ":".join(given)}
