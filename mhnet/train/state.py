"""What a run knows besides the network, and how it is saved and taken up again."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mhnet.models import MHNet, MHNetV4
from mhnet.weights import Checkpoint, WeightsError, read, write
from warmup_scheduler import GradualWarmupScheduler

LATEST, BEST = "model_latest.safetensors", "model_best.safetensors"
FREE = {
    "DATA": {"TRAIN_DIR", "VAL_DIR", "WORKERS", "CACHE_MB"},
    "TRAINING": {"SAVE_DIR", "RESUME", "DEVICE", "VAL_EVERY", "SAVE_EVERY", "MAX_MINUTES"},
}
"""Settings that may change when a run goes on: they do not change the schedule, and data may have moved."""


@dataclass
class Progress:
    """How far a run has come.

    Args:
        epoch: epochs finished.
        step: optimiser steps taken.
        best_psnr: the best validation PSNR so far, in dB.
        history: one dict per finished epoch, as in metrics.csv.
    """

    epoch: int = 0
    step: int = 0
    best_psnr: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Run:
    """Everything that changes during training."""

    network: MHNet | MHNetV4
    optimizer: Optimizer
    scheduler: GradualWarmupScheduler
    progress: Progress

    def save(self, path: Path, task: str, config: dict[str, Any], resumable: bool) -> None:
        """Writes a checkpoint, whole or not at all; a resumable one also holds the optimiser and the scheduler.

        Raises:
            WeightsError: the file cannot be written.
        """
        progress = self.progress
        provenance = {"epoch": progress.epoch, "step": progress.step, "config": config}
        if progress.history and "val_psnr" in progress.history[-1]:
            provenance["validation_psnr"] = progress.history[-1]["val_psnr"]
        checkpoint = Checkpoint(self.network.args, self.network.state_dict(), task, provenance)
        if resumable:
            checkpoint.training, groups = _flatten(self.optimizer)
            checkpoint.progress = {
                "progress": asdict(progress),
                "optimizer_groups": groups,
                "scheduler": self.scheduler.state_dict(),
            }
        write(path, checkpoint)

    def resume(self, path: Path, task: str, config: dict[str, Any]) -> None:
        """Takes up a run where a resumable checkpoint left it.

        Raises:
            WeightsError: the file is damaged, not resumable, of another network, or of a run with other settings.
        """
        try:
            checkpoint = read(path)
        except WeightsError as error:
            raise WeightsError(f"{error}; or remove it, or set TRAINING.SAVE_DIR to another folder") from error
        if not checkpoint.progress:
            raise WeightsError(f"{path} holds weights alone: remove it, or set TRAINING.SAVE_DIR to another folder")
        if checkpoint.args != self.network.args:
            raise WeightsError(
                f"{path} is of another network ({checkpoint.args}) than the settings ask for ({self.network.args}): "
                "set TRAINING.SAVE_DIR to another folder"
            )
        if checkpoint.task != task:
            raise WeightsError(
                f"{path} is for {checkpoint.task}, not for {task}: set TRAINING.SAVE_DIR to another folder"
            )
        if changed := _changes(checkpoint.provenance.get("config", {}), config):
            raise WeightsError(
                f"{path} is of a run with other settings ({', '.join(changed)}): take them back, "
                "or set TRAINING.SAVE_DIR to another folder"
            )
        try:
            _unflatten(self.optimizer, checkpoint.training, checkpoint.progress["optimizer_groups"])
            self.scheduler.load_state_dict(checkpoint.progress["scheduler"])
            self.progress = Progress(**checkpoint.progress["progress"])
        except (KeyError, ValueError, TypeError) as error:
            raise WeightsError(
                f"{path} cannot be resumed ({error}): set TRAINING.SAVE_DIR to another folder"
            ) from error
        self.network.load_state_dict(checkpoint.state)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that differ and may not, each with both values."""
    return [
        f"{section}.{name} was {before[section][name]}, is {value}"
        for section, values in now.items()
        for name, value in values.items()
        if name not in FREE.get(section, ()) and name in before.get(section, {}) and before[section][name] != value
    ]


def _flatten(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as named tensors and as plain values."""
    state = optimizer.state_dict()
    tensors = {f"{index}.{name}": value for index, values in state["state"].items() for name, value in values.items()}
    return {name: torch.as_tensor(value) for name, value in tensors.items()}, state["param_groups"]


def _unflatten(optimizer: Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format  # as the parameters lie
        state.setdefault(int(index), {})[key] = tensor.contiguous(memory_format=layout)
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
