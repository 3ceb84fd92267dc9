"""Many files restored by many processes, on one machine or a cluster: Ray Data's engine and our steps.

    plan → read (tasks) → restore (a pool of processes, each with a network) → write (tasks) → what became of each

Items stream through: as many pictures are held as the steps are working on, however many files there are.
"""

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext, from_arrow
from ray.exceptions import RayError

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.networks import network_of
from mhnet.core import allocator
from mhnet.core.chatter import without_chatter
from mhnet.core.errors import MHNetError, first_line
from mhnet.core.version import __version__
from mhnet.images.header import MAX_PIXELS
from mhnet.restore import bulk_steps
from mhnet.restore.bulk_steps import Item
from mhnet.restore.outcomes import Outcome, failed, not_tried
from mhnet.restore.plan import Plan
from mhnet.restore.restorer import Restorer

AT_A_TIME = 32  # files that a reading task is given, at most
BLOCK = 16 << 20  # bytes of items that travel together: large photos alone, so that little is done again after a kill
GPU_BATCH = 8
WORKER_MEMORY = 3 << 30  # bytes to have for each worker on a CPU, unless their number is given
STEPS_SHARE = 0.25  # of the CPUs, kept free of workers on CPUs for reading and writing


@dataclass(frozen=True)
class Computing:
    """How each worker computes."""

    checkpoint: Checkpoint
    local_statistics: bool | None = None  # None: as noted with the checkpoint
    max_pixels: int = MAX_PIXELS  # that an image may have
    options: Mapping[str, Any] = field(default_factory=dict)  # of `Restorer`, by name

    def restorer(self, device: str, threads: int) -> Restorer:
        """The restorer of a worker, in its process."""
        allocator.keep_pages()
        torch.set_num_threads(threads)
        patch = self.checkpoint.local_patch(self.local_statistics)
        made = Restorer(network_of(self.checkpoint), device, patch, **self.options)
        made.task = self.checkpoint.task
        return made


@dataclass(frozen=True)
class Shares:
    """What of the machines each process gets."""

    workers: int  # processes with a network
    device: str  # where they compute
    gpus: int  # of each, 0 or 1
    cpus: float  # of each
    threads: int  # that each computes with
    step_cpus: float  # of each process that reads or writes
    batch: int  # images of one size that a worker computes at once, if they are small


