"""The page: what stands where. What happens when something is pressed stands in `mhnet.app.events`."""

from collections.abc import Sequence
from functools import partial
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.themes import Default

from mhnet.app import examples
from mhnet.app.choices import Choice
from mhnet.app.events import Events
from mhnet.app.restoring import Limits
from mhnet.core.version import __version__
from mhnet.images.kinds import KIND_OF_EXTENSION

TILES = [("As memory allows", "auto"), ("Never", "off"), ("256 × 256", "256"), ("512 × 512", "512"),
         ("1024 × 1024", "1024")]  # fmt: skip
LOCAL = [{"key": "auto", "label": "As noted with the weights"}, {"key": "on", "label": "On"},
         {"key": "off", "label": "Off"}]  # fmt: skip
PRECISIONS = [("As the device allows", "auto"), ("32 bits", "fp32"), ("16 bits, bf16", "bf16"),
              ("16 bits, fp16", "fp16")]  # fmt: skip
_FOCUS = "() => { document.activeElement === document.body && document.querySelector('#NAME')?.focus(); }"
"""Gives the keyboard to a button where another one has taken it along when it vanished."""
_QUEUE = 30  # who comes after so many is asked to come again


def appearance() -> dict[str, Any]:
    """How the page looks, as `mount_gradio_app` takes it: the system's fonts, our colours."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
    theme = Default(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]
    )
    return {"theme": theme, "css": _read_text("layout.css"), "head": '<meta name="color-scheme" content="light dark">'}


def build(events: Events) -> gr.Blocks:
    """The page with its queue."""
    choices, limits = list(events.choices.values()), events.restorer.limits
    with gr.Blocks(title="MHNet", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(_header(choices), elem_id="header", apply_default_css=False)
        with gr.Row(elem_id="main", equal_height=False):
            with gr.Column(scale=0, min_width=320, elem_id="controls"):
                photos = _photos("Photos", limits, "photos")
                given = examples.examples()
                samples = _component("examples", given, visible=bool(given), elem_id="samples")
                options = [
                    {"key": one.key, "label": one.label, "facts": one.facts, "limits": one.limits} for one in choices
                ]
                task = _component("choice", choices[0].key, title="What should go?", options=options, elem_id="task")
                strength = gr.Slider(0, 100, value=100, step=5, label="Strength, %", elem_id="strength")
                with gr.Row():
                    start = gr.Button("Restore", variant="primary", elem_id="restore")
                    stop = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
                status = gr.HTML("", visible=False, elem_id="status")
                with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                    tile = gr.Dropdown(TILES, value="auto", label="Tiles")
                    precision = gr.Dropdown(PRECISIONS, value="auto", label="Precision")
                    local = _component("choice", "auto", title="Local statistics (TLC)", options=LOCAL, elem_id="local")
                    clean = _photos("Clean photos, for scores", limits, "clean")
            with gr.Column(scale=1, min_width=320):
                viewer = _component("viewer", {}, elem_id="viewer")

        own: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
        quick: dict[str, Any] = {**own, "queue": False, "show_progress": "hidden"}
        buttons = [start, stop, status]
        settings = [photos, clean, task, strength, tile, precision, local]
        photos.input(events.photos_chosen, [photos, clean], [photos, viewer], **quick)
        clean.input(events.clean_chosen, [clean], [clean], **quick)
        picked = samples.select(events.example_chosen, [task], [photos, viewer], **quick)
        busy, idle = partial(_visible, False, True, True), partial(_visible, True, False, False)
        begins = [one(busy, None, buttons, **quick) for one in (start.click, picked.success)]
        runs: list[Any] = [
            begin.then(events.restore_on_page, settings, [photos, viewer], **own, show_progress="full",
                       show_progress_on=[status], concurrency_id="network", concurrency_limit=1)
            for begin in begins
        ]  # fmt: skip
        stopped = stop.click(events.cancel, None, [viewer], cancels=runs, **quick)
        ends = [one.then(idle, None, buttons, **quick) for one in (*runs, stopped)]
        for shown, events_before in (("cancel", begins), ("restore", ends)):
            for event in events_before:
                event.then(None, js=_FOCUS.replace("NAME", shown), **quick)
        blocks.unload(lambda: None)  # because of this, Gradio's page keeps a connection, whose end the gate notices
        api(events.restore_files, api_name="restore", concurrency_id="network", concurrency_limit=1)
    blocks.queue(max_size=_QUEUE, api_open=False)
    return blocks


def _component(name: str, value: Any, **more: Any) -> gr.HTML:
    """One of our own, from its two files."""
    return gr.HTML(value, html_template=_read_text(f"{name}.html"), js_on_load=_read_text(f"{name}.js"),
                   apply_default_css=False, **more)  # fmt: skip


def _photos(title: str, limits: Limits, name: str) -> gr.HTML:
    """Where photos are dropped, and their list."""
    accepted = ",".join(["image/*", *sorted(KIND_OF_EXTENSION)])
    return _component("photos", [], title=title, most=limits.bytes, accept=accepted, elem_id=name)


def _visible(*visible: bool) -> list[Any]:
    return [gr.update(visible=one) for one in visible]


def _header(choices: Sequence[Choice]) -> str:
    what = " or ".join(escape(choice.label.lower()) for choice in choices)
    return (
        f"<h1>MHNet</h1><p>Takes {what} out of photos. They stay on the machine that serves this page, and are deleted "
        f"when you close it. <span>Version {__version__}</span></p>"
    )


def _read_text(name: str) -> str:
    return files("mhnet.app").joinpath(name).read_text(encoding="utf-8")
