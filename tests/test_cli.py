"""The command as a whole: help, colours, completion, info, doctor, and the rooms from anywhere."""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from safetensors.torch import save_file
from small import ROOT, crops, make_pairs, settings
from tools import installed, needs

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import sha256, write_checkpoint
from mhnet.cli import doctor
from mhnet.cli.main import main, parser
from mhnet.cli.train_test import room_of
from mhnet.core import terminal
from mhnet.core.tasks import DEBLURRING, DERAINING
from mhnet.images.write import write_rgb
from mhnet.models import MHNet, MHNetArgs, MHNetV4, MHNetV4Args
from mhnet.models.cost import gmacs


def commands(of: argparse.ArgumentParser, name: str = "mhnet") -> dict[str, argparse.ArgumentParser]:
    """Every command with its parser."""
    found = {name: of}
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                found |= commands(command, f"{name} {word}")
    return found


def mhnet(*words: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mhnet", *map(str, words)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "pytorch-gradual-warmup-lr")])
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | {"PYTHONPATH": paths} | environment
    )


@pytest.fixture
def weights(tmp_path) -> Path:
    args = MHNetArgs(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    about = {"step": 12, "config": {"DATA": {"PATCH": 96}}, "psnr": 31.5}
    write_checkpoint(
        path := tmp_path / "small.safetensors", Checkpoint(args, MHNet(args=args).state_dict(), "deraining", about)
    )
    return path


@pytest.mark.parametrize("name", commands(parser()))
def test_every_command_has_help_with_examples_that_parse(name, capsys):
    command = commands(parser())[name]
    assert command.description and "examples:\n" in (command.epilog or "")
    lines = [line.strip() for line in (command.epilog or "").partition("examples:\n")[2].splitlines()]
    examples = [line for line in lines if line.startswith("mhnet ") and not line.startswith("mhnet ...")]
    assert examples, name
    for line in examples:
        words = line.partition("  ")[0].partition(" >")[0].partition(" |")[0]
        assert words.startswith(name), line
        assert callable(parser().parse_args([word.strip("'") for word in words.split()[1:]]).run)
    with pytest.raises(SystemExit) as left:
        main([*name.split()[1:], "--help"])
    assert left.value.code == 0
    assert "examples:\n  mhnet" in capsys.readouterr().out


def test_help_documents_the_exit_statuses():
    text = parser().format_help()
    assert all(f"\n  {status} " in text for status in (0, 1, 2, 130, 141))


def test_wrong_usage_is_2_and_a_refusal_is_1():
    assert mhnet("sing").returncode == 2
    refused = mhnet("info", "absent.pth")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: absent.pth cannot be read") and refused.stderr.count("\n") == 1


def test_the_help_of_any_command_imports_nothing_heavy():
    code = """
import sys
from mhnet.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    heavy = {"torch", "cv2", "scipy", "av", "PIL", "skimage", "numpy"} & set(sys.modules)
    assert not heavy, heavy
"""
    for name in commands(parser()):
        done = subprocess.run([sys.executable, "-c", code, *name.split()[1:], "--help"], capture_output=True, text=True)
        assert done.returncode == 0, (name, done.stderr)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint("word", "red", Terminal()) == "\033[31mword\033[0m"
    assert terminal.paint("word", "red", io.StringIO()) == "word"
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.paint("word", "red", Terminal()) == "word"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("word", "red", Terminal()) == "word"


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals there")
def test_an_error_is_red_on_a_terminal():
    import pty

    def told(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | environment
        subprocess.run([sys.executable, "-m", "mhnet", "info", "absent.pth"], stderr=theirs, cwd=ROOT, env=env)
        os.close(theirs)
        data = os.read(ours, 10000)
        os.close(ours)
        return data

    assert told(TERM="xterm").startswith(b"\033[31merror:\033[0m absent.pth")
    assert told(TERM="xterm", NO_COLOR="1").startswith(b"error: absent.pth")


@needs("shtab", "completion")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell, tmp_path):
    done = mhnet("completion", shell)
    assert done.returncode == 0 and "restore" in done.stdout and "--weights" in done.stdout
    if shutil.which(shell):
        (script := tmp_path / "script").write_text(done.stdout)
        assert subprocess.run([shell, "-n", script]).returncode == 0


@needs("shtab", "completion")
@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_completes_commands_and_options(tmp_path):
    (script := tmp_path / "script").write_text(mhnet("completion", "bash").stdout)

    def completed(*words: str) -> set[str]:
        code = f'source "{script}"; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _shtab_mhnet'
        code += '; printf "%s\\n" "${COMPREPLY[@]}"'
        return set(subprocess.run(["bash", "-c", code], capture_output=True, text=True).stdout.split())

    assert completed("mhnet", "re") == {"reproduce", "restore"}
    assert completed("mhnet", "restore", "--tl") == {"--tlc"}
    assert completed("mhnet", "data", "deg") == {"degrade"}


def test_completion_without_shtab_names_the_way_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install 'mhnet[completion]'" in capsys.readouterr().err


def test_info_says_what_a_file_holds(weights, capsys):
    assert main(["info", str(weights)]) == 0
    text = capsys.readouterr().out
    parameters = sum(
        p.numel() for p in MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1).parameters()
    )
    for words in ("MHNet (width 8", "deraining", f"{parameters:,} as float32", "GMACs", sha256(weights), "step 12",
                  "config.DATA: PATCH 96"):  # fmt: skip
        assert words in text
    assert main(["info", str(weights), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["network"], about["task"], about["parameters"]) == ("MHNet", "deraining", parameters)
    assert about["sha256"] == sha256(weights) and about["bytes"] == weights.stat().st_size
    assert about["arguments"]["encoder_blocks"] == [1, 1, 1, 1] and about["provenance"]["psnr"] == 31.5


def test_what_a_file_of_weights_says_reaches_the_terminal_escaped(tmp_path, capsys):
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1)
    title = "\x1b]0;owned\x07\nnot shown"
    path = tmp_path / f"w{title}.safetensors"
    about = {f"by{title}": {f"name{title}": f"value{title}"}, "note": title}
    write_checkpoint(path, Checkpoint(network.args, network.state_dict(), f"deraining{title}", about))
    write_rgb(tmp_path / "a.png", crops()[0])
    for command in (
        ["info", path],
        ["convert", path, tmp_path / f"w{title}.pth"],
        ["restore", tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights", path, "--task", "derain"],
        ["info", tmp_path / f"absent{title}"],
    ):
        main([str(word) for word in command])
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable(), command
        assert r"\x1b]0;owned\x07\nnot shown" in out + err, command
    odd = network.state_dict() | {f"more{title}": torch.zeros(1)}
    save_file(odd, tmp_path / "odd.safetensors")
    assert main(["info", str(tmp_path / "odd.safetensors")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and r"more\x1b]0;owned\x07\nnot shown" in err


@pytest.mark.parametrize(
    ("network", "published"),
    [(lambda: MHNet(), 46.99), (lambda: MHNet(n_feat=40), 30.80), (lambda: MHNetV4(args=MHNetV4Args()), 125.88)],
)
def test_operations_are_counted_as_the_readme_says(network, published):
    assert gmacs(network) == pytest.approx(published, rel=0.001)
    assert gmacs(network, 128, 512) == pytest.approx(published, rel=0.001)


def test_info_knows_the_weights_that_ship_by_name(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    assert main(["info", "derain-small"]) == 1
    assert "ship" in capsys.readouterr().err
    shutil.copy(weights, tmp_path / "derain-small.safetensors")
    assert main(["info", "derain-small"]) == 0


def test_ctrl_c_while_the_interpreter_ends_says_nothing():
    code = """
import os, signal, sys, weakref
from mhnet.core.errors import exits_cleanly
class Late: pass
late = Late()
weakref.finalize(late, os.kill, os.getpid(), signal.SIGINT)
sys.exit(exits_cleanly(lambda: 0)())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_doctor_finds_everything_here(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {(one["group"], one["name"]): one for one in report["findings"]}
    assert report["ok"]
    assert found["packages", "torch"]["detail"] == metadata.version("torch")
    assert found["system", "Python"]["detail"].startswith(sys.version.split()[0])
    assert "memory free" in found["devices", "cpu"]["detail"] and "network ran" in found["devices", "cpu"]["detail"]
    assert {name for group, name in found if group == "files"} >= {".png", ".jpg", ".tif", ".webp", "libx264"}
    for one in (("extras", "av for video"), ("files", "libx264")):
        assert found[one]["state"] == ("ok" if installed("av") else "missing")
    assert all(one["remedy"] for one in report["findings"] if one["state"] != "ok")
    assert main(["doctor"]) == 0
    assert "Everything that MHNet needs is here." in capsys.readouterr().out


def test_doctor_fails_where_something_needed_is_broken(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yacs", None)
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setattr("mhnet.images.write.write_rgb", lambda path, image: Path(path).write_bytes(b""))
    assert main(["doctor", "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["yacs"]["state"] == "broken" and "pip install --upgrade 'yacs" in found["yacs"]["remedy"]
    assert found[".png"]["state"] == "broken" and found["torch"]["state"] == "ok"
    assert found["lpips for lpips"]["state"] == "missing"
    assert "mhnet[lpips]" in found["lpips for lpips"]["remedy"]


def test_doctor_names_extras_that_exist():
    extras = metadata.metadata("mhnet").get_all("Provides-Extra")
    assert extras and set(doctor.FOR_DEVELOPERS) < set(extras)


def test_doctor_knows_old_and_absent_packages():
    with pytest.raises(ImportError, match=">=1000 is needed"):
        doctor.package_version(Requirement("numpy>=1000"), {"numpy": ["numpy"]})
    with pytest.raises(ImportError, match="not installed"):
        doctor.package_version(Requirement("no-such-package-here"), metadata.packages_distributions())
    assert doctor.package_version(Requirement("numpy"), {}) == metadata.version("numpy")  # what Python 3.10 knows
    with pytest.raises(ImportError, match="cannot be imported"):
        doctor.package_version(Requirement("another-build"), {"another_build": ["numpy"]})


@pytest.mark.parametrize("factor", [2, float("nan")])
def test_doctor_tells_a_device_that_computes_wrongly(factor, monkeypatch):
    def moved(network: MHNet, _device: torch.device) -> MHNet:
        with torch.no_grad():
            network.tail.weight *= factor
        return network

    assert "a small network ran" in doctor.run_network(torch.device("cpu"))
    monkeypatch.setattr(MHNet, "to", moved)
    with pytest.raises(RuntimeError, match="away from the CPU's"):
        doctor.run_network(torch.device("cpu"))


def test_doctor_tells_a_device_that_is_not_there():
    with pytest.raises((RuntimeError, AssertionError)):
        doctor.run_network(torch.device("cuda:99"))


def test_the_room_is_the_one_here_or_below_or_the_clones(tmp_path):
    assert room_of(DERAINING, tmp_path) == ROOT / "Deraining"
    below = tmp_path / "Deraining"
    below.mkdir()
    (below / "training.yml").write_text("")
    assert room_of(DERAINING, tmp_path) == room_of(DERAINING, below) == below
    (other := tmp_path / "Deblurring").mkdir()
    (other / "training.yml").write_text("")
    assert room_of(DERAINING, other) == below and room_of(DEBLURRING, other) == other
    (tmp_path / "training.yml").write_text("")
    assert room_of(DERAINING, tmp_path) == tmp_path


def test_train_and_test_from_a_folder_of_ones_own(tmp_path):
    make_pairs(tmp_path / "pairs")
    settings(tmp_path / "training.yml")
    done = mhnet("train", "deraining", "OPTIM.EPOCHS", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = tmp_path / "run" / "model_best.safetensors"
    assert best.is_file() and str(best) in done.stdout
    make_pairs(tmp_path / "Datasets" / "test" / "mine", count=2)
    done = mhnet("test", "deraining", "--weights", best, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").rglob("*.png"))) == 2 and "rain_y_matlab" in done.stdout


@pytest.mark.parametrize("command", ["train", "test"])
def test_the_rooms_options_are_shown_by_the_tasks_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "deblurring", "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and shown.startswith(f"usage: mhnet {command} deblurring") and "--gpus" in shown


@pytest.mark.parametrize("words", [["restore", "{}", "-o", "out", "--task", "derain"], ["data", "check", "{}"]])
def test_names_that_no_file_can_have_are_told_in_a_sentence(words, capsys):
    assert main([word.replace("{}", "a" * 300 + ".jpg") for word in words]) == 1
    assert "File name too long" in capsys.readouterr().err
