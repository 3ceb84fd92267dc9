"""Videos: frames, times and sound come through, runs resume, memory stays, damage is told in a sentence."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small import ROOT

from mhnet import images
from mhnet.restore.video import restore_video
from mhnet.restore.video_parts import LENGTH

av = pytest.importorskip("av")

PHOTO = ROOT / "demo" / "photos" / "test" / "oakland-zoo-otters.jpg"
RATE = 48000


def panned(count: int, height: int, width: int) -> list[np.ndarray]:
    """A camera's way across a photograph."""
    photo = images.read(PHOTO)
    return [np.ascontiguousarray(photo[i % 60 : i % 60 + height, i % 90 : i % 90 + width]) for i in range(count)]


def film(
    path: Path,
    count: int = 30,
    size: tuple[int, int] = (96, 128),
    *,
    times: list[int] | None = None,
    tick: Fraction = Fraction(1, 30000),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = "aac",
    turn: int = 0,
    **set_up: object,
) -> Path:
    """A clip with a second of a sine for each second of pictures; `times` are in ticks."""
    times = times or [1001 * i for i in range(count)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 30, options={"crf": "8"} if "26" in codec else {})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.time_base = stream.codec_context.time_base = tick
        for name, value in set_up.items():
            setattr(stream.codec_context, name, value)
        if turn:
            stream.set_display_rotation(turn)
        audio = container.add_stream(sound, RATE) if sound else None
        container.metadata["title"] = "Otters"
        for picture, at in zip(panned(len(times), *size), times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            for start in range(0, int((times[-1] + 1001) * tick * RATE), 1024):
                wave = np.sin(np.arange(start, start + 1024) * (2 * np.pi * 440 / RATE))
                packed = (wave * 20000).astype(np.int16)[None] if sound != "aac" else wave.astype(np.float32)[None]
                frame = av.AudioFrame.from_ndarray(packed, format="fltp" if sound == "aac" else "s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def shown(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sounds(path: Path) -> list[tuple[int, int, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def same(frame: np.ndarray) -> np.ndarray:
    return frame


def dark(frame: np.ndarray) -> np.ndarray:
    return frame // 2


def restore(source: Path, target: Path, restorer=same, **options):
    return restore_video(restorer, source, target, progress=False, **options)


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv"])
def test_frames_times_and_sound_come_through(tmp_path, extension):
    source = film(tmp_path / f"a{extension}", 3 * LENGTH - 20)
    result = restore(source, target := tmp_path / "out" / f"b{extension}", dark)
    assert (result.frames, result.resumed, result.notes) == (3 * LENGTH - 20, 0, [])
    assert shown(target) == shown(source)
    assert sounds(target) == sounds(source) and len(sounds(source)) > 100
    before, after = decoded(source).astype(int), decoded(target).astype(int)
    assert np.abs(after - before // 2).mean() < 1.5
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Otters"
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_variable_frame_rate_is_kept(tmp_path):
    steps = np.random.default_rng(0).integers(300, 9000, 2 * LENGTH)
    times = [4000 + int(at) for at in np.cumsum(steps)]
    source = film(tmp_path / "a.mp4", times=times, sound=None)
    restore(source, target := tmp_path / "b.mp4")
    assert shown(target) == shown(source)
    assert len({b - a for a, b in pairwise(shown(target))}) > 50
