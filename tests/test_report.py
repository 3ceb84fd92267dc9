"""Tables, LaTeX rows, JSON, CSV and sheets of scores, and what `mhnet evaluate` prints and writes."""

import csv
import io
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from small import PHOTOS, ROOT
from test_metrics import DATA, EXPECTED
from tools import needs

from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import TASKS, known_set
from mhnet.evaluation import sheets, tables
from mhnet.evaluation.lpips import load_lpips
from mhnet.evaluation.scoring import Evaluation, Failure, ImageScore, evaluate_folder
from mhnet.images.listing import find_images
from mhnet.images.read import image_size, read_rgb
from mhnet.images.write import write_rgb

INPUT, TARGET = str(DATA / "input"), str(DATA / "target")


def rain_sets() -> list[Evaluation]:
    return [
        Evaluation("Test100", "rain_y_matlab", [ImageScore("1", 30.0, 0.9), ImageScore("2", 32.0, 0.94)]),
        Evaluation("Rain100L", "rain_y_matlab", [ImageScore("1", 35.004, 0.97)], [Failure("2", "gone")]),
    ]


def test_table_of_several_sets() -> None:
    sets = rain_sets()
    assert tables.format_table(sets).splitlines() == [
        "| set            | protocol      | images | PSNR (dB) |   SSIM |",
        "|----------------|---------------|-------:|----------:|-------:|",
        "| Test100        | rain_y_matlab |      2 |     31.00 | 0.9200 |",
        "| Rain100L       | rain_y_matlab | 1 of 2 |     35.00 | 0.9700 |",
        "| mean of 2 sets | rain_y_matlab |        |     33.00 | 0.9450 |",
    ]
    sets[1].protocol = "y_float"
    assert "mean" not in tables.format_table(sets)
    sets[1].protocol, sets[1].method = "rain_y_matlab", "MHNet (TLC)"
    assert "mean" not in tables.format_table(sets) and "| Rain100L | MHNet (TLC) |" in tables.format_table(sets)


def test_identical_images_are_listed() -> None:
    evaluation = Evaluation("Test100", "y_float", [ImageScore("a", math.inf, 1.0), ImageScore("b", 30.0, 0.5)])
    note = "Test100: left out of the mean PSNR because they equal the clean: a"
    assert tables.format_table([evaluation]).endswith(note)
    assert "equal to the clean, not in the mean PSNR: a" in tables.latex([evaluation])
    alone = Evaluation("x", "y_float", [ImageScore("a", math.inf, 1.0)])
    assert json.loads(tables.to_json([alone]))["sets"][0]["psnr"] is None


def test_the_papers_figures_stand_beside_ours_and_are_said_to_be_quoted() -> None:
    sets = rain_sets()
    for one in sets:
        one.known = known_set(one.name)
    header, _, test100, rain100l, mean = tables.format_table(sets).splitlines()
    assert header.endswith("| MHNet's paper (quoted) |     difference |")
    assert test100.endswith("|          31.19 / 0.903 | -0.19 / +0.017 |")
    assert rain100l.endswith("|          39.47 / 0.984 | -4.47 / -0.014 |")
    assert "|          35.33 / 0.944 | -2.33 / +0.00" in mean
    quoted = json.loads(tables.to_json(sets))["sets"][0]["published"]
    assert quoted == {"psnr": 31.19, "ssim": 0.903, "quoted_from": "arXiv 2302.09554v1"}
    # Without an SSIM in the paper; by another protocol; for the degraded images.
    gopro = Evaluation("GoPro", "gopro_rgb_matlab", [ImageScore("1", 33.0, 0.96)], known=known_set("GoPro"))
    assert tables.format_table([gopro]).endswith("|              33.19 / – |  -0.19 / – |")
    gopro.protocol = "rgb_channel_mean"
    assert "quoted" not in tables.format_table([gopro])
    gopro.protocol, gopro.method = "gopro_rgb_matlab", "input"
    assert "quoted" not in tables.format_table([gopro])


