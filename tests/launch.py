"""The rooms' training, started as people start it: by Python, by torchrun."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
from small import ROOT

SCRIPT = ROOT / "Deblurring" / "train.py"


def command(path: Path, folder: Path, *words: object, processes: int = 1) -> list[str]:
    """`python train.py` by the settings in `path`, into `folder`; through torchrun for several processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launcher = [sys.executable, *(torchrun if processes > 1 else [])]
    return [*launcher, *map(str, (SCRIPT, "--config", path, "TRAINING.SAVE_DIR", folder, *words))]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(words: list[str]) -> str:
    """Runs a command to its end, and returns what it printed."""
    process = start(words)
    try:
        out, err = process.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    assert process.returncode == 0, err
    return out


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a process with all that it started; torchrun's processes are in no group with it."""
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everyone:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(everyone, 10)
    process.communicate()
