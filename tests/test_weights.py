"""Checkpoints: what is recognised, what is refused, what survives a round trip."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import PLAIN, published_args, published_parameters
from safetensors.torch import save_file
from seeded import seeded_image

import mhnet
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, convert_checkpoint, read_checkpoint, sha256, write_checkpoint
from mhnet.checkpoints.networks import load
from mhnet.checkpoints.released import build, from_published, to_published
from mhnet.models import MHNet, MHNetV4

V1, V4 = PLAIN[2], PLAIN[3]
KINDS = ["v1-deblurring", "v1-deraining", "v4-w64", "v4-w32", "small-v1-nfeat12", "small-v4-w16"]


def released(path: Path, state, wrapper="state_dict", prefix="module.") -> Path:
    """A file as the authors' training writes it."""
    state = {prefix + name: tensor for name, tensor in state.items()}
    content = (
        {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, wrapper: state} if wrapper else state
    )
    torch.save(content, path)
    return path


def small_checkpoint(case=V1, **more) -> Checkpoint:
    network = case.network()
    return Checkpoint(network.args, network.state_dict(), **more)


@pytest.mark.parametrize("name", KINDS)
def test_every_released_kind_is_recognised_and_converted_both_ways(tmp_path, name):
    state = {key: torch.randn(shape) for key, shape in published_parameters(name)}
    source = released(tmp_path / "released.pth", state)
    convert_checkpoint(source, tmp_path / "ours.safetensors", task="deraining")
    convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    ours, back = (
        read_checkpoint(tmp_path / "ours.safetensors"),
        torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"],
    )
    assert ours.args == published_args(name)
    assert ours.task == "deraining"
    assert ours.provenance["source"] == {"file": "released.pth", "sha256": sha256(source)}
    assert list(back) and back.keys() == state.keys()
    dead = (
        ("info.",)
        if name.rsplit("/")[-1].find("v1") >= 0
        else ("intro.", "stage2.conv_dnc2", "stage2.conv_dnc3", "stage2.conv_dnc4")
    )
    for key, tensor in state.items():
        assert torch.equal(back[key], torch.zeros_like(tensor) if key.startswith(dead) else tensor), key


@pytest.mark.parametrize("case", [V1, V4], ids=["v1", "v4"])
@pytest.mark.parametrize("wrapper", ["state_dict", "params", "params_ema", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, case, wrapper, prefix):
    path = released(tmp_path / "net.pth", case.published_state(), wrapper, prefix)
    network, image = load(path), case.input()
    with torch.no_grad():
        assert torch.equal(network(image), case.network()(image))


def test_averaged_parameters_come_first(tmp_path):
    state = V1.published_state()
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"params": other, "params_ema": state}, tmp_path / "net.pth")
    assert torch.equal(read_checkpoint(tmp_path / "net.pth").state["tail.weight"], state["tail.weight"])


