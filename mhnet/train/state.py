"""What a run knows besides the network, and how it is saved and taken up again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, read_checkpoint, write_checkpoint
from mhnet.checkpoints.released import Args
from mhnet.checkpoints.source import NetworkSource
from mhnet.train.defaults import FREE

LATEST, PREVIOUS, BEST = "model_latest.safetensors", "model_previous.safetensors", "model_best.safetensors"
ELSEWHERE = "set TRAINING.SAVE_DIR to another folder"


@dataclass
class Progress:
    """How far a run has come.

    Args:
        epoch: epochs finished.
        batch: steps of the epoch that is not finished.
        step: steps in all, those that were skipped among them.
        skipped: steps whose gradients were not finite, which changed nothing.
        skipped_in_a_row: those since the last step that was taken.
        best_psnr: the best validation PSNR so far, in dB.
        images: crops seen in the epoch that is not finished.
        psnr_sum: the sum of their PSNR in dB.
        seconds: the time that the epoch has taken so far.
        history: one dict per finished epoch, as in metrics.csv.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_psnr: float = float("-inf")
    images: int = 0
    psnr_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def end_epoch(self) -> None:
        """Counts an epoch as finished."""
        self.epoch += 1
        self.batch = self.images = 0
        self.psnr_sum = self.seconds = 0.0


@dataclass
class Run:
    """Everything that changes during training.

    Args:
        network: the network itself.
        model: what computes with its parameters in training: the network, prepared for precision and processes.
        optimizer: as accelerate prepared it.
        scheduler: of the learning rate.
        progress: how far the run has come.
        args: what checkpoints note of the network's sizes.
        average: the parameters' exponential moving average, where one is kept.
        scaler: of the loss, in fp16.
        source: the files of an edited network; None for this package's.
        edited: what checkpoints note of it.
        samples: crops an epoch.
    """

    network: nn.Module
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    progress: Progress
    args: Args
    average: AveragedModel | None = None
    scaler: torch.amp.GradScaler | None = None
    source: NetworkSource | None = None
    edited: dict[str, Any] = field(default_factory=dict)
    samples: int = 0

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept as the best: the averaged one where there is one."""
        return self.average.module if self.average else self.network

    def save_best(self, path: Path, task: str, provenance: dict[str, Any]) -> None:
        """Writes what is to be used, whole or not at all; WeightsError if that fails."""
        score = {"validation_psnr": self.progress.best_psnr}
        write_checkpoint(path, self._checkpoint(self.result, task, score | provenance))

    def save(self, folder: Path, task: str, provenance: dict[str, Any], random: Sequence[dict[str, Tensor]]) -> None:
        """Writes the latest checkpoint with all that resuming needs, whole or not at all; the one before is kept.

        Args:
            random: the states of every process's random generators.

        Raises:
            WeightsError: the file cannot be written; the checkpoints before stay as they were.
        """
        checkpoint = self._checkpoint(self.network, task, provenance)
        checkpoint.training, groups = _flatten(self.optimizer)
        for process, state in enumerate(random):
            checkpoint.training |= {f"random.{process}.{name}": value for name, value in state.items()}
        if self.average:
            checkpoint.training |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        checkpoint.progress = {
            "progress": asdict(self.progress),
            "optimizer_groups": groups,
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "samples": self.samples,
        }
        latest, following = folder / LATEST, folder / f"next_{LATEST}"
        write_checkpoint(following, checkpoint)
        if latest.exists():
            latest.replace(folder / PREVIOUS)
        following.replace(latest)

    def resume(self, checkpoint: Checkpoint, path: Path, task: str, config: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Takes up a run where a checkpoint of `save` left it, and returns the states of the random generators.

        Raises:
            WeightsError: it is of another network, or of a run with other settings.
        """
        if checkpoint.args != self.args:
            raise WeightsError(
                f"{path} is of another network ({checkpoint.args}) than the settings ask for ({self.args}): {ELSEWHERE}"
            )
        if checkpoint.edited.get("sha256") != self.edited.get("sha256"):
            before, now = (one.get("file", "the published network") for one in (checkpoint.edited, self.edited))
            what = f"another {now}" if before == now else f"{before}, not of {now}"
            raise WeightsError(f"{path} is a run of {what}: take the change back, or {ELSEWHERE}")
        if checkpoint.task != task:
            raise WeightsError(f"{path} is for {checkpoint.task}, not for {task}: {ELSEWHERE}")
        refuse_changes(path, checkpoint.provenance.get("config", {}), config)
        tensors, notes = checkpoint.training, checkpoint.progress
        try:
            _unflatten(self.optimizer, _part(tensors, "optimizer"), notes["optimizer_groups"])
            self.scheduler.load_state_dict(notes["scheduler"])
            if self.scaler:
                self.scaler.load_state_dict(notes["scaler"])
            if self.average:
                self.average.load_state_dict(_part(tensors, "average"))
            self.progress = Progress(**notes["progress"])
            self.network.load_state_dict(checkpoint.state)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{path} cannot be resumed ({error}): {ELSEWHERE}") from error
        states = _part(tensors, "random")
        return [_part(states, str(process)) for process in range(len({name.split(".")[0] for name in states}))]

    def _checkpoint(self, network: nn.Module, task: str, provenance: dict[str, Any]) -> Checkpoint:
        where = {"epoch": self.progress.epoch, "step": self.progress.step}
        return Checkpoint(self.args, network.state_dict(), task, where | provenance, edited=self.edited)


def read_latest(folder: Path) -> tuple[Checkpoint, Path, str] | None:
    """The newest checkpoint of a run that is whole: itself, its file, and a warning where the newest is damaged.

    Raises:
        WeightsError: there are checkpoints, and none is whole.
    """
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


def _flatten(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as named tensors and as plain values."""
    state = optimizer.state_dict()
    tensors = {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def _unflatten(optimizer: Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format  # as the parameters lie
        state.setdefault(int(index), {})[key] = tensor.contiguous(memory_format=layout)
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
