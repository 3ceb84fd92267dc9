"""The training loop."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import to_dtype
from tqdm import tqdm
from yacs.config import CfgNode

from mhnet.devices import choose_device
from mhnet.errors import MHNetError
from mhnet.files import write_text
from mhnet.tasks import Task
from mhnet.train.config import as_dict
from mhnet.train.log import EpochLog, write_table
from mhnet.train.losses import psnr_loss
from mhnet.train.setup import build_data, build_run, loaders, seed_everything
from mhnet.train.state import BEST, LATEST, Progress, Run, parameter_count


def train(config: CfgNode, task: Task) -> Path:
    """Trains a network by the settings, going on where an earlier run in the same folder stopped.

    Returns:
        The best checkpoint by validation PSNR.

    Raises:
        MHNetError: data, settings or an earlier checkpoint cannot be used.
    """
    folder, plain = Path(config.TRAINING.SAVE_DIR), as_dict(config)
    device = choose_device(config.TRAINING.DEVICE)
    seed_everything(config.TRAINING.SEED, config.TRAINING.TORCH_SEED)
    training, validation = build_data(config)
    batches, validation_batches, sampler = loaders(training, validation, config, device)
    run = build_run(config, device)
    take_up(run, folder / LATEST, task.name, plain, config.TRAINING.RESUME)
    if run.progress.epoch == config.OPTIM.EPOCHS:
        print(f"all {config.OPTIM.EPOCHS} epochs are done: for another run, set TRAINING.SAVE_DIR to another folder")
        return folder / BEST
    write_text(folder / "config.yml", config.dump())
    print(f"{run.network.args}: {parameter_count(run.network):,} parameters on {device}; effective batch "
          f"{config.OPTIM.BATCH_SIZE} on 1 device; {len(training)} crops of {config.DATA.PATCH} an epoch; "
          f"{len(validation)} validation images; results in {folder}")  # fmt: skip

    progress, deadline = run.progress, time.monotonic() + 60 * (config.TRAINING.MAX_MINUTES or float("inf"))
    last = False
    while not last:
        sampler.epoch = progress.epoch
        if progress.epoch or config.OPTIM.WARMUP_EPOCHS:  # a warm-up starts at 0, a bare schedule at its peak
            run.scheduler.step()
        lr = float(run.scheduler.get_last_lr()[0])
        log = EpochLog(batches, f"epoch {progress.epoch + 1}/{config.OPTIM.EPOCHS}", lr)
        run.network.train()
        for batch in log:
            degraded, target = to_floats(batch, device)
            restored, stage1 = run.network(degraded)
            loss = psnr_loss(restored, target)
            log.add(-loss.item(), len(batch))
            if stage1 is not None:
                loss = loss + config.OPTIM.STAGE1_WEIGHT * psnr_loss(stage1, target)
            step(run, loss, config.OPTIM.GRAD_CLIP)
        progress.epoch += 1
        last = progress.epoch == config.OPTIM.EPOCHS or time.monotonic() > deadline
        row = {"epoch": progress.epoch, "step": progress.step, "lr": lr, "train_psnr": log.psnr, "seconds": log.seconds}
        if last or progress.epoch % config.TRAINING.VAL_EVERY == 0:
            row["val_psnr"], row["val_input_psnr"] = validate(run.network, validation_batches, device)
        progress.history.append(row)
        if row.get("val_psnr", float("-inf")) > progress.best_psnr:
            progress.best_psnr = row["val_psnr"]
            run.save(folder / BEST, task.name, plain, resumable=False)
        if last or "val_psnr" in row or progress.epoch % config.TRAINING.SAVE_EVERY == 0:
            run.save(folder / LATEST, task.name, plain, resumable=True)
            keep_table(folder / "metrics.csv", progress)
        report(row, progress)
    return folder / BEST


def take_up(run: Run, path: Path, task: str, plain: dict[str, Any], resume: bool) -> None:
    """Resumes from the latest checkpoint if there is one; refuses to overwrite it otherwise."""
    if not path.exists():
        return
    if not resume:
        raise MHNetError(f"{path} exists: set TRAINING.RESUME true to go on, or TRAINING.SAVE_DIR to another folder")
    run.resume(path, task, plain)
    print(f"resuming after epoch {run.progress.epoch} from {path}")


def keep_table(path: Path, progress: Progress) -> None:
    """Writes metrics.csv; a table that cannot be written now, being open elsewhere, does not stop the training."""
    try:
        write_table(path, progress.history)
    except MHNetError as error:
        tqdm.write(f"warning: {error}")


def step(run: Run, loss: Tensor, clip: float) -> None:
    """One optimiser step; `clip` limits the gradients' L2 norm unless it is 0."""
    if not loss.isfinite():
        raise MHNetError(
            f"the loss is {loss.item()} after step {run.progress.step}: lower OPTIM.LR_INITIAL or set OPTIM.GRAD_CLIP"
        )
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(run.network.parameters(), clip)
    run.optimizer.step()
    run.progress.step += 1


@torch.no_grad()
def validate(network: nn.Module, batches: DataLoader[Tensor], device: torch.device) -> tuple[float, float]:
    """Mean PSNR in dB over RGB of the restored images, clamped to [0, 1], and of the degraded ones."""
    network.eval()
    scores: list[tuple[float, float]] = []
    for batch in tqdm(batches, "validating", unit="image", leave=False, delay=1, disable=None):
        degraded, target = to_floats(batch, device)
        scores.append((-psnr_loss(network(degraded).clamp(0, 1), target).item(), -psnr_loss(degraded, target).item()))
    restored, inputs = np.mean(scores, axis=0)
    return float(restored), float(inputs)


def to_floats(batch: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """A uint8 batch N×2×3×H×W → degraded and target on the device, floats N×3×H×W in [0, 1]."""
    degraded, target = to_dtype(batch.to(device, non_blocking=True), torch.float32, scale=True).unbind(1)
    return degraded.contiguous(memory_format=torch.channels_last), target


def report(row: dict[str, float], progress: Progress) -> None:
    """Prints a line about an epoch; validation PSNR beside that of the degraded images."""
    text = f"epoch {row['epoch']:>4}  step {row['step']:>6}  lr {row['lr']:.2e}  train {row['train_psnr']:.2f} dB"
    if "val_psnr" in row:
        text += f"  validation {row['val_psnr']:.2f} dB (degraded {row['val_input_psnr']:.2f}"
        text += f", best {progress.best_psnr:.2f})"
    tqdm.write(text)
