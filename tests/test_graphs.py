"""Recorded and compiled forms for a GPU: when they are made, by stand-ins on the CPU; and, on a GPU, their results."""

import gpu
import numpy as np
import pytest
import torch
from small import PHOTOS, ROOT
from test_tiles import Limited, small_network
from torch import Tensor, nn

from mhnet.core import devices
from mhnet.images.read import read_rgb
from mhnet.inference import graphs
from mhnet.inference.graphs import GraphedNetwork
from mhnet.restore.restorer import Restorer, RestoreWarning

PHOTO = read_rgb(PHOTOS / "roman-colosseum.jpg")[:96, :144]
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a CUDA GPU")


class Doubling(nn.Module):
    """A network that notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.calls.append(tuple(image.shape))
        return 2 * image


class StandIn:
    """In the place of a recording: computes by what it recorded, and counts."""

    made: list["StandIn"]
    error: Exception | None

    def __init__(self, run: graphs.Run, image: Tensor, pool: object):
        if self.error:
            raise self.error
        self.run, self.shape, self.replayed = run, tuple(image.shape), 0
        self.made.append(self)

    def __call__(self, image: Tensor) -> Tensor:
        assert tuple(image.shape) == self.shape
        self.replayed += 1
        return self.run(image)


@pytest.fixture
def recordings(monkeypatch) -> list[StandIn]:
    StandIn.made, StandIn.error = [], None
    monkeypatch.setattr(graphs, "Recording", StandIn)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    return StandIn.made


def images(*sides: int) -> list[Tensor]:
    return [torch.full((1, 3, 16, side), float(side)) for side in sides]


def test_a_size_is_recorded_when_it_comes_again(recordings):
    network = GraphedNetwork(inside := Doubling())
    for image in images(16, 32, 48):
        torch.testing.assert_close(network(image), 2 * image)
    assert not recordings and len(inside.calls) == 3
    for image in images(32, 32, 48):
        torch.testing.assert_close(network(image), 2 * image)
    assert [(one.shape[3], one.replayed) for one in recordings] == [(32, 2), (48, 1)]


def test_sizes_that_come_last_are_kept(recordings):
    network = GraphedNetwork(Doubling())
    sides = [16 * (i + 1) for i in range(graphs.KEPT + 1)]
    for image in images(*sides, *sides):
        network(image)
    assert len(network.recordings) == graphs.KEPT
    network(images(sides[1])[0])
    assert len(recordings) == len(sides)  # it was still there
    network(images(sides[0])[0])
    assert len(recordings) == len(sides) + 1  # it had made room for the last one
    network.forget()
    assert not network.recordings and network.pool is None


def test_each_precision_has_recordings_of_its_own(recordings):
    network = GraphedNetwork(Doubling())
    for kind in (torch.bfloat16, torch.float16):
        for _ in range(2):
            with torch.autocast("cpu", kind):
                network(images(16)[0])
    network(images(16)[0])  # in float32, for the first time
    assert len(recordings) == 2


def test_large_images_are_not_recorded(recordings, monkeypatch):
    monkeypatch.setattr(graphs, "RECORDED", 16 * 32)
    network = GraphedNetwork(Doubling())
    for image in images(32, 32, 48, 48):
        network(image)
    assert [one.shape[3] for one in recordings] == [32]


def test_what_cannot_be_recorded_is_computed_as_it_is(recordings):
    StandIn.error = RuntimeError("operation not permitted when stream is capturing\nand more")
    network = GraphedNetwork(inside := Doubling())
    for image in images(16, 16, 16):
        torch.testing.assert_close(network(image), 2 * image)
    assert network.notes == ["the network could not be recorded (operation not permitted when stream is capturing)"]
    assert len(inside.calls) == 3


def test_what_there_is_no_memory_to_record_is_computed_as_it_is(recordings):
    network = GraphedNetwork(Doubling())
    for image in images(32, 32):
        network(image)
    StandIn.error = torch.cuda.OutOfMemoryError("CUDA out of memory")
    for image in images(48, 48):
        torch.testing.assert_close(network(image), 2 * image)
    assert network.notes == [] and not network.recordings
    StandIn.error = None
    for image in images(48, 32):
        network(image)
    assert [one.shape[3] for one in recordings] == [32, 32]  # the one that failed is not tried again


def test_the_network_is_compiled_for_a_size_of_which_much_was_computed(recordings, monkeypatch):
    compiled, compiler = [], torch.compile

    def eagerly(network: nn.Module, **words: object) -> graphs.Run:
        compiled.append(words)
        return compiler(network, backend="eager", **words)  # type: ignore[call-overload]

    monkeypatch.setattr(graphs, "COMPILED", 2 * 16 * 16)
    monkeypatch.setattr(torch, "compile", eagerly)
    network = GraphedNetwork(nn.Conv2d(3, 3, 1))
    with torch.inference_mode():
        image = torch.rand(1, 3, 16, 16)
        wanted = network.network(image)
        for _ in range(4):
            torch.testing.assert_close(network(image), wanted)
        network(torch.rand(1, 3, 16, 32))  # another size, for which it is too early
    assert compiled == [{"dynamic": False}]
    assert [one.run is network.network for one in recordings] == [True, False]  # the second one of the compiled form


def test_where_it_cannot_be_compiled_it_computes_on(recordings, monkeypatch):
    def failing(network: nn.Module, **words: object) -> graphs.Run:
        def run(image: Tensor) -> Tensor:
            raise ModuleNotFoundError("No module named 'triton'")

        return run

    monkeypatch.setattr(graphs, "COMPILED", 0)
    monkeypatch.setattr(torch, "compile", failing)
    network = GraphedNetwork(Doubling())
    for image in images(16, 16):
        torch.testing.assert_close(network(image), 2 * image)
    assert network.notes == ["the network could not be compiled (No module named 'triton')"]


class Pretended(Restorer):
    """A restorer that takes the CPU for a GPU with a recorded network."""

    def __init__(self, **options: object):
        super().__init__(small_network(), fuse=False, **options)  # type: ignore[arg-type]
        self.network = GraphedNetwork(self.network)


def test_a_restorer_records_its_tiles(recordings):
    photo = PHOTO[:91, :137].copy()  # the last tiles end with it, 5 and 7 pixels earlier
    wanted = Restorer(small_network(), fuse=False, tile=64)(photo)
    restorer = Pretended(tile=64)
    for _ in range(2):
        np.testing.assert_array_equal(restorer(photo), wanted)
    assert restorer.last.count > 2 and len(recordings) == 1  # all tiles have one size
    assert recordings[0].replayed == 2 * restorer.last.count - 1


def test_a_restorer_says_what_its_network_could_not(recordings):
    StandIn.error = RuntimeError("capturing")
    restorer = Pretended()
    restorer(PHOTO)
    with pytest.warns(RestoreWarning, match="could not be recorded"):
        restorer(PHOTO)
    restorer(PHOTO)
    assert restorer.last.notes == []


def test_recordings_make_room_when_memory_runs_out(recordings):
    restorer, image = Pretended(tile=128), np.tile(PHOTO, (2, 2, 1))
    restorer(image)
    network = restorer.network
    assert isinstance(network, GraphedNetwork) and network.recordings
    network.network = Limited(network.network, 64 * 64, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    network.recordings.clear()
    with pytest.warns(RestoreWarning, match="memory ran out"):
        restorer(image)
    assert restorer.last.tile is not None and np.prod(restorer.last.tile) <= 64 * 64
    assert all(np.prod(one.shape[2:]) <= 64 * 64 for one in network.recordings.values())  # type: ignore[attr-defined]


def test_on_a_cpu_nothing_is_pinned_or_recorded():
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    cpu = torch.device("cpu")
    assert devices.sent(image, cpu) is image
    assert not devices.room_like(image, cpu).is_pinned()
    devices.arrived(cpu)
    assert not isinstance(Restorer(small_network()).network, GraphedNetwork)


@pytest.mark.ci
def test_the_benchmark_runs_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "page.md")
    gpu.PAGE.write_text((ROOT / "docs" / "performance.md").read_text())
    gpu.main(["--device", "cpu", "--tiny", "--write"])
    page = gpu.PAGE.read_text()
    for words in (
        "| 32×32 | ours, bf16 |",
        "| 2 × 64×48 | ours, fp32 |",
        "| 2 of 32×32 | ours, bf16 |",
        "A folder of 2",
    ):
        assert words in page
    assert "waits for a GPU" not in page


@on_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_replays_what_the_network_computes(precision, monkeypatch):
    plain = Restorer(small_network(), "cuda", precision=precision, compile="off")
    graphed = Restorer(small_network(), "cuda", precision=precision)
    for image in (PHOTO, PHOTO[:, ::-1].copy(), PHOTO, PHOTO[:64], PHOTO[16:80].copy()):
        apart = np.abs(graphed(image).astype(int) - plain(image))
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
    assert isinstance(graphed.network, GraphedNetwork) and len(graphed.network.recordings) == 2
    monkeypatch.setattr(graphs, "COMPILED", 0)
    apart = np.abs(graphed(PHOTO).astype(int) - plain(PHOTO))
    assert graphed.last.notes == [] and graphed.network.compiled
    assert apart.max() <= (1 if precision == "fp32" else 8)
