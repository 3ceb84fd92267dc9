"""Videos through a network: frame by frame, with their sound and timing, resumable.

Importing this raises MHNetError where PyAV is not installed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mhnet.core.errors import printable
from mhnet.core.threads import ahead
from mhnet.restore.kinds import CONTAINERS
from mhnet.restore.video_frames import DamagedVideo, VideoError, missing_and_damaged, read_format, read_frames
from mhnet.restore.video_mux import check_streams, join
from mhnet.restore.video_segments import LENGTH, Segments, choose_encoding


@dataclass
class VideoResult:
    """What was done."""

    frames: int  # in the result
    resumed: int  # how many of them an earlier run had finished
    notes: list[str]  # what could not be kept, as sentences


def restore_video(
    restorer: Callable[[np.ndarray], np.ndarray],
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
    crf: int | None = None,
    codec: str | None = None,
    identity: str = "",
    deep: bool = False,
) -> VideoResult:
    """Restores every frame of a video; sound and subtitles come along as they are, and every frame keeps its time.

    Works in segments of LENGTH frames that are kept beside the target until all are done: a run that was stopped goes
    on after the last finished one. Memory does not grow with the video's length.

    Args:
        restorer: uint8 H×W×3 RGB to the same.
        source: the video's file.
        target: the file to write; its ending tells the container.
        overwrite: replace an existing target.
        progress: show a bar, on a terminal.
        crf: the encoder's measure of quality, lower is better; by default 16 for H.264, hard to tell from the original.
        codec: "h264", "h265", "vp9" or "av1"; by default H.264, or H.265 for more than 8 bits; in .webm, VP9 or AV1.
        identity: names the network and its settings: segments made with another identity are not used.
        deep: the restorer also takes uint16 frames and gives such; videos of more than 8 bits then keep 10.

    Raises:
        VideoError: the source is damaged or no video, the target exists, cannot hold the sound, or cannot be written.
    """
    if target.exists() and (not overwrite or (source.exists() and target.samefile(source))):
        way = "name another result" if overwrite or target.samefile(source) else "remove it, or ask to overwrite"
        raise VideoError(f"{target} is there already; {way}.")
    form = read_format(source)
    notes = [*form.notes, *check_streams(source, target)]
    deep = deep and form.deep
    if form.deep and not deep:
        if form.is_hdr:
            raise VideoError(f"{source} is HDR, for which 8 bits are too few: restore it with deep=True.")
        notes.append("its more than 8 bits are not kept")
    encoding = choose_encoding(form, target.suffix.lower(), codec, crf, deep)
    if "444" in encoding.pixel_format:
        notes.append(f"its odd size, {form.width}×{form.height}, is kept by 4:4:4 colours, which some players refuse")
    web = encoding.encoder in ("libvpx-vp9", "libsvtav1")  # they leave it to the container, and PyAV to the encoder
    if web and form.properties["sample_aspect_ratio"] != 1 and CONTAINERS[target.suffix.lower()] not in ("mp4", "mov"):
        notes.append("the shape of its pixels is not kept; a result that ends in .mp4 keeps it")
    read = _stamp(source)
    segments = Segments(target, {"source": read, "identity": identity, "encoding": encoding})
    resumed = segments.frames
    try:
        with tqdm(ahead(read_frames(source, form, resumed, deep)), printable(source.name), form.count, initial=resumed,
                  unit="frame", leave=False, disable=None if progress else True) as bar:  # fmt: skip
            frames = (frame._replace(pixels=restorer(frame.pixels)) for frame in bar)
            for first in frames:
                segments.write(chain([first], islice(frames, LENGTH - 1)), form, encoding)
        if _stamp(source) != read:
            raise DamagedVideo(f"{source} was changed while it was read; restore it again.")
    except BaseException as error:
        if isinstance(error, DamagedVideo) or not segments.found:
            segments.remove()
        raise
    missing, damaged = missing_and_damaged(source)
    if damaged:
        notes.append(f"{damaged} of its packets are damaged: frames there may show blocks; copy it again if you can")
    if missing > max(0.5, 2 * form.step * form.time_base):
        notes.append(f"it ends {missing:.1f} s before its noted length; it may have been cut off")
    join(segments.found, source, target, form)
    segments.remove()
    return VideoResult(segments.frames, resumed, notes)


def _stamp(path: Path) -> list[int]:
    """By what a file is known again: its size and the time of its last change."""
    try:
        about = path.stat()
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from error
    return [about.st_size, about.st_mtime_ns]
