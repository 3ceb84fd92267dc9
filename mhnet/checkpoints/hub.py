"""Networks in folders and repositories of the Hugging Face hub: weights, configuration and card.

Such a folder holds `model.safetensors`, a checkpoint like any other of ours, `config.json` and the card, `README.md`.
On reading, the checkpoint alone counts: it describes itself. Networks offer these functions as methods.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import PYTORCH_WEIGHTS_NAME, SAFETENSORS_SINGLE_FILE
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError

from mhnet.checkpoints import bundled
from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import WeightsError, checkpoint_of, write_checkpoint
from mhnet.checkpoints.source import edited_source
from mhnet.core.errors import first_line
from mhnet.models import MHNetArgs, RestorationNetwork

USUAL = (SAFETENSORS_SINGLE_FILE, PYTORCH_WEIGHTS_NAME)
EXTENSIONS = (".safetensors", ".pth", ".pt")
PAPER = "https://arxiv.org/abs/2302.09554"
CARD = Path(__file__).with_name("card.md.jinja")


def download(name: str | Path, **options: Any) -> Path:
    """The file of weights of a folder, of a repository of the hub, or a bundled one: arguments and errors as of
    `mhnet.MHNet.from_pretrained`, but that any weights will do."""
    if Path(name).is_dir():
        return _weights_in(Path(name))
    if str(name) in bundled.NAMES:
        return bundled.weights_path(name)
    try:
        try:
            return Path(hf_hub_download(str(name), SAFETENSORS_SINGLE_FILE, **options))
        except EntryNotFoundError:
            return Path(hf_hub_download(str(name), PYTORCH_WEIGHTS_NAME, **options))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise WeightsError(f"{name} is no folder, and the hub does not give it: {first_line(error)}") from error


def save_pretrained(
    network: RestorationNetwork | Checkpoint, folder: str | Path, *, task: str | None = None, **options: Any
) -> str | None:
    """Writes weights, `config.json`, and, where there is none yet, a card into a folder, which is made if need be.

    Takes a network, or a checkpoint, which also says where its weights come from; the task to be noted, "deblurring" or
    "deraining"; the options of `huggingface_hub.PyTorchModelHubMixin.save_pretrained`: `push_to_hub`, `repo_id`, …
    Returns the commit's address, if it was pushed. Raises WeightsError where the network is not as this package builds
    it, or the files cannot be written.
    """
    return _Model.of(network, task, Path(folder).resolve().name).save_pretrained(folder, **options)


def push_to_hub(
    network: RestorationNetwork | Checkpoint, repo_id: str, *, task: str | None = None, **options: Any
) -> str:
    """Puts what `save_pretrained` writes into a repository of the hub, `user/name`, which is made where it is missing.

    Takes the options of `huggingface_hub.PyTorchModelHubMixin.push_to_hub`: `private`, `token`, `commit_message`, …
    Returns the commit's address. Raises WeightsError as `save_pretrained`, and HfHubHTTPError where the hub refuses.
    """
    return _Model.of(network, task, repo_id).push_to_hub(repo_id, **options)


class _Model(PyTorchModelHubMixin, library_name="mhnet", tags=["mhnet"], pipeline_tag="image-to-image"):
    """A checkpoint as huggingface_hub sees it."""

    checkpoint: Checkpoint
    place: str

    def __init__(self) -> None:
        """Without arguments, which the mixin would copy into the configuration."""

    @classmethod
    def of(cls, network: RestorationNetwork | Checkpoint, task: str | None, place: str) -> "_Model":
        model = cls()
        if isinstance(network, Checkpoint):
            model.checkpoint = replace(network, task=task or network.task, training={}, progress={})
        else:
            if source := edited_source(network):
                raise WeightsError(f"a network of {source.names} is not saved as MHNet: write a checkpoint of its own")
            state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
            model.checkpoint = checkpoint_of(state, None, "the network")
            model.checkpoint.task = task
        model.place = place
        about = {"architecture": model.checkpoint.architecture, "task": model.checkpoint.task}
        model._hub_mixin_config = about | asdict(model.checkpoint.args)
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        write_checkpoint(save_directory / SAFETENSORS_SINGLE_FILE, self.checkpoint)

    def generate_model_card(self, *args: Any, **more: Any) -> ModelCard:
        checkpoint, data = self.checkpoint, ModelCardData(**self._hub_mixin_info.model_card_data.to_dict())
        if checkpoint.task:
            data.tags = [*(data.tags or []), f"image-{checkpoint.task}"]
        v1 = isinstance(checkpoint.args, MHNetArgs)
        provenance = json.dumps(checkpoint.provenance, indent=2, ensure_ascii=False)
        about: dict[str, Any] = {
            "network": "MHNet" if v1 else "MHNet v4",
            "kind": "MHNet" if v1 else "MHNetV4",
            "task": checkpoint.task,
            "paper": PAPER,
            "parameters": f"{sum(tensor.numel() for tensor in checkpoint.state.values()):,}",
            "arguments": asdict(checkpoint.args),
            "place": self.place,
            "file": SAFETENSORS_SINGLE_FILE,
            "training": f"```json\n{provenance}\n```" if checkpoint.provenance else "",
        }
        return ModelCard.from_template(data, template_path=str(CARD), **(about | more))


def _weights_in(folder: Path) -> Path:
    """The file of weights in a folder: by its usual name, or the only one."""
    found = [folder / name for name in USUAL if (folder / name).is_file()]
    found = found[:1] or [path for path in sorted(folder.iterdir()) if path.suffix in EXTENSIONS]
    if len(found) != 1:
        what = f"{len(found)} files of weights" if found else "no file of weights"
        raise WeightsError(f"{folder} holds {what}: call the one that is meant {SAFETENSORS_SINGLE_FILE}")
    return found[0]
