"""Large images in tiles: where they lie, what is left of a seam, and what happens when memory runs out."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from restoring import steps
from small import PHOTOS, ROOT
from torch import Tensor, nn

from mhnet.core.errors import MHNetError
from mhnet.images.read import read_rgb
from mhnet.models import MHNet
from mhnet.restore import memory, tiles
from mhnet.restore.restorer import Restorer, RestoreWarning

PHOTO = read_rgb(PHOTOS / "lake-sherburne.jpg")
SIZES = [(1, 1), (15, 700), (64, 64), (200, 240), (333, 1000), (720, 1280), (4000, 6000), (17, 20000)]


def small_network() -> MHNet:
    """A network of which every part counts, also the blocks that begin as nothing."""
    torch.manual_seed(2)
    network = MHNet(width=8, n_feat=8, encoder_blocks=(1, 1, 1, 2), group_blocks=2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.normal_(0, 0.2)
        network.tail.weight *= 0.05
    return network.eval()


class Limited(nn.Module):
    """A network for which memory suffices only up to so many pixels."""

    def __init__(self, network: nn.Module, most: int, error: Exception):
        super().__init__()
        self.network, self.most, self.error = network, most, error
        self.seen: list[tuple[int, int]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append((image.shape[2], image.shape[3]))
        if image.shape[2] * image.shape[3] > self.most:
            raise self.error
        return self.network(image)


def limited(most: int, error: Exception, tile: int | str) -> tuple[Restorer, Limited]:
    restorer = Restorer(small_network(), tile=tile)  # type: ignore[arg-type]
    network = Limited(restorer.network, most, error)
    restorer.network = network
    return restorer, network


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tiles_cover_the_image_and_lie_in_step_with_the_network(height, width):
    grids = [tiles.by_side(height, width, side) for side in (64, 200, 256, 1000, 10000)]
    grids += [tiles.by_pixels(height, width, pixels) for pixels in (1, 128 * 128, 10**6, 10**9)]
    for grid in grids:
        for axis, length in ((grid.rows, height), (grid.columns, width)):
            spans = axis.spans()
            assert spans[0][0] == 0 and spans[-1][1] == length
            assert axis.side % 16 == 0 and all(start % 16 == 0 for start in axis.starts)
            assert len(spans) == 1 or axis.side < length + 16
            for (_, end), (start, _) in pairwise(spans):
                assert end - start >= min(tiles.OVERLAP, axis.side // 2 // 16 * 16)
    for side, grid in zip((64, 200, 256, 1000, 10000), grids, strict=False):
        assert max(grid.rows.side, grid.columns.side) <= tiles._up(side)
    for pixels, grid in zip((128 * 128, 10**6, 10**9), grids[6:], strict=True):
        assert grid.pixels <= max(pixels, tiles._up(height) * tiles.SMALLEST, tiles.SMALLEST * tiles._up(width))
    assert grids[-1].tiles == 1


def test_a_large_photo_is_cut_into_few_large_tiles():
    grid = tiles.by_pixels(4000, 6000, 800_000)
    assert 600_000 <= grid.pixels <= 800_000
    assert grid.tiles * grid.pixels < 1.4 * 4000 * 6000


@pytest.mark.parametrize("side", [64, 128, 200])
def test_tiles_of_an_image_join_to_the_image(side):
    image = torch.from_numpy(PHOTO).permute(2, 0, 1)[None].float() / 255
    joined = torch.full_like(image, torch.nan)
    asked = []

    def compute(box: tiles.Box) -> Tensor:
        asked.append(box)
        return image[:, :, box[0] : box[1], box[2] : box[3]].clone()

    def finished(top: int, rows: Tensor) -> None:
        assert joined[:, :, top : top + rows.shape[2]].isnan().all()  # each row once
        joined[:, :, top : top + rows.shape[2]] = rows

    grid = tiles.by_side(PHOTO.shape[0], PHOTO.shape[1], side)
    tiles.run(grid, compute, finished)
    assert len(asked) == grid.tiles > 1
    torch.testing.assert_close(joined, image, rtol=0, atol=0)


@pytest.mark.parametrize("overlap", [16, 32, 96, 112])
def test_one_tile_fades_into_the_next(overlap):
    share = tiles.fade(overlap)
    assert len(share) == overlap and share[0] == 0 and share[-1] == 1
    assert (share.diff() >= 0).all()
    torch.testing.assert_close(share + share.flip(0), torch.ones(overlap))


@pytest.mark.parametrize("tile", ["auto", 256, 1024])
def test_one_tile_is_the_image_bit_for_bit(tile):
    network = small_network()
    whole = Restorer(network, tile="off")(PHOTO)
    restorer = Restorer(network, tile=tile)
    np.testing.assert_array_equal(restorer(PHOTO), whole)
    assert restorer.last.tile is None and restorer.last.count == 1


@pytest.mark.parametrize("name", ["lake-sherburne", "perched-osprey", "roman-colosseum"])
def test_no_seam_shows_on_photos(name):
    photo = read_rgb(PHOTOS / f"{name}.jpg")
    network = small_network()
    whole = Restorer(network, tile="off")(photo).astype(int)
    tiled = Restorer(network, tile=144)(photo).astype(int)
    grid = tiles.by_side(photo.shape[0], photo.shape[1], 144)
    assert grid.tiles >= 4
    assert np.abs(whole - photo).mean() > 1  # the network does something
    assert steps(tiled, grid).max() <= steps(whole, grid).max() + 1
    difference = tiled - whole
    everywhere = np.mean([np.abs(np.diff(difference, axis=axis)).mean() for axis in (0, 1)])
    assert steps(difference, grid).mean() <= 1.2 * everywhere + 0.02


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.9 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "python"],
)
def test_smaller_tiles_when_memory_runs_out(error):
    restorer, network = limited(160 * 160, error, "auto")
    with pytest.warns(RestoreWarning, match="memory ran out"):
        restored = restorer(PHOTO)
    assert restorer.last.tile is not None and np.prod(restorer.last.tile) <= 160 * 160
    assert len(restorer.last.notes) >= 1
    wanted = Restorer(small_network(), tile="off")(PHOTO)
    assert np.abs(restored.astype(int) - wanted).max() <= 3
    network.seen.clear()
    restorer(PHOTO)  # what has run out is not tried again
    assert max(height * width for height, width in network.seen) <= 160 * 160
    assert restorer.last.notes == []


def test_when_even_the_smallest_tile_is_too_large(tmp_path):
    with pytest.raises(MHNetError, match="does not suffice for a tile"), pytest.warns(RestoreWarning):
        limited(0, MemoryError(), "auto")[0](PHOTO)
    with pytest.raises(MHNetError, match="at once: restore them in tiles"):
        limited(0, MemoryError(), "off")[0](PHOTO)
    with pytest.raises(RuntimeError, match="another fault"):
        limited(0, RuntimeError("another fault"), "auto")[0](PHOTO)


def test_the_network_never_sees_more_than_a_tile():
    restorer, network = limited(10**9, MemoryError(), 128)
    restorer(PHOTO)
    assert len(network.seen) > 1 and max(map(max, network.seen)) <= 128


@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_that_may_take_no_more_memory_uses_smaller_tiles():
    """Memory that really runs out."""
    code = """
