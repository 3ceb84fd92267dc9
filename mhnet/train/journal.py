"""What a run shows and leaves beside its checkpoints: bar, settings, starts, table, curves, TensorBoard and W&B."""

import csv
import io
import json
import platform
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.core.files import read_json, replacing, write_text
from mhnet.core.version import __version__
from mhnet.train.state import Job

COLUMNS: tuple[str, ...] = (
    "epoch", "step", "lr", "train_psnr", "val_psnr", "val_input_psnr", "seconds", "waiting", "skipped",
)  # fmt: skip
PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "opencv-python", "pillow", "scipy")
Row = dict[str, float]
Step = tuple[Tensor, ...]
HALF_WRITTEN = re.compile(
    r"\.\d+-(config\.yml|run\.json|metrics\.csv|curves\.png|\w*model_\w+\.safetensors)|\.tmp\w{6}", re.ASCII
)
"""Files of a process that was killed while it wrote: those of `replacing`, and those of safetensors from 0.8 on."""


class EpochLog:
    """The bar of what is left of an epoch, in the main process: PSNR in dB, learning rate, images per second, the share
    of time spent waiting for data, and how many steps were skipped. It counts the job's progress on."""

    def __init__(self, job: Job):
        self.job, self.batches = job, iter(job.batches)
        epoch, done, epochs = job.progress.epoch, job.progress.batch, job.config.OPTIM.EPOCHS
        self.bar = tqdm(
            total=job.shares.steps(epoch), initial=done, desc=f"epoch {epoch + 1}/{epochs}", unit="step", leave=False,
            delay=1, disable=None if job.accelerator.is_main_process else True,
        )  # fmt: skip
        self.waited = 0.0
        self.images = 0
        self.started = self.noted = time.monotonic()

    def __iter__(self) -> Iterator[Step]:
        """Yields the micro-batches of each step."""
        waiting = time.monotonic()
        for step in zip(*[self.batches] * self.job.config.OPTIM.ACCUMULATE, strict=True):
            self.waited += time.monotonic() - waiting
            yield step
            waiting = time.monotonic()
        self.bar.close()

    def add(self, psnr_sum: float, images: int) -> None:
        """Counts a step: the sum of its crops' PSNR in dB, and their number."""
        progress, now = self.job.progress, time.monotonic()
        self.images += images
        progress.psnr_sum += psnr_sum
        progress.images += images
        progress.seconds += now - self.noted
        self.noted = now
        rate = self.images / max(now - self.started, 1e-9)
        text = f"{self.psnr:.2f} dB, lr {self.job.rate:.2g}, {rate:.1f} images/s, waiting {100 * self.waiting:.0f} %"
        text += f", {progress.skipped} skipped" if progress.skipped else ""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update()

    @property
    def psnr(self) -> float:
        """Mean PSNR of the epoch's crops so far, in dB."""
        return self.job.progress.psnr_sum / max(self.job.progress.images, 1)

    @property
    def waiting(self) -> float:
        """The share of this process's time in the epoch spent waiting for data."""
        return self.waited / max(time.monotonic() - self.started, 1e-9)


class Journal:
    """What a run leaves beside its checkpoints, written by the main process alone: `config.yml` and `run.json` at the
    start; at the end of epochs `metrics.csv`, `curves.png`, and images for TensorBoard and W&B.

    What TensorBoard holds of later steps than the job's is replaced.
    """

    def __init__(self, job: Job):
        self.job, folder, accelerator, progress = job, job.folder, job.accelerator, job.progress
        name = uuid.uuid4().hex[:8]
        if accelerator.is_main_process:
            write_text(folder / "config.yml", job.config.dump())
            told = read_json(folder / "run.json")
            starts: list[dict[str, Any]] = told if isinstance(told, list) else []
            here = {"from_step": progress.step, "processes": accelerator.num_processes}
            name = starts[0].get("run", name) if progress.step and starts else name
            start = {"run": name} | _environment() | here | {"device": str(accelerator.device)}
            write_text(folder / "run.json", json.dumps([*starts, start], indent=2) + "\n")
            for path in folder.iterdir():
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        wandb = {"dir": str(folder), "id": name, "resume": "allow"}
        options: dict[str, Any] = {"tensorboard": {"purge_step": progress.step + 1}, "wandb": wandb}
        accelerator.init_trackers(job.config.TRAINING.WANDB_PROJECT or "tensorboard", init_kwargs=options)

    def show(self, images: Sequence[np.ndarray]) -> None:
        """Validation images side by side, uint8 H×W×3, for TensorBoard and W&B."""
        trackers = self.job.accelerator.trackers if self.job.accelerator.is_main_process else []
        for number, image in enumerate(images):
            for tracker in trackers:
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({f"validation/{number}": image[None]}, step=self.job.progress.step, **options)

    def keep(self) -> None:
        """Writes the table and the curves; where that fails, one being open elsewhere, the training goes on."""
        if not self.job.accelerator.is_main_process:
            return
        folder, history = self.job.folder, self.job.progress.history
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        try:
            write_text(folder / "metrics.csv", table.getvalue())
            draw_curves(folder / "curves.png", history)
        except MHNetError as error:
            tqdm.write(f"warning: {error}")


def trackers(config: CfgNode) -> list[str] | None:
    """The names of the trackers that the settings ask for and that are installed; None for none. MHNetError where W&B
    is asked for and not installed."""
    wanted = ["tensorboard"] if config.TRAINING.TENSORBOARD and find_spec("tensorboard") else []
    if config.TRAINING.WANDB_PROJECT:
        if not find_spec("wandb"):
            raise MHNetError("TRAINING.WANDB_PROJECT is set, and wandb is not installed: pip install wandb")
        wanted.append("wandb")
    return wanted or None


def draw_curves(path: Path, history: Sequence[Row]) -> None:
    """Draws PSNR and learning rate by epoch, whole or not at all; MHNetError if the system refuses."""
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


def _environment() -> dict[str, Any]:
    """What a run was made with, for run.json."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "mhnet": __version__,
        "revision": code_revision(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {one.name: one.version for one in metadata.distributions() if one.name in PACKAGES},
    }


def code_revision() -> str | None:
    """The Git commit of the code, with `+changes` where files differ from it; None where it is no checkout."""
    git, here = ["git", "-C", str(Path(__file__).parent)], {"capture_output": True, "text": True, "timeout": 10}
    try:  # the first fails where this is installed below somebody else's checkout
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], check=True, **here)
        named = [*git, "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
        return subprocess.run(named, check=True, **here).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
