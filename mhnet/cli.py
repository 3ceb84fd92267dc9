"""The command `mhnet`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import mhnet
from mhnet.data_commands import add_data_commands
from mhnet.errors import exits_cleanly


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="mhnet", description="MHNet: image deblurring and deraining.")
    top.add_argument("--version", action="version", version=f"mhnet {mhnet.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser(
        "convert",
        help="convert weights between .safetensors and the authors' .pth",
        description="Reads weights of any kind and writes them as the target's extension says: .safetensors is ours "
        "and describes itself, .pth or .pt has the authors' parameter names.",
    )
    convert.add_argument("source", type=Path, metavar="SOURCE")
    convert.add_argument("target", type=Path, metavar="TARGET")
    convert.add_argument(
        "--task", choices=["deblurring", "deraining"], help="note in the file what the weights are for"
    )
    convert.set_defaults(run=_convert)

    info = commands.add_parser("info", help="say what a weights file holds")
    info.add_argument("weights", type=Path, metavar="WEIGHTS")
    info.set_defaults(run=_info)

    evaluate = commands.add_parser(
        "evaluate",
        help="score restored images against their targets",
        description="Pairs the images of two folders by name and prints PSNR and SSIM.",
    )
    evaluate.add_argument("results", type=Path, metavar="RESULTS")
    evaluate.add_argument("targets", type=Path, metavar="TARGETS")
    evaluate.add_argument("--protocol", required=True, help="how to score, e.g. rain_y_matlab or gopro_rgb_matlab")
    evaluate.add_argument("--csv", type=Path, help="write every image's scores to this file")
    evaluate.set_defaults(run=_evaluate)

    data = commands.add_parser("data", help="check, pack, cut or make sets of image pairs")
    add_data_commands(data)
    return top


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    args = parser().parse_args(argv)
    return args.run(args)


def _convert(args: argparse.Namespace) -> int:
    from mhnet.weights import convert

    checkpoint = convert(args.source, args.target, args.task)
    print(f"{args.target}: {checkpoint.args}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from mhnet.weights import read, sha256

    checkpoint = read(args.weights)
    parameters = sum(tensor.numel() for tensor in checkpoint.state.values())
    print(f"network     {checkpoint.args}")
    print(f"task        {checkpoint.task or 'not noted'}")
    print(f"parameters  {parameters:,}")
    print(f"sha256      {sha256(args.weights)}")
    print(f"provenance  {json.dumps(checkpoint.provenance, indent=2)}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from mhnet.evaluate import run

    return run(args.results, args.targets, args.protocol, csv=args.csv)
