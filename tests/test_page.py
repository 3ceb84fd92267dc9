"""The page to look at results: what is in it, what is not, and that names are text."""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image
from small import crops
from tools import needs

from mhnet.core.errors import MHNetError
from mhnet.evaluation.protocols import Score
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.restore import report
from mhnet.restore.report import Entry, Scores, write_report

HOSTILE = "<script>alert('x')</script> \"quotes\" & new\nline javascript:.png"


class Found(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def pair(folder: Path, name: str | bytes, size: int = 72) -> tuple[Path, Path]:
    """A dark and a light file of that name, below before/ and after/."""
    made = []
    for side, photo in (("before", crops(size)[0] // 2), ("after", crops(size)[0])):
        path = folder / side / os.fsdecode(name)
        write_rgb(path, photo)
        made.append(path)
    return made[0], made[1]


def linked(found: Found, folder: Path) -> set[Path]:
    places = [str(attrs["href"]) for attrs in found.all("a")]
    return {folder / os.fsdecode(unquote_to_bytes(place)) for place in places if not place.startswith("#")}


def picture(attrs: dict[str, str | None]) -> np.ndarray:
    data = str(attrs["src"]).removeprefix("data:image/jpeg;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_picture_of_each_side_a_slider_scores_and_links(tmp_path):
    before, after = pair(tmp_path, "otter.png")
    scores = Scores("rain_y_matlab", Score(21.637, 0.56), Score(27.125, 0.7039))
    entries = [Entry("otter.png", before, after, after, scores), Entry("again", before, after, note="made with TLC")]
    write_report(tmp_path / "report.html", entries, "A rainy day", about={"device": "cpu"})
    found = Found(tmp_path / "report.html")
    assert len(found.all("input")) == 2 and all(slider["type"] == "range" for slider in found.all("input"))
    shown = [picture(attrs) for attrs in found.all("img")]
    assert [image.shape for image in shown] == [(72, 72, 3)] * 5  # of the first also the clean one
    assert np.abs(shown[0].astype(int) - read_rgb(after)).mean() < 4
    assert np.abs(shown[1].astype(int) - read_rgb(before)).mean() < 4
    assert found.text.count("rain_y_matlab") == 2  # the mean's, the image's
    for text in ("A rainy day", "2 restored", "21.64 dB", "27.12 dB", "0.7039", "made with TLC", "device", "72×72"):
        assert text in found.text
    assert {path.resolve() for path in linked(found, tmp_path)} == {before.resolve(), after.resolve()}


@pytest.mark.skipif(os.name == "nt", reason="such names are not possible there")
def test_names_are_text_and_still_lead_to_their_files(tmp_path):
    names = [os.fsencode(HOSTILE).replace(b"/", b""), b"caf\xe9 \xff.png", "\u202egnp.exe #1?%41.png".encode()]
    entries = [Entry(os.fsdecode(name), *pair(tmp_path, name)) for name in names]
    failures = [(HOSTILE, f"{HOSTILE} is damaged")]
    write_report(tmp_path / "in" / "report.html", entries, HOSTILE, failures=failures, about={HOSTILE: HOSTILE})
    found = Found(tmp_path / "in" / "report.html")
    assert len(found.all("script")) == 1 and not found.all("script")[0]
    assert len(found.all("img")) == 6 and len(found.all("title")) == 1
    assert all(path.is_file() for path in linked(found, tmp_path / "in"))
    assert len(linked(found, tmp_path / "in")) == 6
    assert not any(str(attrs["href"]).lower().startswith("javascript") for attrs in found.all("a"))
    assert "caf� �.png" in found.text and "new␊line" in found.text and "is damaged" in found.text
    handlers = {name for _, attrs in found.elements for name in attrs if name.startswith("on")}
    assert not handlers


def test_the_page_asks_nothing_of_the_network(tmp_path):
    write_report(tmp_path / "report.html", [Entry("a", *pair(tmp_path, "a.png"))], "Title")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert "default-src 'none'" in text


def test_previews_shrink_as_images_become_many(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_BUDGET", 4e5)
    before, after = pair(tmp_path, "a.png", 72)
    photo = np.asarray(Image.fromarray(crops()[0]).resize((900, 600)))
    for path in (before, after):
        write_rgb(path, photo)
    sizes = []
    for count in (1, 4, 9, 30):
        write_report(target := tmp_path / f"{count}.html", [Entry("a", before, after)] * count, "Title")
        sizes.append(max(picture(Found(target).all("img")[0]).shape))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[1] > sizes[2]
    assert sizes[-1] == report.SMALLEST
    assert (tmp_path / "4.html").stat().st_size < 6e5


def test_beyond_a_thousand_images_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST", 2)
    write_report(tmp_path / "report.html", [Entry(f"n{i}", *pair(tmp_path, f"{i}.png")) for i in range(5)], "Title")
    found = Found(tmp_path / "report.html")
    assert len(found.all("input")) == 2 and "3 more" in found.text and "5 restored" in found.text
    assert len(linked(found, tmp_path)) == 2 * 2 + 3


def test_an_image_that_is_gone_leaves_its_reason(tmp_path):
    before, after = pair(tmp_path, "a.png")
    entries = [Entry("a", before, after), Entry("gone", before, tmp_path / "gone.png")]
    write_report(tmp_path / "report.html", entries, "Title", failures=[("b.jpg", "b.jpg is empty; remove it.")])
    found = Found(tmp_path / "report.html")
    assert len(found.all("input")) == 1
    assert "There is no file" in found.text and "b.jpg is empty" in found.text and "1 not" in found.text


@needs("av", "video")
def test_a_video_is_shown_by_one_of_its_frames(tmp_path):
    import av

    for name, value in (("before.mp4", 60), ("after.mp4", 200)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", 10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    entry = Entry("a", tmp_path / "before.mp4", tmp_path / "after.mp4")
    write_report(tmp_path / "report.html", [entry], "Title")
    after, before = (picture(attrs).mean() for attrs in Found(tmp_path / "report.html").all("img"))
    assert abs(after - 200) < 4 and abs(before - 60) < 4


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MHNetError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", [], "Title")


def test_no_page_is_left_half_written(tmp_path, monkeypatch):
    write_report(target := tmp_path / "report.html", [], "First")
    before, after = pair(tmp_path, "a.png")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "_preview", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(target, [Entry("a", before, after)], "Second")
    assert "First" in target.read_text() and [path.name for path in tmp_path.glob("*.html")] == ["report.html"]
