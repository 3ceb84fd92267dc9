"""The command `mhnet`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import mhnet
from mhnet import scores
from mhnet.data_commands import add_data_commands
from mhnet.errors import MHNetError, exits_cleanly
from mhnet.export_command import add_export


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
        description="Pairs the images of two folders by name and prints PSNR and SSIM, as a table and as a LaTeX row. "
        "Several sets: RESULTS TARGETS RESULTS TARGETS and so on; then also their unweighted mean.",
    )
    evaluate.add_argument("results", type=Path, metavar="RESULTS", help="folder of restored images")
    evaluate.add_argument("targets", type=Path, metavar="TARGETS", help="folder of their clean ones")
    evaluate.add_argument("more", type=Path, nargs="*", metavar="RESULTS TARGETS", help="those of further sets")
    names = "rain_y_matlab, gopro_rgb_matlab, rgb_channel_mean, realblur_ecc, y_float"
    evaluate.add_argument("--protocol", nargs="+", required=True, metavar="NAME", help=f"how to score: {names}")
    evaluate.add_argument("--set", nargs="+", default=[], metavar="NAME", help="the sets' names (default: by folders)")
    evaluate.add_argument("--inputs", type=Path, nargs="+", default=[], metavar="FOLDER", help="degraded images of "
                          "each set, to be shown in the report")  # fmt: skip
    evaluate.add_argument("--method", default="MHNet", help="who restored the images (default: %(default)s)")
    scores.add_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    about = "write a network for ONNX Runtime, OpenVINO or torch.export, checked against itself"
    add_export(commands.add_parser("export", help=about, description=about[0].upper() + about[1:] + "."))

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
    from mhnet import metrics
    from mhnet.evaluate import evaluate_folder

    results, targets = [args.results, *args.more[::2]], [args.targets, *args.more[1::2]]
    if len(results) != len(targets):
        raise MHNetError(f"Folders come in twos, RESULTS TARGETS; {results[-1]} has no folder of targets behind it.")
    for option, given in (("--set", args.set), ("--inputs", args.inputs)):
        if given and len(given) != len(results):
            raise MHNetError(f"{option} has {len(given)} entries for {len(results)} sets; give one for each, or none.")
    for protocol in args.protocol:
        metrics.get_protocol(protocol)
    distance, evaluations = scores.distance(args), []
    for protocol in args.protocol:
        for i, folders in enumerate(zip(results, targets, strict=True)):
            evaluation = evaluate_folder(
                *folders,
                protocol,
                name=args.set[i] if args.set else "",
                inputs_dir=args.inputs[i] if args.inputs else None,
                processes=args.processes,
                distance=distance,
            )
            evaluation.method = args.method
            evaluations.append(evaluation)
    return scores.finish(evaluations, args)
