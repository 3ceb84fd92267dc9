"""The same function in less time and memory: `fuse` turns a network into its inference form.

It rewrites a copy of the module tree, part by part, and leaves alone what it does not know: a part that is not as this
package builds it, half precision. What it changes, all exact but for rounding:

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

from mhnet.models import fused, fused_stages
from mhnet.models.base import RestorationNetwork, check_image
from mhnet.models.context import ContextStage
from mhnet.models.layers import LayerNorm2d, NAFBlock, PixelShuffleUp, conv1x1, conv3x3
from mhnet.models.local import SpatialMean
from mhnet.models.mhnet import CABG, SCAB, CASNet, CASNetStep, DualAttention, MHNet
from mhnet.models.mhnet_v4 import AFFM, FRSNet, FRSNetStep, MHNetV4


class FusedNetwork(nn.Module):
    """The inference form of a network: images N×3×H×W → restored images, without gradients.

    Networks of this package take one image after the other, and so hold the maps of one.
    """

    def __init__(self, network: RestorationNetwork):
        super().__init__()
        self.network = network
        self.singly = type(network) in (MHNet, MHNetV4)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        check_image(image)
        parts = image.split(1 if self.singly else len(image))
        return torch.cat([self.network(part.contiguous(memory_format=torch.channels_last)) for part in parts])

    def train(self, mode: bool = True) -> "FusedNetwork":
        """Raises ValueError for training mode."""
        if mode:
            raise ValueError("a fused network only restores: train the network that it was made from")
        return super().train(False)


def fuse(model: nn.Module) -> FusedNetwork:
    """The inference form of a network, which itself stays as it is. Results agree to 2e-5.

    Raises:
        ValueError: it is not a network of this package.
    """
    if isinstance(model, FusedNetwork):
        return copy.deepcopy(model)
    if not isinstance(model, RestorationNetwork):
        raise ValueError(f"only networks of this package can be fused, not {type(model).__name__}")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    fused_network = FusedNetwork(network.to(memory_format=torch.channels_last))
    rewrite_children(network, fused_network.singly)
    if type(network) is MHNet:
        fuse_branches(network)
    return fused_network.eval()


def rewrite_children(module: nn.Module, stages: bool) -> None:
    """Replaces what is known among a module's children and theirs, the innermost first; full-resolution stages, which
    use up what they are given, and blocks that do, where `stages` says that nobody needs it after them."""
    for name, child in list(module.named_children()):
        rewrite_children(child, stages)
        rewrite = REWRITES.get(type(child))
        if rewrite and (stages or type(child) not in (CASNet, FRSNet, ContextStage)):
            setattr(module, name, rewrite(child))


def as_built(module: nn.Module, build: Callable[[], nn.Module]) -> bool:
    """Whether a part is what this package builds, in single or double precision and with nothing attached to it."""
    try:
        with torch.device("meta"):
            template = build()
    except AttributeError:  # it lacks what tells its size
        return False
    with_patch_of(module, template)
    return (
        repr(module) == repr(template)
        and [type(m) for m in module.modules()] == [type(m) for m in template.modules()]
        and all(p.dtype in (torch.float32, torch.float64) for p in module.parameters())
        and not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in module.modules())
    )


def with_patch_of(module: nn.Module, template: nn.Module) -> None:
    """Gives a template's means the part's patch: local statistics alone do not make a part unknown."""
    patch = next((mean.patch for mean in module.modules() if isinstance(mean, SpatialMean)), None)
    for mean in template.modules():
        if isinstance(mean, SpatialMean):
            mean.patch = patch


def like(conv: nn.Module) -> nn.Module:
    """The convolution of this package with such a weight."""
    outputs, inputs, side, _ = conv.get_parameter("weight").shape
    bias = getattr(conv, "bias", None) is not None
    return nn.Conv2d(inputs, outputs, 2, 2) if side == 2 else conv3x3(inputs, outputs, bias)


def fuse_naf_block(block: NAFBlock) -> nn.Module:
    known = as_built(block, lambda: NAFBlock(block.beta.shape[1], block.pool.scale))
    return fused.FusedNAFBlock(block) if known else block


def fuse_scab(block: SCAB) -> nn.Module:
    known = as_built(block, lambda: SCAB(block.sca.weight.shape[0]))
    return fused.FusedSCAB(block) if known else block


def fuse_sequential(blocks: nn.Sequential) -> nn.Module:
    alike = any(all(isinstance(block, kind) for block in blocks) for kind in (fused.FusedNAFBlock, fused.FusedSCAB))
    return fused.FusedBlocks(list(blocks)) if alike and len(blocks) else blocks


def fuse_group(group: CABG) -> nn.Module:
    blocks: nn.Module = group.blocks
    known = as_built(group.conv, lambda: conv3x3(*group.conv.weight.shape[:2], bias=False))
    return fused.FusedCABG(group, blocks) if known and isinstance(blocks, fused.FusedBlocks) else group


def fuse_dual_attention(attention: DualAttention) -> nn.Module:
    def built() -> DualAttention:
        reduced, channels = attention.squeeze.weight.shape[:2]
        return DualAttention(channels, channels // reduced)

    return fused.FusedDualAttention(attention) if as_built(attention, built) else attention


def fuse_up(up: PixelShuffleUp) -> nn.Module:
    known = as_built(up, lambda: PixelShuffleUp(up[0].get_parameter("weight").shape[1]))
    return fused_stages.FusedPixelShuffleUp(up) if known else up


def fuse_casnet(stage: CASNet) -> nn.Module:
    def known(step: nn.Module) -> bool:
        assert isinstance(step, CASNetStep)

        def term() -> nn.Module:
            doublings = len(step.encoder_term) - 1
            width = next(step.encoder_term.parameters()).shape[1] >> doublings
            return CASNetStep.term(width, step.norm.channels, doublings)

        return (
            as_built(step.norm, lambda: LayerNorm2d(step.norm.channels))
            and as_built(step.encoder_term, term)
            and as_built(step.decoder_term, term)
        )

    intro = as_built(stage.intro, lambda: conv1x1(*reversed(stage.intro.weight.shape[:2]), bias=False))
    return fused_stages.FusedCASNet(stage) if intro and all(map(known, stage.steps)) else stage


def fuse_frsnet(stage: FRSNet) -> nn.Module:
    def known(step: nn.Module) -> bool:
        assert isinstance(step, FRSNetStep)
        ups = (*step.encoder_term[:-1], *step.decoder_up)
        return (
            all(isinstance(up, fused_stages.FusedPixelShuffleUp) for up in ups)
            and as_built(step.norm, lambda: LayerNorm2d(step.norm.channels))
            and as_built(step.encoder_term[-1], lambda: conv1x1(step.norm.channels, step.norm.channels, bias=False))
            and as_built(step.fusion, lambda: AFFM(step.norm.channels))
        )

    conv = stage.decoder_conv
    whole = as_built(conv, lambda: conv1x1(*conv.weight.shape[:2], bias=False)) and all(map(known, stage.steps))
    return fused_stages.FusedFRSNet(stage) if whole else stage


def fuse_context(stage: ContextStage) -> nn.Module:
    """Its blocks take the place of what convolutions, or upsampling and adding, have made for them alone."""
    before = zip((stage.intro, *stage.downs), stage.encoders, strict=False)  # the last goes to the attention
    alone = [block for conv, block in before if as_built(conv, lambda conv=conv: like(conv))]
    for block in (*alone, *stage.decoders):
        if isinstance(block, fused.Fused):
            block.in_place = True
    return stage


def fuse_branches(network: MHNet) -> None:
    """Lets both branches be merged in the memory of the shallow one."""
    convs, attention = (network.shallow, network.merge), network.dual_attention
    if isinstance(attention, fused.FusedDualAttention) and all(as_built(c, lambda c=c: like(c)) for c in convs):
        attention.in_place = True
        network.__class__ = fused_stages.FusedMHNet


REWRITES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    NAFBlock: fuse_naf_block,
    SCAB: fuse_scab,
    nn.Sequential: fuse_sequential,
    CABG: fuse_group,
    DualAttention: fuse_dual_attention,
    CASNet: fuse_casnet,
    PixelShuffleUp: fuse_up,
    FRSNet: fuse_frsnet,
    ContextStage: fuse_context,
}
