"""The network as published, operation by operation, on our modules' parameters: what benchmarks compare with."""

import copy

import torch
from torch import Tensor, nn

from mhnet.models.mhnet import SCAB, CASNetStep, LayerNorm2d, NAFBlock


class PublishedLayerNorm(LayerNorm2d):
    """LayerNorm over channels as mean, variance and square root, one operation after the other."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        normal = (x - mean) / (variance + self.eps).sqrt()
        return self.weight.view(1, -1, 1, 1) * normal + self.bias.view(1, -1, 1, 1)


class PublishedNAFBlock(NAFBlock):
    def forward(self, x: Tensor) -> Tensor:
        t = self.gate(self.conv2(self.conv1(self.norm1(x))))
        t = t * self.sca(t.mean((2, 3), keepdim=True))
        x = x + self.conv3(t) * self.beta
        return x + self.conv5(self.gate(self.conv4(self.norm2(x)))) * self.gamma


class PublishedSCAB(SCAB):
    def forward(self, x: Tensor) -> Tensor:
        t = self.gate(self.pointwise1(self.depthwise1(x)))
        t = self.pointwise2(self.depthwise2(t))
        return x + t * self.sca(t.mean((2, 3), keepdim=True))


class PublishedStep(CASNetStep):
    """Upsamples before it convolves."""

    def forward(self, x: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        x = self.group(self.norm(x))
        return x + self.encoder_term(encoded) + self.decoder_term(decoded)


PUBLISHED: dict[type[nn.Module], type[nn.Module]] = {
    LayerNorm2d: PublishedLayerNorm,
    NAFBlock: PublishedNAFBlock,
    SCAB: PublishedSCAB,
    CASNetStep: PublishedStep,
}


def as_published(network: nn.Module) -> nn.Module:
    """A copy with the same weights that computes as published, in contiguous layout."""
    network = copy.deepcopy(network)
    for module in network.modules():
        module.__class__ = PUBLISHED.get(type(module), type(module))
    return network.to(memory_format=torch.contiguous_format)
