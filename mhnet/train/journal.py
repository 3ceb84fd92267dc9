"""What a run leaves beside its checkpoints: settings, starts, table, curves, TensorBoard and W&B."""

import json
import re
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from tqdm import tqdm
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.core.files import replacing, write_text
from mhnet.train.environment import describe_environment
from mhnet.train.log import Row, write_table
from mhnet.train.state import Progress

HALF_WRITTEN = re.compile(
    r"\.\d+-(config\.yml|run\.json|metrics\.csv|curves\.png|\w*model_\w+\.safetensors)|\.tmp\w{6}", re.ASCII
)
"""Files of a process that was killed while it wrote: those of `replacing`, and those of safetensors from 0.8 on."""


class Journal:
    """What a run leaves beside its checkpoints, written by the main process alone.

    `config.yml` and `run.json` at the start; at the end of epochs `metrics.csv`, `curves.png`, and what TensorBoard and
    W&B were asked for.

    Args:
        folder: the run's.
        config: its settings.
        accelerator: as `trackers` prepared it.
        progress: how far the run has come before; what TensorBoard holds of later steps is replaced.
    """

    def __init__(self, folder: Path, config: CfgNode, accelerator: Accelerator, progress: Progress):
        self.folder, self.accelerator = folder, accelerator
        name = uuid.uuid4().hex[:8]
        if accelerator.is_main_process:
            write_text(folder / "config.yml", config.dump())
            starts = _starts(folder / "run.json")
            here = {"from_step": progress.step, "processes": accelerator.num_processes}
            name = starts[0].get("run", name) if progress.step and starts else name
            start = {"run": name} | describe_environment() | here | {"device": str(accelerator.device)}
            write_text(folder / "run.json", json.dumps([*starts, start], indent=2) + "\n")
            for path in folder.iterdir():
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        wandb = {"dir": str(folder), "id": name, "resume": "allow"}
        options: dict[str, Any] = {"tensorboard": {"purge_step": progress.step + 1}, "wandb": wandb}
        accelerator.init_trackers(config.TRAINING.WANDB_PROJECT or "tensorboard", init_kwargs=options)

    def log(self, values: dict[str, float], step: int) -> None:
        """Scalars for TensorBoard and W&B."""
        self.accelerator.log(values, step=step)

    def show(self, images: Sequence[np.ndarray], step: int) -> None:
        """Validation images side by side, uint8 H×W×3, for TensorBoard and W&B."""
        if not self.accelerator.is_main_process:
            return
        for number, image in enumerate(images):
            for tracker in self.accelerator.trackers:
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({f"validation/{number}": image[None]}, step=step, **options)

    def keep(self, history: Sequence[Row]) -> None:
        """Writes the table and the curves; where that fails, one being open elsewhere, the training goes on."""
        if not self.accelerator.is_main_process:
            return
        try:
            write_table(self.folder / "metrics.csv", history)
            draw_curves(self.folder / "curves.png", history)
        except MHNetError as error:
            tqdm.write(f"warning: {error}")


def trackers(config: CfgNode) -> list[str] | None:
    """The names of the trackers that the settings ask for and that are installed; None for none.

    Raises:
        MHNetError: W&B is asked for and not installed.
    """
    wanted = []
    if config.TRAINING.TENSORBOARD and find_spec("tensorboard"):
        wanted.append("tensorboard")
    if config.TRAINING.WANDB_PROJECT:
        if not find_spec("wandb"):
            raise MHNetError("TRAINING.WANDB_PROJECT is set, and wandb is not installed: pip install wandb")
        wanted.append("wandb")
    return wanted or None


def draw_curves(path: Path, history: Sequence[Row]) -> None:
    """Draws PSNR in training and validation and the learning rate by epoch, whole or not at all; MHNetError if the
    system refuses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for key, label, style in (
        ("train_psnr", "training crops", {"linewidth": 0.8}),
        ("val_psnr", "validation", {"marker": ".", "linewidth": 1.5}),
        ("val_input_psnr", "validation, degraded", {"linestyle": "--", "linewidth": 1}),
    ):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        if points:
            above.plot(*zip(*points, strict=True), label=label, **style)
    above.set_ylabel("PSNR (dB)")
    above.grid(alpha=0.3)
    above.legend()
    below.plot([row["epoch"] for row in history], [row["lr"] for row in history], color="grey")
    below.set(xlabel="epoch", ylabel="learning rate")
    below.grid(alpha=0.3)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    except OSError as error:
        raise MHNetError(f"{path} cannot be written ({error.strerror}): choose another place") from error


def _starts(path: Path) -> list[dict[str, Any]]:
    """The starts that run.json tells of; none where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
