"""Devices, processes and precision, through accelerate: one process or many, from the same file."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from yacs.config import CfgNode

from mhnet.core.devices import choose_device
from mhnet.core.errors import MHNetError, ToldElsewhere

T = TypeVar("T")
LAUNCHER_SECONDS = 45  # in which a launcher that is there answers


def make_accelerator(config: CfgNode, **more: Any) -> Accelerator:
    """Where and how this process computes, by the settings and by what torchrun or accelerate say of processes.

    Raises:
        MHNetError: there is no such device, it cannot compute at that precision, or whoever started several processes
            is gone.
    """
    training = config.TRAINING
    launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
    name = training.DEVICE
    if launched and name.startswith("cuda:"):
        raise MHNetError(f"TRAINING.DEVICE is {name}, and several processes were started: leave it at auto or cuda")
    device = choose_device("cuda" if launched and name == "auto" and torch.cuda.is_available() else name)
    if training.PRECISION == "fp16" and device.type == "cpu":
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
        mixed_precision={"fp32": "no"}.get(training.PRECISION, training.PRECISION),
        gradient_accumulation_steps=config.OPTIM.ACCUMULATE,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            *[InitProcessGroupKwargs(backend=backend)] * launched,
        ],
        **more,
    )


def stay_with_launcher() -> None:
    """Ends this process soon after the one that started it, so that none waits for others that never come.

    A process whose launcher dies later is asked to stop by SIGTERM: a run saves first (`mhnet.train.stop`).

    Raises:
        MHNetError: torchrun is gone already.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # the processes meet in the launcher
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        limit = timedelta(seconds=LAUNCHER_SECONDS)
        try:
            torch.distributed.TCPStore(*place, timeout=limit, wait_for_workers=False)  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise MHNetError(
                f"torchrun does not answer at {place[0]}:{place[1]}: was it killed? Start it again"
            ) from error
    if hasattr(signal, "SIGKILL"):  # elsewhere a process does not learn that its parent ended
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)


def all_or_none(accelerator: Accelerator, make: Callable[[], T]) -> T:
    """What `make` gives, if it fails in no process; else the first failure, told by the main process alone.

    Raises:
        MHNetError: it failed in some process.
    """
    made, failure = None, None
    try:
        made = make()
    except MHNetError as error:
        failure = error
    if accelerator.num_processes > 1:
        told = [text for text in gather_object([str(failure) if failure else ""]) if text]
        if told and accelerator.is_main_process:
            raise failure or MHNetError(told[0])
        if told:
            raise ToldElsewhere(told[0])
    if failure:
        raise failure
    return made  # type: ignore[return-value]


def is_first() -> bool:
    """Whether this is the first of all processes, by what launchers say before there is an accelerator."""
    return int(os.environ.get("RANK", 0)) == 0


@contextmanager
def told_once() -> Iterator[None]:
    """Lets the first process of each machine tell of a mistake that all of them meet.

    Raises:
        ToldElsewhere: in the others.
    """
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
