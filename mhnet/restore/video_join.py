"""Joining the parts of a video and everything else that its source holds: sound, subtitles, chapters, notes. Nothing is
encoded again here, and every frame and sample keeps its time."""

import heapq
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.core.files import replacing
from mhnet.restore.kinds import VIDEO_FORMATS
from mhnet.restore.video_frames import Look, VideoError, import_av, open_video
from mhnet.restore.video_parts import Part

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

_OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}, "mpegts": {"mpegts_copyts": "1"}}
_TAGS = {"hevc": "hvc1"}  # by which Apple's players know H.265 in .mp4 and .mov


def check_container(source: Path, target: Path) -> list[str]:
    """Whether the target's container can hold what comes along from the source, before any work is done.

    Returns:
        What it cannot hold and goes without, as sentences.

    Raises:
        VideoError: it cannot hold the sound, or it is none that we write.
    """
    if target.suffix.lower() not in VIDEO_FORMATS:
        raise VideoError(f"{target}: videos are written as {', '.join(sorted(VIDEO_FORMATS))}; choose one of them.")
    container, video = open_video(source)
    with container:
        form = VIDEO_FORMATS[target.suffix.lower()]
        return [note for stream in container.streams if stream is not video
                if (note := _missing(stream, form, source, target))]  # fmt: skip


def join(parts: Sequence[Part], source: Path, target: Path, look: Look) -> None:
    """Writes the video, whole or not at all, and reads its frames' times back to be sure of them.

    Raises:
        VideoError: the system refuses, or the container cannot keep the times.
    """
    av = import_av()
    form = VIDEO_FORMATS[target.suffix.lower()]
    try:
        with replacing(target) as temporary:
            container, video = open_video(source)
            with container, av.open(f"file:{temporary}", "w", format=form, options=_OPTIONS.get(form, {})) as output:
                with av.open(f"file:{parts[0].path}") as first:
                    picture = output.add_stream_from_template(first.streams.video[0])
                picture.time_base = look.time_base
                picture.metadata.update(_kept(video.metadata))
                if form in ("mp4", "mov") and (tag := _TAGS.get(picture.codec_context.name)):
                    picture.codec_context.codec_tag = tag
                others = _add_others(container, video, output)
                _add_notes(container, output)
                packets = heapq.merge(_video_packets(parts, picture, look), _other_packets(container, others),
                                      key=lambda item: item[0])  # fmt: skip
                for _, packet in packets:
                    output.mux(packet)
            _check_times(temporary, target, parts, look)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{target} cannot be written ({reason}); the finished parts are kept.") from error


def _missing(stream: "Stream", form: str, source: Path, target: Path) -> str:
    """Why a stream cannot come along; '' where it can."""
    if _fits(stream, form):
        return ""
    context = stream.codec_context
    name = context.codec.canonical_name if context is not None else "of an unknown kind"
    if stream.type == "audio":
        raise VideoError(
            f"{target} cannot hold the sound of {source} ({name}) as it is; name a result that ends in .mkv."
        )
    what = {"subtitle": "its subtitles", "video": "its further pictures", "attachment": "its attachments"}
    return f"{what.get(stream.type, 'its data')} ({name}) did not come along"


def _fits(stream: "Stream", form: str) -> bool:
    """Whether a stream comes along to a container of that format."""
    av = import_av()
    if stream.type not in ("audio", "subtitle"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=form) as sample:
            sample.add_stream_from_template(stream)
            sample.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def _add_others(container: "InputContainer", video: "Stream", output: "OutputContainer") -> "dict[int, Stream]":
    """Adds the streams that come along; gives them by their index in the source."""
    added = {}
    for stream in container.streams:
        if stream is video or not _fits(stream, output.format.name):
            continue
        copy = output.add_stream_from_template(stream)
        if stream.time_base is not None:
            copy.time_base = stream.time_base
        copy.metadata.update(_kept(stream.metadata))
        with suppress(TypeError):  # not in every PyAV
            copy.disposition = stream.disposition
        added[stream.index] = copy
    return added


def _add_notes(container: "InputContainer", output: "OutputContainer") -> None:
    """Copies title, place, date and the like, and the chapters."""
    output.metadata.update(_kept(container.metadata))
    if hasattr(container, "chapters") and (chapters := container.chapters()):
        output.set_chapters(chapters)


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Notes that stay true of the result."""
    stale = ("major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "vendor_id", "duration",
             "number_of_frames", "number_of_bytes", "bps", "_statistics")  # fmt: skip
    return {key: text for key, text in metadata.items() if not key.lower().startswith(stale)}


def _video_packets(parts: Sequence[Part], stream: "Stream", look: Look) -> "Iterator[tuple[Fraction, Packet]]":
    """The encoded frames in the order of decoding, each with its true times, keyed by when it is decoded.

    A frame is decoded as many places before it is shown as any frame in the video needs: decoding times are the
    display times, in order, delayed by that many places.
    """
    delay = max(_delay(part) for part in parts)
    first, step = parts[0].times[0], max(round(1 / (look.rate * look.time_base)), 1)
    waiting = [first - (delay - place) * step for place in range(delay)]
    for number, part in enumerate(parts):
        end = parts[number + 1].times[0] if number + 1 < len(parts) else part.times[-1] + part.last
        waiting += part.times
        for place, packet in _packets(part):
            packet.stream, packet.time_base = stream, look.time_base
            packet.pts, packet.dts = part.times[place], waiting.pop(0)
            packet.duration = (part.times[place + 1] if place + 1 < len(part.times) else end) - part.times[place]
            yield packet.dts * look.time_base, packet


def _delay(part: Part) -> int:
    """How many places a part's packets come after their frames' turns at most."""
    return max(position - place for position, (place, _) in enumerate(_packets(part)))


def _packets(part: Part) -> "list[tuple[int, Packet]]":
    """A part's packets, in the order of decoding, with the numbers of their frames."""
    with import_av().open(f"file:{part.path}") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    order = sorted(range(len(packets)), key=lambda position: packets[position].pts)
    places = {position: place for place, position in enumerate(order)}
    if len(packets) != len(part.times):
        raise VideoError(f"{part.path} is damaged: remove its folder and begin again.")
    return [(places[position], packet) for position, packet in enumerate(packets)]


def _other_packets(container: "InputContainer", others: "dict[int, Stream]") -> "Iterator[tuple[Fraction, Packet]]":
    """The packets of sound and subtitles as they are."""
    if not others:
        return
    latest = Fraction(0)
    for packet in container.demux([container.streams[index] for index in others]):
        if packet.dts is None or not packet.size:
            continue
        latest = packet.dts * packet.time_base
        packet.stream = others[packet.stream.index]
        yield latest, packet


def _check_times(written: Path, target: Path, parts: Sequence[Part], look: Look) -> None:
    """Raises VideoError unless every frame is there, and shown when it should be, to the container's tick."""
    wanted = [time * look.time_base for part in parts for time in part.times]
    container, stream = open_video(written)
    with container:
        tick = Fraction(stream.time_base or 0)
        found = sorted((packet.pts or 0) * tick for packet in container.demux(stream) if packet.size)
    late = [abs((b - found[0]) - (a - wanted[0])) for a, b in zip(wanted, found, strict=False)]
    if len(found) != len(wanted) or max(late) > tick:
        raise VideoError(f"{target} would not show every frame when it should; name a result that ends in .mp4.")
