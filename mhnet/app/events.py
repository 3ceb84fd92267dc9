"""What happens when something on the page is pressed, or its API is called."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gradio as gr

from mhnet.app import examples
from mhnet.app.choices import Choice
from mhnet.app.gate import API
from mhnet.app.progress import Cancelled, Progress
from mhnet.app.restoring import PhotoRestorer, Settings, find_clean, score, shown
from mhnet.app.sessions import Session, Sessions
from mhnet.core.errors import MHNetError, sentence

T = TypeVar("T")

Files = Sequence[Mapping[str, Any]] | None
"""Uploads as Gradio describes them, each by its path."""

_OFTEN = 0.1  # seconds between two words on progress


class Events:
    """Takes what a session brings to the restorer, and what comes out to the page.

    Args:
        sessions: whose files are handled.
        restorer: restores.
        choices: what there is to remove.
    """

    def __init__(self, sessions: Sessions, restorer: PhotoRestorer, choices: Sequence[Choice]):
        self.sessions = sessions
        self.restorer = restorer
        self.choices = {choice.key: choice for choice in choices}

    def photos_chosen(self, photos: Files, clean: Files, request: gr.Request) -> dict[str, Any]:
        """Shows the photos, and what is wrong with those that cannot be restored."""
        session, problems = self._session(request), []
        paths = self._claimed(session, photos, problems)
        session.keep_only([*paths, *self._claimed(session, clean, problems)])
        return _view([_or_problem(problems, path, self._entry, path) for path in paths], problems)

    def example_chosen(self, key: Any, event: gr.EventData, request: gr.Request) -> tuple[list[str], dict[str, Any]]:
        """Takes an example as the session's photo; its clean photo lies beside it."""
        session = self._session(request)
        try:
            photo = examples.copy(str(getattr(event, "name", "")), str(key), self.sessions.new_folder(session))
        except MHNetError as error:
            raise gr.Error(str(error), print_exception=False) from error
        session.keep_only([photo])
        return [str(photo)], _view([self._entry(photo)], [])

    def restore_on_page(
        self,
        photos: Files,
        clean: Files,
        key: Any,
        tile: Any,
        precision: Any,
        local: Any,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
    ) -> Any:
        """Restores the session's photos and shows them, and what went wrong."""
        session, problems = self._session(request), []
        paths, clean_paths = self._claimed(session, photos, problems), self._claimed(session, clean, problems)
        if not paths and not problems:
            problems = ["Choose a photo first."]
        session.keep_only([*paths, *clean_paths])
        try:
            choice = self._choice(key)
            settings = Settings.of(choice.weights, tile, precision, local)
            return _view(self._restored(session, paths, clean_paths, choice, settings, progress, problems), problems)
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
        paths, clean_paths = self._claimed(session, photos, problems), self._claimed(session, clean, problems)
        try:
            choice = self._choice(task or next(iter(self.choices)))
            settings = Settings.of(choice.weights, tile, precision, local_statistics)
            entries = self._restored(session, paths, clean_paths, choice, settings, gr.Progress(), problems)
        except (MHNetError, Cancelled) as error:
            raise gr.Error(str(error) or "It was cancelled.", print_exception=False) from error
        told = ("name", "height", "width", "notes", "scores")
        results = [{"path": entry["file"], "meta": {"_type": "gradio.FileData"}} for entry in entries]
        return results, [{name: entry[name] for name in told} for entry in entries], problems

    def cancel(self, request: gr.Request) -> None:
        """Stops what the session computes."""
        self._session(request).cancelled.set()

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash or "")

    def _choice(self, key: Any) -> Choice:
        if not isinstance(key, str) or key not in self.choices:
            raise MHNetError(f"There is no task {key!r}: use one of {', '.join(self.choices)}.")
        return self.choices[key]

    def _claimed(self, session: Session, given: Files, problems: list[str]) -> list[Path]:
        """The session's files among those given; what is wrong with the others goes to the problems."""
        if not isinstance(given, list):
            return []
        most = self.restorer.limits.files
        if len(given) > most:
            problems.append(f"Up to {most} photos are taken at once, so {len(given) - most} are left out.")
        names = [str(file["path"]) for file in given[:most]]
        found = [_or_problem(problems, Path(name), self.sessions.claim, session, name) for name in names]
        return [path for path in found if path]

    def _restored(
        self,
        session: Session,
        paths: list[Path],
        clean: list[Path],
        choice: Choice,
        settings: Settings,
        progress: gr.Progress,
        problems: list[str],
    ) -> list[dict[str, Any]]:
        """Restores photos one after the other, for the viewer; what goes wrong with one goes to the problems."""

        def restored(place: int, path: Path) -> dict[str, Any]:
            entry, folder, tell = self._entry(path), self.sessions.new_folder(session), _telling(progress, place, paths)
            result = self.restorer.restore(path, folder, settings, tell, session.cancelled)
            target = examples.clean_of(path) or find_clean(path, clean, alone=len(paths) == 1)
            wrong: list[str] = []
            scores = target and _or_problem(wrong, target, _scores, path, result.path, target, choice.protocol)
            return {
                **entry,
                "file": str(result.path),
                "after": _address(shown(result.path, folder)),
                "result": _address(result.path),
                "saved": result.path.name,
                "notes": [*result.notes, *(f"Not scored: {reason}" for reason in wrong)],
                "scores": scores,
            }

        with self.sessions.working(session):
            entries = [_or_problem(problems, path, restored, place, path) for place, path in enumerate(paths)]
        return [entry for entry in entries if entry]

    def _entry(self, path: Path) -> dict[str, Any]:
        """A photo as the viewer wants it."""
        height, width = self.restorer.check(path)
        return {"name": path.name, "height": height, "width": width, "before": _address(shown(path, path.parent))}


def _or_problem(problems: list[str], path: Path, do: Callable[..., T], *arguments: Any) -> T | None:
    """What a function returns; None where it has a problem, which is noted with the file's name for its path."""
    try:
        return do(*arguments)
    except MHNetError as error:
        problems.append(sentence(error).replace(str(path), path.name))
        return None


def _telling(progress: gr.Progress, place: int, paths: Sequence[Path]) -> Progress:
    """What tells of one photo's progress among several."""
    latest = 0.0

    def tell(share: float, words: str) -> None:
        nonlocal latest
        if (now := time.monotonic()) - latest >= _OFTEN or share == 1:
            latest = now
            whole = f"photo {place + 1} of {len(paths)}" if len(paths) > 1 else ""
            description = ", ".join(filter(None, (paths[place].name, whole, words)))
            progress((place + share) / len(paths), desc=description)

    return tell


def _scores(before: Path, after: Path, clean: Path, protocol: str) -> dict[str, Any]:
    """Scores as the viewer wants them."""
    return {"protocol": protocol, "before": score(before, clean, protocol), "after": score(after, clean, protocol)}


def _view(entries: Iterable[dict[str, Any] | None], problems: list[str]) -> dict[str, Any]:
    """What the viewer shows."""
    return {"photos": [entry for entry in entries if entry], "problems": problems}


def _address(path: Path) -> str:
    """Where browsers find a file, below the page's own address."""
    return f"{API.lstrip('/')}file={quote(path.as_posix())}"
