"""The processes that load a run's images, and which of them goes to which process of training."""

import atexit
import multiprocessing
import signal
import warnings
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from yacs.config import CfgNode

from mhnet.core.errors import MHNetError
from mhnet.data.sampling import EpochBatches, start_worker
from mhnet.train.config import batch_of, stages


def share_batches(settings: CfgNode, samples: int, accelerator: Accelerator) -> EpochBatches:
    """This process's share of the batches of so many samples an epoch.

    Raises:
        MHNetError: the processes and micro-batches cannot share a batch evenly.
    """
    plan, parts, processes = stages(settings), settings.OPTIM.ACCUMULATE, accelerator.num_processes
    for stage in plan:
        if stage.batch % (parts * processes):
            raise MHNetError(
                f"a batch of {stage.batch} cannot be shared evenly by {processes} processes that each take it in "
                f"{parts} parts: change OPTIM.BATCH_SIZE, OPTIM.ACCUMULATE or the number of processes"
            )
    process = accelerator.process_index
    return EpochBatches(samples, settings.TRAINING.SEED, partial(batch_of, plan), parts, process, processes)


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
