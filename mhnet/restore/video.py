"""Videos through a network: frame by frame, with their sound and timing, resumable."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mhnet.restore.video_frames import (
    DamagedVideo,
    Picture,
    VideoError,
    frame_count,
    import_av,
    length,
    look_of,
    pictures,
)
from mhnet.restore.video_join import check_container, join
from mhnet.restore.video_parts import LENGTH, Parts, choose_encoder

_EDGE = 1 << 20  # bytes at a file's beginning and end by which it is known again


@dataclass
class VideoResult:
    """What was done.

    Args:
        frames: in the result.
        resumed: how many of them an earlier run had finished.
        notes: what could not be kept, as sentences.
    """

    frames: int
    resumed: int = 0
    notes: list[str] = field(default_factory=list)


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

    Works in stretches of LENGTH frames that are kept beside the target until all are done: a run that was stopped goes
    on after the last finished one. Memory does not grow with the video's length.

    Args:
        restorer: uint8 H×W×3 RGB to the same.
        overwrite: replace an existing target.
        progress: show a bar, on a terminal.
        crf: the encoder's measure of quality, lower is better; by default 16 for H.264, hard to tell from the original.
        codec: "h264", "h265", "vp9" or "av1"; by default VP9 in .webm, else H.264, or H.265 for more than 8 bits.
        identity: names the network and its settings: parts made with another identity are not used.
        deep: the restorer also takes uint16 frames and gives such; videos of more than 8 bits then keep 10.

    Raises:
        VideoError: the source is damaged or no video, the target exists, cannot hold the sound, or cannot be written.
        MHNetError: PyAV is not installed.
    """
    av = import_av()
    if target.exists() and (not overwrite or (source.exists() and target.samefile(source))):
        way = "name another result" if overwrite or target.samefile(source) else "remove it, or ask to overwrite"
        raise VideoError(f"{target} is there already; {way}.")
    look = look_of(source)
    notes = [*look.notes, *check_container(source, target)]
    deep = deep and look.deep
    if look.deep and not deep:
        notes.append("its more than 8 bits are not kept")
    encoder = choose_encoder(look, target.suffix.lower(), codec, crf, deep)
    if "444" in encoder.pixel_format:
        notes.append(f"its odd size, {look.width}×{look.height}, is kept by 4:4:4 colours, which some players refuse")
    about = {
        "source": _fingerprint(source),
        "identity": identity,
        "encoder": asdict(encoder),
        "length": LENGTH,
        "libraries": {name: list(version) for name, version in av.library_versions.items()},
    }
    parts = Parts(target, about)
    resumed = parts.frames
    try:
        with tqdm(total=frame_count(source), initial=resumed, desc=source.name, unit="frame", leave=False,
                  disable=None if progress else True) as bar:  # fmt: skip
            frames = pictures(source, look, resumed, deep)
            for first in frames:
                stretch = chain([first], islice(frames, LENGTH - 1))
                parts.write(_restored(restorer, stretch, bar), look, encoder)
        if _fingerprint(source) != about["source"]:
            raise DamagedVideo(f"{source} was changed while it was read; restore it again.")
    except BaseException as error:
        if isinstance(error, DamagedVideo) or not parts.found:
            parts.remove()
        raise
    noted, last = length(source), parts.found[-1]
    missing = (noted or 0) - (last.times[-1] + last.last - parts.found[0].times[0]) * look.time_base
    if noted and missing > max(1, noted / 50):
        notes.append(f"its pictures end {float(missing):.1f} s before its noted length; it may have been cut off")
    join(parts.found, source, target, look)
    parts.remove()
    return VideoResult(parts.frames, resumed, notes)


def _restored(
    restorer: Callable[[np.ndarray], np.ndarray], stretch: Iterator[Picture], bar: "tqdm[Any]"
) -> Iterator[Picture]:
    for picture in stretch:
        yield picture._replace(pixels=restorer(picture.pixels))
        bar.update()


def _fingerprint(path: Path) -> list[int | str]:
    """By what a file is known again: size, time of change, and a digest of its beginning and end."""
    try:
        about = path.stat()
        with path.open("rb") as file:
            digest = sha256(file.read(_EDGE))
            file.seek(max(about.st_size - _EDGE, 0))
            digest.update(file.read(_EDGE))
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from error
    return [about.st_size, about.st_mtime_ns, digest.hexdigest()]