def shares(
    resources: Mapping[str, float], device: str = "auto", workers: int | None = None, batch: int | None = None
) -> Shares:
    """Divides what there is: a worker for each GPU, or else for each CPU as far as memory goes, unless `workers` says
    how many; `batch` likewise.

    `resources` are of all machines, as Ray counts them: CPU, GPU, and memory in bytes. The device is "auto", "cpu" or
    "cuda". MHNetError where there are no GPUs, or fewer than workers.
    """
    cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0))
    if device not in ("auto", "cpu", "cuda"):
        raise MHNetError(f"Ray divides GPUs itself, not {device!r}: use auto, cpu or cuda, and CUDA_VISIBLE_DEVICES.")
    if device == "cuda" or (device == "auto" and gpus):
        if not gpus:
            raise MHNetError("Ray sees no CUDA GPU: use --device cpu, or mhnet doctor to see what is here.")
        if workers and workers > gpus:
            raise MHNetError(f"{workers} workers are more than the {gpus} GPUs that Ray sees: use --workers {gpus}.")
        return Shares(workers or gpus, "cuda", 1, 0, 1, 1, batch or GPU_BATCH)
    roomy = int(resources.get("memory", WORKER_MEMORY) // WORKER_MEMORY)
    count = workers or max(min(int(cpus), roomy), 1)
    threads = max(int(cpus // count), 1)
    return Shares(count, "cpu", 0, (1 - STEPS_SHARE) * cpus / count, threads, STEPS_SHARE, batch or 1)


@contextmanager
def cluster() -> Iterator[Mapping[str, float]]:
    """Joins the cluster of RAY_ADDRESS, or starts Ray on this machine until the end; gives what there is to compute.

    A Ray that this program has already started is used and left running. MHNetError where Ray does not start, or the
    cluster is not reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of Ray Data's own habits
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    context = DataContext.get_current()
    context.max_errored_blocks = -1  # what is lost with a process is told by `restore_bulk`
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK
    for handler in logging.getLogger("ray.data").handlers:  # its words go to its files, not to the terminal
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    if ours:
        _start()
    try:
        _check_machines()
        yield dict(ray.cluster_resources())
    finally:
        if ours:
            ray.shutdown()


def _start() -> None:
    """Joins the cluster, or starts Ray here; a second time where a busy machine took longer than Ray waits."""
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
    for again in (not address, False):
        try:
            with without_chatter():  # of Ray's C++ part; what matters comes as exceptions
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            return
        except Exception as error:  # noqa: PERF203  (Ray raises nearly anything here, Exception itself too)
            ray.shutdown()
            if not again:
                where = f"at {address} (RAY_ADDRESS)" if address else "on this machine"
                raise MHNetError(f"Ray does not start {where}: {first_line(error)}.") from error


def _check_machines() -> None:
    """Raises MHNetError unless a process that Ray starts has this version of mhnet."""
    try:
        found = ray.get(ray.remote(num_cpus=0)(bulk_steps.version).remote())
    except RayError as error:
        why = first_line(error.__cause__ or error)
        raise MHNetError(f"mhnet does not start on Ray's machines ({why}): pip install 'mhnet[ray]' there.") from error
    if found != __version__:
        raise MHNetError(f"Ray's machines have mhnet {found}, this one has {__version__}: install one version on all.")


def restore_bulk(
    plan: Plan, computing: Computing, share: Shares, each: Callable[[Outcome], None], *, check: bool = False
) -> None:
    """Restores files to files, each result whole or not at all; one that fails does not stop the rest.

    Within `cluster`. A process that is killed is replaced, and what it held is done again; what ends its process each
    time has failed. `each` is called with each outcome as soon as there is one, in whatever order; with `check`,
    targets that are there and whole are kept.
    """
    waiting, full = dict(enumerate(plan.jobs)), None
    # What is lost with a process that reads or writes is tried once more, item by item.
    for at_a_time in (max(1, min(AT_A_TIME, len(waiting) // (4 * share.workers))), 1):
        if full or not waiting:
            break
        with closing(_stream(plan, [*waiting], computing, share, check, at_a_time)) as items:
            for number, outcome, _ in items:
                waiting.pop(number, None)
                each(outcome)
                if outcome.disk_full:
                    full = outcome
                    break
    left = list(waiting.values())
    why = "ended its process each time: it may need more memory than there is."
    killed = [failed(Outcome(job), MHNetError(f"{plan.inputs.shown(job.source)} {why}")) for job in left]
    for outcome in not_tried(left, full) if full else killed:
        each(outcome)


def _stream(
    plan: Plan, numbers: list[int], computing: Computing, share: Shares, check: bool, at_a_time: int
) -> Generator[Item, None, None]:
    """Items as they are done, of which a process reads so many at a time; what dies with its process is left out."""
    jobs = [plan.jobs[number] for number in numbers]
    sides = {
        "source": [os.fsencode(plan.inputs.absolute(job.source)) for job in jobs],
        "target": [os.fsencode(plan.results.absolute(job.target)) for job in jobs],
    }
    rows = pyarrow.table({  # a million take 100 MB
        "number": pyarrow.array(numbers, pyarrow.int64()),
        **{side: pyarrow.array(paths, pyarrow.large_binary()) for side, paths in sides.items()},
    })  # fmt: skip
    read = partial(bulk_steps.read, inputs=plan.inputs, results=plan.results, check=check,
                   max_pixels=computing.max_pixels)  # fmt: skip
    one_file: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": share.step_cpus}
    done = (
        from_arrow([rows.slice(start, at_a_time) for start in range(0, len(rows), at_a_time)])
        .map_batches(read, **one_file)
        .map_batches(
            bulk_steps.Restoring,
            fn_constructor_kwargs={
                "make": ray.put(partial(computing.restorer, share.device, share.threads)),
                "batch": share.batch,
                "ledger": ray.remote(num_cpus=0)(bulk_steps.Ledger).remote(),
            },
            batch_size=share.batch,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=share.workers),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
        )
        .map_batches(partial(bulk_steps.write, results=plan.results), **one_file)
    )
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from bulk_steps.unpacked(batch)
