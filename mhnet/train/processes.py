"""Devices, processes and precision, through accelerate: one process or many, from the same file; and the processes that
load images for them."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from yacs.config import CfgNode

from mhnet.core.devices import choose_device, faster_in_bf16
from mhnet.core.errors import MHNetError, ToldElsewhere
from mhnet.data.sampling import EpochBatches, start_worker
from mhnet.train.config import stage_of, stages

T = TypeVar("T")
LAUNCHER_SECONDS = 45  # in which a launcher that is there answers


def make_accelerator(config: CfgNode, **more: Any) -> Accelerator:
    """Where and how this process computes, by the settings and by what torchrun or accelerate say of processes;
    MHNetError where there is no such device, it cannot compute at that precision, or whoever started it is gone."""
    training = config.TRAINING
    launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
    name = training.DEVICE
    if launched and name.startswith("cuda:"):
        raise MHNetError(f"TRAINING.DEVICE is {name}, and several processes were started: leave it at auto or cuda")
    device = choose_device("cuda" if launched and name == "auto" and torch.cuda.is_available() else name)
    precision = training.PRECISION
    if precision == "auto":
        precision = "bf16" if device.type == "cpu" and faster_in_bf16() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise MHNetError("TRAINING.PRECISION is fp16, which the CPU does not train in: take bf16 or fp32")
    AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier training in this process
    GradientState._reset_state()
    os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    if not launched and device.type != "cpu":
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    if launched:
        stay_with_launcher()
    backend = "nccl" if device.type == "cuda" and torch.distributed.is_nccl_available() else "gloo"
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision={"fp32": "no"}.get(precision, precision),
        gradient_accumulation_steps=config.OPTIM.ACCUMULATE,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            *[InitProcessGroupKwargs(backend=backend)] * launched,
        ],
        **more,
    )


def stay_with_launcher() -> None:
    """Ends this process soon after the one that started it, so that none waits for others that never come: by SIGTERM,
    so that a run saves first (`mhnet.train.trainer`). MHNetError where torchrun is gone already."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # the processes meet in the launcher
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        limit = timedelta(seconds=LAUNCHER_SECONDS)
        try:
            torch.distributed.TCPStore(*place, timeout=limit, wait_for_workers=False)  # type: ignore[attr-defined]
        except RuntimeError as error:
            where = f"{place[0]}:{place[1]}"
            raise MHNetError(f"torchrun does not answer at {where}: was it killed? Start it again") from error
    if hasattr(signal, "SIGKILL"):  # elsewhere a process does not learn that its parent ended
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)


def all_or_none(accelerator: Accelerator, make: Callable[[], T]) -> T:
    """What `make` gives, if it fails in no process; else the first MHNetError, told by the main process alone."""
    made, failure = None, None
    try:
        made = make()
    except MHNetError as error:
        failure = error
    told = [text for text in gather_object([str(failure) if failure else ""]) if text]
    if told and not accelerator.is_main_process:
        raise ToldElsewhere(told[0])
    if told:
        raise failure or MHNetError(told[0])
    return made  # type: ignore[return-value]


def is_first() -> bool:
    """Whether this is the first of all processes, by what launchers say before there is an accelerator."""
    return int(os.environ.get("RANK", 0)) == 0


@contextmanager
def told_once() -> Iterator[None]:
    """Lets the first process of each machine tell of a mistake that all of them meet; ToldElsewhere in the others."""
    try:
        yield
    except MHNetError as error:
        if int(os.environ.get("LOCAL_RANK", 0)):
            raise ToldElsewhere(str(error)) from error
        raise


def say(accelerator: Accelerator, text: str) -> None:
    """Prints in one process of all, on whichever machine it is."""
    if accelerator.is_main_process:
        print(text, flush=True)


def summed(accelerator: Accelerator, *values: float) -> list[float]:
    """Each number summed over all processes, so that all of them decide alike."""
    if accelerator.num_processes == 1:
        return list(values)
    return accelerator.reduce(torch.tensor(values, dtype=torch.double, device=accelerator.device), "sum").tolist()  # type: ignore[union-attr]


def share_batches(settings: CfgNode, samples: int, accelerator: Accelerator) -> EpochBatches:
    """This process's share of the batches of so many samples an epoch; MHNetError where evenly is not possible."""
    plan, parts, processes = stages(settings), settings.OPTIM.ACCUMULATE, accelerator.num_processes
    for stage in plan:
        if stage.batch % (parts * processes):
            raise MHNetError(
                f"a batch of {stage.batch} cannot be shared evenly by {processes} processes that each take it in "
                f"{parts} parts: change OPTIM.BATCH_SIZE, OPTIM.ACCUMULATE or the number of processes"
            )
    process = accelerator.process_index

    def batch(epoch: int) -> int:
        return stage_of(plan, epoch).batch

    return EpochBatches(samples, settings.TRAINING.SEED, batch, parts, process, processes)


def make_loaders(
    training: Dataset[Tensor],
    validation: Dataset[Tensor],
    batches: EpochBatches,
    settings: CfgNode,
    accelerator: Accelerator,
) -> tuple[DataLoader[Tensor], DataLoader[Tensor]]:
    """This process's micro-batches of training crops, and its share of the validation images, one by one.

    They draw from no generator of the process: how often they are started does not change what it draws.
    """
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, which may be right
    atexit.unregister(end_loaders)
    atexit.register(end_loaders)  # runs before multiprocessing waits, because it is registered later
    workers, ahead = settings.DATA.WORKERS, settings.DATA.PREFETCH
    common = {
        "pin_memory": accelerator.device.type == "cuda",
        "worker_init_fn": start_worker,
        "generator": torch.Generator().manual_seed(settings.TRAINING.TORCH_SEED),
    }
    crops = DataLoader(
        training,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=ahead if workers else None,
        **common,
    )
    share = range(accelerator.process_index, len(validation), accelerator.num_processes)  # type: ignore[arg-type]
    mine = Subset(validation, share)
    return crops, DataLoader(mine, 1, num_workers=min(workers, len(mine)), **common)


def end_loaders() -> None:
    """Ends the loader processes that are left when the program ends, as after an error: they leave it to the main
    process to heed SIGTERM (`start_worker`), and it would wait for them for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would report them as killed
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
