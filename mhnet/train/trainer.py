"""The training loop; stopping it, after the step at hand, with everything saved; a look at it before it is started."""

import signal
import sys
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.train.job import Recipe, prepare
from mhnet.train.journal import EpochLog, Journal, Row, Step
from mhnet.train.losses import psnr_loss
from mhnet.train.processes import say, summed
from mhnet.train.state import BEST, Job, Progress
from mhnet.train.validation import to_floats, validate


class Stopped(MHNetError):
    """A run that a signal, of this number, has stopped after this step, which is saved."""

    def __init__(self, step: int, number: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} and saved after step {step}: the same command goes on from there")
        self.exit_status = 128 + number


class StopRequest:
    """Takes note of SIGTERM and Ctrl-C while it is entered, in the main thread, where alone Python allows handlers; a
    second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


def train(config: CfgNode, recipe: Recipe) -> Path:
    """Trains a network by the settings, going on where an earlier run in the same folder stopped.

    Returns:
        The best checkpoint by validation PSNR.

    Raises:
        Stopped: a signal asked the run to stop, and it was saved.
        MHNetError: data, settings or an earlier checkpoint cannot be used, or training went wrong.
    """
    with ExitStack() as until:
        return run_epochs(prepare(config, recipe, until))


def run_epochs(job: Job) -> Path:
    """Trains until the settings' last epoch or time limit, and returns the best checkpoint."""
    config, accelerator, progress = job.config, job.accelerator, job.progress
    if progress.epoch == config.OPTIM.EPOCHS:
        say(accelerator, f"all {progress.epoch} epochs are done: for another run, name another TRAINING.SAVE_DIR")
        return job.folder / BEST
    journal = Journal(job)
    deadline = time.monotonic() + 60 * (config.TRAINING.MAX_MINUTES or float("inf"))
    last = False
    with StopRequest() as stop, warnings.catch_warnings():
        # of a first step that was skipped, for which PyTorch sees none
        warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)` before")
        while not last:
            row = train_epoch(job, stop)
            (late,) = summed(accelerator, time.monotonic() > deadline)
            last = bool(late) or progress.epoch == config.OPTIM.EPOCHS
            if last or progress.epoch % config.TRAINING.VAL_EVERY == 0:
                row["val_psnr"], row["val_input_psnr"], shown = validate(job.result, job.validation, accelerator)
                journal.show(shown)
            progress.history.append(row)
            if row.get("val_psnr", float("-inf")) > progress.best_psnr:
                progress.best_psnr = row["val_psnr"]
                job.save_best()
            if last or "val_psnr" in row or progress.epoch % config.TRAINING.SAVE_EVERY == 0:
                job.save()
                journal.keep()
            accelerator.log(row, step=progress.step)
            if accelerator.is_main_process:
                report(row, progress)
    accelerator.end_training()
    return job.folder / BEST


def train_epoch(job: Job, stop: StopRequest) -> Row:
    """Trains for what is left of an epoch, and returns its row of the table; Stopped where a signal asked for it."""
    config, progress = job.config, job.progress
    by_step = config.OPTIM.SCHEDULE == "step"
    job.shares.epoch, job.shares.start = progress.epoch, progress.batch
    if not by_step and not progress.batch:
        move_rate(job, progress.epoch)
    log = EpochLog(job)
    job.model.train()
    for step in log:
        if by_step:
            move_rate(job, progress.step)
        due = 0 < 60 * config.TRAINING.SAVE_MINUTES < time.monotonic() - job.saved
        psnr_sum, images, asked, due = summed(job.accelerator, *take_step(job, step), bool(stop.number), due)
        progress.step += 1
        progress.batch += 1
        log.add(psnr_sum, int(images))
        if asked or due:
            job.save()
        if asked:
            job.accelerator.end_training()
            raise Stopped(progress.step, stop.number or signal.SIGTERM)
    row = {"epoch": progress.epoch + 1, "step": progress.step, "lr": job.rate, "train_psnr": log.psnr,
           "seconds": progress.seconds, "waiting": log.waiting, "skipped": progress.skipped}  # fmt: skip
    progress.epoch += 1
    progress.batch = progress.images = 0
    progress.psnr_sum = progress.seconds = 0.0
    return row


def take_step(job: Job, step: Step) -> tuple[float, int]:
    """One optimiser step from its micro-batches; one whose gradients are not finite is skipped, and too many of those
    in a row are an MHNetError. Returns the sum of this process's crops' PSNR in dB, and their number."""
    accelerator, progress, optim = job.accelerator, job.progress, job.config.OPTIM
    psnr_sum, images = 0.0, 0
    for batch in step:
        with accelerator.accumulate(job.model):
            degraded, target = to_floats(batch, accelerator.device, job.config.TRAINING.CHANNELS_LAST)
            outputs = job.model(degraded)
            restored, stage1 = outputs if isinstance(outputs, tuple) else (outputs, None)
            loss = job.loss(restored, target)
            if stage1 is not None:
                loss = loss + optim.STAGE1_WEIGHT * job.loss(stage1, target)
            accelerator.backward(loss)
        with torch.no_grad():
            psnr_sum -= psnr_loss(restored, target).item() * len(batch)
        images += len(batch)
    norm = accelerator.clip_grad_norm_(job.network.parameters(), optim.GRAD_CLIP or float("inf"))
    taken = norm is not None and bool(norm.isfinite())
    if taken or accelerator.scaler:  # the scaler skips such a step by itself, and learns from it
        job.optimizer.step()
    job.optimizer.zero_grad()
    if taken and job.average:
        job.average.update_parameters(job.network)
    progress.skipped += not taken
    progress.skipped_in_a_row = 0 if taken else progress.skipped_in_a_row + 1
    if progress.skipped_in_a_row >= optim.MAX_SKIPPED:
        raise MHNetError(
            f"{optim.MAX_SKIPPED} steps in a row, up to step {progress.step + 1}, gave gradients that are not finite: "
            "lower OPTIM.LR_INITIAL, set OPTIM.GRAD_CLIP, or train in bf16 or fp32; the checkpoints before are whole"
        )
    return psnr_sum, images


def move_rate(job: Job, done: int) -> None:
    """Moves the learning rate on by an epoch or step; a warm-up starts at 0, a bare schedule at its peak."""
    if done or job.config.OPTIM.WARMUP_EPOCHS:
        job.scheduler.step()


def report(row: Row, progress: Progress) -> None:
    """Prints a line about an epoch; validation PSNR beside that of the degraded images."""
    text = f"epoch {row['epoch']:>4}  step {row['step']:>6}  lr {row['lr']:.2e}  train {row['train_psnr']:.2f} dB"
    if "val_psnr" in row:
        text += f"  validation {row['val_psnr']:.2f} dB (degraded {row['val_input_psnr']:.2f}"
        text += f", best {progress.best_psnr:.2f})"
    if progress.skipped:
        text += f"  {progress.skipped} steps skipped"
    tqdm.write(text)


def dry_run(config: CfgNode, recipe: Recipe) -> None:
    """Builds everything, takes two steps and validates once; prints memory and expected times, and writes nothing.

    Raises:
        MHNetError: data or settings cannot be used.
    """
    job = prepare(config, recipe)
    move_rate(job, 0)
    job.model.train()
    batches, seconds = iter(job.batches), 0.0
    for _ in range(min(2, job.shares.steps(0))):
        step = tuple(next(batches) for _ in range(config.OPTIM.ACCUMULATE))
        start = time.perf_counter()
        take_step(job, step)
        if job.accelerator.device.type == "cuda":
            torch.cuda.synchronize(job.accelerator.device)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = validate(job.result, job.validation, job.accelerator)
    validation = time.perf_counter() - start
    epoch = job.shares.steps(0) * seconds
    whole = config.OPTIM.EPOCHS * (epoch + validation / config.TRAINING.VAL_EVERY)
    say(
        job.accelerator,
        f"validation before training {found.psnr:.2f} dB (degraded {found.input_psnr:.2f})\n"
        f"peak memory {peak_memory(job.accelerator.device) / 2**30:.2f} GiB for each process\n"
        f"a step takes {seconds:.2f} s, an epoch of {job.shares.steps(0)} steps {_time(epoch)}, a validation "
        f"{_time(validation)}, all {config.OPTIM.EPOCHS} epochs {_time(whole)}; nothing was written",
    )
    job.accelerator.end_training()


def peak_memory(device: torch.device) -> int:
    """The most memory that this process has held, in bytes: the GPU's where it computes on one, else all of it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _time(seconds: float) -> str:
    """Seconds as a person says them."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
