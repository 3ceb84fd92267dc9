"""What happens when something on the page is pressed, or its API is called."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gradio as gr

from mhnet.app import examples
from mhnet.app.choices import Choice
from mhnet.app.gate import API
from mhnet.app.sessions import Session, Sessions
from mhnet.app.work import Cancelled, Progress, Settings, Workshop, find_clean, score, shown, without_folders
from mhnet.core.errors import MHNetError
from mhnet.evaluation.protocols import Score

T = TypeVar("T")

Files = Sequence[Mapping[str, Any]] | Mapping[str, Any] | None
"""Uploads as Gradio describes them, each by its path."""

_LOCAL = {"auto": None, "on": True, "off": False}  # as clients name what Restorer.from_weights takes
_OFTEN = 0.1  # seconds between two words on progress


class Desk:
    """Takes what a session brings to the workshop, and what comes out to the page.

    Args:
        sessions: whose files are handled.
        workshop: restores.
        choices: what there is to remove.
    """

    def __init__(self, sessions: Sessions, workshop: Workshop, choices: Sequence[Choice]):
        self.sessions = sessions
        self.workshop = workshop
        self.choices = {choice.key: choice for choice in choices}

    def bring(self, given: Files, request: gr.Request) -> tuple[list[str] | None, dict[str, Any]]:
        """Shows the photos that were dropped, and what is wrong with those that cannot be restored."""
        session, problems = self._session(request), []
        paths = self._claimed(session, given, problems)
        entries = {path: entry for path in paths if (entry := _or_problem(problems, path, self._entry, path))}
        session.keep_only([*entries, *session.clean])
        return [str(path) for path in entries] or None, _view(entries.values(), problems)

    def compare(self, given: Files, request: gr.Request) -> list[str] | None:
        """Takes clean photos in, to score with."""
        session = self._session(request)
        session.clean = self._claimed(session, given, [])
        return [str(path) for path in session.clean] or None

    def pick(self, key: str, event: gr.EventData, request: gr.Request) -> tuple[list[str], dict[str, Any]]:
        """Makes an example the session's photo; its clean photo lies beside it."""
        session = self._session(request)
        try:
            photo = examples.make(str(event.name), key, session.new_folder())
        except MHNetError as error:
            raise gr.Error(str(error), print_exception=False) from error
        session.keep_only([photo, *session.clean])
        return [str(photo)], _view([self._entry(photo)], [])

    def restore_shown(
        self,
        given: Files,
        key: str,
        tile: str | int,
        precision: str,
        local: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
    ) -> Any:
        """Restores the session's photos and shows them, and what went wrong."""
        session, problems = self._session(request), []
        paths = self._claimed(session, given, problems)
        if not paths and not problems:
            problems = ["Choose a photo first."]
        try:
            settings = self._settings(key, tile, precision, local)
            session.keep_only([*paths, *session.clean])
            return _view(self._run(session, paths, settings, progress, problems), problems)
        except MHNetError as error:
            return _view([], [str(error)])
        except Cancelled:
            return gr.skip()

    def restore_files(
        self,
        request: gr.Request,
        photos: list[dict[str, Any]],
        task: str = "",
        tile: str = "auto",
        precision: str = "auto",
        local_statistics: str = "auto",
        clean: list[dict[str, Any]] | None = None,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        """Restores photos.

        Args:
            photos: files.
            task: "derain", "deblur", or another that the page offers; by default its first.
            tile: "auto", "off", or a number of pixels.
            precision: "auto", "fp32", "bf16" or "fp16".
            local_statistics: means over windows (TLC): "auto", as noted with the weights, "on" or "off".
            clean: files of the same names, to score with.

        Returns:
            The restored files; what is known of each: name, height, width, notes, scores; what went wrong with others.
        """
        session, problems = self._session(request), []
        paths = self._claimed(session, photos, problems)
        session.clean = self._claimed(session, clean, problems)
        try:
            settings = self._settings(task or next(iter(self.choices)), tile, precision, local_statistics)
            entries = self._run(session, paths, settings, gr.Progress(), problems)
        except MHNetError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Cancelled as error:
            raise gr.Error("It was cancelled.", print_exception=False) from error
        told = ("name", "height", "width", "notes", "scores")
        results = [{"path": entry["file"], "meta": {"_type": "gradio.FileData"}} for entry in entries]
        return results, [{name: entry[name] for name in told} for entry in entries], problems

    def cancel(self, request: gr.Request) -> None:
        """Stops what the session computes."""
        self._session(request).cancelled.set()

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash or "")

    def _claimed(self, session: Session, given: Files, problems: list[str]) -> list[Path]:
        """Where files lie in the session; what is wrong with the others goes to the problems."""
        listed, most = [given] if isinstance(given, Mapping) else given or [], self.workshop.limits.files
        if len(listed) > most:
            problems.append(f"Up to {most} photos are taken at once, so {len(listed) - most} are left out.")
        names = [str(file.get("path")) for file in listed[:most]]
        found = [_or_problem(problems, Path(name), self.sessions.claim, session, name) for name in names]
        return [path for path in found if path]

    def _run(
        self, session: Session, paths: list[Path], settings: Settings, progress: gr.Progress, problems: list[str]
    ) -> list[dict[str, Any]]:
        """Restores photos one after the other; what goes wrong with one goes to the problems."""
        entries = []
        with self.sessions.working(session):
            for place, path in enumerate(paths):
                told = _telling(progress, place, paths)
                entries.append(_or_problem(problems, path, self._restored, session, path, settings, told, len(paths)))
        return [entry for entry in entries if entry]

    def _settings(self, key: str, tile: str | int, precision: str, local: str) -> Settings:
        """Settings as a client gives them; MHNetError for what there is not."""
        if not isinstance(key, str) or key not in self.choices:
            raise MHNetError(f"There is no task {key!r}: use one of {', '.join(self.choices)}.")
        if not isinstance(local, str) or local not in _LOCAL:
            raise MHNetError(f"Local statistics are auto, on or off, not {local!r}.")
        number = int(tile) if str(tile).isdecimal() else tile
        return Settings(self.choices[key].weights, number, precision, _LOCAL[local])  # pyright: ignore

    def _entry(self, path: Path) -> dict[str, Any]:
        """A photo as the viewer wants it."""
        height, width = self.workshop.check(path)
        return {"name": path.name, "height": height, "width": width, "before": _address(shown(path, path.parent))}

    def _restored(self, session: Session, path: Path, settings: Settings, told: Progress, count: int) -> dict[str, Any]:
        """A photo and its result as the viewer wants them."""
        entry, folder = self._entry(path), session.new_folder()
        result = self.workshop.restore(path, folder, settings, told, session.cancelled)
        clean = examples.clean_of(path) or find_clean(path, session.clean, alone=count == 1)
        wrong: list[str] = []
        scores = clean and _or_problem(wrong, clean, self._scores, path, result.path, clean, settings)
        return {
            **entry,
            "file": str(result.path),
            "after": _address(shown(result.path, folder)),
            "result": _address(result.path),
            "saved": result.path.name,
            "notes": [*result.notes, *(f"Not scored: {reason}" for reason in wrong)],
            "scores": scores,
        }

    def _scores(self, before: Path, after: Path, clean: Path, settings: Settings) -> dict[str, Any]:
        """Scores as the viewer wants them."""
        scored = score(before, after, clean, self.workshop.protocol(settings))
        return {"protocol": scored.protocol, "before": _rounded(scored.before), "after": _rounded(scored.after)}


