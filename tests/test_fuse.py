"""The inference form of a network computes the same function, whatever it does not know, and holds less memory."""

import pytest
import torch
from reference import LOCAL, PLAIN, Case
from small import crops
from torch import Tensor, nn

import mhnet.models.mhnet
from mhnet.inference import stripes
from mhnet.inference.fuse import FusedNetwork, fuse, in_bfloat16
from mhnet.inference.fused_stages import FusedFRSNet
from mhnet.models import MHNet, MHNetV4, use_local_statistics
from mhnet.models.mhnet import SCAB, CASNet, NAFBlock, sliding_mean
from mhnet.models.mhnet_v4 import FRSNet
from mhnet.restore import memory

SMALL = {"encoder_blocks": (1, 2, 1, 2), "group_blocks": 2}
SIZES = [(1, 1), (17, 33), (40, 3), (48, 64)]


def shaken(network: nn.Module) -> nn.Module:
    """With every β, γ and norm's weight and bias drawn, none of which has its effect as it is initialised."""
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):
            nn.init.normal_(parameter, std=0.3)
        elif "norm" in name:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return network.eval()


def networks() -> list[nn.Module]:
    torch.manual_seed(1)
    made = [MHNet(width=8, n_feat=12, **SMALL), MHNet(width=12, n_feat=10, **SMALL), MHNetV4(width=8, **SMALL)]
    return [shaken(network) for network in made]


def photo(height: int, width: int, n: int = 1) -> Tensor:
    """Crops of photographs, N×3×H×W."""
    images = [torch.from_numpy(crop[:height, :width]).permute(2, 0, 1) for crop in crops()[:n]]
    return torch.stack(images).float() / 255


