"""MHNet for spandrel, the loader that chaiNNer and other programs use (pip install 'mhnet[spandrel]').

    import mhnet.spandrel
    import spandrel

    mhnet.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("derain-small.safetensors")
    restored = model(image)  # 1×3×H×W floats in [0, 1]

Both designs are recognised by names and shapes, in files of ours and in the authors'. Sizes are free, since networks
pad inside; in tiles, means over a whole image become means over a tile (docs/restoring.md). Local statistics stay off,
whatever the weights note.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from mhnet.checkpoints.files import checkpoint_of, parameters
from mhnet.checkpoints.networks import network_of
from mhnet.checkpoints.released import Args, recognise
from mhnet.core.errors import MHNetError
from mhnet.models import MHNet, MHNetArgs, MHNetV4, MHNetV4Args

try:
    from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor, ModelTiling
except ModuleNotFoundError as error:
    if error.name != "spandrel":
        raise
    raise MHNetError("mhnet.checkpoints.spandrel needs spandrel: pip install 'mhnet[spandrel]'") from error


class MHNetArchitecture(Architecture[MHNet | MHNetV4]):
    """One of the two designs, as spandrel knows architectures; `kind` is the class of its arguments."""

    def __init__(self, id: str, kind: type[Args]):
        super().__init__(id=id, detect=lambda state: isinstance(recognise(parameters(_tensors(state))), kind))

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[MHNet | MHNetV4]:
        """The network of these parameters, whatever the names they go by; WeightsError where they are not whole."""
        tensors = {name: tensor.cpu() for name, tensor in _tensors(state_dict).items()}
        checkpoint = checkpoint_of(tensors, None, "this file")
        args = checkpoint.args
        width = [f"{args.n_feat}nf"] if isinstance(args, MHNetArgs) else []
        return ImageModelDescriptor(
            network_of(checkpoint),
            checkpoint.state,
            architecture=self,
            purpose="Restoration",
            tags=[f"{args.width}w", *width],
            supports_half=True,
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            tiling=ModelTiling.SUPPORTED,
            call_fn=_restored,
        )


ARCHITECTURES = (MHNetArchitecture("MHNet", MHNetArgs), MHNetArchitecture("MHNetV4", MHNetV4Args))


def install(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Registers both designs, once; by default where every `spandrel.ModelLoader` looks."""
    registry.add(*map(ArchSupport.from_architecture, ARCHITECTURES), ignore_duplicates=True)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _restored(network: MHNet | MHNetV4, image: Tensor) -> Tensor:
    """The result, N×3×H×W; computed in float32 where values leave the range of float16."""
    restored = network(image)
    if image.dtype == torch.float16 and not restored.isfinite().all():
        restored = copy.deepcopy(network).float()(image.float()).half()
    return restored
