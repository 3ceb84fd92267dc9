"""The commands `mhnet convert`, `mhnet export` and `mhnet info`: what deals with files of weights."""

import argparse
import json
from pathlib import Path
from typing import Any

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import printable
from mhnet.core.tasks import TASKS


def add_weights_commands(commands: Commands) -> None:
    convert = add_command(commands, "convert", _convert)
    convert.add_argument("source", type=Path, metavar="SOURCE")
    convert.add_argument("target", type=Path, metavar="TARGET")
    convert.add_argument("--task", choices=list(TASKS), help="note in the file what the weights are for")

    info = add_command(commands, "info", _info)
    info.add_argument("weights", metavar="WEIGHTS", help="a .safetensors or .pth file, or the name of bundled weights")
    info.add_argument("--json", action="store_true", help="print it as JSON")

    export = add_command(commands, "export", _export)
    export.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors or .pth file")
    export.add_argument("out", type=Path, metavar="OUT", help="a file that ends in .onnx, .xml or .pt2")
    export.add_argument("--format", choices=["onnx", "openvino", "torch"], help="(default: by OUT's extension)")


def _convert(args: argparse.Namespace) -> int:
    """convert weights between .safetensors and the authors' .pth

    Reads weights of any kind and writes them as the target's extension says: .safetensors is ours and describes
    itself, .pth or .pt has the authors' parameter names.

    mhnet convert model_deblurring.pth deblurring.safetensors --task deblurring
    mhnet convert mine.safetensors mine.pth
    """
    from mhnet.checkpoints.files import convert_checkpoint

    checkpoint = convert_checkpoint(args.source, args.target, args.task)
    print(f"{printable(args.target)}: {checkpoint.args}")
    return 0


def _info(args: argparse.Namespace) -> int:
    """say what a weights file holds

    Prints the network that the file holds, its size, what it was trained for and where it comes from.

    mhnet info model_deblurring.pth
    mhnet info Deraining/checkpoints/mhnet/model_best.safetensors --json
    """
    from mhnet.checkpoints.bundled import weights_path
    from mhnet.core.devices import choose_device
    from mhnet.restore.precision import choose_precision

    about = describe(weights_path(args.weights))
    about["precision"] = choose_precision("auto", choose_device("auto"))
    if args.json:
        print(json.dumps(about, indent=2))
        return 0
    arguments = ", ".join(f"{name} {value}" for name, value in about["arguments"].items())
    edited = about["edited"].get("file", "")
    lines = [
        ("network", f"{f'edited {edited} of ' if edited else ''}{about['network']} ({arguments})"),
        ("task", about["task"] or "not noted"),
        ("parameters", f"{about['parameters']:,} as {', '.join(about['types'])}"),
        ("computing", "not counted" if edited else f"{about['gmacs']:.2f} GMACs for 256×256 pixels"),
        ("precision", f"{about['precision']} here{', fp32 for more than 8 bits' * (about['precision'] == 'bf16')}"),
        ("file", f"{about['bytes'] / 1e6:.1f} MB, sha256 {about['sha256']}"),
    ]
    provenance = _provenance(about["provenance"]) or ["not noted"]
    for name, text in [*lines, *zip(["provenance", *[""] * len(provenance)], provenance, strict=False)]:
        print(f"{name:<11} {printable(text)}")
    return 0


def _export(args: argparse.Namespace) -> int:
    """write a network for ONNX Runtime, OpenVINO or torch.export

    Writes the whole network, for images of any height and width, and compares what was written with the network
    itself at three sizes; nothing is left where they differ.

    mhnet export model_deblurring.pth deblurring.onnx
    mhnet export model_deblurring.pth deblurring.xml
    """
    from mhnet.inference.export import TOLERANCE, export

    print("exporting and checking: one to five minutes", flush=True)
    differences = export(args.weights, args.out, args.format)
    sizes = ", ".join(f"{difference:.0e} at {height}×{width}" for (height, width), difference in differences.items())
    print(f"{args.out}: differs from the network by at most {sizes}; {TOLERANCE:.0e} was allowed")
    return 0


def describe(path: Path) -> dict[str, Any]:
    """What a file of weights holds, as JSON values; `gmacs` are billions of multiplications with additions for an
    image of 256×256, of this package's networks. WeightsError as of `read_checkpoint`."""
    from mhnet.checkpoints.files import read_checkpoint, sha256
    from mhnet.checkpoints.released import build
    from mhnet.models.cost import gmacs

    checkpoint = read_checkpoint(path)
    return {
        "file": str(path),
        "network": {"mhnet": "MHNet", "mhnet_v4": "MHNet v4"}[checkpoint.architecture],
        "arguments": checkpoint.arguments,
        "edited": checkpoint.edited,
        "task": checkpoint.task,
        "parameters": sum(tensor.numel() for tensor in checkpoint.state.values()),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.state.values()}),
        "gmacs": None if checkpoint.edited else round(gmacs(lambda: build(checkpoint.args).eval()), 4),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "provenance": checkpoint.provenance,
    }


def _provenance(about: dict[str, Any], above: str = "") -> list[str]:
    """What is noted of where weights come from, a line for each plain value and each group of them."""
    words = [f"{name} {value}" for name, value in about.items() if not isinstance(value, dict)]
    lines = [f"{above}: {', '.join(words)}"] if above and words else words
    for name, value in about.items():
        if isinstance(value, dict):
            lines += _provenance(value, f"{above}.{name}" if above else name)
    return lines
