"""The command `mhnet restore`."""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError, printable, shortened

if TYPE_CHECKING:
    from mhnet.restore.outcomes import Outcome
    from mhnet.restore.restorer import Restorer

MEANT = {"derain": "deraining", "deblur": "deblurring"}
FORMATS = ("png", "jpg", "tif", "webp", "bmp")
SMALLEST_TILE = 64
MEGAPIXELS = 200.0  # as in `mhnet.images.header`, which would take long to import


def add_restore_command(commands: Commands) -> None:
    parser = add_command(commands, "restore", _restore)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a video, a folder, or a pattern")
    parser.add_argument("-o", "--out", type=_path_or_address, required=True, metavar="OUT",
                        help="folder for the results; for one file, the result's name may be given")  # fmt: skip

    what = parser.add_argument_group("network")
    what.add_argument("--task", choices=list(MEANT), help="what to remove, rain or blur, with the weights that ship")
    what.add_argument("--weights", metavar="FILE", help="weights of yours or the authors', .safetensors or .pth")
    what.add_argument("--tlc", action=argparse.BooleanOptionalAction, help="local statistics at test time: often "
                      "better after training on small patches, worse on some photos (default: as noted with the "
                      "weights)")  # fmt: skip

    how = parser.add_argument_group("computing")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    how.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto",
                     help="auto: fp16 on CUDA GPUs; on CPUs with AVX512_BF16 or AMX bf16 for results of 8 bits without "
                     "--targets; else fp32 (default: %(default)s)")  # fmt: skip
    how.add_argument("--tile", type=_tile, default="auto", metavar="auto|off|N",
                     help="compute in tiles where memory needs it, never, or of N×N pixels (auto)")  # fmt: skip
    how.add_argument("--compile", choices=["auto", "off"], default="auto",
                     help="on a CUDA GPU: record and compile the network for sizes that come again (default: "
                     "%(default)s)")  # fmt: skip
    how.add_argument("--max-megapixels", type=_megapixels, default=MEGAPIXELS, metavar="N",
                     help="refuse images of more pixels: memory grows with them (default: %(default)s)")  # fmt: skip
    how.add_argument(
        "--no-fuse", dest="fuse", action="store_false", help="compute the network as it is, not its faster equal"
    )

    results = parser.add_argument_group("results")
    results.add_argument("--overwrite", action="store_true", help="restore again what has a result")
    results.add_argument("--strength", type=_percent, default=100, metavar="PERCENT", help="blend with the original: 0 "
                         "is the original, 100 what the network makes (default: %(default)s)")  # fmt: skip
    results.add_argument("--suffix", default="", metavar="TEXT", help="put TEXT behind the results' names, as in "
                         "photo_restored.jpg")  # fmt: skip
    results.add_argument("--format", choices=FORMATS, help="of images' results (default: as the image)")
    results.add_argument("--compare", action="store_true", help="a sheet of before and after for each image, in "
                         "OUT/compare")  # fmt: skip
    results.add_argument("--report", type=_path_or_address, metavar="FILE", help="an HTML page with a slider for "
                         "each image; with --engine ray, FILE.csv and FILE.parquet (default: OUT/report)")  # fmt: skip
    results.add_argument("--targets", type=Path, metavar="FOLDER", help="clean images of the same names: score the "
                         "results")  # fmt: skip
    results.add_argument("--protocol", metavar="NAME", help="how to score (default: as papers score the task)")

    many = parser.add_argument_group("very many images")
    many.add_argument("--engine", choices=["here", "ray"], default="here", help="ray: by many processes of this "
                      "machine or of the cluster RAY_ADDRESS; INPUT and OUT may be addresses such as "
                      "s3://bucket/photos (default: %(default)s)")  # fmt: skip
    many.add_argument("--workers", type=_count, metavar="N", help="processes with a network (default: one for each "
                      "GPU, or each CPU as far as memory goes)")  # fmt: skip
    many.add_argument("--batch", type=_count, metavar="N", help="small images of one size that are computed at once "
                      "(default: 8 on GPUs, else 1)")  # fmt: skip
    many.add_argument("--check", action="store_true", help="read results that are there to their end, as --engine here "
                      "always does, and restore again what is not whole")  # fmt: skip

    words = parser.add_argument_group("what is said").add_mutually_exclusive_group()
    words.add_argument("--quiet", action="store_true", help="only what went wrong")
    words.add_argument("--json", action="store_true", help="one line for each file: source, result, status, seconds, "
                       "tile, change, reason, notes")  # fmt: skip
    words.add_argument("-v", "--verbose", action="store_true", help="also how many files are neither images nor films")


