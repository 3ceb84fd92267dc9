"""The command `mhnet export`."""

import argparse
from pathlib import Path


def add_export(parser: argparse.ArgumentParser) -> None:
    """Gives the parser of `mhnet export` its arguments; what it needs is imported when it runs."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a .safetensors or .pth file")
    parser.add_argument("out", type=Path, metavar="OUT", help="a file that ends in .onnx, .xml or .pt2")
    parser.add_argument("--format", choices=["onnx", "openvino", "torch"], help="(default: by OUT's extension)")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from mhnet.export import TOLERANCE, export

    print("exporting and checking: one to five minutes", flush=True)
    differences = export(args.weights, args.out, args.format)
    sizes = ", ".join(f"{difference:.0e} at {height}×{width}" for (height, width), difference in differences.items())
    print(f"{args.out}: differs from the network by at most {sizes}; {TOLERANCE:.0e} was allowed")
    return 0
