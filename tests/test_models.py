"""The networks against the authors' values, and what any user of them relies on."""

import io
from itertools import product

import pytest
import torch
from reference import LOCAL, PLAIN, Case, published_args, published_parameters
from seeded import seeded_image
from small import DEVICES
from torch import Tensor

from mhnet.checkpoints.released import build, published_name
from mhnet.models import MHNet, MHNetArgs, MHNetV4, MHNetV4Args, Restoration, use_local_statistics
from mhnet.models.cost import gmacs
from mhnet.models.mhnet import NAFBlock, SpatialMean, pad_to_multiple, sliding_mean
from mhnet.restore.precision import computing_in
from mhnet.train.losses import psnr_loss

SMALL = {"encoder_blocks": (1, 1, 1, 2), "group_blocks": 2}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def small_networks() -> list[MHNet | MHNetV4]:
    return [case.network() for case in (PLAIN[2], PLAIN[3])]


def restore(network: torch.nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("case", PLAIN + LOCAL, ids=lambda case: case.file)
def test_agrees_with_the_authors_network(case: Case, layout: torch.memory_format, device: str):
    network = case.network().to(device).to(memory_format=layout)
    use_local_statistics(network, case.patch)
    image, expected = case.input().to(device).contiguous(memory_format=layout), case.expected()
    with computing_in("fp32", torch.device(device)):
        restored = restore(network, image).cpu()
        torch.testing.assert_close(restored, torch.from_numpy(expected["output"]), rtol=0, atol=1e-5)
        if "stage1" in expected:
            with torch.no_grad():
                stage1 = image + network.get_submodule("context.head")(network.context(image)[1][-1])
            torch.testing.assert_close(stage1.cpu(), torch.from_numpy(expected["stage1"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.file)
def test_loss_and_gradients_agree_with_the_authors_network(case: Case, layout: torch.memory_format):
    network = case.network().to(memory_format=layout).train()
    expected = case.expected()
    restored, stage1 = network(case.input().contiguous(memory_format=layout))
    loss = psnr_loss(restored, seeded_image(48, 64, 9, n=2))
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), abs=1e-4)
    if "stage1" in expected:
        torch.testing.assert_close(stage1, torch.from_numpy(expected["stage1"]), rtol=0, atol=1e-5)
    ours = {published_name(n, network.args): p.grad for n, p in network.named_parameters() if p.grad is not None}
    norms = dict(zip(expected["grad_names"].tolist(), expected["grad_norms"].tolist(), strict=True))
    assert ours.keys() == norms.keys()
    for name, norm in norms.items():
        assert ours[name].norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-4), name


PUBLISHED_SIZES = [
    (MHNetArgs(n_feat=64, stage1_head=True), 17_025_981, 47.05),
    (MHNetArgs(n_feat=64), 17_025_114, 46.99),
    (MHNetArgs(n_feat=40, stage1_head=True), 16_695_285, 30.85),
    (MHNetArgs(n_feat=40), 16_694_418, 30.80),
    (MHNetV4Args(width=64, stage1_head=True), 67_529_295, 126.00),
    (MHNetV4Args(width=64), 67_527_564, 125.88),
    (MHNetV4Args(width=32, stage1_head=True), 17_038_383, 32.35),
    (MHNetV4Args(width=32), 17_037_516, 32.30),
]


@pytest.mark.parametrize(("args", "parameters", "macs"), PUBLISHED_SIZES, ids=str)
def test_parameters_and_operations_are_counted_as_published(args, parameters, macs):
    """Counted in the order of the paper, which convolves the context stage's maps at full size."""
    with torch.device("meta"):
        network = build(args)
    network.train(args.stage1_head)  # the head works in training mode only
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert gmacs(lambda: network) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", ["v1-deblurring", "v1-deraining", "v4-w64", "v4-w32"])
def test_published_parameters_are_all_named(name):
    args = published_args(name)
    with torch.device("meta"):
        ours = {published_name(n, args): list(p.shape) for n, p in build(args).state_dict().items()}
    published = dict(published_parameters(name))
    assert ours.items() <= {n: list(shape) for n, shape in published.items()}.items()
    dead = ("info.",) if name.startswith("v1") else ("intro.", "stage2.conv_dnc")
    assert all(n.startswith(dead) for n in published.keys() - ours.keys())


