"""The rooms' network is the package's, and each needs PyTorch alone."""

import subprocess
import sys

import pytest
import torch
from copies import copies
from rooms import import_room
from small import NETWORK, ROOT

import mhnet.models
from mhnet.checkpoints.source import PUBLISHED, code_of, digest, edited_source

SIZES = {key.lower(): value for key, value in NETWORK.items()}


@pytest.mark.parametrize(("path", "text"), copies().items(), ids=lambda value: getattr(value, "name", None))
def test_copies_are_what_make_copies_writes(path, text):
    assert path.read_text(encoding="utf-8") == text, f"{path.name} differs: `make copies` writes it"


@pytest.mark.slow
@pytest.mark.parametrize(("room", "n_feat"), [("Deblurring", 64), ("Deraining", 40)])
def test_the_file_works_alone_in_another_project(tmp_path, room, n_feat):
    (tmp_path / "MHNet.py").write_text((ROOT / room / "MHNet.py").read_text())
    code = (
        "import sys; sys.modules['mhnet'] = None\n"
        "import torch; from MHNet import MHNet, use_local_statistics\n"
        f"assert MHNet(width=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1).args.n_feat == {n_feat}\n"
        "network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1).eval()\n"
        "use_local_statistics(network, 16)\n"
        "print(tuple(network(torch.rand(1, 3, 33, 50)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(1, 3, 33, 50)", "")


def test_only_what_computes_counts_as_an_edit(tmp_path):
    text = (ROOT / "Deraining" / "MHNet.py").read_text()
    commented = text.replace("    def forward(self, x: Tensor)", "    # a remark\n\n    def forward(self, x: Tensor)")
    other_words = commented.replace('"""Bilinear ×2, then', '"""First bilinear ×2, then').replace(
        "n_feat: int = 40", "n_feat: int = 48"
    )
    assert other_words != text
    assert digest(code_of(other_words)) == PUBLISHED["mhnet.py"]
    assert digest(code_of(text.replace(".sigmoid()", ".tanh()"))) != PUBLISHED["mhnet.py"]


def test_an_edited_network_is_known_by_its_files(tmp_path):
    for network in (
        mhnet.MHNet(**SIZES),
        mhnet.models.MHNet(**SIZES),
        import_room(ROOT / "Deblurring", "MHNet").MHNet(**SIZES),
    ):
        assert edited_source(network) is None
    text = (ROOT / "Deraining" / "MHNet.py").read_text()
    (tmp_path / "MHNet.py").write_text(text.replace("class SCAB", "from blocks import half\n\n\nclass SCAB"))
    (tmp_path / "blocks.py").write_text("def half(x):\n    return x / 2\n")
    first = edited_source(import_room(tmp_path, "MHNet").MHNet(**SIZES))
    assert first is not None
    assert first.names == "MHNet.py, blocks.py"
    assert first.files["blocks.py"] == "def half(x):\n    return x / 2\n"
    (tmp_path / "blocks.py").write_text("def half(x):\n    return x / 3\n")
    second = edited_source(import_room(tmp_path, "MHNet").MHNet(**SIZES))
    assert second is not None
    assert second.sha256 != first.sha256


def test_a_copy_is_recomputed_in_parts_too():
    network = import_room(ROOT / "Deraining", "MHNet").MHNet(**SIZES).train()
    image = torch.rand(1, 3, 32, 32)
    plain = network(image).restored
    mhnet.models.use_checkpointing(network)
    parts = [part for part in network.modules() if "forward" in vars(part)]
    assert {type(part).__name__ for part in parts} >= {"Sequential", "ChannelAttention", "DualAttention"}
    assert torch.equal(network(image).restored, plain)
