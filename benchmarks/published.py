"""The network as published, operation by operation, on the parts of ours: what benchmarks compare with."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mhnet.models.mhnet import SCAB, CASNetStep, LayerNorm2d, NAFBlock


class Published(nn.Module):
    """A block's parameters and parts, put together as published."""

    def __init__(self, parts: Any):
        super().__init__()
        self.parts = parts


class PublishedLayerNorm(Published):
    """LayerNorm over channels as mean, variance and square root, one operation after the other."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        normal = (x - mean) / (variance + self.parts.eps).sqrt()
        return self.parts.weight.view(1, -1, 1, 1) * normal + self.parts.bias.view(1, -1, 1, 1)


class PublishedNAFBlock(Published):
    def forward(self, x: Tensor) -> Tensor:
        of = self.parts
        t = of.gate(of.conv2(of.conv1(of.norm1(x))))
        t = t * of.sca(t.mean((2, 3), keepdim=True))
        x = x + of.conv3(t) * of.beta
        return x + of.conv5(of.gate(of.conv4(of.norm2(x)))) * of.gamma


class PublishedSCAB(Published):
    def forward(self, x: Tensor) -> Tensor:
        of = self.parts
        t = of.gate(of.pointwise1(of.depthwise1(x)))
        t = of.pointwise2(of.depthwise2(t))
        return x + t * of.sca(t.mean((2, 3), keepdim=True))


class PublishedStep(Published):
    """Upsamples before it convolves."""

    def forward(self, x: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        x = self.parts.group(self.parts.norm(x))
        return x + self.parts.encoder_term(encoded) + self.parts.decoder_term(decoded)


PUBLISHED: dict[type[nn.Module], type[Published]] = {
    LayerNorm2d: PublishedLayerNorm,
    NAFBlock: PublishedNAFBlock,
    SCAB: PublishedSCAB,
    CASNetStep: PublishedStep,
}


def as_published(network: nn.Module) -> nn.Module:
    """A copy with the same weights, in the same order, that computes as published, in contiguous layout."""
    return _put_together(copy.deepcopy(network)).to(memory_format=torch.contiguous_format)


def _put_together(module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        setattr(module, name, _put_together(child))
    form = PUBLISHED.get(type(module))
    return form(module) if form else module