@pytest.mark.parametrize("network", [MHNet(width=8, n_feat=12, **SMALL), MHNetV4(width=8, **SMALL)], ids=["v1", "v4"])
@pytest.mark.parametrize("steps", [1, 2])
def test_every_parameter_gets_a_gradient(network, steps):
    """β and γ start at zero and hold back what is before them until the first step has moved them."""
    network = build(network.args).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        restored, stage1 = network(seeded_image(48, 64, 2, n=2))
        assert stage1 is None
        psnr_loss(restored, seeded_image(48, 64, 9, n=2)).backward()
        optimizer.step()
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert grads.keys() == dict(network.named_parameters()).keys()
    if steps == 2:
        assert [name for name, grad in grads.items() if not grad.abs().sum() > 0] == []


@pytest.mark.parametrize("network", small_networks(), ids=["v1", "v4"])
def test_every_size_from_one_pixel(network):
    sizes = [*product((1, 2, 3, 15, 16, 17), repeat=2), (1, 40), (33, 50), (64, 31)]
    for height, width in sizes:
        image = seeded_image(height, width, 7)
        restored = restore(network, image)
        assert restored.shape == image.shape
        assert restored.isfinite().all()
        padded = restore(network, pad_to_multiple(image))
        torch.testing.assert_close(restored, padded[:, :, :height, :width], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        (1, [0] * 16),
        (3, [0, 1, 2, 1] + [0] * 12),
        (10, [*range(10), 8, 7, 6, 5, 4, 3]),
        (16, list(range(16))),
        (17, [*range(17), *range(15, 0, -1)]),
    ],
)
def test_padding_reflects_then_repeats(size, padded):
    row = torch.arange(float(size)).expand(1, 3, 16, size)
    assert pad_to_multiple(row)[0, 0, 0].tolist() == padded
    assert pad_to_multiple(row.transpose(2, 3))[0, 0, :, 0].tolist() == padded


@pytest.mark.parametrize("case", [PLAIN[2], PLAIN[3]], ids=["v1", "v4"])
def test_float64_agrees_with_float32(case):
    network = case.network()
    single = restore(network, case.input())
    double = restore(network.double(), case.input().double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.file)
def test_bfloat16_autocast_stays_close(case):
    network = case.network()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = restore(network, case.input())
    assert mixed.isfinite().all()
    difference = (mixed.float() - restore(network, case.input())).abs().max().item()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("network", small_networks(), ids=["v1", "v4"])
def test_runs_wholly_in_another_type(network, kind):
    assert restore(network.to(kind), seeded_image(20, 36, 1).to(kind)).dtype == kind


@pytest.mark.ci
@pytest.mark.parametrize("local", [None, 32])
@pytest.mark.parametrize("network", small_networks(), ids=["v1", "v4"])
def test_exports(network, local):
    use_local_statistics(network, local)
    image = seeded_image(64, 80, 5)
    exported = torch.export.export(network, (image,))
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    torch.testing.assert_close(again(image), restore(network, image), rtol=0, atol=1e-6)
    operators = {str(node.target).split(".")[0] for node in exported.graph.nodes if node.op == "call_function"}
    assert operators <= {"aten", "<built-in function getitem>"}


