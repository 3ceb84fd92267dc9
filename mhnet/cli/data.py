"""The command `mhnet data`: check, pack, crops, degrade."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError, printable

if TYPE_CHECKING:
    from mhnet.data.names import Pair

_PAIRS = "a folder of pairs in any layout of docs/data.md, found below it"


def add_data_commands(parent: Commands) -> None:
    """check, pack, cut or make sets of image pairs

    Each has its own --help.

    mhnet data check Datasets
    mhnet data degrade photos pairs --kind rain
    """
    data = add_command(parent, "data", add_data_commands)
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    check = add_command(commands, "check", _check)
    _add_pairs(check, "or a pack")
    check.add_argument("--all", action="store_true", help="print every fault, not the first ten of each set")

    pack = add_command(commands, "pack", _pack)
    _add_pairs(pack)

    crops = add_command(commands, "crops", _crops)
    _add_pairs(crops)
    crops.add_argument("--size", type=int, default=512, help="side of the crops, pixels (default: %(default)s)")
    crops.add_argument("--step", type=int, default=256, help="from crop to crop, pixels (default: %(default)s)")

    degrade = add_command(commands, "degrade", _degrade)
    degrade.add_argument("photos", type=Path, metavar="IN", help="a folder of sharp photographs")
    _add_out(degrade)
    degrade.add_argument("--kind", choices=["rain", "blur"], required=True)
    degrade.add_argument(
        "--severity", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="range from light, 0, to heavy, 1 (default: 0 1)",
    )  # fmt: skip
    degrade.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    degrade.add_argument("--versions", type=int, default=1, help="degraded images to a photograph (default: 1)")


def _add_pairs(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("root", type=Path, nargs="?", metavar="IN", help=f"{_PAIRS} {more}".strip())
    parser.add_argument("--input", type=Path, help="instead of IN: a folder of degraded images …")
    parser.add_argument("--target", type=Path, help="… and the folder of their clean ones")
    if not more:
        parser.add_argument("--split", choices=["train", "val", "test"], help="which, where IN holds several")
        _add_out(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder; it is made where it is missing")


def _root(args: argparse.Namespace) -> Path:
    """IN, or --input; with `args.target` beside it in the second case."""
    if (args.root is None) == (args.input is None) or (args.input is None) != (args.target is None):
        raise MHNetError("Name one folder of pairs, or --input and --target both.")
    return args.root or args.input


def _pairs(args: argparse.Namespace) -> "list[Pair]":
    from mhnet.data.pack import is_pack, open_pairs

    if is_pack(root := _root(args)):
        raise MHNetError(f"{root} is a pack already; name the folder that it was made from.")
    return open_pairs(root, args.split, args.target)[0]


def _check(args: argparse.Namespace) -> int:
    """read every image and say what is there and what is wrong

    Prints the sets below a folder with their layouts, counts, sizes and faults. Exits with 1 when training on them
    would be wrong.

    mhnet data check Datasets
    mhnet data check --input rainy --target clean --all
    """
    from mhnet.data.check import check, format_checked

    checked, faults = check(_root(args), args.target)
    print(format_checked(checked, faults, 10**9 if args.all else 10))
    return int(bool(faults) or any(one.faults for one in checked))


def _pack(args: argparse.Namespace) -> int:
    """write the pixels of pairs to a few large files, for fast crops

    Packs are memory-mapped, never decoded. A stopped run goes on when it is called again; at the end all is
    verified by checksum. Train on a pack with DATA.TRAIN_DIR OUT.

    mhnet data pack Datasets/train packs/rain13k
    mhnet data pack GoPro packs/gopro --split train
    """
    from mhnet.data.pack import write_pack

    pack = write_pack(_pairs(args), args.out)
    size = sum(shard.bytes for shard in pack.shards) / 1e9
    return _done(args.out, f"{len(pack.pairs):,} pairs in {len(pack.shards)} files of {size:.2f} GB together, verified")


def _crops(args: argparse.Namespace) -> int:
    """cut pairs into overlapping 512×512 crops

    Writes OUT/input_crops/NAME_s001.png and OUT/target_crops/NAME_s001.png and so on. A stopped run goes on when it
    is called again.

    mhnet data crops GoPro/train crops
    mhnet data crops GoPro/train crops --size 256 --step 200
    """
    from mhnet.data.make import cut_pairs

    return _done(args.out, f"{cut_pairs(_pairs(args), args.out, args.size, args.step):,} pairs of crops")


def _degrade(args: argparse.Namespace) -> int:
    """make a set of pairs from sharp photographs

    Writes OUT/input, OUT/target and, in OUT/parameters.json, what was done to each photograph. A stopped run goes
    on when it is called again.

    mhnet data degrade photos pairs --kind rain
    mhnet data degrade photos pairs --kind blur --severity 0.2 0.6 --versions 3
    """
    from mhnet.data.make import RECORD, degrade_folder

    severity = tuple(args.severity)
    count = degrade_folder(args.photos, args.out, args.kind, severity=severity, seed=args.seed, versions=args.versions)
    return _done(args.out, f"{count:,} pairs, and how they were made in {args.out / RECORD}")


def _done(out: Path, what: str) -> int:
    print(printable(f"{out}: {what}"))
    return 0
