"""Joining the segments of a video and everything else that its source holds: sound, subtitles, chapters, metadata.
Nothing is encoded again here, and every frame and sample keeps its time."""

import heapq
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from mhnet.core.files import replacing
from mhnet.restore.kinds import CONTAINERS
from mhnet.restore.video_frames import VideoError, VideoFormat, open_video, read_packets, reason
from mhnet.restore.video_segments import Segment

_OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}, "mpegts": {"mpegts_copyts": "1"}}
_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo"}
_PHONES = ("com.apple.quicktime.", "com.android.")  # place, camera and time, under names of their own
_STALE = ("major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "vendor_id", "duration",
          "number_of_frames", "number_of_bytes", "bps", "_statistics", "alpha_mode")  # fmt: skip
"""Beginnings of metadata's names that are not true of the result."""


def check_streams(source: Path, target: Path) -> list[str]:
    """What of the source's other streams the target's container cannot hold and goes without, as sentences, before any
    work is done; VideoError where that is the sound, or where it is a container that we do not write."""
    if target.suffix.lower() not in CONTAINERS:
        raise VideoError(f"{target}: videos are written as {', '.join(sorted(CONTAINERS))}; choose one of them.")
    kinds = {"subtitle": "its subtitles", "video": "its further pictures", "attachment": "its attachments"}
    notes = []
    container, video = open_video(source)
    with container:
        for stream in container.streams:
            if stream is video or _fits(stream, CONTAINERS[target.suffix.lower()]):
                continue
            context = stream.codec_context
            if stream.type == "data" and context is None and container.chapters():
                continue  # the words of the chapters, which come along
            name = context.codec.canonical_name if context is not None else "of an unknown kind"
            if stream.type == "audio":
                raise VideoError(
                    f"{target} cannot hold the sound of {source} ({name}) as it is; name a result that ends in .mkv."
                )
            notes.append(f"{kinds.get(stream.type, 'its data')} ({name}) did not come along")
    return notes


def join(segments: Sequence[Segment], source: Path, target: Path, form: VideoFormat) -> None:
    """Writes the video, whole or not at all, and reads its frames' times back to be sure of them; VideoError where the
    system refuses, or the container cannot keep the times."""
    kind = CONTAINERS[target.suffix.lower()]
    try:
        with replacing(target) as temporary:
            container, video = open_video(source)
            options = dict(_OPTIONS.get(kind, {}))
            if "movflags" in options and any(key.startswith(_PHONES) for key in container.metadata):
                options["movflags"] += "+use_metadata_tags"
            with container, av.open(f"file:{temporary}", "w", format=kind, options=options) as output:
                with av.open(f"file:{segments[0].path}") as first:
                    picture = output.add_stream_from_template(first.streams.video[0], opaque=True)
                context = picture.codec_context
                picture.time_base = form.time_base
                for name, value in form.properties.items():  # VP9 and AV1 leave some of them to the container
                    setattr(context, name, value)
                picture.metadata.update(_kept(video.metadata))
                if kind in ("mp4", "mov") and context.codec.canonical_name == "hevc":
                    context.codec_tag = "hvc1"  # Apple's players refuse FFmpeg's default, hev1
                others = _add_others(container, video, output)
                output.metadata.update(_kept(container.metadata))
                if chapters := container.chapters():
                    output.set_chapters(chapters)
                for packet in heapq.merge(_video_packets(segments, picture, form), _copied(source, container, others),
                                          key=lambda packet: (packet.dts or 0) * packet.time_base):  # fmt: skip
                    output.mux(packet)
            _check_times(temporary, target, segments, form)
    except (FFmpegError, OSError) as error:
        raise VideoError(f"{target} cannot be written ({reason(error)}); the finished parts are kept.") from error


def _fits(stream: Stream, kind: str) -> bool:
    """Whether a stream comes along to a container of that kind."""
    if stream.type not in ("audio", "subtitle"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind) as sample:
            sample.add_stream_from_template(stream)
            sample.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _add_others(container: InputContainer, video: Stream, output: OutputContainer) -> dict[int, Stream]:
    """Adds the streams that come along; gives them by their index in the source."""
    added = {}
    for stream in container.streams:
        if stream is video or not _fits(stream, output.format.name):
            continue
        copy = added[stream.index] = output.add_stream_from_template(stream)
        layout = getattr(copy.codec_context, "layout", None)
        if layout is not None and layout.name in _LAYOUTS:  # as AVI notes it, and MP4 cannot
            copy.codec_context.layout = _LAYOUTS[layout.name]  # type: ignore[attr-defined]
        if stream.time_base is not None:
            copy.time_base = stream.time_base
        copy.metadata.update(_kept(stream.metadata))
        with suppress(TypeError):  # not in every PyAV
            copy.disposition = stream.disposition
    return added


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in metadata.items() if not key.lower().startswith(_STALE)}


def _video_packets(segments: Sequence[Segment], stream: Stream, form: VideoFormat) -> Iterator[Packet]:
    """The encoded frames in the order of decoding, each with its true times.

    A frame is decoded as many places before it is shown as any frame in the video needs: decoding times are the
    display times, in order, delayed by that many places.
    """
    delay = max(position - place for segment in segments for position, (place, _) in enumerate(_packets(segment)))
    waiting = [segments[0].times[0] - (delay - place) * form.step for place in range(delay)]
    starts = [segment.times[0] for segment in segments[1:]]
    for segment, end in zip(segments, [*starts, segments[-1].end], strict=True):
        waiting += segment.times
        ends = [*segment.times[1:], end]
        for place, packet in _packets(segment):
            packet.stream, packet.time_base = stream, form.time_base
            packet.pts, packet.dts = segment.times[place], waiting.pop(0)
            packet.duration = ends[place] - segment.times[place]
            yield packet


def _packets(segment: Segment) -> list[tuple[int, Packet]]:
    """A segment's packets, in the order of decoding, with the numbers of their frames."""
    with av.open(f"file:{segment.path}") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    if len(packets) != len(segment.times):
        raise VideoError(f"{segment.path} is damaged: remove its folder and begin again.")
    places = {pts: place for place, pts in enumerate(sorted(packet.pts for packet in packets))}
    return [(places[packet.pts], packet) for packet in packets]


def _copied(source: Path, container: InputContainer, others: dict[int, Stream]) -> Iterator[Packet]:
    """The packets of sound and subtitles as they are."""
    for packet in read_packets(source, container, [container.streams[index] for index in others]) if others else ():
        if packet.dts is not None and packet.size:
            packet.stream = others[packet.stream.index]
            yield packet


def _check_times(written: Path, target: Path, segments: Sequence[Segment], form: VideoFormat) -> None:
    """Raises VideoError unless every frame is there, and shown when it should be, to the container's tick."""
    wanted = [time * form.time_base for segment in segments for time in segment.times]
    container, stream = open_video(written)
    with container:
        tick = Fraction(stream.time_base or 0)
        found = sorted((packet.pts or 0) * tick for packet in container.demux(stream) if packet.size)
    late = [abs((b - found[0]) - (a - wanted[0])) for a, b in zip(wanted, found, strict=False)]
    if len(found) != len(wanted) or max(late) > tick:
        raise VideoError(f"{target} would not show every frame when it should; name a result that ends in .mp4.")
