"""Packs: the same crops as from the files, the same bytes every time, whole or refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from rooms import TrainingCrops, ValidationImages, data
from small import crops, make_pairs, settings
from torch.utils.data import DataLoader

from mhnet.core.tasks import DERAINING
from mhnet.data.pack import INDEX, Pack, PackError, is_pack, open_pairs, write_pack
from mhnet.data.pairs import PairError, find_pairs
from mhnet.data.sampling import EpochSampler, start_worker
from mhnet.data.sources import PairSource
from mhnet.images import rgb
from mhnet.train.config import load_config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs of several sizes, of which two share their clean image."""
    make_pairs(tmp_path / "plain", count=2)
    for i, (height, width) in enumerate(((72, 50), (30, 64))):
        rgb.write(tmp_path / "plain" / "input" / f"small_{i}.png", crops()[3 - i][:30, :40])
        rgb.write(tmp_path / "plain" / "input" / f"wide{i}.png", 255 - crops()[i][:height, :width])
        rgb.write(tmp_path / "plain" / "target" / f"wide{i}.png", crops()[i][:height, :width])
    rgb.write(tmp_path / "plain" / "target" / "small.png", crops()[4][:30, :40])
    return tmp_path / "plain"


@pytest.mark.parametrize("patch", [16, 48])
def test_crops_are_those_of_the_files(root: Path, patch: int) -> None:
    pairs = find_pairs(root)
    pack = write_pack(pairs, root.parent / "pack")
    assert [pair.name for pair in pack.pairs] == [pair.name for pair in pairs]
    plain, packed = (TrainingCrops(one, patch, seed=3) for one in (PairSource(pairs), PairSource(pack.pairs, pack)))
    for epoch in range(5):
        for item in range(len(pairs)):
            assert torch.equal(plain[epoch, item], packed[epoch, item])
    whole, of_pack = (ValidationImages(one, 0, 1) for one in (PairSource(pairs), PairSource(pack.pairs, pack)))
    assert all(torch.equal(whole[i], of_pack[i]) for i in range(len(pairs)))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_packs(root: Path, context: str) -> None:
    pack = write_pack(find_pairs(root), root.parent / "pack")
    data, sampler = TrainingCrops(PairSource(pack.pairs, pack), 16, 3), EpochSampler(len(pack.pairs), 3)
    alone = torch.stack([data[key] for key in sampler])  # opens the files in this process
    loader = DataLoader(
        data, 2, sampler=sampler, num_workers=2, worker_init_fn=start_worker, multiprocessing_context=context
    )
    assert torch.equal(torch.cat(list(loader)), alone)
    assert torch.equal(pickle.loads(pickle.dumps(data))[0, 1], data[0, 1])


def test_training_reads_packed_and_plain_alike(root: Path, tmp_path: Path) -> None:
    write_pack(find_pairs(root), tmp_path / "pack")
    path = settings(tmp_path / "training.yml", DATA={"TRAIN_DIR": "plain", "VAL_TARGET_DIR": ""})
    found = []
    for overrides in ([], ["DATA.TRAIN_DIR", str(tmp_path / "pack")]):
        training, validation = data.build_data(load_config(DERAINING, path, overrides))
        found.append([training[2, i] for i in range(len(training))] + [validation[i] for i in range(len(validation))])
    assert all(torch.equal(plain, packed) for plain, packed in zip(*found, strict=True))
    two = ["DATA.TRAIN_DIR", str(root / "input"), "DATA.TRAIN_TARGET_DIR", str(root / "target")]
    training, _ = data.build_data(load_config(DERAINING, path, two))
    assert torch.equal(training[2, 0], found[0][0])
    sharp = ["DATA.TRAIN_DIR", str(tmp_path / "pack"), "DATA.DEGRADE", "rain"]
    training, validation = data.build_data(load_config(DERAINING, path, sharp))
    assert len(training) // 2 + len(validation) == 4  # a clean image counts once; one of a held-out scene is left


def test_the_same_images_give_the_same_bytes_and_shared_ones_are_packed_once(root: Path, tmp_path: Path) -> None:
    packs = [write_pack(find_pairs(root), tmp_path / name) for name in ("one", "two")]
    one, two = ({path.name: path.read_bytes() for path in pack.folder.iterdir()} for pack in packs)
    assert one == two
    assert sum(len(shard.images) for shard in packs[0].shards) == 6 + 5


def test_a_stopped_run_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):  # three files of at most 1 MB
        large = np.tile(crops()[i], (6, 4, 1))
        rgb.write(root / "input" / f"large{i}.png", 255 - large)
        rgb.write(root / "target" / f"large{i}.png", large)
    whole = write_pack(find_pairs(root), tmp_path / "whole", 1)
    assert len(whole.shards) > 3
    read, count = rgb.read, 0

    def stop(path: rgb.StrPath) -> np.ndarray:
        nonlocal count
        count += 1
        if count > 12:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mhnet.images.rgb.read", stop)
        write_pack(find_pairs(root), tmp_path / "pack", 1)
    with pytest.raises(PackError, match=r"safetensors is missing; run `mhnet data pack` again"):
        Pack(tmp_path / "pack")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "pack").glob("0*")}
    assert 0 < len(done) < len(whole.shards)
    write_pack(find_pairs(root), tmp_path / "pack", 1)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (tmp_path / "pack" / path.name).read_bytes()


def test_damage_is_found_and_mended(root: Path, tmp_path: Path) -> None:
    pack = write_pack(find_pairs(root), tmp_path / "pack")
    path = pack.folder / pack.shards[0].file
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert Pack(pack.folder).damaged() == [path]
    assert write_pack(find_pairs(root), pack.folder).damaged() == []
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(PackError, match="is cut short"):
        Pack(pack.folder)
    (pack.folder / INDEX).write_text("{}")
    with pytest.raises(PackError, match="no index of a pack"):
        Pack(pack.folder)


def test_a_pack_of_other_images_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    write_pack(find_pairs(root)[:2], tmp_path / "pack")
    with pytest.raises(PackError, match="holds a pack of other images"):
        write_pack(find_pairs(root), tmp_path / "pack")
    rgb.write(root / "input" / "wide0.png", crops()[0][:50, :50])
    with pytest.raises(PairError, match=r"wide0\.png"):
        write_pack(find_pairs(root), tmp_path / "other")


def test_open_pairs(root: Path, tmp_path: Path) -> None:
    write_pack(find_pairs(root), tmp_path / "pack")
    assert is_pack(tmp_path / "pack")
    assert not is_pack(root)
    plain, _ = open_pairs(root)
    packed, _ = open_pairs(tmp_path / "pack", "train")
    by_hand, _ = open_pairs(root / "input", None, root / "target")
    assert [p.name for p in plain] == [p.name for p in packed] == [p.name for p in by_hand]