import resource, sys, warnings
sys.path[:0] = ["tests", "benchmarks"]
import numpy as np, torch
from test_tiles import small_network, Restorer
restorer = Restorer(small_network(), tile=4096)
restorer(np.zeros((64, 64, 3), np.uint8))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), resource.RLIM_INFINITY))
warnings.simplefilter("ignore")
result = restorer(np.zeros((1200, 1600, 3), np.uint8))
print(restorer.last.tile is not None and restorer.last.notes != [], result.shape)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split(maxsplit=1) == ["True", "(1200, 1600, 3)\n"], done.stderr


def test_automatic_tiles_follow_the_memory_that_is_free(monkeypatch):
    photo = np.tile(PHOTO, (4, 4, 1))
    restorer = Restorer(small_network())
    restorer(photo)
    assert restorer.last.tile is None
    monkeypatch.setattr(memory, "free", lambda device: 2 * memory.FIXED + (64 << 20))
    few = Restorer(small_network())
    few(photo)
    assert few.last.tile is not None
    per_pixel = memory.bytes_per_pixel(few.network, few.device)
    assert memory.needed(per_pixel, few.last.tile[0] * few.last.tile[1]) <= memory.FIXED + (32 << 20)


def test_an_image_takes_no_more_room_than_it_is_given():
    photo = np.tile(PHOTO, (4, 4, 1))
    restorer = Restorer(small_network(), room=memory.FIXED + (96 << 20))
    restorer(photo)
    assert restorer.last.tile is not None
    per_pixel = memory.bytes_per_pixel(restorer.network, restorer.device)
    assert memory.needed(per_pixel, restorer.last.tile[0] * restorer.last.tile[1]) <= restorer.room