def _or_problem(problems: list[str], path: Path, do: Callable[..., T], *arguments: Any) -> T | None:
    """What a function returns; None where it has a problem, which is noted with the file's name for its path."""
    try:
        return do(*arguments)
    except MHNetError as error:
        problems.append(without_folders(error, path))
        return None


def _telling(progress: gr.Progress, place: int, paths: Sequence[Path]) -> Progress:
    """What tells of one photo's progress among several."""
    latest = 0.0

    def told(share: float, words: str) -> None:
        nonlocal latest
        if (now := time.monotonic()) - latest >= _OFTEN or share == 1:
            latest = now
            whole = f"photo {place + 1} of {len(paths)}" if len(paths) > 1 else ""
            description = ", ".join(filter(None, (paths[place].name, whole, words)))
            progress((place + share) / len(paths), desc=description)

    told(0, "")
    return told


def _view(entries: Iterable[dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    """What the viewer shows."""
    return {"photos": list(entries), "problems": problems}


def _rounded(scored: Score) -> dict[str, float | None]:
    """Scores as JSON, which has no infinity: None for the PSNR of images that are equal."""
    return {"psnr": None if math.isinf(scored.psnr) else round(scored.psnr, 2), "ssim": round(scored.ssim, 4)}


def _address(path: Path) -> str:
    """Where browsers find a file, below the page's own address."""
    return f"{API.lstrip('/')}file={quote(path.as_posix())}"
