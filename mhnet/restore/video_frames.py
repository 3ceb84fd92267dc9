"""Frames of a video: out of a file as upright RGB arrays, and back into one, with nothing lost on the way that can be
kept: times, colour properties, shape of the pixels, depth."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mhnet.core.errors import MHNetError

try:
    import av
except ImportError as error:
    raise MHNetError("Videos need PyAV: pip install 'mhnet[video]'.") from error
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.reformatter import Interpolation

from mhnet.restore.video_hdr import HdrMetadata, lost_metadata, read_hdr

# Codes of ITU-T H.273, as FFmpeg uses them.
_RGB, _BT709, _UNSPECIFIED, _BT601 = 0, 1, 2, 5
_LIMITED, _FULL = 1, 2
_HDR = (16, 18)  # transfer functions PQ and HLG
_MATRICES = (1, 4, 5, 6, 7, 9)  # that swscale computes with: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020
_HIGH_DEFINITION = 720  # lines from which players take colours of no noted matrix for BT.709


class VideoError(MHNetError):
    """A video that cannot be read or written; the message names the file."""


class DamagedVideo(VideoError):
    """A video that cannot be read to its end."""


class Frame(NamedTuple):
    """A frame: H×W×3 RGB, upright, uint8, or uint16 of a deep video; when it is shown and for how long, in the
    stream's time base."""

    pixels: np.ndarray
    time: int
    duration: int


@dataclass(frozen=True)
class VideoFormat:
    """What the frames of a video have in common."""

    height: int  # upright, in pixels
    width: int
    deep: bool  # more than 8 bits
    time_base: Fraction  # seconds that times count
    rate: Fraction  # frames per second, on average
    count: int | None  # of the frames, as the file says or by its length; None where neither is noted
    matrix: int  # by ITU-T H.273; the one that players assume where none is noted
    properties: dict[str, Any]  # what players must know, as attributes of PyAV's codec contexts: pixels' shape, colours
    hdr: HdrMetadata
    turn: tuple[int, int, int, int]  # the display matrix's upper left 2×2 as signs, row by row
    notes: list[str]  # what a result cannot keep, as sentences

    @property
    def is_hdr(self) -> bool:
        """Whether its brightness is coded by PQ or HLG."""
        return self.properties["color_trc"] in _HDR

    @property
    def step(self) -> int:
        """How long a frame is shown on average, in the time base."""
        return max(round(1 / (self.rate * self.time_base)), 1)


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """The opened file and its moving pictures, cover pictures passed over; VideoError where the file is missing,
    damaged, or holds no video."""
    if path.exists() and not path.is_file():  # FFmpeg would wait for a pipe's other end
        raise VideoError(f"{path} is no file, but a folder, a pipe or a device; name another.")
    try:
        # With "file:" every name is a file: FFmpeg would take one such as "concat:a|b" for something else.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        if not path.exists():
            raise VideoError(f"There is no file {path}; check the path.") from error
        if path.is_file() and path.stat().st_size == 0:
            raise VideoError(f"{path} is empty; copy it again or remove it.") from error
        raise VideoError(f"{path} cannot be opened as a video ({reason(error)}); copy or export it again.") from error
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return container, stream
    container.close()
    raise VideoError(f"{path} holds no moving pictures that can be decoded; export it again as H.264 in .mp4.")


def read_format(path: Path) -> VideoFormat:
    """What the frames of a video have in common, from its first one; raises VideoError as `read_frames` does."""
    container, stream = open_video(path)
    with container:
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            raise DamagedVideo(f"{path} holds no frame that can be decoded; copy or export it again.")
        context, rate = stream.codec_context, Fraction(stream.average_rate or stream.guessed_rate or 25)
        seconds = Fraction(container.duration or 0, av.time_base)
        turn = _turn(frame)
        (height, width), aspect = _upright_size(frame, turn), Fraction(stream.sample_aspect_ratio or 1)
        noted = int(frame.colorspace)
        in_rgb = frame.format.is_rgb or noted == _RGB
        assumed = _BT709 if in_rgb or frame.height >= _HIGH_DEFINITION else _BT601
        matrix = assumed if in_rgb or noted == _UNSPECIFIED else noted
        if matrix not in _MATRICES:
            raise VideoError(f"{path} has colours by matrix {matrix} of H.273; convert it to BT.709 or BT.2020 first.")
        form = VideoFormat(
            height=height,
            width=width,
            deep=max(component.bits for component in frame.format.components) > 8,
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            rate=rate,
            count=stream.frames or (round(seconds * rate) if seconds else None),
            matrix=matrix,
            properties={
                "sample_aspect_ratio": aspect if turn[0] else 1 / aspect,
                "colorspace": assumed if in_rgb else noted,
                "color_range": _FULL if int(frame.color_range) == _FULL and not in_rgb else _LIMITED,
                "color_primaries": int(context.color_primaries),
                "color_trc": int(context.color_trc),
            },
            hdr=read_hdr(frame),
            turn=turn,
            notes=lost_metadata(frame),
        )
        if (bits := max(component.bits for component in frame.format.components)) > 10:
            form.notes.append(f"of its {bits} bits at most 10 are kept")
        if frame.format.name.startswith(("yuv422", "yuv444", "yuvj422", "yuvj444")):
            form.notes.append("its finer colour resolution is not kept: the result has 4:2:0, if its size is even")
        if _is_transparent(frame, stream):
            form.notes.append("its transparency is not kept")
        if frame.interlaced_frame:
            form.notes.append("it is interlaced and was restored as if it were not: better deinterlace it first")
        if form.is_hdr:
            form.notes.append("it is HDR, which the networks were not trained on")
        return form


