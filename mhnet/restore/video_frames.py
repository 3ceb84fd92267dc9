"""Frames of a video: out of a file as upright RGB arrays, and back into one, with nothing lost on the way that can be
kept: times, colour properties, shape of the pixels, depth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mhnet.core.errors import MHNetError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codes of ITU-T H.273, as FFmpeg uses them.
_RGB, _BT709, _UNSPECIFIED, _BT601 = 0, 1, 2, 5
_LIMITED, _FULL = 1, 2
_HDR = (16, 18)  # transfer by PQ, by HLG
_HIGH_DEFINITION = 720  # lines from which players take colours of no noted matrix for BT.709


class VideoError(MHNetError):
    """A video that cannot be read or written; the message names the file."""


class DamagedVideo(VideoError):
    """A video that cannot be read to its end."""


class Picture(NamedTuple):
    """A frame: H×W×3 RGB, upright, uint8, or uint16 of a deep video; when it is shown and for how long, in the
    stream's time base."""

    pixels: np.ndarray
    time: int
    duration: int


@dataclass(frozen=True)
class Look:
    """How a video's frames are to be shown.

    Args:
        height, width: upright, in pixels.
        deep: more than 8 bits.
        aspect: width of a pixel by its height.
        time_base: seconds that times count.
        rate: frames per second, on average.
        matrix, colour_range, primaries, transfer: by ITU-T H.273; the matrix is the one that players assume where none
            is noted.
        noted_matrix: what the file says.
        turn: the display matrix's upper left 2×2 as signs, row by row.
        notes: what a result cannot keep, as sentences.
    """

    height: int
    width: int
    deep: bool
    aspect: Fraction
    time_base: Fraction
    rate: Fraction
    matrix: int
    noted_matrix: int
    colour_range: int
    primaries: int
    transfer: int
    turn: tuple[int, int, int, int] = (1, 0, 0, 1)
    notes: tuple[str, ...] = field(default=(), compare=False)


def import_av() -> Any:
    """PyAV; MHNetError with the way to install it where it is missing."""
    try:
        import av
    except ImportError as error:
        raise MHNetError("Videos need PyAV: pip install 'mhnet[video]'.") from error
    return av


def open_video(path: Path) -> "tuple[InputContainer, VideoStream]":
    """The opened file and its moving pictures; cover pictures are passed over.

    Raises:
        VideoError: the file is missing, damaged, or holds no video.
    """
    av = import_av()
    try:
        # With "file:" every name is a file: FFmpeg would take one such as "concat:a|b" for something else.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        if not path.exists():
            raise VideoError(f"There is no file {path}; check the path.") from error
        if path.is_file() and path.stat().st_size == 0:
            raise VideoError(f"{path} is empty; copy it again or remove it.") from error
        raise VideoError(f"{path} cannot be opened as a video ({_reason(error)}); copy or export it again.") from error
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    moving = [stream for stream in streams if not _is_cover(stream)]
    if not moving:
        container.close()
        raise VideoError(f"{path} holds no moving pictures that can be decoded; export it again as H.264 in .mp4.")
    moving[0].thread_type = "AUTO"
    return container, moving[0]


def look_of(path: Path) -> Look:
    """How the frames of a video are to be shown, from its first one; raises VideoError as `pictures` does."""
    container, stream = open_video(path)
    with container:
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            raise DamagedVideo(f"{path} holds no frame that can be decoded; copy or export it again.")
        turn = _turn(frame)
        height, width = frame.height, frame.width
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if turn[0] == 0:
            height, width, aspect = width, height, 1 / aspect
        noted = int(frame.colorspace)
        in_rgb = frame.format.is_rgb or noted == _RGB
        assumed = _BT709 if in_rgb or frame.height >= _HIGH_DEFINITION else _BT601
        notes = []
        if any(component.is_alpha for component in frame.format.components) and stream.codec_context.name != "gif":
            notes.append("its transparency is not kept")
        if frame.interlaced_frame:
            notes.append("it is interlaced and was restored as if it were not: better deinterlace it first")
        if int(stream.codec_context.color_trc) in _HDR:
            notes.append("it is HDR, which the networks were not trained on; its mastering notes are not kept")
        return Look(
            height=height,
            width=width,
            deep=max(component.bits for component in frame.format.components) > 8,
            aspect=aspect,
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            matrix=assumed if in_rgb or noted == _UNSPECIFIED else noted,
            noted_matrix=assumed if in_rgb else noted,
            colour_range=_FULL if int(frame.color_range) == _FULL and not in_rgb else _LIMITED,
            primaries=int(stream.codec_context.color_primaries),
            transfer=int(stream.codec_context.color_trc),
            turn=turn,
            notes=tuple(notes),
        )


