"""`mhnet app` without a browser: its API, what it refuses, what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from samples import deep, saved
from served import LIMITS, Page, by_command, photo, served, until
from small import PHOTOS, ROOT
from tools import require

from mhnet.cli.main import main
from mhnet.core.errors import MHNetError
from mhnet.data.degrade import rain
from mhnet.evaluation import protocols
from mhnet.images.listing import find_images
from mhnet.images.read import ImageData, read_rgb
from mhnet.images.write import write_image, write_rgb

require("gradio", "app")
from gradio_client import Client, handle_file
from PIL import Image

from mhnet.app.choices import choices
from mhnet.app.restoring import PhotoRestorer
from mhnet.app.server import Options, serving
from mhnet.app.sessions import Sessions

SECRET = "the secret of another folder"


@pytest.fixture(scope="module")
def page():
    with served() as page:
        yield page


@pytest.fixture
def client(page: Page, tmp_path):
    client = Client(page.address, verbose=False, download_files=str(tmp_path / "downloads"))
    yield client
    client.close()


def restored(client: Client, *paths: Path, **options):
    """The API's answer for photos."""
    return client.predict([handle_file(path) for path in paths], api_name="/restore", **options)


def test_results_equal_the_commands_byte_by_byte(client, tmp_path):
    rows = read_rgb(photo(tmp_path / "8.png"))
    write_image(tmp_path / "16.png", ImageData(deep(rows), deep(rows)[..., 0]))
    sources = [photo(tmp_path / "a.jpg"), tmp_path / "16.png", saved(tmp_path / "b.tif", Image.fromarray(rows))]
    files, facts, problems = restored(client, *sources)
    assert not problems
    assert [Path(file).name for file in files] == ["a_restored.jpg", "16_restored.png", "b_restored.tif"]
    for source, file, fact in zip(sources, files, facts, strict=True):
        assert Path(file).read_bytes() == by_command(source, tmp_path)
        assert (fact["name"], fact["height"], fact["width"]) == (source.name, 48, 64)


def test_advanced_settings_are_the_commands(client, tmp_path):
    source = photo(tmp_path / "a.png")
    for settings, options in (
        ({"tile": "64"}, ["--tile", "64"]),
        ({"local_statistics": "on"}, ["--tlc"]),
        ({"precision": "bf16"}, ["--precision", "bf16"]),
    ):
        (file,), _, _ = restored(client, source, task="derain", **settings)
        assert Path(file).read_bytes() == by_command(source, tmp_path, *options)
        (tmp_path / "by_command_a.png").unlink()
    for wrong, words in (
        ({"tile": "7"}, "A tile is"),
        ({"precision": "fp8"}, "no precision"),
        ({"local_statistics": "x"}, "Local statistics are auto, on or off"),
        ({"task": "x"}, "no task"),
    ):
        with pytest.raises(Exception, match=words):
            restored(client, source, **wrong)


def test_a_clean_photo_gives_scores_with_their_protocol(client, tmp_path):
    source, clean = photo(tmp_path / "a.png"), tmp_path / "other.png"
    write_rgb(clean, read_rgb(find_images(PHOTOS)[0])[:48, :64])
    files, (fact,), _ = restored(client, source, clean=[handle_file(clean)])
    wanted = protocols.score(read_rgb(files[0]), read_rgb(clean), "rain_y_matlab")
    assert fact["scores"]["protocol"] == "rain_y_matlab"
    assert fact["scores"]["after"] == {"psnr": round(wanted.psnr, 2), "ssim": round(wanted.ssim, 4)}
    assert fact["scores"]["before"]["psnr"] < wanted.psnr
    _, (fact,), _ = restored(client, source, clean=[handle_file(photo(tmp_path / "small.png", 32, 32))])
    assert fact["scores"] is None and "Not scored" in fact["notes"][-1]


