"""The command `mhnet evaluate`."""

import argparse
from pathlib import Path

from mhnet.cli import scores
from mhnet.cli.usage import add_command
from mhnet.core.errors import MHNetError

PROTOCOLS = "rain_y_matlab, gopro_rgb_matlab, rgb_channel_mean, realblur_ecc, y_float"


def add_evaluate_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds it; what it needs is imported when it runs."""
    evaluate = add_command(
        commands,
        "evaluate",
        "score restored images against their targets",
        "Pairs the images of two folders by name and prints PSNR and SSIM, as a table and as a LaTeX row. "
        "Several sets: RESULTS TARGETS RESULTS TARGETS and so on; then also their unweighted mean.",
        """
        mhnet evaluate results/Rain100L Datasets/test/Rain100L/target --protocol rain_y_matlab
        mhnet evaluate results/GoPro GoPro/test/target --protocol gopro_rgb_matlab --report scores/
        mhnet evaluate results/A clean/A results/B clean/B --protocol rain_y_matlab --csv scores.csv
        """,
    )
    evaluate.add_argument("results", type=Path, metavar="RESULTS", help="folder of restored images")
    evaluate.add_argument("targets", type=Path, metavar="TARGETS", help="folder of their clean ones")
    evaluate.add_argument("more", type=Path, nargs="*", metavar="RESULTS TARGETS", help="those of further sets")
    evaluate.add_argument("--protocol", nargs="+", required=True, metavar="NAME", help=f"how to score: {PROTOCOLS}")
    evaluate.add_argument("--set", nargs="+", default=[], metavar="NAME", help="the sets' names (default: by folders)")
    evaluate.add_argument("--inputs", type=Path, nargs="+", default=[], metavar="FOLDER", help="degraded images of "
                          "each set, to be shown in the report")  # fmt: skip
    evaluate.add_argument("--method", default="MHNet", help="who restored the images (default: %(default)s)")
    scores.add_options(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from mhnet.evaluation import protocols
    from mhnet.evaluation.scoring import evaluate_folder

    results, targets = [args.results, *args.more[::2]], [args.targets, *args.more[1::2]]
    if len(results) != len(targets):
        raise MHNetError(f"Folders come in twos, RESULTS TARGETS; {results[-1]} has no folder of targets behind it.")
    for option, given in (("--set", args.set), ("--inputs", args.inputs)):
        if given and len(given) != len(results):
            raise MHNetError(f"{option} has {len(given)} entries for {len(results)} sets; give one for each, or none.")
    for protocol in args.protocol:
        protocols.get_protocol(protocol)
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