def test_old_pickles_without_a_zip_are_read(tmp_path):
    torch.save({"state_dict": V1.published_state()}, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert isinstance(load(tmp_path / "net.pth"), MHNet)


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("case", [V1, V4], ids=["v1", "v4"])
def test_a_round_trip_is_bit_exact(tmp_path, case, head, extension):
    args = replace(case.network().args, stage1_head=head)
    names = build(args).state_dict().keys()
    state = {name: tensor for name, tensor in case.network().state_dict().items() if name in names}
    first = Checkpoint(args, state, "deblurring", {"step": 7, "psnr": 31.5})
    path = tmp_path / f"a.{extension}"
    write_checkpoint(path, first)
    again = read_checkpoint(path)
    assert (again.args, again.task, again.provenance) == (first.args, first.task, first.provenance)
    assert again.state.keys() == state.keys()
    assert all(torch.equal(again.state[name], tensor) for name, tensor in state.items())
    write_checkpoint(tmp_path / f"b.{extension}", again)
    if extension == "safetensors":
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert {child.name for child in tmp_path.iterdir()} == {path.name, f"b.{extension}"}


def test_our_names_are_recognised_without_metadata(tmp_path):
    for case, kind in [(V1, MHNet), (V4, MHNetV4)]:
        save_file(case.network().state_dict(), tmp_path / "bare.safetensors")
        network = mhnet.load(tmp_path / "bare.safetensors")
        assert isinstance(network, kind)
        assert network.args == case.network().args


def test_safetensors_are_told_from_pickles_whatever_their_length(tmp_path):
    path, firsts = tmp_path / "net.safetensors", set()
    for length in range(0, 400, 8):
        write_checkpoint(path, small_checkpoint(provenance={"note": "x" * length}))
        firsts.add(path.read_bytes()[0])
        assert len(read_checkpoint(path).provenance["note"]) == length
    assert 0x80 in firsts  # the byte that pickles begin with


def test_what_we_train_fits_the_authors_names_strictly(tmp_path):
    network = MHNet(width=8, n_feat=12, encoder_blocks=(1, 1, 1, 2), group_blocks=2)
    write_checkpoint(tmp_path / "net.pth", Checkpoint(network.args, network.state_dict()))
    state = torch.load(tmp_path / "net.pth", weights_only=True)["state_dict"]
    assert {name: list(t.shape) for name, t in state.items()} == dict(published_parameters("small-v1-nfeat12"))
    assert not state["stage1.ending.weight"].any()
    assert not state["info.weight"].any()


def test_half_precision_files_give_float32_networks(tmp_path):
    checkpoint = small_checkpoint()
    checkpoint.state = {name: tensor.half() for name, tensor in checkpoint.state.items()}
    write_checkpoint(tmp_path / "half.safetensors", checkpoint)
    network = load(tmp_path / "half.safetensors")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not network.training
    with torch.no_grad():
        difference = network(seeded_image(32, 32, 1)) - V1.network()(seeded_image(32, 32, 1))
    assert difference.abs().max() < 0.02


def test_names_translate_back_and_forth():
    for name in KINDS:
        args = published_args(name)
        with torch.device("meta"):
            state = build(args).state_dict()
        assert from_published(to_published(state, args), args, state).keys() == state.keys()


class Bomb:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch '{self.marker}'",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_before_it_runs(tmp_path, zipped):
    marker, path = tmp_path / "ran", tmp_path / "bomb.pth"
    content = {"state_dict": V1.published_state(), "extra": Bomb(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"run code \(posix\.system\)|run code \(nt\.system\)"):
        load(path)
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(WeightsError, match=r"bomb\.pth"):
        load(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the bomb is a real one
    assert marker.exists()


def damaged(path: Path) -> list[tuple[Path, str]]:
    """Files that must be refused, with what must be said."""
    path.mkdir(exist_ok=True)
    write_checkpoint(path / "good.safetensors", small_checkpoint())
    write_checkpoint(path / "good.pth", small_checkpoint())
    cases = []
    for kind in ("safetensors", "pth"):
        whole = (path / f"good.{kind}").read_bytes()
        for share in (0.001, 0.1, 0.5, 0.99):
            cut = path / f"cut-{share}.{kind}"
            cut.write_bytes(whole[: int(len(whole) * share)])
            cases.append((cut, "damaged"))
    texts = {
        "empty.pth": (b"", "empty"),
        "note.pth": (b"these are not weights, these are words about weights", "neither a safetensors nor a PyTorch"),
        "page.pth": (b"<!DOCTYPE html><html><head><title>Virus scan warning", "web page"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        "mixed.safetensors": (b"\x80\x04" + b"x" * 200, "damaged|refused"),
        "huge.safetensors": (b"\xff" * 8 + b"{" + b" " * 100, "damaged"),
        "header.safetensors": (b"\x20\0\0\0\0\0\0\0{" + b"x" * 100, "damaged"),
    }
    for name, (content, said) in texts.items():
        (path / name).write_bytes(content)
        cases.append((path / name, said))
    loop: dict = {"a": torch.zeros(1)}
    loop["model"] = loop
    narrow = {name: torch.zeros(1).expand(t.shape) for name, t in V1.network().state_dict().items()}
    contents = {
        "loop.pth": (loop, "no named tensor"),
        "narrow.pth": (narrow, "unusual form"),
        "sparse.pth": (
            {**V1.network().state_dict(), "tail.weight": torch.zeros(3, 12, 3, 3).to_sparse()},
            "unusual form",
        ),
        "twice.pth": ({"x": torch.zeros(1), "module.x": torch.zeros(1)}, "twice"),
        "list.pth": ([1, 2], "no parameters"),
        "nothing.pth": ({"state_dict": {}}, "no parameters"),
        "mixed.pth": ({"state_dict": {"a": torch.zeros(1), "b": "c"}}, "'b' is no named tensor"),
        "other.pth": ({"state_dict": torch.nn.Conv2d(3, 3, 1).state_dict()}, "not an MHNet"),
        "numbers.pth": ({0: torch.zeros(1)}, "entry 0 is no named"),
    }
    for name, (content, said) in contents.items():
        torch.save(content, path / name)
        cases.append((path / name, said))
    with zipfile.ZipFile(path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"0" * 100_000)
    cases.append((path / "packed.pth", "compressed archive"))
    cases.append((path / "absent.pth", "No such file"))
    cases.append((path, "directory"))
    return cases


def test_damaged_and_foreign_files_get_one_sentence(tmp_path):
    for path, said in damaged(tmp_path / "files"):
        with pytest.raises(WeightsError, match=said) as raised:
            read_checkpoint(path)
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)


def altered(state: dict, change) -> dict:
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("tail.weight"), "missing: tail.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "unexpected: extra.weight"),
        (
            lambda s: s.update({"tail.weight": torch.zeros(3, 7, 3, 3)}),
            r"tail.weight is \[3, 7, 3, 3\] instead of \[3, 12",
        ),
        (lambda s: s.update({"tail.weight": s["tail.weight"].int()}), "torch.int32"),
        (lambda s: s.update({"tail.weight": s["tail.weight"] / 0}), "NaN or infinite values in tail.weight"),
        (lambda s: [s.pop(n) for n in list(s) if ".steps.2." in n], "and 25 more"),
        (lambda s: s.update({"stage1.encoders.3.999999999.conv1.weight": torch.zeros(1)}), "unexpected"),
    ],
)
@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_what_is_wrong_with_a_network_is_named(tmp_path, change, said, extension):
    state = V1.network().state_dict()
    path = tmp_path / f"net.{extension}"
    if extension == "safetensors":
        save_file(altered(state, change), path)
    else:
        torch.save(altered(state, change), path)
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "description",
    [
        "no json",
        "[]",
        json.dumps({"architecture": "mhnet"}),
        json.dumps({"architecture": "mhnet_v9", "arguments": {}, "task": None, "provenance": {}}),
        json.dumps({"architecture": "mhnet", "arguments": {"depth": 3}, "task": None, "provenance": {}}),
        json.dumps({"architecture": "mhnet", "arguments": {"width": "8"}, "task": None, "provenance": {}}),
        json.dumps({"architecture": "mhnet", "arguments": {"width": 10**9}, "task": None, "provenance": {}}),
        json.dumps({"architecture": "mhnet", "arguments": {"width": 10**30}, "task": None, "provenance": {}}),
        json.dumps({"architecture": "mhnet", "arguments": {}, "task": None, "provenance": []}),
        json.dumps({"architecture": "mhnet", "arguments": {}, "task": 3, "provenance": {}}),
        "[" * 100_000,
    ],
)
def test_a_strange_description_is_refused(tmp_path, description):
    save_file(V1.network().state_dict(), tmp_path / "net.safetensors", metadata={"mhnet": description})
    with pytest.raises(WeightsError, match=r"net\.safetensors describes itself"):
        read_checkpoint(tmp_path / "net.safetensors")