def test_hostile_files_are_told_in_a_sentence_and_stop_no_other(client, page, tmp_path):
    good = photo(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:4000])
    (tmp_path / "text.png").write_text("these are no pixels\n")
    bomb = bytearray(good.read_bytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    names = ["cut.png", "text.png", "bomb.png"]
    files, facts, problems = restored(client, *(tmp_path / name for name in names), good)
    assert [fact["name"] for fact in facts] == ["good.png"] and len(files) == 1
    assert [problem.split()[0] for problem in problems] == names
    assert not any(str(page.folder) in problem or "Traceback" in problem for problem in problems)
    assert all(re.fullmatch(r"[^\n]{20,200}\.", problem) for problem in problems)


def test_what_is_too_large_or_too_many_is_refused(client, page, tmp_path):
    wide = tmp_path / "wide.png"
    write_rgb(wide, np.zeros((500, 502, 3), np.uint8))
    assert restored(client, wide)[2] == ["wide.png has 0.251 megapixels; up to 0.25 are taken."]
    many = [photo(tmp_path / f"{i}.png", 32, 32) for i in range(LIMITS.files + 1)]
    files, _, (problem,) = restored(client, *many)
    assert len(files) == LIMITS.files and "1 are left out" in problem
    status, answer = upload(page, b"x" * (LIMITS.bytes + 1))
    assert status == 413 and b"2 MB" in answer
    status, _ = upload(page, b"x" * (LIMITS.bytes + 1) * LIMITS.files)
    assert status == 413
    assert not [path for path in page.files() if path.stat().st_size > LIMITS.bytes]


def test_a_higher_limit_of_megapixels_is_taken(tmp_path):
    write_rgb(tmp_path / "a.bmp", np.zeros((8, 8, 3), np.uint8))
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = (15_000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(data)
    assert PhotoRestorer("cpu", replace(LIMITS, pixels=400_000_000)).check(tmp_path / "a.bmp") == (15_000, 15_000)


def upload(page: Page, content: bytes, name: str = "a.png", **headers: str) -> tuple[int, bytes]:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--x--\r\n'
    body %= (name.encode(), content)
    return page.ask("/gradio_api/upload", "POST", body, content_type="multipart/form-data; boundary=x", **headers)


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret.png"
    path.write_text(SECRET)
    return path


def test_no_file_of_another_folder_can_be_read(page, secret):
    inner = json.loads(upload(page, b"mine")[1])[0]
    assert page.ask(f"/gradio_api/file={inner}") == (200, b"mine")
    up = "../" * 12
    places = [f"{secret}", f"{up}{secret}", f"{page.folder}/{up}{secret}", f"{inner}/../../../../{secret.name}",
              f"{page.folder}/x/../../{secret.parent.name}/secret.png", "/etc/passwd", "//etc/passwd",
              f"file://{secret}", f"/proc/self/root{secret}", "/proc/self/environ", f"{secret}%00.png", ".",
              str(page.folder), f"{inner}/..", str(ROOT / "pyproject.toml"), "pyproject.toml",
              "http://127.0.0.1:1/", "C:\\Windows\\win.ini"]  # fmt: skip
    escapes = [lambda text: text, lambda text: text.replace("/", "%2f"), lambda text: text.replace("..", "%2e%2e"),
               lambda text: text.replace("/", "%252f"), lambda text: text.replace("..", "%252e%252e"),
               lambda text: text.replace("/", "\\")]  # fmt: skip
    doors = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/static/", "/assets/", "/svelte/",
             "/gradio_api/proxy=", "/gradio_api/deep_link?session_hash=", "/custom_component/x/", "/",
             "/theme.css/"]  # fmt: skip
    for path in {door + escape(place).replace(" ", "%20")
                 for door in doors for escape in escapes
                 for place in places[:: 1 if "file" in door else 6]}:  # fmt: skip
        status, body = page.ask(path)
        assert SECRET.encode() not in body and b"root:" not in body and b"[project]" not in body, path
        assert status >= 400 or b"<!doctype html>" in body[:100], path


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_links_lead_nowhere(page, secret):
    inner = Path(json.loads(upload(page, b"mine")[1])[0])
    (inner.parent / "link.png").symlink_to(secret)
    assert page.ask(f"/gradio_api/file={inner.parent}/link.png")[0] == 404


def test_names_of_uploads_are_no_paths(page):
    for name in (
        "../../up.png",
        "..\\..\\up.png",
        "/etc/up.png",
        "C:\\up.png",
        "a\x01b.png",
        "." * 3,
        "x" * 300 + ".png",
    ):
        status, answer = upload(page, b"mine", name)
        place = Path(json.loads(answer)[0])
        assert status == 200 and place.parent.parent == page.folder and place.is_file()
        assert len(place.name) <= 100 and place.name.isprintable()


def call(page: Page, data: object, door: str = "/gradio_api/call/restore", **headers: str) -> tuple[int, bytes]:
    return page.ask(door, "POST", json.dumps(data).encode(), content_type="application/json", **headers)


def file(path: object) -> dict[str, object]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_calls_name_no_files_but_their_own(page, secret, tmp_path):
    inner = json.loads(upload(page, photo(tmp_path / "mine.png").read_bytes(), "mine.png")[1])[0]
    for path in (secret, f"{inner}/../../../../{secret.name}", "/etc/passwd", "secret.png", f"file://{secret}", ""):
        for data in ([[file(path)]], [[file(inner)], "", "auto", "auto", "auto", [file(path)]]):
            assert call(page, {"data": data})[0] == 404
    assert len(answer(page, [file(inner)], "mine")[0]) == 1  # the session's from now on
    assert answer(page, [file(inner)], "theirs")[2] == ["mine.png is not here any more: choose it again."]


def test_calls_that_make_no_sense_get_a_sentence_and_no_traceback(page, capfd):
    inner = json.loads(upload(page, b"no pixels")[1])[0]
    deep = b'{"data":' + b"[" * 900 + b"]" * 900 + b"}"
    event = b'{"session_hash":"a","event_data":' + b"[" * 300 + b"]" * 300 + b"}"
    broken = [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\0", b"\xff\xfe", b"{'data': []}", b'{"data":[[]],}']
    values = [b'{"data":[NaN]}', b'{"data":[1e999]}', b'{"data":["\\ud800"]}', b'{"data":["a\\u0000b"]}', deep]
    shapes = [b"null", b"[]", b'{"data":[]}', b'{"data":null}', b'{"data":[[1]]}', b'{"data":[[{"path":1}]]}']
    names = [b'{"data":[[]],"session_hash":"../x"}', event]
    for body in broken + values + shapes + names:
        for door in ("call/restore", "queue/join", "run/predict", "cancel"):
            status, told = page.ask(f"/gradio_api/{door}", "POST", body, content_type="application/json")
            assert 400 <= status < 500 and json.loads(told)["detail"].endswith("."), (door, body[:50])
    for arguments in ([[file(inner)]], [5], [[file(inner)], []], [[], "x", {}], [[file(inner)], "", "1" * 400],
                      [[file(inner)], "derain", None], [[file(inner)], "derain", "auto", "auto", "auto", 7, "x"],
                      [[file(inner)], "derain", "auto", "auto", "auto", None, 101]):  # fmt: skip
        status, told = call(page, {"data": arguments})
        if status == 200:
            assert page.ask(f"/gradio_api/call/restore/{json.loads(told)['event_id']}")[0] == 200
        else:
            assert status == 400
    long = "x" * 5000
    for path in ("heartbeat/%00", "queue/data", "queue/data/", "queue/data?session_hash=%00", "call/restore/x",
                 "file=%00", f"file={inner}%00", f"file={long}", f"../assets/{long}"):  # fmt: skip
        status, told = page.ask(f"/gradio_api/{path}")
        assert status == 404 and isinstance(json.loads(told)["detail"], str), path
    for kind, body in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"\0" * 99),
        ("text/plain", b"x"),
    ):
        assert page.ask("/gradio_api/upload", "POST", body, content_type=kind)[0] == 400
    log = "".join(capfd.readouterr())
    assert "Traceback" not in log and "Error" not in log


