"""The command `mhnet export`."""

import argparse
from pathlib import Path

from mhnet.cli.usage import add_command


def add_export_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds it; what it needs is imported when it runs."""
    export = add_command(
        commands,
        "export",
        "write a network for ONNX Runtime, OpenVINO or torch.export",
        "Writes the whole network, for images of any height and width, and compares what was written with the network "
        "itself at three sizes; nothing is left where they differ.",
        """
        mhnet export model_deblurring.pth deblurring.onnx
        mhnet export model_deblurring.pth deblurring.xml
        """,
    )
    export.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors or .pth file")
    export.add_argument("out", type=Path, metavar="OUT", help="a file that ends in .onnx, .xml or .pt2")
    export.add_argument("--format", choices=["onnx", "openvino", "torch"], help="(default: by OUT's extension)")
    export.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from mhnet.inference.export import TOLERANCE, export

    print("exporting and checking: one to five minutes", flush=True)
    differences = export(args.weights, args.out, args.format)
    sizes = ", ".join(f"{difference:.0e} at {height}×{width}" for (height, width), difference in differences.items())
    print(f"{args.out}: differs from the network by at most {sizes}; {TOLERANCE:.0e} was allowed")
    return 0
