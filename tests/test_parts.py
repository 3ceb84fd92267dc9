"""Parts that train faster in bfloat16 on a CPU: they compute what the network's own parts compute, with its gradients,
and take their place only there."""

import copy

import pytest
import torch
from test_kernels import needs_kernels
from torch import Tensor, nn

from mhnet.inference import kernels
from mhnet.models.mhnet import LayerNorm2d, MHNet, SimpleGate, SpatialMean, depthwise3x3, use_local_statistics
from mhnet.train.parts import speed_up

SIZES = [(1, 2, 1, 1), (2, 8, 5, 7), (3, 16, 4, 9), (1, 24, 1, 40), (2, 64, 17, 3), (1, 130, 6, 2)]
SMALL = {"width": 8, "n_feat": 8, "encoder_blocks": (1, 1, 1, 2), "group_blocks": 2}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def with_gradients(part: nn.Module, x: Tensor, after: Tensor) -> list[Tensor]:
    """A part's result, and the gradients of everything under it by x and the parameters."""
    x = x.clone().requires_grad_()
    y = part(x)
    return [y, *torch.autograd.grad((y * after.to(y.dtype)).sum(), [x, *part.parameters()])]


@needs_kernels
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [LayerNorm2d, depthwise3x3, lambda c: depthwise3x3(c, bias=False),
                                  lambda _: SimpleGate(), lambda _: SpatialMean()],
                         ids=["norm", "depthwise", "without bias", "gate", "mean"])  # fmt: skip
def test_a_faster_part_computes_what_the_part_computes_in_float64(make, size, layout):
    part = make(size[1])
    for parameter in part.parameters():
        nn.init.normal_(parameter)
    x = noise(*size).bfloat16().contiguous(memory_format=layout)
    after = noise(*part(x.float()).shape).bfloat16()
    wanted = with_gradients(copy.deepcopy(part).double(), x.double(), after)
    assert speed_up(part) == 1
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(part, x, after)
    assert found[0].dtype is torch.bfloat16
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 0.006 * other.norm() + 0.02 * (size[1] == 2)  # two channels: norms are ±1


@needs_kernels
def test_a_network_keeps_its_names_and_its_evaluation():
    torch.manual_seed(0)
    network, image = MHNet(**SMALL), torch.rand(2, 3, 32, 48)
    plain = copy.deepcopy(network)
    assert speed_up(network) > 40
    assert list(network.state_dict()) == list(plain.state_dict())
    assert torch.equal(network(image).restored, plain(image).restored)  # in float32
    again = copy.deepcopy(network)
    with torch.no_grad():
        next(iter(again.parameters())).add_(1)
    for one in (network, plain, again):
        use_local_statistics(one, 16)
    assert torch.equal(network.eval()(image), plain.eval()(image))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(image), plain(image))
        assert not torch.equal(again.train()(image).restored, network.train()(image).restored)  # with its own weights


EDITS = {
    LayerNorm2d: lambda self, x: LayerNorm2d.forward(self, x) / 2,
    SimpleGate: lambda self, x: x.chunk(2, dim=1)[0] * x.chunk(2, dim=1)[1].detach(),  # only the gradient differs
    SpatialMean: lambda self, x: x.mean((2, 3), keepdim=True).reshape(len(x), 64, 1, 1),
}


@needs_kernels
@pytest.mark.parametrize("part", EDITS)
def test_an_edited_part_trains_as_it_is_written(part):
    def another(**functions):  # as in a room's file
        return type(part.__name__, (part,), functions)(*[8] * (part is LayerNorm2d))

    assert speed_up(another()) == 1
    assert speed_up(another(forward=EDITS[part])) == 0


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4),
                                  nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 8, 3, 2, 1, groups=8),
                                  nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect")])  # fmt: skip
def test_other_convolutions_stay(conv):
    assert speed_up(conv) == 0


def test_without_kernels_nothing_changes(monkeypatch):
    monkeypatch.setattr("mhnet.train.parts.library", lambda: None)
    assert speed_up(MHNet(**SMALL)) == 0


@needs_kernels
@pytest.mark.parametrize("seed", range(2))
def test_training_goes_as_in_fp32(seed):
    """Sixty steps on one batch, in float32 and in bfloat16 with faster parts: the losses stay together."""

    def losses(bf16: bool) -> list[float]:
        torch.manual_seed(seed)
        network = MHNet(**SMALL)
        image = torch.rand(2, 3, 32, 32)
        target = image.flip(3) * 0.8
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        assert not bf16 or speed_up(network)
        found = []
        for _ in range(60):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                restored = network(image).restored
            loss = (restored.float() - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    assert kernels.library() is not None
    exact, ours = losses(False), losses(True)
    assert ours[-1] < 0.7 * ours[0]
    assert max(abs(a - b) / a for a, b in zip(exact, ours, strict=True)) < 0.1
