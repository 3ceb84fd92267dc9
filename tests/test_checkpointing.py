"""Activation checkpointing changes what training keeps in memory, and nothing else."""

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
from seeded import seeded_image
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from mhnet.models import MHNet, MHNetV4, use_checkpointing
from mhnet.train.losses import psnr_loss

SMALL = {"width": 8, "encoder_blocks": (1, 1, 1, 3), "group_blocks": 5}
IMAGE, TARGET = seeded_image(48, 64, 2, n=2), seeded_image(48, 64, 9, n=2)


def network(kind: type[MHNet | MHNetV4], **overrides: object) -> MHNet | MHNetV4:
    """A small network, whose β and γ are not zero: otherwise half of the gradients would be."""
    torch.manual_seed(0)
    made = kind(**{**SMALL, **({"n_feat": 12} if kind is MHNet else {}), **overrides})
    for name, parameter in made.named_parameters():
        if name.endswith(("beta", "gamma")):
            torch.nn.init.normal_(parameter, std=0.3)
    return made.train()


def gradients(model: Callable, parameters: torch.nn.Module) -> dict[str, torch.Tensor]:
    parameters.zero_grad()
    psnr_loss(model(IMAGE).restored, TARGET).backward()
    return {name: p.grad.clone() for name, p in parameters.named_parameters() if p.grad is not None}


def assert_equal(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], relative: float = 1e-5) -> None:
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= relative * gradient.norm(), name


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and the most that lived at once."""

    def __init__(self):
        super().__init__()
        self.known, self.live, self.peak = set(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self.known:
            self.known.add(key)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
def test_gradients_and_names_stay(kind):
    plain, recomputed = network(kind), network(kind)
    use_checkpointing(recomputed)
    assert recomputed.state_dict().keys() == plain.state_dict().keys()
    expected = gradients(plain, plain)
    assert_equal(gradients(recomputed, recomputed), expected)
    another = copy.deepcopy(recomputed)  # as for a moving average
    assert_equal(gradients(another, another), expected)
    assert_equal(gradients(recomputed, recomputed), expected)  # the copy's blocks are its own


@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
def test_gradients_stay_under_autocast(kind):
    plain, recomputed = network(kind), network(kind)
    use_checkpointing(recomputed)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(gradients(recomputed, recomputed), gradients(plain, plain))


@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
def test_memory_shrinks_to_less_than_two_fifths(kind):
    peaks = []
    for on in (False, True):
        model = kind(width=16, group_blocks=8).train()
        use_checkpointing(model, on)
        with LiveBytes() as memory:
            psnr_loss(model(IMAGE).restored, TARGET).backward()
        peaks.append(memory.peak - sum(p.grad.nbytes for p in model.parameters() if p.grad is not None))
    assert peaks[1] < 0.4 * peaks[0]


@pytest.mark.ci
@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
def test_evaluation_and_export_stay(kind):
    plain, recomputed = network(kind).eval(), network(kind).eval()
    use_checkpointing(recomputed)
    exported = torch.export.export(recomputed, (IMAGE,)).module()
    with torch.no_grad():
        for model in (recomputed, exported):
            torch.testing.assert_close(model(IMAGE), plain(IMAGE), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [MHNet, MHNetV4])
def test_it_can_be_switched_off_again(kind):
    model = network(kind)
    own = {name: module.forward for name, module in model.named_modules()}
    use_checkpointing(model)
    assert {name: module.forward for name, module in model.named_modules()} != own
    use_checkpointing(model, False)
    assert {name: module.forward for name, module in model.named_modules()} == own


@pytest.mark.ci
def test_works_compiled():
    """Traced and differentiated by torch.compile; without its code generator, which needs a compiler."""
    fewer = {"encoder_blocks": (1, 1, 1, 1), "group_blocks": 2}
    plain, recomputed = network(MHNet, **fewer), network(MHNet, **fewer)
    use_checkpointing(recomputed)
    compiled = torch.compile(recomputed, backend="aot_eager")
    assert_equal(gradients(compiled, recomputed), gradients(plain, plain))


def test_works_on_several_devices(tmp_path):
    place = (tmp_path / "store").as_uri()
    torch.distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    try:
        plain, recomputed = network(MHNet), network(MHNet)
        use_checkpointing(recomputed)
        assert_equal(gradients(DistributedDataParallel(recomputed), recomputed), gradients(plain, plain))
    finally:
        torch.distributed.destroy_process_group()


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="Conv2d has no blocks"):
        use_checkpointing(torch.nn.Conv2d(3, 3, 1))
