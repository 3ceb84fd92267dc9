"""Checkpoints as networks: `load`, and the networks with `from_pretrained`, `save_pretrained` and `push_to_hub`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mhnet import models
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.models import RestorationNetwork

N = TypeVar("N")
M = TypeVar("M", bound=nn.Module)
Build = Callable[..., nn.Module]


class Pretrained:
    """The methods by which networks come from, and go to, folders and the Hugging Face hub."""

    @classmethod
    def from_pretrained(cls: type[N], name: str | Path, *, map_location: str = "cpu", **options: Any) -> N:
        """The network of a folder, of a repository of the hub, or a bundled one, in float32 and evaluation mode.

        Args:
            name: the folder, the repository as `user/name`, or such as "derain-small".
            map_location: the device it is put on.
            options: how the hub is asked: `revision`, `token`, `cache_dir`, `force_download`, `local_files_only`.

        Raises:
            WeightsError: there is no such place, it holds no weights, or those of another network.
        """
        from mhnet.checkpoints import hub  # which takes a while to import

        network = load(hub.download(name, **options), map_location)
        if not isinstance(network, cls):
            found = type(network).__name__
            raise WeightsError(f"{name} holds an {found}, no {cls.__name__}: use mhnet.{found}.from_pretrained")
        return network

    def save_pretrained(self, folder: str | Path, *, task: str | None = None, **options: Any) -> str | None:
        """Writes weights, configuration and card into a folder: see `mhnet.checkpoints.hub.save_pretrained`."""
        from mhnet.checkpoints import hub

        assert isinstance(self, RestorationNetwork)
        return hub.save_pretrained(self, folder, task=task, **options)

    def push_to_hub(self, repo_id: str, *, task: str | None = None, **options: Any) -> str:
        """Puts the same into a repository of the Hugging Face hub: see `mhnet.checkpoints.hub.push_to_hub`."""
        from mhnet.checkpoints import hub

        assert isinstance(self, RestorationNetwork)
        return hub.push_to_hub(self, repo_id, task=task, **options)


class MHNet(Pretrained, models.MHNet):
    """`mhnet.models.MHNet` with the hub's methods."""


class MHNetV4(Pretrained, models.MHNetV4):
    """`mhnet.models.MHNetV4` with the hub's methods."""


def load(
    path: str | Path, device: str | torch.device = "cpu", network: Callable[..., M] | None = None
) -> MHNet | MHNetV4 | M:
    """The network that a checkpoint holds, recognised from the file alone, in float32 and evaluation mode.

    Args:
        path: a file, or the name of bundled weights: "derain-small" or "deblur-small".
        device: where it is put.
        network: the class, or a function of the same arguments, that builds another network than this package's, such
            as `MHNet` of an edited `MHNet.py`; its parameters must be exactly the file's.

    Returns:
        An `MHNet` or `MHNetV4`, or what `network` builds.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or not an MHNet; or it was trained with an edited network,
            and `network` does not name it.
    """
    return network_of(read_checkpoint(path), network, path).to(device)


def network_of(
    checkpoint: Checkpoint, network: Callable[..., M] | None = None, path: str | Path = "this checkpoint"
) -> MHNet | MHNetV4 | M:
    """The network with a checkpoint's parameters in float32, in evaluation mode; `network` and errors as of `load`, in
    which `path` is the file's name."""
    if network is None and checkpoint.edited:
        raise WeightsError(
            f"{path} was trained with an edited network ({checkpoint.edited['file']}), which this is not: load it with "
            "mhnet.load(path, network=MHNet), MHNet from that file, or restore with test.py of the room that trained it"
        )
    state = {name: tensor.float() for name, tensor in checkpoint.state.items()}
    if network is None:
        args = checkpoint.args
        with torch.device("meta"):  # without values
            built = MHNet(args) if isinstance(args, models.MHNetArgs) else MHNetV4(args)
        built.load_state_dict(state, assign=True)
        return built.eval()
    try:
        built = network(**checkpoint.arguments)
        built.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} does not fit {getattr(network, '__name__', 'the network')}: {reason}") from error
    return built.eval()