def _number(
    what: str, least: float, most: float = math.inf, kind: Callable[[str], float] = float
) -> Callable[[str], Any]:
    """What reads a number from `least` to `most` for argparse; other text "is not" `what`."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return read


_count = _number("a number from 1 up", 1, kind=int)
_percent = _number("a number from 0 to 100", 0, 100, lambda text: float(text.removesuffix("%")))
_megapixels = _number("a number of megapixels", 1e-6, 1e6)
_pixels = _number(f"auto, off or a number from {SMALLEST_TILE} up", SMALLEST_TILE, kind=int)


def _tile(text: str) -> int | str:
    return text if text in ("auto", "off") else _pixels(text)


def _path_or_address(text: str) -> Path | str:
    """A path, or the address of a store as it is."""
    return text if "://" in text else Path(text)


def _restore(args: argparse.Namespace) -> int:
    """restore photos, folders and videos

    Restores images and videos of any size. Results keep the kind, depth, transparency and metadata of their files;
    subfolders are mirrored.

    mhnet restore photo.jpg -o restored.jpg --task derain
    mhnet restore holiday/ -o restored/ --task deblur            a folder with its subfolders
    mhnet restore 'scans/**/*.tif' -o out/ --weights mine.safetensors
    mhnet restore rainy/ -o out/ --task derain --targets clean/  and score the results
    mhnet restore clip.mp4 -o clear.mp4 --task derain
    mhnet restore s3://rainy/2024 -o s3://restored/2024 --task derain --engine ray

    A run that was stopped goes on when it is called again: what has a whole result is skipped. Originals
    are never touched.

    exit status:
      0    all is done
      1    some files failed, or the command was refused; sentences on standard error say what, and the way out
      2    wrong usage
      130  interrupted by Ctrl-C
    """
    _check_options(args)
    from mhnet.checkpoints import bundled
    from mhnet.core.tasks import TASKS

    weights = args.weights or bundled.for_task(TASKS[MEANT[args.task]])
    of_restorer = ("precision", "tile", "fuse", "compile", "strength")
    options = {name: getattr(args, name) for name in of_restorer}
    return (_restore_in_bulk if args.engine == "ray" else _restore_here)(args, weights, options)


def _restore_here(args: argparse.Namespace, weights: str | Path, options: dict[str, Any]) -> int:
    from mhnet.cli.outcomes import OutcomePrinter
    from mhnet.core.devices import choose_device
    from mhnet.evaluation.protocols import get_protocol
    from mhnet.restore import results
    from mhnet.restore.folders import restore_all
    from mhnet.restore.outcomes import Outcome
    from mhnet.restore.plan import plan
    from mhnet.restore.precision import slower_than_fp32
    from mhnet.restore.restorer import Restorer
    from mhnet.restore.stores import HERE, results_there

    planned = plan(args.inputs, args.out, suffix=args.suffix, extension=f".{args.format}" if args.format else None)
    jobs, printer = planned.jobs, OutcomePrinter(args)
    sheets = results.sheet_paths(jobs, planned.folder) if args.compare else {}
    targets = results.find_targets(jobs, args.targets) if args.targets else {}
    if args.protocol:
        get_protocol(args.protocol)
    if targets and options["precision"] == "auto" and choose_device(args.device).type == "cpu":
        options["precision"] = "fp32"  # so that scores are the same on every processor
    restorer = Restorer.from_weights(weights, args.device, args.tlc, **options)
    _warn_of_task(args, weights, restorer.task)
    if slower := slower_than_fp32(restorer.precision, restorer.device):
        print(f"warning: {slower}", file=sys.stderr)
    missing = [printable(job.source) for job in jobs if job.source not in targets and not job.film]
    if args.targets and missing:
        print(f"warning: no clean image for {shortened(missing)}: not scored", file=sys.stderr)
    printer.tell_plan(planned)
    results_there(HERE, [*sheets.values(), *filter(None, [args.report])])  # removes what killed runs left
    try:
        outcomes = restore_all(jobs, restorer, overwrite=args.overwrite, progress=printer.progress, each=printer.tell,
                               max_pixels=round(args.max_megapixels * 1e6))  # fmt: skip
    except KeyboardInterrupt:
        return printer.tell_interrupted(len(jobs))
    outcomes += [Outcome(job, "failed", reason=reason) for job, reason in planned.refused]
    printer.tell_counts()
    printer.reasons += _evaluate_results(args, outcomes, sheets, targets, restorer)
    return printer.tell_failures()


def _restore_in_bulk(args: argparse.Namespace, weights: str | Path, options: dict[str, Any]) -> int:
    from mhnet.checkpoints.files import read_checkpoint

    try:
        from mhnet.cli.bulk import restore_in_bulk
    except ImportError as error:
        raise MHNetError(f"--engine ray needs Ray Data ({error}): pip install 'mhnet[ray]'") from error
    checkpoint = read_checkpoint(weights)
    _warn_of_task(args, weights, checkpoint.task)
    return restore_in_bulk(args, checkpoint, options)


def _evaluate_results(
    args: argparse.Namespace,
    outcomes: "Sequence[Outcome]",
    sheets: dict[Path, Path],
    targets: dict[Path, Path],
    restorer: "Restorer",
) -> list[str]:
    """Makes of the results what the options ask for; returns what failed."""
    from mhnet.core.tasks import TASKS
    from mhnet.evaluation.tables import format_table
    from mhnet.restore import results
    from mhnet.restore.report import write_report

    evaluations, reasons = [], []
    if targets:
        task = MEANT[args.task] if args.task else restorer.task
        protocol = args.protocol or (TASKS[task].protocol if task in TASKS else "rgb_channel_mean")
        evaluations = results.score(outcomes, targets, protocol, printable(args.out.stem))
        reasons += [f"{failure.name} is not scored: {failure.reason}" for failure in evaluations[1].failures]
        if args.json:
            for one in evaluations:
                print(json.dumps({"scores": one.method, "protocol": protocol, "images": len(one.rows),
                                  "psnr": one.mean.psnr, "ssim": one.mean.ssim}))  # fmt: skip
        else:
            print(f"\n{format_table(evaluations)}")
    if sheets:
        reasons += results.write_sheets(outcomes, sheets, targets, not args.quiet and not args.json)
    if args.report:
        local = restorer.local_statistics
        about = {"weights": str(args.weights or args.task), "device": str(restorer.device),
                 "precision": restorer.precision,
                 "local statistics": f"on, as for patches of {local}" if local else "off"}  # fmt: skip
        failures = [(one.job.source, one.reason) for one in outcomes if not one.has_result]
        entries = results.entries(outcomes, targets, evaluations)
        write_report(args.report, entries, "Restored by MHNet", failures=failures, about=about)
    return reasons


def _check_options(args: argparse.Namespace) -> None:
    """Raises MHNetError for options that cannot be meant."""
    if not args.weights and not args.task:
        raise MHNetError("Say what to remove with --task derain or --task deblur, or name a file with --weights.")
    if any(sign in args.suffix for sign in ("/", "\\", "\0")):
        raise MHNetError(f"The suffix {args.suffix!r} would lead to another folder: use letters, digits, - and _.")
    if args.engine == "here":
        if address := next((name for name in map(str, (*args.inputs, args.out, args.report)) if "://" in name), None):
            raise MHNetError(f"{printable(address)} is the address of a store: add --engine ray.")
        if args.workers or args.batch or args.check:
            raise MHNetError("--workers, --batch and --check are for very many images: add --engine ray.")
        return
    for name in ("targets", "protocol", "compare"):
        if getattr(args, name):
            way = "use `mhnet evaluate` on the results, or no --engine"
            raise MHNetError(f"--{name} does not go with --engine ray: {way}.")
    if args.report and Path(args.report).suffix.lower() in (".html", ".htm"):
        raise MHNetError("--engine ray makes no HTML page: name its tables, as in --report out/report.")


def _warn_of_task(args: argparse.Namespace, weights: str | Path, trained_for: str | None) -> None:
    task = MEANT.get(args.task)
    if task and trained_for not in (None, task):
        trained = f"{printable(weights)} was trained for {printable(trained_for)}"
        print(f"warning: {trained}, not for {task}", file=sys.stderr)