def test_posts_leave_no_folders_and_uploads_have_a_total_limit(tmp_path):
    limits = replace(LIMITS, total=5_000_000)
    with served(limits) as page:
        for number in range(200):
            assert call(page, {"data": [[]], "session_hash": f"s{number}"})[0] == 200
        assert not list(page.folder.iterdir())
        statuses = [upload(page, b"small")[0] for _ in range(6)]
        assert statuses == [200] * 5 + [507]  # each counts for a megabyte
    with served() as page:
        statuses = [upload(page, b"small")[0] for _ in range(10 * LIMITS.files + 1)]
        assert statuses == [200] * 10 * LIMITS.files + [503] and len(list(page.folder.iterdir())) == 10 * LIMITS.files


def test_strength_blends_with_the_original(client, tmp_path):
    source = photo(tmp_path / "a.png")
    pixels, blended = read_rgb(source).astype(float), {}
    for strength in (0, 50, 100):
        (file,), (fact,), _ = restored(client, source, strength=strength)
        blended[strength] = read_rgb(file).astype(float)
        assert fact["made"] == "Rain removed by derain-small" + (f", strength {strength}%" if strength < 100 else "")
    assert np.array_equal(blended[0], pixels) and np.abs(blended[100] - pixels).max() > 20
    assert np.abs(blended[50] - (pixels + blended[100]) / 2).max() <= 0.5
    with pytest.raises(Exception, match="A strength is a number from 0 to 100"):
        restored(client, source, strength=101)


