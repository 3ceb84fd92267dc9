"""Networks in folders and repositories of the Hugging Face hub; the hub itself is a stand-in."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, RepoUrl
from huggingface_hub.utils import EntryNotFoundError
from safetensors.torch import load
from test_weights import released

import mhnet
from mhnet.checkpoints import hub
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, read_checkpoint, write_checkpoint
from mhnet.checkpoints.networks import MHNet, MHNetV4, Pretrained
from mhnet.checkpoints.released import to_published
from mhnet.models import RestorationNetwork

KINDS = [MHNet, MHNetV4]


def small(kind: type[MHNet] | type[MHNetV4] = MHNet) -> MHNet | MHNetV4:
    if kind is MHNetV4:
        return MHNetV4(width=8, encoder_blocks=(1, 1, 1, 2), group_blocks=1).eval()
    return MHNet(width=8, n_feat=12, encoder_blocks=(1, 1, 1, 2), group_blocks=1).eval()


def same(a: RestorationNetwork, b: RestorationNetwork) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return list(mine) == list(other) and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_comes_back_from_a_folder_and_is_what_it_was(tmp_path, kind):
    network = small(kind)
    shown = repr(network)
    assert network.save_pretrained(tmp_path / "net") is None
    assert {path.name for path in (tmp_path / "net").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    again = kind.from_pretrained(tmp_path / "net")
    image = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        assert torch.equal(again(image), network(image))
    assert not again.training
    assert (type(again), again.args, repr(again), repr(network)) == (kind, network.args, shown, shown)
    assert same(pickle.loads(pickle.dumps(again)), network)


def test_what_is_saved_is_a_checkpoint_like_any_other(tmp_path):
    network = small()
    network.save_pretrained(tmp_path, task="deblurring")
    assert read_checkpoint(tmp_path / "model.safetensors").task == "deblurring"
    assert same(mhnet.load(tmp_path / "model.safetensors"), network)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config.pop("architecture"), config.pop("task")) == ("mhnet", "deblurring")
    assert type(network.args)(**config) == network.args


def test_a_checkpoint_keeps_where_it_comes_from_but_not_what_only_resuming_needs(tmp_path):
    network = small()
    first = Checkpoint(network.args, network.state_dict(), "deraining", {"step": 7}, {"m": torch.ones(2)}, {"epoch": 1})
    hub.save_pretrained(first, tmp_path)
    again = read_checkpoint(tmp_path / "model.safetensors")
    assert (again.task, again.provenance, again.training, again.progress) == ("deraining", {"step": 7}, {}, {})
    assert '"step": 7' in (tmp_path / "README.md").read_text()


def test_the_card_says_what_is_known_and_a_card_that_is_there_stays(tmp_path):
    network = small(MHNetV4)
    network.save_pretrained(tmp_path, task="deblurring")
    card = ModelCard.load(tmp_path / "README.md")
    data = card.data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("mhnet", "image-to-image")
    assert {"pytorch_model_hub_mixin", "image-deblurring"} <= set(data["tags"])
    assert "# MHNet v4 for deblurring" in card.text
    assert "\n| width | 8 |\n| encoder_blocks | (1, 1, 1, 2) |\n" in card.text
    assert "Not noted" in card.text
    (tmp_path / "README.md").write_text("mine")
    network.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.safetensors", "derain-small.safetensors", "released.pth", "pytorch_model.bin"])
def test_any_file_of_weights_in_a_folder_is_read(tmp_path, name):
    network = small()
    if name.endswith("safetensors"):
        write_checkpoint(tmp_path / name, Checkpoint(network.args, network.state_dict()))
    else:
        released(tmp_path / name, to_published(network.state_dict(), network.args))
    again = MHNet.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in network.state_dict().items())


def test_what_ships_is_known_by_name():
    assert same(MHNet.from_pretrained("derain-small"), mhnet.load("derain-small"))


def test_a_wrong_class_folder_or_network_is_a_sentence(tmp_path):
    network = small()
    network.save_pretrained(tmp_path / "v1")
    with pytest.raises(WeightsError, match=r"holds an MHNet, no MHNetV4: use mhnet\.MHNet\.from_pretrained"):
        MHNetV4.from_pretrained(tmp_path / "v1")
    assert isinstance(Pretrained.from_pretrained(tmp_path / "v1"), MHNet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no file of weights"):
        MHNet.from_pretrained(tmp_path / "empty")
    for name in "ab":
        (tmp_path / "empty" / f"{name}.pth").touch()
    with pytest.raises(WeightsError, match=r"holds 2 files of weights: call the one that is meant model\.safetensors"):
        MHNet.from_pretrained(tmp_path / "empty")
    with pytest.raises(WeightsError, match="no folder, and the hub does not give it"):
        MHNet.from_pretrained(tmp_path / "missing")
    network.tail = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(WeightsError, match=r"the network does not fit .* missing: tail\.weight"):
        network.save_pretrained(tmp_path / "changed")
    assert not list(tmp_path.glob("changed/*"))


@pytest.mark.parametrize("there", ["model.safetensors", "pytorch_model.bin"])
def test_a_repository_of_the_hub_is_asked_for_its_weights(tmp_path, monkeypatch, there):
    network, asked = small(), []
    network.save_pretrained(tmp_path)
    if there == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
        released(tmp_path / there, to_published(network.state_dict(), network.args))

    def download(repo_id: str, filename: str, *, revision: str, **_: object) -> str:
        asked.append((repo_id, filename, revision))
        if not (tmp_path / filename).exists():
            raise EntryNotFoundError(f"404: {filename}")
        return str(tmp_path / filename)

    for place in ("mhnet.checkpoints.hub", "huggingface_hub.hub_mixin"):
        monkeypatch.setattr(f"{place}.hf_hub_download", download)
    again = MHNet.from_pretrained("somebody/net", revision="v2").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in network.state_dict().items())
    assert asked[-1] == ("somebody/net", there, "v2")


def test_a_network_is_pushed_to_a_repository(monkeypatch):
    made, pushed = [], {}

    def create_repo(self: HfApi, repo_id: str, *, private: bool, **_: object) -> RepoUrl:
        made.append((repo_id, private))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self: HfApi, *, repo_id: str, folder_path: Path, **_: object) -> str:
        pushed.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    network = small()
    assert network.push_to_hub("somebody/net", private=True) == "https://huggingface.co/somebody/net/commit/1"
    assert made == [("somebody/net", True)]
    assert pushed.keys() == {"README.md", "config.json", "model.safetensors"}
    assert b'MHNet.from_pretrained("somebody/net")' in pushed["README.md"]
    weights = load(pushed["model.safetensors"])
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_networks_are_imported_without_the_hub():
    code = "import sys, mhnet.models; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