@pytest.mark.ci
@pytest.mark.parametrize("network", small_networks(), ids=["v1", "v4"])
def test_exports_with_any_height_and_width(network):
    dims = {2: torch.export.Dim("h", min=2, max=64) * 16, 3: torch.export.Dim("w", min=2, max=64) * 16}
    exported = torch.export.export(network, (seeded_image(64, 80, 5),), dynamic_shapes=({**dims},)).module()
    for size in [(32, 48), (112, 64)]:
        image = seeded_image(*size, 6)
        torch.testing.assert_close(exported(image), restore(network, image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", small_networks(), ids=["v1", "v4"])
def test_local_statistics_remember_nothing(network):
    first, second = seeded_image(96, 112, 4), seeded_image(70, 130, 5)
    plain = restore(network, first)
    use_local_statistics(network, 32)
    before = restore(network, first)
    restore(network, second)
    torch.testing.assert_close(restore(network, first), before, rtol=0, atol=0)
    assert (before - plain).abs().max() > 1e-4
    torch.testing.assert_close(
        restore(network, torch.cat([first, first.flip(3)]))[:1], before, rtol=0, atol=1e-5
    )  # nor between the images of a batch
    network.train()
    torch.testing.assert_close(network(first).restored, plain, rtol=0, atol=1e-5)
    network.eval()
    use_local_statistics(network, None)
    torch.testing.assert_close(restore(network, first), plain, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(9, 30), (30, 9), (13, 14), (40, 50)])
@pytest.mark.parametrize("window", [1, 6, 7, 12])
def test_sliding_mean_is_the_mean_of_windows(height, width, window):
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    rows, columns = min(window, height), min(window, width)
    expected = torch.empty_like(x)
    for i, j in product(range(height), range(width)):
        top = min(max(i - (rows - 1) // 2, 0), height - rows)
        left = min(max(j - (columns - 1) // 2, 0), width - columns)
        expected[:, :, i, j] = x[:, :, top : top + rows, left : left + columns].mean((2, 3))
    torch.testing.assert_close(sliding_mean(x, window), expected)
    torch.testing.assert_close(sliding_mean(x.float(), window), expected.float(), rtol=0, atol=1e-5)


def test_windows_follow_the_scale_and_are_whole_numbers():
    windows = []
    mean = SpatialMean(scale=8).eval()
    mean.patch = 100  # 1.5 · 100 / 8 = 18.75
    x = torch.rand(1, 1, 18, 40)
    torch.testing.assert_close(mean(x), sliding_mean(x, 18))
    assert mean(x[..., :18]).shape[2:] == (1, 1)
    for patch, scale in product((256,), (1, 2, 4, 8)):
        mean = SpatialMean(scale).eval()
        mean.patch = patch
        ramp = torch.arange(500.0).expand(1, 1, 1, 500)
        windows.append(2 * mean(ramp)[0, 0, 0, 0].item() + 1)  # the mean of 0 … k−1 is (k−1)/2
    assert windows == [384, 192, 96, 48]


@pytest.mark.parametrize("network", [MHNet(width=8, n_feat=12, **SMALL), MHNetV4(width=8, **SMALL)], ids=["v1", "v4"])
def test_scales_double_with_every_level(network):
    scales = {name: module.scale for name, module in network.named_modules() if isinstance(module, SpatialMean)}
    for level in range(4):
        assert scales[f"context.encoders.{level}.0.pool"] == 2**level
        assert scales[f"context.decoders.{level}.pool"] == 2 ** (3 - level)
    assert {scale for name, scale in scales.items() if not name.startswith("context")} == {1}


def test_a_new_block_changes_nothing():
    """β and γ start at zero."""
    features = torch.rand(2, 8, 6, 10)
    assert torch.equal(NAFBlock(8)(features), features)


def test_training_mode_gives_both_images():
    network = MHNet(width=8, n_feat=12, stage1_head=True, **SMALL)
    both = network(seeded_image(30, 40, 1))
    assert isinstance(both, Restoration)
    assert both.stage1 is not None
    assert both.restored.shape == both.stage1.shape == (1, 3, 30, 40)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MHNetArgs(n_feat=13), "n_feat 13"),
        (lambda: MHNetArgs(width=0), "width 0"),
        (lambda: MHNetArgs(group_blocks=0), "group_blocks 0"),
        (lambda: MHNetArgs(encoder_blocks=(1, 1, 1)), "four"),
        (
            lambda: MHNetArgs(encoder_blocks=(1, 1, 1, 2.5)),  # pyright: ignore[reportArgumentType]
            "2.5",
        ),
        (lambda: MHNetV4Args(width=-8), "width -8"),
        (lambda: MHNet(width=8, n_feat=12, **SMALL)(torch.zeros(3, 16, 16)), "one pixel, not 3×16×16"),
        (lambda: MHNet(width=8, n_feat=12, **SMALL)(torch.zeros(1, 1, 16, 16)), "1×1×16×16"),
        (lambda: MHNetV4(width=8, **SMALL)(torch.zeros(1, 3, 0, 16)), "at least one pixel"),
        (lambda: use_local_statistics(MHNet(width=8, n_feat=12, **SMALL), 0), "not 0"),
        (lambda: use_local_statistics(torch.nn.ReLU()), "ReLU"),
    ],
)
def test_wrong_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