def test_no_rain_found_is_said_of_a_calm_photo_alone(client, tmp_path):
    calm = tmp_path / "calm.png"
    write_rgb(calm, np.full((64, 64, 3), 128, np.uint8))
    clean = read_rgb(find_images(PHOTOS)[0])[:128, :128]
    write_rgb(tmp_path / "rainy.png", rain(clean, np.random.default_rng(0), severity=(0.3, 0.3)))
    _, facts, _ = restored(client, calm, tmp_path / "rainy.png")
    assert "ain found" in facts[0]["notes"][0] and not facts[1]["notes"]


def answer(page: Page, photos: list[object], session: str) -> list:
    """What the API answers to a call of a session, without Gradio's client, which would send files again."""
    call_of_all = {"data": [photos], "session_hash": session}
    event = json.loads(call(page, call_of_all)[1])["event_id"]
    told = page.ask(f"/gradio_api/call/restore/{event}")[1].decode()
    return json.loads(told.split("event: complete\ndata: ")[1])


def test_the_server_fetches_nothing_for_others(page):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    assert call(page, {"data": [[file(url)]]})[0] == 404
    assert call(page, {"data": [[{**file("x"), "url": url}]]})[0] == 404
    for door in ("file=", "proxy=", "file/"):
        assert page.ask(f"/gradio_api/{door}{url}")[0] == 404
    server.shutdown()
    assert not asked


def test_other_pages_and_other_names_are_not_answered(page):
    evil = "http://evil.example"
    assert page.ask("/", host="evil.example")[0] == 421
    assert upload(page, b"mine", origin=evil)[0] == 403
    assert call(page, {"data": [[]]}, origin=evil)[0] == 403
    assert call(page, {"data": [[]]}, origin=page.address.rstrip("/"))[0] == 200
    assert call(page, {"data": [[]]}, origin="http://[")[0] == 403
    assert page.ask("/static/" + "a" * 300)[0] == 404
    assert page.ask("/", range="bytes=0-1,2-3")[0] == 416
    for door in ("/monitoring", "/login", "/gradio_api/vibe-edit/", "/gradio_api/deep_link", "/docs", "/openapi.json"):
        assert page.ask(door)[0] == 404


