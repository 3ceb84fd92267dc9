"""Segments of a video that is being restored: finished stretches of frames, encoded, in a hidden folder beside the
result, so that a stopped run goes on where the last of them ends."""

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec import Codec
from av.codec.context import Flags
from av.error import FFmpegError

from mhnet.core.files import read_json, replacing, short_name
from mhnet.restore.stores import HERE, put
from mhnet.restore.video_frames import Frame, VideoError, VideoFormat, from_rgb, reason
from mhnet.restore.video_hdr import hdr_options

LENGTH = 48
"""Frames in a segment: what a stopped run does again at most, and the longest way between two key frames."""

_CODECS: dict[str, tuple[str, int, dict[str, str]]] = {
    "h264": ("libx264", 16, {"preset": "medium"}),
    "h265": ("libx265", 18, {"preset": "medium", "x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", 20, {"b": "0", "row-mt": "1", "cpu-used": "2"}),
    "av1": ("libsvtav1", 22, {"preset": "6", "svtav1-params": "tune=0"}),
}
"""FFmpeg's encoders, each with its CRF that is hard to tell from the original, and options."""


class Encoding(NamedTuple):
    """How frames are encoded: FFmpeg's names of the encoder and of the pixel format, and the encoder's options."""

    encoder: str
    pixel_format: str
    options: dict[str, str]


class Segment(NamedTuple):
    """An encoded stretch: the file, the times of its frames in order, and until when the last one is shown."""

    path: Path
    times: list[int]
    end: int


class Segments:
    """The finished segments of the result at `target`. `about` is what they depend on, JSON values: segments made from
    anything else are thrown away."""

    def __init__(self, target: Path, about: dict[str, Any]):
        self.folder = target.with_name(f".{short_name(target)}.parts")
        self.found: list[Segment] = []
        manifest = self.folder / "about.json"
        about = json.loads(json.dumps(about | {"length": LENGTH, "libraries": av.library_versions}))
        try:
            if self.folder.exists() and read_json(manifest) != about:
                shutil.rmtree(self.folder)
            put(HERE, manifest, json.dumps(about).encode())
        except OSError as error:
            raise VideoError(f"{self.folder} cannot be made ({error.strerror}); choose another place.") from error
        while (notes := read_json(self._path(".json"))) and self._path(".nut").is_file():
            self.found.append(Segment(self._path(".nut"), **notes))

    @property
    def frames(self) -> int:
        """How many frames are finished."""
        return sum(len(segment.times) for segment in self.found)

    def write(self, frames: Iterable[Frame], form: VideoFormat, encoding: Encoding) -> None:
        """Encodes the next segment, whole or not at all; VideoError where the encoder or the system refuses."""
        video, times, end = self._path(".nut"), [], 0
        try:
            with replacing(video) as temporary, av.open(f"file:{temporary}", "w", format="nut") as container:
                size = {"height": form.height, "width": form.width, "pix_fmt": encoding.pixel_format}
                stream = container.add_stream(
                    encoding.encoder, form.rate, options=encoding.options, **size, **form.properties
                )
                stream.codec_context.time_base = 1 / form.rate
                stream.codec_context.flags |= Flags.global_header

                def encode(place: int, pixels: np.ndarray) -> None:
                    frame = from_rgb(pixels, form, encoding.pixel_format)
                    # Times in the file only order its frames; the true ones are noted beside it.
                    frame.pts, frame.time_base = place, 1 / form.rate
                    container.mux(stream.encode(frame))

                with ThreadPoolExecutor(1) as encoder:
                    last: Future[None] | None = None
                    for place, (pixels, time, duration) in enumerate(frames):
                        if last:
                            last.result()
                        last = encoder.submit(encode, place, pixels)
                        times.append(time)
                        end = time + duration
                    if last:
                        last.result()
                container.mux(stream.encode(None))
            put(HERE, self._path(".json"), json.dumps({"times": times, "end": end}).encode())
        except (FFmpegError, OSError) as error:
            raise VideoError(f"{video} cannot be written ({reason(error)}); the parts before it are kept.") from error
        self.found.append(Segment(video, times, end))

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, extension: str) -> Path:
        """Where the next segment goes."""
        return self.folder / f"{len(self.found):06}{extension}"


def choose_encoding(form: VideoFormat, container: str, codec: str | None, crf: int | None, deep: bool) -> Encoding:
    """How to encode for a container, named by its extension; `codec` and `crf` as of `restore_video`, 10 bits where it
    is `deep`. VideoError where there is no such codec here, or it cannot keep the depth or HDR."""
    usual = ("vp9", "av1") if container == ".webm" else ("h264", "h265")
    name = codec or usual[deep or any(form.hdr)]
    if name not in _CODECS:
        raise VideoError(f"There is no codec {name!r}; use one of {', '.join(_CODECS)}.")
    encoder, quality, options = _CODECS[name]
    os.environ.setdefault("SVT_LOG", "1")  # so that SVT-AV1 prints errors alone
    try:
        formats = {one.name for one in Codec(encoder, "w").video_formats or ()}
    except ValueError as error:
        raise VideoError(f"This PyAV has no encoder for {name} ({encoder}); choose another codec.") from error
    odd = form.width % 2 or form.height % 2
    samplings = [f"yuv{sampling}p{'10le' if deep else ''}" for sampling in (("444", "420") if odd else ("420",))]
    layout = next((layout for layout in samplings if layout in formats), None)
    hdr = hdr_options(form.hdr, encoder)
    if layout is None or hdr is None:
        what = "10 bits" if layout is None else "the mastering display and light levels of HDR"
        raise VideoError(f"{name} ({encoder}) cannot keep {what}; choose h265 or av1.")
    options = options | {"crf": str(quality if crf is None else crf)}
    if encoder == "libx265" and form.width < 64:  # x265's cutree writes beyond its memory in such narrow frames
        options["x265-params"] += ":cutree=0"
    for key, value in hdr.items():
        options[key] = f"{options[key]}:{value}" if key in options else value
    return Encoding(encoder, layout, options)
