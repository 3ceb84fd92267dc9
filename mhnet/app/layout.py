"""The page: what stands where. What happens when something is pressed stands in `mhnet.app.events`."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.themes import Default

from mhnet.app import examples
from mhnet.app.choices import Choice
from mhnet.app.events import Events
from mhnet.core.version import __version__

TILES = [("As memory allows", "auto"), ("Never", "off"), ("256 × 256", "256"), ("512 × 512", "512"),
         ("1024 × 1024", "1024")]  # fmt: skip
LOCAL = [("As noted with the weights", "auto"), ("On", "on"), ("Off", "off")]
PRECISIONS = [("As the device allows", "auto"), ("32 bits", "fp32"), ("16 bits, bf16", "bf16"),
              ("16 bits, fp16", "fp16")]  # fmt: skip
_QUEUE = 30  # who comes after so many is asked to come again


def appearance() -> dict[str, Any]:
    """How the page looks, as `mount_gradio_app` takes it: the system's fonts, our colours."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
    theme = Default(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]
    )
    return {"theme": theme, "css": _read_text("layout.css"), "head": '<meta name="color-scheme" content="light dark">'}


def build(events: Events, choices: Sequence[Choice]) -> gr.Blocks:
    """The page with its queue.

    Args:
        events: what is called.
        choices: what there is to remove.
    """
    with gr.Blocks(title="MHNet", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(_header(choices), elem_id="header", apply_default_css=False)
        with gr.Row(elem_id="main", equal_height=False):
            with gr.Column(scale=0, min_width=320, elem_id="controls"):
                photos = gr.File(label="Photos", file_count="multiple", file_types=["image"], height=170,
                                 elem_id="photos")  # fmt: skip
                samples = gr.HTML(
                    [{"name": name, "preview": examples.preview(name)} for name in examples.names()],
                    html_template=_read_text("examples.html"), js_on_load=_read_text("examples.js"),
                    apply_default_css=False, visible=bool(examples.names()), elem_id="samples",
                )  # fmt: skip
                task = gr.Radio([(one.label, one.key) for one in choices], value=choices[0].key,
                                label="What should go?", elem_id="task")  # fmt: skip
                with gr.Row():
                    start = gr.Button("Restore", variant="primary", elem_id="restore")
                    stop = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
                status = gr.HTML("", visible=False, elem_id="status")
                with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                    tile = gr.Dropdown(TILES, value="auto", label="Tiles")
                    precision = gr.Dropdown(PRECISIONS, value="auto", label="Precision")
                    local = gr.Radio(LOCAL, value="auto", label="Local statistics (TLC)", elem_id="local")
                    clean = gr.File(label="Clean photos, for scores", file_count="multiple",
                                    file_types=["image"], height=170, elem_id="clean")  # fmt: skip
            with gr.Column(scale=1, min_width=320):
                viewer = gr.HTML({}, html_template=_read_text("viewer.html"), js_on_load=_read_text("viewer.js"),
                                 apply_default_css=False, elem_id="viewer")  # fmt: skip

        own: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
        quick: dict[str, Any] = {**own, "queue": False, "show_progress": "hidden"}
        buttons = [start, stop, status]
        settings = [photos, clean, task, tile, precision, local]
        gr.on([photos.upload, photos.clear, photos.delete], events.photos_chosen, [photos, clean], [viewer], **quick)
        picked = samples.select(events.example_chosen, [task], [photos, viewer], **quick)
        begins = [one(_busy, None, buttons, **quick) for one in (start.click, picked.success)]
        runs: list[Any] = [
            begin.then(events.restore_on_page, settings, [viewer], **own, show_progress="full",
                       show_progress_on=[status], concurrency_id="network", concurrency_limit=1)
            for begin in begins
        ]  # fmt: skip
        for run in runs:
            run.then(_idle, None, buttons, **quick)
        stop.click(events.cancel, None, None, cancels=runs, **quick).then(_idle, None, buttons, **quick)
        blocks.unload(_left)
        api(events.restore_files, api_name="restore", concurrency_id="network", concurrency_limit=1)
    blocks.queue(max_size=_QUEUE)
    return blocks


def _busy() -> list[Any]:
    return [gr.update(visible=False), gr.update(visible=True), gr.update(visible=True)]


def _idle() -> list[Any]:
    return [gr.update(visible=True), gr.update(visible=False), gr.update(visible=False)]


def _left() -> None:
    """Nothing: because there is this, Gradio's page keeps a connection, whose end the gate notices."""


def _header(choices: Sequence[Choice]) -> str:
    what = " or ".join(escape(choice.label.lower()) for choice in choices)
    return (
        f"<h1>MHNet</h1><p>Takes {what} out of photos. They stay on the machine that serves this page, and are deleted "
        f"when you close it. <span>Version {__version__}</span></p>"
    )


def _read_text(name: str) -> str:
    return files("mhnet.app").joinpath(name).read_text(encoding="utf-8")
