"""Parts of a video that is being restored: finished stretches of frames, encoded, in a hidden folder beside the result,
so that a stopped run goes on where the last of them ends."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mhnet.core.files import replacing
from mhnet.restore.video_frames import Look, Picture, VideoError, import_av, to_frame

LENGTH = 48
"""Frames in a part: what a stopped run does again at most, and the longest way between two key frames."""


@dataclass(frozen=True)
class Encoder:
    """How frames are encoded.

    Args:
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name of what it takes.
        options: further ones of the encoder.
    """

    codec: str
    pixel_format: str
    options: dict[str, str]


@dataclass(frozen=True)
class Part:
    """An encoded stretch: the file, the times of its frames in order, and how long the last one is shown."""

    path: Path
    times: list[int]
    last: int


class Parts:
    """The parts of one result.

    Args:
        target: the result's path.
        about: what the parts depend on, JSON values: parts made from anything else are thrown away.
    """

    def __init__(self, target: Path, about: dict[str, Any]):
        self.folder = target.with_name(f".{target.name}.parts")
        self.found: list[Part] = []
        manifest = self.folder / "about.json"
        try:
            if self.folder.exists() and _json(manifest) != about:
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            if not manifest.exists():
                with replacing(manifest) as temporary:
                    temporary.write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise VideoError(f"{self.folder} cannot be made ({error.strerror}); choose another place.") from error
        while (part := self._read(len(self.found))) is not None:
            self.found.append(part)

    @property
    def frames(self) -> int:
        """How many frames are finished."""
        return sum(len(part.times) for part in self.found)

    def write(self, pictures: Iterable[Picture], look: Look, encoder: Encoder) -> None:
        """Encodes the next part, whole or not at all.

        Raises:
            VideoError: the encoder or the system refuses.
        """
        av = import_av()
        video, notes = self._paths(len(self.found))
        times, last = [], 0
        try:
            with replacing(video) as temporary, av.open(f"file:{temporary}", "w", format="nut") as container:
                stream = container.add_stream(encoder.codec, look.rate, options=encoder.options)
                _set_up(stream.codec_context, look, encoder)
                for place, picture in enumerate(pictures):
                    frame = to_frame(picture.pixels, look, encoder.pixel_format)
                    # Times in the file only order its frames; the true ones are noted beside it.
                    frame.pts, frame.time_base = place, 1 / look.rate
                    container.mux(stream.encode(frame))
                    times.append(picture.time)
                    last = picture.duration
                container.mux(stream.encode(None))
            with replacing(notes) as temporary:
                temporary.write_text(json.dumps({"times": times, "last": last}), encoding="utf-8")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(f"{video} cannot be written ({reason}); the parts before it are kept.") from error
        self.found.append(Part(video, times, last))

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self, number: int) -> tuple[Path, Path]:
        return self.folder / f"{number:06}.nut", self.folder / f"{number:06}.json"

    def _read(self, number: int) -> Part | None:
        """The finished part of that number, if there is one."""
        video, notes = self._paths(number)
        content = _json(notes)
        if not isinstance(content, dict) or not video.is_file():
            return None
        return Part(video, content["times"], content["last"])


def choose_encoder(look: Look, container: str, codec: str | None, crf: int | None, deep: bool) -> Encoder:
    """How to encode for a container: by default VP9 in .webm, else H.264, or H.265 where there are more than 8 bits.

    Args:
        container: the result's extension.
        codec: "h264", "h265", "vp9" or "av1"; None for the default.
        crf: the encoder's measure of quality, lower is better; None for one that is hard to tell from the original.
        deep: encode 10 bits.

    Raises:
        VideoError: there is no such codec here.
    """
    av = import_av()
    name = codec or ("vp9" if container == ".webm" else "h265" if deep else "h264")
    if name not in _CODECS:
        raise VideoError(f"There is no codec {name!r}; use one of {', '.join(_CODECS)}.")
    encoder, quality, options = _CODECS[name]
    try:
        av.codec.Codec(encoder, "w")
    except ValueError as error:
        raise VideoError(f"This PyAV has no encoder for {name} ({encoder}); choose another codec.") from error
    sampling = "444" if look.width % 2 or look.height % 2 else "420"
    return Encoder(
        encoder,
        f"yuv{sampling}p" + ("10le" if deep else ""),
        options | {"crf": str(quality if crf is None else crf)},
    )


_CODECS: dict[str, tuple[str, int, dict[str, str]]] = {
    "h264": ("libx264", 16, {"preset": "medium"}),
    "h265": ("libx265", 18, {"preset": "medium", "x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", 20, {"b": "0", "row-mt": "1", "cpu-used": "2"}),
    "av1": ("libsvtav1", 22, {"preset": "6", "svtav1-params": "tune=0"}),
}


def _set_up(context: Any, look: Look, encoder: Encoder) -> None:
    """Gives an encoder the frames' size and colours."""
    av = import_av()
    context.width, context.height, context.pix_fmt = look.width, look.height, encoder.pixel_format
    context.time_base, context.framerate = 1 / look.rate, look.rate
    context.sample_aspect_ratio = look.aspect
    context.colorspace, context.color_range = look.noted_matrix, look.colour_range
    context.color_primaries, context.color_trc = look.primaries, look.transfer
    context.flags |= av.codec.context.Flags.global_header


def _json(path: Path) -> Any:
    """A file's content; None where there is none, or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
