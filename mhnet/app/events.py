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
from mhnet.app.restoring import Cancelled, PhotoRestorer, Progress, Settings, find_clean, scores, shown, zipped
from mhnet.app.sessions import Session, Sessions
from mhnet.core.errors import MHNetError, sentence

T = TypeVar("T")

Files = Sequence[Mapping[str, Any]] | None  # uploads as Gradio describes them, each by its path
Problems = dict[Path, str]  # what is wrong with files; the empty path stands for everything else
Entry = dict[str, Any]  # a photo for the viewer: its name, size and addresses, and what is known of its result
View = dict[str, Any]  # what the viewer shows: photos, problems, and the address of a zip
Listed = list[dict[str, Any]]  # photos for the page's list: path, name, bytes, problem

_SURE = 2  # seconds after which the time left is told
_OFTEN = 0.1  # seconds between two words on progress


class Events:
    """Takes what a session brings to the restorer, and what comes out to the page."""

    def __init__(self, sessions: Sessions, restorer: PhotoRestorer, choices: Sequence[Choice]):
        self.sessions, self.restorer = sessions, restorer
        self.choices = {choice.key: choice for choice in choices}

    def photos_chosen(self, photos: Files, clean: Files, request: gr.Request) -> tuple[Listed, View]:
        """Lists and shows the photos, and what is wrong with those that cannot be restored."""
        session, paths, clean_paths, problems = self._brought(request, photos, clean)
        session.keep_only([*paths, *clean_paths])
        entries = [_or_problem(problems, path, self._entry, path) for path in paths]
        return _listed(paths, problems), _view(entries, problems)

    def clean_chosen(self, clean: Files, request: gr.Request) -> Listed:
        """Lists the clean photos, and what is wrong with those that cannot be compared with."""
        _, _, paths, problems = self._brought(request, None, clean)
        for path in paths:
            _or_problem(problems, path, self.restorer.check, path)
        return _listed(paths, problems)

    def example_chosen(self, key: Any, event: gr.EventData, request: gr.Request) -> tuple[Listed, View]:
        """Takes an example as the session's photo; its clean photo lies beside it."""
        session = self._session(request)
        try:
            photo = examples.copy(str(getattr(event, "name", "")), str(key), self.sessions.new_folder(session))
        except MHNetError as error:
            return [], _view([], {Path(): str(error)})
        session.keep_only([photo])
        return _listed([photo], {}), _view([self._entry(photo)], {})

    def restore_on_page(
        self,
        photos: Files,
        clean: Files,
        key: Any,
        strength: Any,
        tile: Any,
        precision: Any,
        local: Any,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
    ) -> Any:
        """Restores the session's photos and shows them, and what went wrong."""
        session, paths, clean_paths, problems = self._brought(request, photos, clean)
        if not paths and not problems:
            problems[Path()] = "Choose a photo first."
        session.keep_only([*paths, *clean_paths])
        try:
            self._restore(session, paths, clean_paths, problems, progress, key, tile, precision, local, strength)
        except MHNetError as error:
            problems[Path()] = str(error)
        except Cancelled:
            return gr.skip()
        return _listed(paths, problems), self._results(session, problems)

    def cancel(self, request: gr.Request) -> Any:
        """Stops what the session computes, all its photos; shows those that are done."""
        session = self._session(request)
        session.cancelled.set()
        return self._results(session, {}) if session.results else gr.skip()

    def restore_files(
        self,
        request: gr.Request,
        photos: list[dict[str, Any]],
        task: str = "",
        tile: str = "auto",
        precision: str = "auto",
        local_statistics: str = "auto",
        clean: list[dict[str, Any]] | None = None,
        strength: float = 100,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        """Restores photos.

        Args:
            request: gradio fills it in; it tells whose session this is.
            photos: files.
            task: "derain", "deblur", or another that the page offers; by default its first.
            tile: "auto", "off", or a number of pixels.
            precision: "auto", "fp32", "bf16" or "fp16".
            local_statistics: means over windows (TLC): "auto", as noted with the weights, "on" or "off".
            clean: files of the same names, to score with.
            strength: how much of the change is kept, 0 to 100 %.

        Returns:
            The restored files; what is known of each: name, height, width, what it was made with, notes, scores; what
            went wrong with others.
        """
        session, paths, clean_paths, problems = self._brought(request, photos, clean)
        key, settings = task or next(iter(self.choices)), (tile, precision, local_statistics, strength)
        try:
            entries = self._restore(session, paths, clean_paths, problems, gr.Progress(), key, *settings)
        except (MHNetError, Cancelled) as error:
            raise gr.Error(str(error) or "It was cancelled.", print_exception=False) from error
        told = ("name", "height", "width", "made", "notes", "scores")
        results = [{"path": entry["file"], "meta": {"_type": "gradio.FileData"}} for entry in entries]
        return results, [{name: entry[name] for name in told} for entry in entries], list(problems.values())

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash or "")

    def _brought(
        self, request: gr.Request, photos: Files, clean: Files
    ) -> tuple[Session, list[Path], list[Path], Problems]:
        """The session, its photos and clean photos, and what is wrong with others."""
        session, problems = self._session(request), {}
        return session, self._claimed(session, photos, problems), self._claimed(session, clean, problems), problems

    def _claimed(self, session: Session, given: Files, problems: Problems) -> list[Path]:
        """The session's files among those given; what is wrong with the others goes to the problems."""
        if not isinstance(given, list):
            return []
        most = self.restorer.limits.files
        if len(given) > most:
            problems[Path()] = f"Up to {most} photos are taken at once, so {len(given) - most} are left out."
        names = [str(file["path"]) for file in given[:most]]
        found = [_or_problem(problems, Path(name), self.sessions.claim, session, name) for name in names]
        return [path for path in found if path]

    def _restore(
        self,
        session: Session,
        paths: list[Path],
        clean: list[Path],
        problems: Problems,
        progress: gr.Progress,
        key: Any,
        *how: Any,
    ) -> list[Entry]:
        """Restores photos one after the other, as `Settings.of` takes it; what goes wrong goes to the problems."""
        if not isinstance(key, str) or key not in self.choices:
            raise MHNetError(f"There is no task {key!r}: use one of {', '.join(self.choices)}.")
        choice = self.choices[key]
        settings = Settings.of(choice.weights, *how)
        session.results = results = []
        strength = "" if settings.strength == 1 else f", strength {settings.strength:.0%}"

        def restore(place: int, path: Path) -> None:
            entry, folder, tell = self._entry(path), self.sessions.new_folder(session), _telling(progress, place, paths)
            result, notes = self.restorer.restore(path, folder, settings, tell, session.cancelled)
            target = examples.clean_of(path) or find_clean(path, clean, alone=len(paths) == 1)
            wrong: Problems = {}
            scored = target and _or_problem(wrong, target, scores, path, result, target, choice.protocol)
            more = {
                "file": str(result),
                "after": _address(shown(result, folder)),
                "result": _address(result),
                "saved": result.name,
                "made": f"{choice.label} removed by {Path(choice.weights).stem}{strength}",
                "notes": [*notes, *(f"Not scored: {why}" for why in wrong.values())],
                "scores": scored,
            }
            results.append(entry | more)

        with self.sessions.working(session):
            for place, path in enumerate(paths):
                _or_problem(problems, path, restore, place, path)
        return results

    def _results(self, session: Session, problems: Problems) -> View:
        """The session's results for the viewer, and where there are several, a zip of them."""
        view = _view(session.results, problems)
        if len(session.results) > 1:
            files = [Path(entry["file"]) for entry in session.results]
            view["zip"] = _address(zipped(files, self.sessions.new_folder(session)))
        return view

    def _entry(self, path: Path) -> Entry:
        """A photo as the viewer wants it."""
        height, width = self.restorer.check(path)
        return {"name": path.name, "height": height, "width": width, "before": _address(shown(path, path.parent))}