def frame_count(path: Path) -> int | None:
    """How many frames a video has, as its file says or by its length; None where neither is noted."""
    av = import_av()
    container, stream = open_video(path)
    with container:
        if stream.frames:
            return stream.frames
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = stream.duration * stream.time_base
        elif container.duration is not None:
            seconds = Fraction(container.duration, av.time_base)
        return round(seconds * stream.average_rate) if seconds and stream.average_rate else None


def length(path: Path) -> Fraction | None:
    """How long a video is in seconds, as its file says; None where that is not noted."""
    container, _ = open_video(path)
    with container:
        return None if container.duration is None else Fraction(container.duration, import_av().time_base)


def pictures(path: Path, look: Look, skip: int = 0, deep: bool = False) -> Iterator[Picture]:
    """Every frame of a video from number `skip` on, one at a time.

    Args:
        deep: as uint16 of 0 to 65535.

    Raises:
        VideoError: the file is damaged, or frames change their size.
    """
    container, stream = open_video(path)
    step = max(round(1 / (look.rate * look.time_base)), 1)
    before: int | None = None
    with container:
        for number, frame in enumerate(_decoded(path, container, stream)):
            time = frame.pts
            if time is None:
                time = 0 if before is None else before + step
            if before is not None and time <= before:
                time = before + 1  # two frames at once: a player shows the later one, an encoder refuses it
            before = time
            if number < skip:
                continue
            size = (frame.width, frame.height) if look.turn[0] == 0 else (frame.height, frame.width)
            if size != (look.height, look.width):
                raise DamagedVideo(
                    f"{path} changes its size from {look.width}×{look.height} to {size[1]}×{size[0]} at frame "
                    f"{number + 1}; cut it there and restore the parts."
                )
            yield Picture(_rgb(frame, look, deep), time, frame.duration or step)


def to_frame(pixels: np.ndarray, look: Look, pixel_format: str) -> "VideoFrame":
    """H×W×3 RGB as a frame for an encoder, in the video's own matrix and range."""
    av = import_av()
    form = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=form)
    return frame.reformat(
        format=pixel_format,
        src_colorspace=look.matrix,
        dst_colorspace=look.matrix,
        src_color_range=_FULL,
        dst_color_range=look.colour_range,
        interpolation=_exact(av),
    )


def _rgb(frame: "VideoFrame", look: Look, deep: bool) -> np.ndarray:
    """A frame as H×W×3 RGB, upright."""
    pixels = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=look.matrix,
        dst_colorspace=look.matrix,
        src_color_range=int(frame.color_range) or look.colour_range,
        dst_color_range=_FULL,
        interpolation=_exact(import_av()),
    ).to_ndarray()
    xx, xy, yx, yy = look.turn
    pixels = pixels.transpose(1, 0, 2)[::xy, ::yx] if xx == 0 else pixels[::yy, ::xx]
    return np.ascontiguousarray(pixels)


def _decoded(path: Path, container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    """The frames of a stream; VideoError where the file is damaged or ends before its time."""
    av = import_av()
    decoded = packets = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            for frame in packet.decode():
                decoded += 1
                yield frame  # type: ignore[misc]
    except av.FFmpegError as error:
        raise DamagedVideo(
            f"{path} is damaged after frame {decoded} ({_reason(error)}); copy it again, or cut it there."
        ) from error
    exact = container.format.name.startswith("mov")  # elsewhere the number is a guess, or counts gaps too
    if exact and stream.frames > packets:
        raise DamagedVideo(
            f"{path} ends after {packets} of its {stream.frames} frames; copy it again, or export what there is."
        )


def _exact(av: Any) -> int:
    """How swscale converts: no shortcuts, chroma interpolated to full width, as far as PyAV (before 18) lets it."""
    kinds = av.video.reformatter.Interpolation
    exact = ("ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")
    return sum(int(getattr(kinds, name, 0)) for name in exact) + int(kinds.BICUBIC)


def _turn(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """The display matrix (ISO/IEC 14496-12, 8.3.2) as signs: x' = xx·x + yx·y, y' = xy·x + yy·y. Turns by other
    angles than quarters are passed over."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        xx, xy, _, yx, yy = (int(np.sign(value)) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
        if (xx == yy == 0 and xy and yx) or (xy == yx == 0 and xx and yy):
            return xx, xy, yx, yy
    return (1, 0, 0, 1)


def _is_cover(stream: "VideoStream") -> bool:
    disposition = import_av().stream.Disposition
    return bool(stream.disposition & disposition.attached_pic)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
