"""A look at a run before it is started: does everything fit, and how long will it take."""

import sys
import time

import psutil
import torch
from yacs.config import CfgNode

from mhnet.train.job import Recipe, prepare
from mhnet.train.processes import say
from mhnet.train.trainer import move_rate, take_step
from mhnet.train.validation import validate

STEPS = 2


def dry_run(config: CfgNode, recipe: Recipe) -> None:
    """Builds everything, takes two steps and validates once; prints memory and expected times, and writes nothing.

    Raises:
        MHNetError: data or settings cannot be used.
    """
    job = prepare(config, recipe)
    move_rate(job, 0)
    job.model.train()
    batches, seconds = iter(job.batches), 0.0
    for _ in range(min(STEPS, job.shares.steps(0))):
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
