"""Several processes train as one does: gloo on the CPU, through torchrun and accelerate launch."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from launch import SCRIPT, command, finish, start
from rooms import BLUR
from small import ROOT, make_pairs, settings

from mhnet.checkpoints.files import read_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING
from mhnet.train.config import load_config
from mhnet.train.processes import make_accelerator
from mhnet.train.state import BEST, LATEST
from mhnet.train.trainer import train

VALIDATE = """
import sys, torch
sys.path.insert(0, "Deblurring")
from train import RECIPE
from mhnet.core.tasks import DEBLURRING
from mhnet.train.config import load_config
from mhnet.train.job import prepare
from mhnet.train.validation import validate
job = prepare(load_config(DEBLURRING, sys.argv[1]), RECIPE)
found = validate(job.result, job.validation, job.accelerator)
job.accelerator.print("found", job.accelerator.num_processes, found.psnr.hex(), found.input_psnr.hex())
job.accelerator.end_training()
"""
IMPATIENT = f"""
import runpy, sys
from mhnet.train import processes
processes.LAUNCHER_SECONDS = 5
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_two_processes_train_as_one(tmp_path):
    """20 epochs of one step each, so that the table holds every step's loss."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"BATCH_SIZE": 8, "EPOCHS": 20, "EMA": 0.5, "GRAD_CLIP": 0.5})
    one, two = tmp_path / "one", tmp_path / "two"
    train(load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(one)]), BLUR)
    out = finish(command(path, two, processes=2))
    assert "effective batch 8 = 2 processes × 1 parts × 4 crops" in out
    losses = [[float(row["train_psnr"]) for row in table(folder)] for folder in (one, two)]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert [row["lr"] for row in table(one)] == [row["lr"] for row in table(two)]
    states = [load(folder / BEST).state_dict() for folder in (one, two)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    assert [entry["processes"] for entry in json.loads((two / "run.json").read_text())] == [2]
    assert out.count("epoch   20") == 1  # the first process alone speaks


@pytest.mark.ci
def test_validation_is_shared_and_its_mean_is_exactly_that_of_one_process(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", DATA={"VAL_IMAGES": 3}, OPTIM={"BATCH_SIZE": 2})
    (tmp_path / "look.py").write_text(VALIDATE)
    found = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]):
        out = finish([sys.executable, *launcher, str(tmp_path / "look.py"), str(path)])
        found.append(next(line for line in out.splitlines() if line.startswith("found")).split())
    assert [words[1] for words in found] == ["1", "2"]
    assert found[0][2:] == found[1][2:]


@pytest.mark.ci
def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """The batches stay the same, so the rest of the run differs by rounding alone."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 6})
    whole, parts = (["TRAINING.SAVE_DIR", str(tmp_path / name)] for name in ("whole", "parts"))
    train(load_config(DEBLURRING, path, whole), BLUR)
    train(load_config(DEBLURRING, path, [*parts, "TRAINING.MAX_MINUTES", "1e-4"]), BLUR)
    assert read_checkpoint(tmp_path / "parts" / LATEST).provenance["epoch"] == 1
    assert "resuming after epoch 1, step 2" in finish(command(path, tmp_path / "parts", processes=2))
    losses = [[float(row["train_psnr"]) for row in table(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.ci
def test_two_machines_train_as_one(tmp_path):
    """Played by two launchers that meet on the loopback interface, by the command of docs/training.md."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", meeting]
    words = [sys.executable, "-m", "torch.distributed.run", *options, *command(path, tmp_path / "two")[1:]]
    machines = [start(words) for _ in range(2)]
    said = [machine.communicate(timeout=500) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert sorted("2 processes × 1 parts" in out for out, _ in said) == [False, True]  # one of them speaks
    train(load_config(DEBLURRING, path, ["TRAINING.SAVE_DIR", str(tmp_path / "one")]), BLUR)
    losses = [[float(row["train_psnr"]) for row in table(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


@pytest.mark.ci
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL there")
@pytest.mark.parametrize("when", ["at its start", "in training"])
def test_processes_end_with_their_launcher(tmp_path, when):
    """Killed as soon as it has started them, when they would wait for half an hour; or later, when they save first.

    The first of them wait for it for 5 seconds here, not for 45."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 100_000})
    words = command(path, tmp_path / "run", processes=2)
    if when == "at its start":
        (tmp_path / "impatient.py").write_text(IMPATIENT)
        words[words.index(str(SCRIPT))] = str(tmp_path / "impatient.py")
    launcher = start(words)
    parent = psutil.Process(launcher.pid)
    while len(workers := parent.children()) < 2:
        assert launcher.poll() is None
        time.sleep(0.1)
    try:
        if when == "in training":
            assert launcher.stdout and any("epoch    1" in line for line in launcher.stdout)
        launcher.kill()
        assert not psutil.wait_procs(workers, timeout=300)[1]
        assert (tmp_path / "run" / LATEST).exists() == (when == "in training")
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        launcher.communicate()


@pytest.mark.ci
def test_accelerate_launch_needs_no_other_script(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    words = command(path, tmp_path / "run")[1:]
    two = {"num_processes": 2, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
    options = ["--multi_gpu", *(word for name, value in two.items() for word in (f"--{name}", str(value)))]
    out = finish([sys.executable, "-m", "accelerate.commands.launch", *options, *words])
    assert "2 processes" in out
    assert (tmp_path / "run" / BEST).exists()


@pytest.mark.ci
def test_what_is_wrong_is_told_once(tmp_path):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    for words, said in (
        (["OPTIM.BATCH_SIZE", 3], "error: a batch of 3 cannot be shared evenly by 2 processes"),
        (["DATA.TRAIN_DIR", tmp_path / "absent"], "error: There is no folder"),
        (["OPTIM.EPOCS", 3], "error: the command line: there is no setting OPTIM.EPOCS"),
    ):
        process = start(command(path, tmp_path / "run", *words, processes=2))
        _, err = process.communicate(timeout=500)
        assert process.returncode == 1
        assert err.count(said) == 1, err
        assert "train.py" not in err.split("error: ")[0]  # no traceback of ours


def test_a_device_that_does_not_fit_is_named(tmp_path, monkeypatch):
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml")
    with pytest.raises(MHNetError, match="fp16, which the CPU does not train in"):
        make_accelerator(load_config(DEBLURRING, path, ["TRAINING.PRECISION", "fp16"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MHNetError, match="cuda:1, and several processes"):
        make_accelerator(load_config(DEBLURRING, path, ["TRAINING.DEVICE", "cuda:1"]))


def test_a_run_needs_no_launcher_and_no_network(tmp_path):
    """No process group is opened for one process."""
    make_pairs(tmp_path / "pairs")
    path = settings(tmp_path / "training.yml", OPTIM={"EPOCHS": 2})
    code = (
        "import sys, torch, runpy\n"
        "def refuse(*a, **k): raise AssertionError('a process group')\n"
        "torch.distributed.init_process_group = refuse\n"
        f"sys.argv = {command(path, tmp_path / 'run')[1:]!r}\n"
        "sys.path.insert(0, 'Deblurring')\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
