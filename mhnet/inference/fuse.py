"""The same function in less time and memory: `fuse` gives a network's inference form.

That form is made of the network as this package describes it, with the weights of the one at hand; and it is given out
only where both were seen to compute the same on small images, in float64. What it does differently, all exact but for
rounding:

* β, γ, biases and the channel attentions, unless they are local, go into the convolutions beside them;
* chains of upsampling and 1×1 convolutions become one convolution at the low resolution, and the encoder's and the
  decoder's term are summed there: a 1×1 convolution commutes with bilinear upsampling, whose weights add up to 1;
* blocks go over their map by stripes of rows, twice, in place; maps are released when last used;
* everything lies channels-last, so that a 1×1 convolution is a matrix product.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mhnet.checkpoints.released import blueprint, recognise
from mhnet.inference import fused, fused_stages
from mhnet.models.mhnet import (
    MULTIPLE,
    SCAB,
    CASNet,
    DualAttention,
    LayerNorm2d,
    MHNet,
    NAFBlock,
    PixelShuffleUp,
    RestorationNetwork,
    SpatialMean,
    pad_to_multiple,
    use_local_statistics,
)
from mhnet.models.mhnet_v4 import FRSNet

SMALL = (2, 3, 21, 30)
"""The images that both forms are compared on: noise in two colours, of a size that needs padding, with a middle map of
2×2."""
SMALL_PATCH = 8
"""The training patch that local statistics have there: windows of 12, 6, 3 and 1, so that every mean is local."""
TOLERANCE = 1e-12
"""How far results may lie apart, of the largest value: rounding in float64 takes about 1e-15."""


class FusedNetwork(nn.Module):
    """The inference form of a network: images N×3×H×W → restored images, without gradients. It takes one image after
    the other, and so holds the maps of one."""

    def __init__(self, network: RestorationNetwork):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            return self.network(image)  # which says what is wrong
        parts = image.contiguous(memory_format=torch.channels_last).split(1)
        return torch.cat([self._restored(part) for part in parts])

    def _restored(self, image: Tensor) -> Tensor:
        """What the network makes of one image, which the residual is added to in the image's own type."""
        height, width = image.shape[2:]
        x = pad_to_multiple(image) if height % MULTIPLE or width % MULTIPLE else image
        low = x.to(self.network.context.intro.weight.dtype)
        encoded, decoded = self.network.context(low)
        return (x + self.network.residual(low, encoded, decoded))[:, :, :height, :width]

    def train(self, mode: bool = True) -> "FusedNetwork":
        """Raises ValueError for training mode."""
        if mode:
            raise ValueError("a fused network only restores: train the network that it was made from")
        return super().train(False)


def fuse(model: nn.Module) -> FusedNetwork:
    """The inference form of a network, which itself stays as it is. Results agree to 2e-5.

    Raises:
        ValueError: it does not compute what this package's network with these weights computes, or not in single or
            double precision, or something is hooked to it.
    """
    if isinstance(model, FusedNetwork):
        return copy.deepcopy(model)
    kinds = {parameter.dtype for parameter in model.parameters()}
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())  # pyright: ignore[reportPrivateUsage]
    if hooked or not kinds <= {torch.float32, torch.float64}:
        raise ValueError(f"{type(model).__name__} has hooks or other types than float32: it cannot be fused")
    known = known_network(model)
    if known is None:
        raise ValueError(f"{type(model).__name__} is not the MHNet of this package: it has other parameters")
    if not same_results(model, known):
        raise ValueError(f"{type(model).__name__} computes something else than the MHNet of this package")
    return fused_form(known)