def restore(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


def assert_same(network: nn.Module, fused: nn.Module, image: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(restore(fused, image), restore(network, image), rtol=0, atol=atol)


def kinds(network: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in network.modules()}


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.file)
def test_agrees_with_the_authors_network(case: Case):
    fused = fuse(case.network())
    expected = torch.from_numpy(case.expected()["output"])
    torch.testing.assert_close(restore(fused, case.input()), expected, rtol=0, atol=1e-5)
    assert not kinds(fused) & {NAFBlock, SCAB, CASNet, FRSNet}  # nothing was left as it was


@pytest.mark.parametrize("stripe", [1, 1 << 12, stripes.STRIPE])
@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_agrees_on_photographs_of_any_size_whatever_the_stripes(network, stripe, monkeypatch):
    monkeypatch.setattr(stripes, "STRIPE", stripe)
    fused = fuse(network)
    for size in SIZES:
        assert_same(network, fused, photo(*size))


@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_a_batch_is_its_images(network):
    images = photo(33, 50, 3)
    before = images.clone()
    fused = fuse(network)
    assert_same(network, fused, images)
    assert torch.equal(images, before)
    assert torch.equal(restore(fused, images)[1:2], restore(fused, images[1:2]))
    assert torch.equal(restore(fused, images), restore(fused, images))  # nothing is remembered


@pytest.mark.parametrize("case", LOCAL, ids=lambda case: case.file)
def test_local_statistics_stay_right(case: Case):
    network = case.network()
    use_local_statistics(network, case.patch)
    fused = fuse(network)
    expected = torch.from_numpy(case.expected()["output"])
    torch.testing.assert_close(restore(fused, case.input()), expected, rtol=0, atol=1e-5)
    assert not kinds(fused) & {NAFBlock, SCAB, CASNet, FRSNet}


@pytest.mark.parametrize("stripe", [1, 1 << 12, stripes.STRIPE])
@pytest.mark.parametrize("patch", [1, 20, 36])
@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_local_statistics_agree_on_photographs_of_any_size_whatever_the_stripes(network, patch, stripe, monkeypatch):
    monkeypatch.setattr(stripes, "STRIPE", stripe)
    use_local_statistics(network, patch)
    fused = fuse(network)
    for size in [*SIZES, (72, 55)]:
        assert_same(network, fused, photo(*size))


@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_local_statistics_switch_on_and_off_after_fusing(network):
    fused, image = fuse(network), photo(60, 72)
    before = restore(fused, image)
    for patch in (24, None):
        for either in (network, fused):
            use_local_statistics(either, patch)
        assert_same(network, fused, image)
        assert torch.equal(restore(fused, image), before) == (patch is None)


def test_windows_move_as_they_do_over_whole_maps():
    torch.manual_seed(0)
    for height, width in [(1, 1), (9, 7), (150, 5), (4, 40), (33, 31)]:
        x = torch.randn(height, width, 3, dtype=torch.float64)
        for window in (1, 2, 5, 8, 32, 50):
            for rows in (1, 4, 150):
                bounds = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
                means = [mean.expand(-1, width, -1) for mean in stripes.window_means(x, window, bounds)]
                wanted = stripes.pixels(sliding_mean(stripes.maps(x), window))
                torch.testing.assert_close(torch.cat(means), wanted)


EDITED = {
    "v1": ["context.encoders.1.0.conv1", "context.encoders.1.1", "full_resolution.steps.1.group.blocks.0.gate",
           "full_resolution.steps.1.group.conv", "full_resolution.steps.2.encoder_term.1.1", "dual_attention.spatial",
           "full_resolution.steps.2.norm", "full_resolution.intro", "context.ups.1.0", "tail", "context.attention",
           "full_resolution.steps.0.group"],
    "v4": ["full_resolution.steps.1.fusion.squeeze", "full_resolution.steps.1.fusion",
           "full_resolution.steps.2.decoder_up.0.0", "full_resolution.steps.3.encoder_term.3",
           "full_resolution.steps.0.norm", "full_resolution.decoder_conv", "full_resolution.steps.1.group.0"],
}  # fmt: skip


@pytest.mark.parametrize(("design", "path"), [(design, path) for design, paths in EDITED.items() for path in paths])
def test_an_edit_anywhere_is_seen(design, path):
    """A part that computes a little more than it did, with the same parameters."""
    network = networks()[0 if design == "v1" else 2]
    part = network.get_submodule(path)
    kind = type(part)
    part.__class__ = type(kind.__name__, (kind,), {"forward": lambda self, *x: 1.001 * kind.forward(self, *x)})
    with pytest.raises(ValueError, match="computes something else"):
        fuse(network)


def test_an_edit_of_local_statistics_is_seen_where_they_are_on(monkeypatch):
    network = networks()[0]
    window = mhnet.models.mhnet.SpatialMean.window
    monkeypatch.setattr(mhnet.models.mhnet.SpatialMean, "window", lambda self, *size: window(self, *size) and 3)
    fuse(network)
    use_local_statistics(network, 48)
    fused = fuse(network)  # both forms ask the same window
    assert_same(network, fused, photo(60, 72))
    monkeypatch.setattr(mhnet.models.mhnet, "sliding_mean", lambda x, window: 0.99 * sliding_mean(x, window))
    with pytest.raises(ValueError, match="computes something else"):
        fuse(network)


def test_what_is_hooked_is_not_fused():
    network = networks()[0]
    network.get_submodule("context.decoders.1.conv3").register_forward_hook(lambda *call: call[2] + 1)
    with pytest.raises(ValueError, match="hooks"):
        fuse(network)


class Other(MHNet):
    """Reads the maps again after the full-resolution stage."""

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        return super().residual(x, encoded, decoded) + encoded[0].mean() + decoded[-1].mean()


class Larger(MHNet):
    """Has a layer more."""

    def __init__(self, **args):
        super().__init__(**args)
        self.last = nn.Conv2d(3, 3, 1)


def test_other_networks_are_not_fused():
    for kind, reason in ((Other, "computes something else"), (Larger, "other parameters")):
        with pytest.raises(ValueError, match=reason):
            fuse(shaken(kind(width=8, n_feat=12, **SMALL)))


@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_other_precisions(network):
    image = photo(24, 40)
    with torch.autocast("cpu", torch.bfloat16):
        fused = fuse(network)
        mixed = restore(fused, image)
    difference = (mixed.float() - restore(network, image)).abs().max().item()
    assert difference < 0.05
    double = network.double()
    assert_same(double, fuse(double), image.double(), atol=1e-12)
    with pytest.raises(ValueError, match="other types than float32"):
        fuse(network.bfloat16())


@pytest.mark.parametrize("patch", [None, 16])
@pytest.mark.parametrize("network", networks(), ids=["v1", "v1-wide", "v4"])
def test_in_bfloat16_it_stays_close_and_holds_half_as_much(network, patch):
    image = photo(40, 72)
    use_local_statistics(network, patch)
    fused = fuse(network)
    narrow = in_bfloat16(fused)
    wanted, found = restore(fused, image), restore(narrow, image)
    assert found.dtype == torch.float32  # the image's values are not rounded
    assert 0 < (found - wanted).square().mean().sqrt() < 0.01 * max(1, (wanted - image).square().mean().sqrt())
    per_pixel = [memory.bytes_per_pixel(form, torch.device("cpu")) for form in (fused, narrow)]
    assert per_pixel[1] < (0.7 if patch else 0.6) * per_pixel[0]  # sums of windows keep 32 bits


def test_the_network_stays_as_it_is_and_fused_ones_fuse_again():
    network = networks()[0].train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    fused = fuse(network)
    again = fuse(fused)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(restore(again, photo(20, 30)), restore(fused, photo(20, 30)))
    assert not any(parameter.requires_grad for parameter in fused.parameters())


def test_a_fused_network_does_not_train():
    fused = fuse(networks()[2])
    assert FusedFRSNet in kinds(fused)
    assert isinstance(fused.eval(), FusedNetwork)
    with pytest.raises(ValueError, match="train the network"):
        fused.train()
    with pytest.raises(ValueError, match="Conv2d is not the MHNet"):
        fuse(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="N×3×H×W"):
        fused(torch.zeros(3, 16, 16))


@pytest.mark.ci
@pytest.mark.parametrize(
    ("network", "share"), list(zip(networks(), (0.7, 0.7, 0.8), strict=True)), ids=["v1", "v1-wide", "v4"]
)
def test_it_holds_less(network, share, monkeypatch):
    monkeypatch.setattr(stripes, "STRIPE", 1 << 12)
    for patch in (None, 64):
        use_local_statistics(network, patch)
        plain, fused = (memory.bytes_per_pixel(one, torch.device("cpu")) for one in (network, fuse(network)))
        assert fused < share * plain
