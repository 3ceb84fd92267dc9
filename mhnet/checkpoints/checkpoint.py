"""What a checkpoint holds: parameters, and what is known of them."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from mhnet.checkpoints.released import ARCHITECTURES, Args
from mhnet.core.version import __version__
from mhnet.models import MHNetArgs

PAPERS_PATCH = 256
"""The side of the training patches in the paper."""


@dataclass
class Checkpoint:
    """Parameters and what is known of them.

    Args:
        args: the network's arguments.
        state: its parameters by our names.
        task: such as "deblurring" or "deraining"; None if unknown.
        provenance: where the weights come from: training step, scores, resolved config, source file …; JSON values.
        training: tensors that resuming needs besides the parameters; empty in files made for use.
        progress: plain values that resuming needs; likewise.
        edited: where the network is not the one of this package: the `file` that it was made from and the `sha256` of
            its code, and the `arguments` that it was made with.
    """

    args: Args
    state: dict[str, Tensor]
    task: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Tensor] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    edited: dict[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """As `MODEL.ARCHITECTURE` names it."""
        return "mhnet" if isinstance(self.args, MHNetArgs) else "mhnet_v4"

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network's class is called with."""
        return self.edited.get("arguments") or asdict(self.args)

    def describe(self, crc32: int | None = None) -> str:
        """The description as JSON text."""
        about = {
            "architecture": self.architecture,
            "arguments": asdict(self.args),
            "task": self.task,
            "provenance": self.provenance,
            "version": __version__,
        }
        more = {"progress": self.progress, "edited": self.edited, "crc32": crc32}
        return json.dumps(about | {name: value for name, value in more.items() if value})

    def local_patch(self, wanted: bool | None = None) -> int | None:
        """The patch that local statistics follow; None for global means.

        Weights that restore better with them note that in `provenance["local_statistics"]`: a patch, or true for the
        one that they were trained on.

        Args:
            wanted: None: as is noted, which is global means where nothing is. False: global means. True: the noted
                patch, or else the one of training, or else the paper's.
        """
        noted = self.provenance.get("local_statistics")
        if isinstance(noted, bool) or not isinstance(noted, int) or noted < 1:
            noted = self.training_patch if noted is True else None
        if wanted is None:
            return noted
        return (noted or self.training_patch) if wanted else None

    @property
    def training_patch(self) -> int:
        """The side of the patches that the weights were trained on; the paper's, where that is not noted."""
        try:
            patch = self.provenance["config"]["DATA"]["PATCH"]
        except (KeyError, TypeError):
            return PAPERS_PATCH
        return patch if isinstance(patch, int) and patch > 0 else PAPERS_PATCH


def parse_description(description: str) -> tuple[Checkpoint, int | None]:
    """A checkpoint without tensors, from the description in a file, and the checksum of the tensors; ValueError,
    KeyError, TypeError or RecursionError where it is not one that this version writes."""
    about = json.loads(description)
    kind, arguments, edited = ARCHITECTURES[about["architecture"]], about["arguments"], about.get("edited", {})
    task, provenance, progress = about["task"], about["provenance"], about.get("progress", {})
    crc32 = about.get("crc32")
    sound = all(isinstance(one, dict) for one in (arguments, edited, provenance, progress))
    if not (sound and isinstance(task, str | None) and isinstance(crc32, int | None)):
        raise TypeError("its entries have other types")
    if edited:  # its own arguments are in `edited`
        arguments = {one.name: arguments[one.name] for one in fields(kind) if one.name in arguments}
    return Checkpoint(kind(**arguments), {}, task, provenance, progress=progress, edited=edited), crc32