def in_bfloat16(form: FusedNetwork) -> FusedNetwork:
    """A fused network whose maps and weights have 16 bits, in half the memory. Norms, sums and the similarities of the
    attention are computed in float32, in MHNet also the convolutions that read the image and the one that makes the
    residual, which is added to the image in float32."""
    narrow = copy.deepcopy(form).to(torch.bfloat16)
    for exact, module in zip(form.modules(), narrow.modules(), strict=True):
        if isinstance(module, LayerNorm2d):
            module.float().load_state_dict(exact.state_dict())
    network, whole = narrow.network, form.network
    if isinstance(network, fused_stages.FusedMHNet) and isinstance(whole, fused_stages.FusedMHNet):
        network.context.add_module("intro", fused_stages.ExactConv(whole.context.intro, torch.bfloat16))
        network.add_module("shallow", fused_stages.ExactConv(whole.shallow, torch.bfloat16))
        network.add_module("tail", fused_stages.ExactConv(whole.tail, torch.float32))
    return narrow


def known_network(model: nn.Module) -> RestorationNetwork | None:
    """A network of this package with the model's weights, on its device, in evaluation mode; None if none has such
    parameters."""
    state = model.state_dict()
    args = recognise(state)
    if args is None:
        return None
    network = copy.deepcopy(blueprint(args))
    try:
        network.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()}, assign=True)
    except (RuntimeError, ValueError):
        return None
    if patch := local_patch(model):
        use_local_statistics(network, patch)
    return network.eval().requires_grad_(False)


def local_patch(model: nn.Module) -> int | None:
    """The patch that a model's local statistics follow; None for global means."""
    named = (module for module in model.modules() if type(module).__name__ == SpatialMean.__name__)
    return next((getattr(module, "patch", None) for module in named), None)


@torch.no_grad()
def same_results(model: nn.Module, known: RestorationNetwork) -> bool:
    """Whether a model computes on small images what the fused form of the known network computes."""
    random = torch.Generator().manual_seed(0)
    colours = torch.rand(SMALL[0], 3, 1, 1, generator=random, dtype=torch.float64)
    images = colours * torch.rand(SMALL, generator=random, dtype=torch.float64)
    patches = [None, SMALL_PATCH] if local_patch(model) else [None]
    try:
        written = copy.deepcopy(model).cpu().double().eval()
        expected = [run_locally(written, patch, images) for patch in patches]
        del written
        faster = fused_form(copy.deepcopy(known).cpu().double())
        found = [run_locally(faster, patch, images) for patch in patches]
    except Exception:  # of somebody's own code, or of ours on an edit of it: it will be computed as it is
        return False
    return all(
        isinstance(one, Tensor)
        and one.shape == other.shape  # and no NaN, which is never small enough
        and bool((one - other).abs().max() <= TOLERANCE * other.abs().max().clamp(min=1))
        for one, other in zip(expected, found, strict=True)
    )


def run_locally(model: nn.Module, patch: int | None, images: Tensor) -> Any:
    """What a model computes with means that follow a patch, or are global."""
    use_local_statistics(model, patch)
    return model(images)


def fused_form(network: RestorationNetwork) -> FusedNetwork:
    """The inference form of a network of this package, whose parts go into it."""
    network = network.to(memory_format=torch.channels_last)
    rewrite_children(network)
    for block in (*network.context.encoders, *network.context.decoders):  # what is made for them alone
        assert isinstance(block, fused.Fused)
        block.in_place = True
    return FusedNetwork(fused_stages.FusedMHNet(network) if isinstance(network, MHNet) else network).eval()


def rewrite_children(module: nn.Module) -> None:
    """Replaces what has a faster form among a module's children and theirs, the innermost first."""
    for name, child in list(module.named_children()):
        rewrite_children(child)
        if rewrite := REWRITES.get(type(child)):
            setattr(module, name, rewrite(child))


def chain(blocks: nn.Sequential) -> nn.Module:
    """Fused blocks one after the other; another chain stays as it is."""
    alike = all(isinstance(block, fused.FusedNAFBlock | fused.FusedSCAB) for block in blocks)
    return fused.FusedBlocks(list(blocks)) if alike and len(blocks) else blocks


REWRITES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    NAFBlock: fused.FusedNAFBlock,
    SCAB: fused.FusedSCAB,
    nn.Sequential: chain,
    DualAttention: fused.FusedDualAttention,
    PixelShuffleUp: fused_stages.FusedPixelShuffleUp,
    CASNet: fused_stages.FusedCASNet,
    FRSNet: fused_stages.FusedFRSNet,
}