def read_frames(path: Path, form: VideoFormat, skip: int = 0, deep: bool = False) -> Iterator[Frame]:
    """Every frame of a video from number `skip` on, one at a time, where it is `deep` as uint16 of 0 to 65535;
    VideoError where the file is damaged, or frames change their size."""
    container, stream = open_video(path)
    before: int | None = None
    with container:
        for number, frame in enumerate(_decoded(path, container, stream)):
            time = frame.pts
            if time is None:
                time = 0 if before is None else before + form.step
            if before is not None and time <= before:
                time = before + 1  # two frames at once: a player shows the later one, an encoder refuses it
            before = time
            if number < skip:
                continue
            height, width = _upright_size(frame, form.turn)
            if (height, width) != (form.height, form.width):
                raise DamagedVideo(
                    f"{path} changes its size from {form.width}×{form.height} to {width}×{height} at frame "
                    f"{number + 1}; cut it there and restore the parts."
                )
            yield Frame(_to_rgb(frame, form, deep), time, frame.duration or form.step)


def read_packets(path: Path, container: InputContainer, streams: list[Stream]) -> Iterator[Packet]:
    """The packets of some streams; DamagedVideo where the file is damaged."""
    try:
        yield from container.demux(streams)
    except (FFmpegError, IndexError) as error:
        what = "a stream begins in its middle" if isinstance(error, IndexError) else reason(error)
        raise DamagedVideo(f"{path} is damaged ({what}); copy it again, or cut it there.") from error


def from_rgb(pixels: np.ndarray, form: VideoFormat, pixel_format: str) -> VideoFrame:
    """H×W×3 RGB as a frame for an encoder, in the video's own matrix and range."""
    layout = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    return _converted(frame, form, pixel_format, _FULL, form.properties["color_range"])


def missing_and_damaged(path: Path) -> tuple[float, int]:
    """By how many seconds a file's packets, of pictures or sound, end before its noted length, and how many of them
    the container marks as damaged, as a transport stream does."""
    container, _ = open_video(path)
    with container:
        noted, end, damaged = Fraction(container.duration or 0, av.time_base), Fraction(0), 0
        for one in read_packets(path, container, [*container.streams]):
            damaged += one.is_corrupt
            if one.pts is not None:
                end = max(end, (one.pts + (one.duration or 0)) * one.time_base)
        return (float(noted - end) if noted and end else 0.0), damaged


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says of an error, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _to_rgb(frame: VideoFrame, form: VideoFormat, deep: bool) -> np.ndarray:
    """A frame as H×W×3 RGB, upright."""
    colour_range = int(frame.color_range) or form.properties["color_range"]
    pixels = _converted(frame, form, "rgb48le" if deep else "rgb24", colour_range, _FULL).to_ndarray()
    xx, xy, yx, yy = form.turn
    pixels = pixels.transpose(1, 0, 2)[::xy, ::yx] if xx == 0 else pixels[::yy, ::xx]
    return np.ascontiguousarray(pixels)


def _converted(frame: VideoFrame, form: VideoFormat, layout: str, before: int, after: int) -> VideoFrame:
    """A frame in another layout and range: without swscale's shortcuts, and with chroma interpolated to full width, as
    far as PyAV (before 18) lets it."""
    exact = ("ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")
    frame.colorspace = form.matrix  # PyAV 17 does not take BT.2020 from the arguments
    return frame.reformat(
        format=layout,
        src_colorspace=form.matrix,
        dst_colorspace=form.matrix,
        src_color_range=before,
        dst_color_range=after,
        interpolation=sum(int(getattr(Interpolation, name, 0)) for name in exact) + int(Interpolation.BICUBIC),
    )


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames of a stream; VideoError where the file is damaged or ends before its time."""
    decoded = packets = 0
    try:
        for packet in read_packets(path, container, [stream]):
            packets += packet.size > 0
            for frame in packet.decode():
                decoded += 1
                yield frame  # type: ignore[misc]
    except FFmpegError as error:
        raise DamagedVideo(
            f"{path} is damaged after frame {decoded} ({reason(error)}); copy it again, or cut it there."
        ) from error
    exact = container.format.name.startswith("mov")  # elsewhere the number is a guess, or counts gaps too
    if exact and stream.frames > packets:
        raise DamagedVideo(
            f"{path} ends after {packets} of its {stream.frames} frames; copy it again, or export what there is."
        )


def _is_transparent(frame: VideoFrame, stream: VideoStream) -> bool:
    """Whether something may be seen through the pictures. VP8 and VP9 keep their alpha beside the frames; GIFs declare
    one always."""
    if stream.codec_context.name == "gif":
        return bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())
    return stream.metadata.get("alpha_mode") == "1" or any(part.is_alpha for part in frame.format.components)


def _upright_size(frame: VideoFrame, turn: tuple[int, int, int, int]) -> tuple[int, int]:
    """Height and width of a frame once it is turned."""
    return (frame.height, frame.width) if turn[0] else (frame.width, frame.height)


def _turn(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix (ISO/IEC 14496-12, 8.3.2) as signs: x' = xx·x + yx·y, y' = xy·x + yy·y. Turns by other
    angles than quarters are passed over."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        xx, xy, _, yx, yy = (int(np.sign(value)) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
        if (xx == yy == 0 and xy and yx) or (xy == yx == 0 and xx and yy):
            return xx, xy, yx, yy
    return (1, 0, 0, 1)
