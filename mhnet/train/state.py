"""What a run is, its random generators among it, and how it is saved and taken up again."""

import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, read_checkpoint, write_checkpoint
from mhnet.checkpoints.released import Args
from mhnet.checkpoints.source import NetworkSource
from mhnet.core.tasks import Task
from mhnet.data.sampling import EpochBatches
from mhnet.train.config import FREE
from mhnet.train.losses import Loss

LATEST, PREVIOUS, BEST = "model_latest.safetensors", "model_previous.safetensors", "model_best.safetensors"
ELSEWHERE = "set TRAINING.SAVE_DIR to another folder"


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # epochs finished
    batch: int = 0  # steps of the epoch that is not finished
    step: int = 0  # steps in all, those that were skipped among them
    skipped: int = 0  # steps whose gradients were not finite, which changed nothing
    skipped_in_a_row: int = 0  # those since the last step that was taken
    best_psnr: float = float("-inf")  # the best validation PSNR so far, in dB
    images: int = 0  # crops seen in the epoch that is not finished
    psnr_sum: float = 0.0  # the sum of their PSNR in dB
    seconds: float = 0.0  # the time that the epoch has taken so far
    history: list[dict[str, float]] = field(default_factory=list)  # one dict per finished epoch, as in metrics.csv


@dataclass
class Job:
    """A run: what it works with, and all that changes while it trains."""

    config: CfgNode
    task: Task
    accelerator: Accelerator
    shares: EpochBatches  # which crops this process's batches hold
    batches: DataLoader[Tensor]  # its micro-batches
    validation: DataLoader[Tensor]  # its share of the validation images
    loss: Loss
    network: nn.Module  # the network itself
    model: nn.Module  # what computes with its parameters in training, prepared for precision and processes
    optimizer: Optimizer  # as accelerate prepared it
    scheduler: LRScheduler  # of the learning rate
    average: AveragedModel | None  # the parameters' exponential moving average, where one is kept
    args: Args  # what checkpoints note of the network's sizes
    source: NetworkSource | None  # the files of an edited network; None for this package's
    edited: dict[str, Any]  # what checkpoints note of it
    provenance: dict[str, Any]  # what checkpoints tell of where they come from
    progress: Progress = field(default_factory=Progress)  # how far the run has come
    saved: float = field(default_factory=time.monotonic)  # when the last checkpoint was written, or this was made

    @property
    def folder(self) -> Path:
        return Path(self.config.TRAINING.SAVE_DIR)

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept as the best: the averaged one where there is one."""
        return self.average.module if self.average else self.network

    @property
    def rate(self) -> float:
        """The learning rate now."""
        return float(self.scheduler.get_last_lr()[0])

    def save_best(self) -> None:
        """Writes what is to be used, by the main process, whole or not at all; WeightsError if that fails."""
        if self.accelerator.is_main_process:
            best = self._checkpoint(self.result, validation_psnr=self.progress.best_psnr)
            write_checkpoint(self.folder / BEST, best)

    def save(self) -> None:
        """Writes the latest checkpoint with all that resuming needs, by the main process, and keeps the one before; the
        others wait. WeightsError if that fails, which leaves the checkpoints as they were."""
        states = gather_object([random_state()])
        if self.accelerator.is_main_process:
            self._save(states)
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()

    def _save(self, states: list[dict[str, Tensor]]) -> None:
        checkpoint, optimizer = self._checkpoint(self.network), self.optimizer.state_dict()
        scaler = self.accelerator.scaler
        tensors = {f"optimizer.{i}": values for i, values in optimizer["state"].items()}
        tensors |= {f"random.{process}": state for process, state in enumerate(states)}
        if self.average:
            tensors["average"] = self.average.state_dict()
        checkpoint.training = {
            f"{part}.{name}": torch.as_tensor(value)
            for part, values in tensors.items()
            for name, value in values.items()
        }
        checkpoint.progress = {
            "progress": asdict(self.progress),
            "optimizer_groups": optimizer["param_groups"],
            "scheduler": self.scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "samples": self.shares.size,
        }
        latest, following = self.folder / LATEST, self.folder / f"next_{LATEST}"
        write_checkpoint(following, checkpoint)
        if latest.exists():
            latest.replace(self.folder / PREVIOUS)
        following.replace(latest)

    def resume(self, checkpoint: Checkpoint, path: Path) -> None:
        """Takes up a run where a checkpoint of `save` left it, with this process's random generators; WeightsError
        where it is of another network, or of a run with other settings."""
        if checkpoint.args != self.args:
            raise WeightsError(
                f"{path} is of another network ({checkpoint.args}) than the settings ask for ({self.args}): {ELSEWHERE}"
            )
        if checkpoint.edited.get("sha256") != self.edited.get("sha256"):
            before, now = (one.get("file", "the published network") for one in (checkpoint.edited, self.edited))
            what = f"another {now}" if before == now else f"{before}, not of {now}"
            raise WeightsError(f"{path} is a run of {what}: take the change back, or {ELSEWHERE}")
        if checkpoint.task != self.task.name:
            raise WeightsError(f"{path} is for {checkpoint.task}, not for {self.task.name}: {ELSEWHERE}")
        refuse_changes(path, checkpoint.provenance.get("config", {}), self.provenance["config"])
        tensors, notes = checkpoint.training, checkpoint.progress
        try:
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _part(tensors, "optimizer").items():
                index, _, key = name.partition(".")
                layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format  # as the parameters lie
                state.setdefault(int(index), {})[key] = tensor.contiguous(memory_format=layout)
            self.optimizer.load_state_dict({"state": state, "param_groups": notes["optimizer_groups"]})
            self.scheduler.load_state_dict(notes["scheduler"])
            if self.accelerator.scaler:
                self.accelerator.scaler.load_state_dict(notes["scaler"])
            if self.average:
                self.average.load_state_dict(_part(tensors, "average"))
            self.progress = Progress(**notes["progress"])
            self.network.load_state_dict(checkpoint.state)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{path} cannot be resumed ({error}): {ELSEWHERE}") from error
        if generators := _part(tensors, f"random.{self.accelerator.process_index}"):  # fewer processes left fewer
            set_random_state(generators)

    def _checkpoint(self, network: nn.Module, **about: float) -> Checkpoint:
        about = {"epoch": self.progress.epoch, "step": self.progress.step} | about
        return Checkpoint(self.args, network.state_dict(), self.task.name, about | self.provenance, edited=self.edited)


def read_latest(folder: Path) -> tuple[Checkpoint, Path, str] | None:
    """The newest checkpoint of a run that is whole: itself, its file, and a warning where the newest is damaged;
    WeightsError where there are checkpoints, and none is whole."""
    faults: list[str] = []
    for path in (folder / LATEST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except WeightsError as error:
            faults.append(str(error))
            continue
        if not checkpoint.progress:
            raise WeightsError(f"{path} holds weights alone: remove it, or {ELSEWHERE}")
        return checkpoint, path, "; ".join(faults)
    if faults:
        raise WeightsError(f"{'; '.join(faults)}; remove it to start afresh, or {ELSEWHERE}")
    return None


def refuse_changes(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises WeightsError where settings differ that may not, and shows both values of each."""
    changed = [
        f"{section}.{name} was {before[section][name]}, is {value}"
        for section, values in now.items()
        for name, value in values.items()
        if name not in FREE.get(section, ()) and name in before.get(section, {}) and before[section][name] != value
    ]
    if changed:
        raise WeightsError(
            f"{path} is of a run with other settings ({', '.join(changed)}): take them back, or {ELSEWHERE}"
        )


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below a name, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def seed_everything(seed: int, torch_seed: int) -> None:
    """Seeds Python's and NumPy's generators with one number and PyTorch's with another, as in the recipe."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(torch_seed)


def random_state() -> dict[str, Tensor]:
    """Where this process's generators stand, as tensors."""
    _, python, python_gauss = random.getstate()
    _, numpy, position, has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    gauss = [python_gauss is not None, python_gauss or 0.0, numpy_gauss]
    state = {
        "python": torch.tensor(python),
        "numpy": torch.tensor([*map(int, numpy), position, has_gauss]),
        "gauss": torch.tensor(gauss, dtype=torch.double),
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Tensor]) -> None:
    """Puts this process's generators where `random_state` found them."""
    has_python_gauss, python_gauss, numpy_gauss = state["gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), python_gauss if has_python_gauss else None))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, numpy_gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