def test_the_readme_quotes_the_same_figures() -> None:
    rows = re.findall(r"^\| \*\*MHNet\*\* (.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    heads = re.findall(r"^\| \| (GoPro.*|Test100.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    found = {}
    for head, row in zip(heads, rows, strict=True):
        found |= dict(zip(map(str.strip, head.split("|")), re.split(r"\s*\|\s*", row.strip(" |")), strict=True))
    sets = [one for task in TASKS.values() for one in task.sets if one.published]
    assert found == {
        one.name: f"{one.published.psnr:.2f}" + (f" / {one.published.ssim:.3f}" if one.published.ssim else "")
        for one in sets
        if one.published
    }


def test_a_latex_row_says_what_it_is_and_what_speaks_against_it() -> None:
    sets = rain_sets()
    sets[1].known = known_set("Rain100L")
    sets[1].method = sets[0].method = "Our_net & 50%"
    what, columns, *doubts, row = tables.latex(sets).splitlines()
    assert what.startswith("% PSNR (dB) & SSIM by rain_y_matlab: rounded luma") and "OpenCV" in what
    assert columns == "% Test100 (2 images) | Rain100L (1 images) | unweighted mean of 2 sets"
    assert [doubt.partition(": ")[2] for doubt in doubts] == [
        "Rain100L has 2 images here, the set Rain100L has 100",
        "the mean of Rain100L is not of the whole set, not scored: 2",
    ]
    assert row == r"Our\_net \& 50\% & 31.00 & 0.920 & 35.00 & 0.970 & 33.00 & 0.945 \\"
    whole = Evaluation("mine", "y_float", [ImageScore("1", 30.0, 0.9)])
    assert len(tables.latex([whole]).splitlines()) == 3


def test_evaluate_prints_and_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--protocol", "rain_y_matlab", "y_float", "--set", "Rain100L", "mine", "--inputs", INPUT, INPUT]
    out = tmp_path / "report"
    assert main(["evaluate", INPUT, TARGET, INPUT, TARGET, *words, "--report", str(out)]) == 0
    shown, warned = capsys.readouterr()
    assert warned == "warning: Rain100L has 3 images here, the set Rain100L has 100\n"
    table, latex = (out / "summary.md").read_text(), (out / "summary.tex").read_text()
    assert shown.startswith(table.partition("\n\n")[0]) and latex in shown
    assert table.count("mean of 2 sets") == 2 and warned[9:].strip() in table and warned[9:] in latex
    summary = json.loads((out / "summary.json").read_text())
    rows = list(csv.DictReader(io.StringIO((out / "scores.csv").read_text())))
    assert len(rows) == 12 and len(summary["sets"]) == 4 and len(summary["means"]) == 2
    for row in rows:
        assert float(row["psnr"]) == pytest.approx(EXPECTED[row["name"]][row["protocol"]]["psnr"], abs=1e-4, rel=0)
        assert float(row["ssim"]) == pytest.approx(EXPECTED[row["name"]][row["protocol"]]["ssim"], abs=1e-5, rel=0)
    mean = np.mean([EXPECTED[name]["y_float"]["psnr"] for name in EXPECTED])
    assert summary["means"][1]["psnr"] == pytest.approx(mean, abs=1e-4)
    assert {path.stem for path in out.glob("*.jpg")} == {
        f"{name}-MHNet-{protocol}" for name in ("Rain100L", "mine") for protocol in ("rain_y_matlab", "y_float")
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([INPUT, TARGET, INPUT, "--protocol", "y_float"], "has no folder of targets behind it"),
        ([INPUT, TARGET, "--protocol", "y_float", "--set", "a", "b"], "--set has 2 entries for 1 sets"),
        ([INPUT, TARGET, "--protocol", "y_float", "psnr"], "There is no protocol 'psnr'"),
        ([INPUT, TARGET, "--protocol", "y_float", "--csv", TARGET], "cannot be written"),
        ([INPUT, "absent", "--protocol", "y_float"], "There is no folder absent"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_error_map_is_black_where_nothing_differs_and_white_where_much_does() -> None:
    photo = read_rgb(find_images(PHOTOS)[0])[:64, :64] // 2
    other = photo.copy()
    other[:32, :, 1] += sheets.ERROR_RANGE
    drawn = sheets.error_map(other, photo)
    assert drawn.dtype == np.uint8 and (drawn[:32] > 250).all() and (drawn[32:] < 15).all()
    other[:32, :, 1] -= sheets.ERROR_RANGE // 2
    assert (drawn[:32].sum(axis=2) > sheets.error_map(other, photo)[:32].sum(axis=2)).all()


@pytest.mark.parametrize(("count", "shown"), [(2, ["w1 a", "w2 b", "b1 e", "b2 d"]), (9, ["w1 a", "w2 b", "w3 c"])])
def test_a_sheet_shows_the_worst_and_the_best_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, shown: list[str]
) -> None:
    photo = read_rgb(find_images(PHOTOS)[0])[:40, :60]
    for level, name in enumerate("edcba"):
        for folder, change in (("target", 0), ("results", 4 * level), ("inputs", 50)):
            write_rgb(tmp_path / folder / f"{name}.png", np.maximum(photo, change))
    results, target = tmp_path / "results", tmp_path / "target"
    evaluation = evaluate_folder(results, target, "gopro_rgb_matlab", inputs_dir=tmp_path / "inputs")
    titles: list[str] = []

    def noted(rows: Any, headers: Any, captions: Any, path: Path) -> None:
        for title, pictures in rows:
            titles.append(title)
            wanted = [read_rgb(tmp_path / kind / f"{title[-1]}.png") for kind in ("inputs", "results", "target")]
            assert all((a == b).all() for a, b in zip(pictures, wanted, strict=False)) and len(pictures) == 4
        assert headers[:3] == ["input", "result", "target"] and "gopro_rgb_matlab" in captions[0][1]
        sheets_drawn(rows, headers, captions, path)

    sheets_drawn = sheets.before_after
    monkeypatch.setattr(sheets, "before_after", noted)
    tables.worst_and_best(evaluation, tmp_path / "sheet.jpg", count)
    drawn = [re.sub(r"(\w)\w+ (\d): ", r"\1\2 ", title) for title in titles]
    assert drawn == (shown if count == 2 else [*shown, "b1 e", "b2 d"])
    assert image_size(tmp_path / "sheet.jpg")[1] == 1760


def test_without_lpips_or_its_weights_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MHNetError, match=r"pip install 'mhnet\[lpips\]'"):
        load_lpips()
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=offline))
    with pytest.raises(MHNetError, match=r"not known.*alexnet-owt-7be5be79\.pth into .*checkpoints"):
        load_lpips()


@needs("lpips", "lpips")
def test_lpips_stands_in_tables_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the package with AlexNet's weights at random (the real ones are a download) where it is installed."""
    import lpips

    real = lpips.LPIPS
    monkeypatch.setattr(lpips, "LPIPS", lambda **options: real(pnet_rand=True, **options))
    distance = load_lpips()
    photo = read_rgb(DATA / "target" / "chelsea-blur.png")
    assert distance(photo, photo) == 0 < distance(photo, photo[::-1].copy())
    with pytest.raises(MHNetError, match="30×40"):
        distance(photo[:30, :40], photo[:30, :40])
    words = ["evaluate", INPUT, TARGET, "--protocol", "y_float", "--lpips", "--csv", str(tmp_path / "scores.csv")]
    assert main(words) == 0
    figures = [float(row["lpips"]) for row in csv.DictReader((tmp_path / "scores.csv").open())]
    assert f"{np.mean(figures):.4f} |" in capsys.readouterr().out and min(figures) > 0