def _or_problem(problems: Problems, path: Path, do: Callable[..., T], *arguments: Any) -> T | None:
    """What a function returns; None where it has a problem, which is noted with the file's name for its path."""
    try:
        return do(*arguments)
    except MHNetError as error:
        problems[path] = sentence(error).replace(str(path), path.name)
        return None


def _telling(progress: gr.Progress, place: int, paths: Sequence[Path]) -> Progress:
    """What tells of one photo's progress among several."""
    begun, latest = time.monotonic(), 0.0

    def tell(share: float, words: str) -> None:
        nonlocal latest
        now = time.monotonic()
        if now - latest < _OFTEN and share < 1:
            return
        latest = now
        whole = f"photo {place + 1} of {len(paths)}" if len(paths) > 1 else ""
        left = ""
        if now - begun > _SURE and 0 < share < 1:
            left = f"{_span((now - begun) * (1 - share) / share)} left{' for it' if whole else ''}"
        description = ", ".join(filter(None, (paths[place].name, whole, words, left)))
        progress((place + share) / len(paths), desc=description)

    return tell


def _span(seconds: float) -> str:
    """A time in words."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{max(seconds, 1):.0f} s"


def _listed(paths: Iterable[Path], problems: Problems) -> Listed:
    """Photos as the page lists them."""
    sizes = [(path, path.stat().st_size) for path in paths if path.is_file()]
    return [
        {"path": str(path), "name": path.name, "bytes": size, "problem": problems.get(path)} for path, size in sizes
    ]


def _view(entries: Iterable[Entry | None], problems: Problems) -> View:
    """What the viewer shows."""
    return {"photos": [entry for entry in entries if entry], "problems": list(problems.values())}


def _address(path: Path) -> str:
    """Where browsers find a file, below the page's own address."""
    return f"{API.lstrip('/')}file={quote(path.as_posix())}"