def test_a_description_of_another_network_is_refused(tmp_path):
    about = json.dumps({"architecture": "mhnet", "arguments": {"width": 32}, "task": None, "provenance": {}})
    save_file(V1.network().state_dict(), tmp_path / "net.safetensors", metadata={"mhnet": about})
    with pytest.raises(WeightsError, match="does not fit"):
        read_checkpoint(tmp_path / "net.safetensors")


def test_a_loaded_network_does_not_hang_on_its_file(tmp_path):
    path = tmp_path / "net.safetensors"
    write_checkpoint(path, small_checkpoint())
    network, image = load(path), V1.input()
    with torch.no_grad():
        before = network(image)
        path.write_bytes(b"gone")
        assert torch.equal(network(image), before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
def test_weights_can_be_read_by_others_as_the_umask_says(tmp_path):
    for name in ("net.safetensors", "net.pth"):
        write_checkpoint(tmp_path / name, small_checkpoint())
        umask = os.umask(0)
        os.umask(umask)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_writing_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    write_checkpoint(path, small_checkpoint())
    before = path.read_bytes()

    def fails(tensors, target, metadata):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mhnet.checkpoints.files.save_file", fails)
    with pytest.raises(WeightsError, match="No space left"):
        write_checkpoint(path, small_checkpoint(V4))
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_bad_targets_are_refused(tmp_path):
    write_checkpoint(tmp_path / "net.safetensors", small_checkpoint())
    with pytest.raises(WeightsError, match=r"\.safetensors \(ours\) or \.pth"):
        convert_checkpoint(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="overwritten"):
        convert_checkpoint(tmp_path / "net.safetensors", tmp_path / "." / "net.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        write_checkpoint(tmp_path / "file" / "net.safetensors", small_checkpoint())


def test_the_command_converts_and_describes(tmp_path):
    source = released(tmp_path / "released.pth", V1.published_state())
    command = [sys.executable, "-m", "mhnet"]
    target = tmp_path / "out" / "net.safetensors"
    done = subprocess.run([*command, "convert", source, target, "--task", "deraining"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_checkpoint(target).task == "deraining"
    shown = subprocess.run([*command, "info", target], capture_output=True, text=True)
    assert shown.returncode == 0
    for words in ("MHNet", "deraining", "n_feat 12", sha256(target)):
        assert words in shown.stdout
    refused = subprocess.run([*command, "info", tmp_path / "absent.pth"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
