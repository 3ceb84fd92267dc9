"""Packs: the same crops as from the files, the same bytes every time, whole or refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rooms import TrainingCrops, ValidationImages, data
from small import crops, make_pairs, settings
from torch.utils.data import DataLoader

from mhnet.cli.main import main
from mhnet.core.files import StrPath
from mhnet.core.tasks import DERAINING
from mhnet.data.pack import INDEX, Pack, PackError, is_pack, open_pairs, write_pack
from mhnet.data.pairs import PairError, find_pairs
from mhnet.data.sampling import EpochBatches, start_worker
from mhnet.data.sources import PairSource
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb
from mhnet.train.config import load_config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs of several sizes, of which two share their clean image."""
    make_pairs(tmp_path / "plain", count=2)
    for i, (height, width) in enumerate(((72, 50), (30, 64))):
        write_rgb(tmp_path / "plain" / "input" / f"small_{i}.png", crops()[3 - i][:30, :40])
        write_rgb(tmp_path / "plain" / "input" / f"wide{i}.png", 255 - crops()[i][:height, :width])
        write_rgb(tmp_path / "plain" / "target" / f"wide{i}.png", crops()[i][:height, :width])
    write_rgb(tmp_path / "plain" / "target" / "small.png", crops()[4][:30, :40])
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
    data = TrainingCrops(PairSource(pack.pairs, pack), 16, 3)
    batches = EpochBatches(len(pack.pairs), 3, lambda _: 1)
    alone = torch.stack([data[key] for (key,) in batches])  # opens the files in this process
    loader = DataLoader(
        data, batch_sampler=batches, num_workers=2, worker_init_fn=start_worker, multiprocessing_context=context
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
        write_rgb(root / "input" / f"large{i}.png", 255 - large)
        write_rgb(root / "target" / f"large{i}.png", large)
    whole = write_pack(find_pairs(root), tmp_path / "whole", 1)
    assert len(whole.shards) > 3
    read, count = read_rgb, 0

    def stop(path: StrPath) -> np.ndarray:
        nonlocal count
        count += 1
        if count > 12:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mhnet.data.pack.read_rgb", stop)
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
    write_rgb(root / "input" / "wide0.png", crops()[0][:50, :50])
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


def altered(content: Any, random: np.random.Generator) -> Any:
    """JSON with one value, or key, exchanged for one that nobody expects there."""
    strange = [None, True, -1, 0, 1e99, 10**30, "", "..", "../../x.png", "/etc/passwd", "a\0b", "\ud800",
               "\x1b]0;t\x07\n", [], {}, [[]], [1, 2], {"a": 1}, "00000.safetensors", "input/wide0.png"]  # fmt: skip
    if not isinstance(content, dict | list) or not content or random.random() < 0.15:
        return strange[random.integers(len(strange))]
    if isinstance(content, list):
        at = int(random.integers(len(content)))
        return [*content[:at], *[altered(content[at], random)] * (random.random() < 0.9), *content[at + 1 :]]
    key = list(content)[random.integers(len(content))]
    if random.random() < 0.2:
        rest = {name: value for name, value in content.items() if name != key}
        return rest if random.random() < 0.5 else rest | {str(strange[random.integers(len(strange))]): content[key]}
    return content | {key: altered(content[key], random)}


def check_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit status of `mhnet data check` and all its words, of which none can steer a terminal."""
    capsys.readouterr()
    status = main(["data", "check", str(folder)])
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert "Traceback" not in err and err.count("\n") == (1 if err else 0)
    return status, out + err


def names_what_is_there(index: Any, honest: Any) -> bool:
    """Whether an index names no image that the honest one does not, and all images of its pairs."""
    claimed, there = ({key: size for one in content["shards"] for key, size in one["images"].items()}
                      for content in (index, honest))  # fmt: skip
    named = {key for pair in index["pairs"] for key in pair[:2]}
    return named <= claimed.keys() and all(there.get(key) == size for key, size in claimed.items())


def test_a_lying_index_is_a_sentence(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write_pack(find_pairs(root), tmp_path / "pack")
    index, honest = pack.folder / INDEX, json.loads((pack.folder / INDEX).read_text())
    for seed in range(80):
        random = np.random.default_rng(seed)
        lie = altered(altered(honest, random), random)
        index.write_text(json.dumps(lie))
        status, said = check_alone(pack.folder, capsys)
        assert status == 1 or names_what_is_there(lie, honest), (seed, said)


def test_a_lying_file_of_pixels_is_a_sentence(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write_pack(find_pairs(root), tmp_path / "pack")
    path = pack.folder / pack.shards[0].file
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for seed in range(40):
        random = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in random.integers(header, size=3):
            data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        assert check_alone(pack.folder, capsys)[0] == 1, seed


@pytest.mark.parametrize("key", ["input/absent.png", "../outside.png"])
def test_images_that_are_not_there_are_faults(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    pack = write_pack(find_pairs(root), tmp_path / "pack")
    content = json.loads((pack.folder / INDEX).read_text())
    images, there = content["shards"][0]["images"], content["pairs"][0][0]
    content["pairs"][0][0] = key
    outside = f"{key} lies outside of its folder"
    for said in (f"{key} is in no file of the pack", f"does not hold {key} as"):
        (pack.folder / INDEX).write_text(json.dumps(content))
        status, words = check_alone(pack.folder, capsys)
        assert status == 1 and (outside if ".." in key else said) in words
        images[key] = images.pop(there)
        there = key