def test_every_answer_forbids_what_lies_elsewhere(page):
    import httpx

    for path in ("", "config", "nothing", "gradio_api/info"):
        headers = httpx.get(page.address + path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
    html = httpx.get(page.address).text
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert not re.search(r"googleapis|gstatic|cdnjs|jsdelivr|huggingface\.co/api", html)


def test_nothing_is_left_of_a_client_that_has_gone(page, tmp_path):
    before = set(page.files())
    client = Client(page.address, verbose=False)
    restored(client, photo(tmp_path / "gone.png"))
    assert {path.name for path in set(page.files()) - before} == {"gone.png", "gone_restored.png"}
    client.close()
    assert until(lambda: not [path for path in page.files() if path.name.startswith("gone")])


def test_sessions_end_and_uploads_that_nobody_asks_for_go(tmp_path, monkeypatch):
    passed, begin = 0.0, time.time()
    clock = SimpleNamespace(monotonic=lambda: passed, time=lambda: begin + passed)
    monkeypatch.setattr("mhnet.app.sessions.time", clock)

    def brought() -> Path:
        path = sessions.new_folder() / "a.png"
        path.write_text("")
        return path

    sessions = Sessions(tmp_path, grace=10, idle=300)
    session, path = sessions.get("one"), brought()
    assert sessions.claim(session, str(path)) == path
    assert sessions.claim(session, str(path)) == path
    for name in (str(path), f"{path.parent}/../{path.parent.name}/a.png", "a.png", "", "/", "a\0b", "\ud800", "x" * 99):
        with pytest.raises(MHNetError, match="not here"):
            sessions.claim(sessions.get("two"), name)
    with sessions.working(session):
        sessions.close("one")
        assert path.is_file() and session.cancelled.is_set()
    assert not path.parent.exists()
    orphan = brought()
    with sessions.connected("three"), sessions.connected("three"):
        kept = sessions.claim(sessions.get("three"), str(brought()))
        passed += 500
        sessions.sweep()
        assert not orphan.parent.exists() and list(sessions._sessions) == ["three"]  # two had no connection
    sessions.sweep()
    with sessions.connected("three"):  # its tab came back in time
        passed += 20
        sessions.sweep()
    assert kept.is_file()
    passed += 20
    sessions.sweep()
    assert not list(tmp_path.iterdir()) and not sessions._sessions


def test_weights_that_are_given_take_the_place_of_what_ships(tmp_path):
    shipped = {choice.key: choice for choice in choices()}
    assert shipped["derain"].label == "Rain" and shipped["derain"].weights == "derain-small"
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes((ROOT / "mhnet" / "checkpoints" / "pretrained" / "derain-small.safetensors").read_bytes())
    given = {choice.key: choice for choice in choices([str(mine)])}
    assert given == shipped | {"derain": given["derain"]} and given["derain"].weights == str(mine)
    with pytest.raises(MHNetError, match=r"none\.pth"):
        choices([str(tmp_path / "none.pth")])


def test_what_cannot_be_served_is_told(page, monkeypatch, capsys):
    port = page.address.rsplit(":", 1)[1].strip("/")
    assert main(["app", "--no-browser", "--port", port]) == 1
    assert "choose another --port" in capsys.readouterr().err
    assert main(["app", "--no-browser", "--max-mb", "0"]) == 1
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MHNetError, match=r"pip install 'mhnet\[app\]'"), serving(Options(port=0)):
        pass


COMMAND = """
import sys
def hook(event, args):
    place = args[1] if event == "socket.connect" else args[0] if event == "socket.getaddrinfo" else None
    host = place[0] if isinstance(place, tuple) else place
    if host not in (None, "127.0.0.1", "localhost", "::1") and isinstance(host, (str, bytes)):
        print("OUTSIDE", event, args, flush=True)
sys.addaudithook(hook)
from mhnet.cli.main import main
sys.exit(main(["app", "--no-browser", "--port", "0", "--device", "cpu"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="programs are ended otherwise there")
def test_the_command_speaks_to_nobody_else_and_leaves_nothing(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, env=environment, cwd=tmp_path)  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert match, said + process.stdout.read()
    (folder,) = tmp_path.glob("mhnet-app-*")
    page = Page(match[0], folder)
    assert page.ask("/")[0] == 200 and upload(page, b"mine")[0] == 200
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=500)
    assert process.returncode == 0 and rest == "The page is closed; nothing of it is left.\n"
    assert not folder.exists() and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_gradio_is_imported_by_nobody_else():
    code = "import sys; from mhnet.cli.main import parser; parser().format_help(); assert 'gradio' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
