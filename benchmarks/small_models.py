"""Compute the scores of the bundled small networks again, and draw where they fail.

    python benchmarks/small_models.py                 on the photographs of demo/photos, which everybody has (--demo)
    python benchmarks/small_models.py --photos DIR    on sharp photographs of your own
    python benchmarks/small_models.py --gopro DIR     deblurring: the pairs of a GoPro sequence that training held back
    python benchmarks/small_models.py --gt-rain DIR   deraining: pairs of real rain
    python benchmarks/small_models.py derain-small    of one network only
    python benchmarks/small_models.py --write         … into card and docs/small-models.md, and fig/NAME-failures.jpg

Photographs are degraded as by `mhnet data degrade PHOTOS OUT --kind KIND --severity LOW HIGH --seed 1`; what one
suffers depends on its name. `--write` keeps the rows of sets that are not measured this time, unless they are of
other weights.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from marks import between, write_between
from tqdm import tqdm

from mhnet.checkpoints import bundled
from mhnet.checkpoints.files import read_checkpoint, sha256
from mhnet.cli.weights import describe
from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.core.tasks import DEBLURRING, DERAINING
from mhnet.data.make import degrade_folder
from mhnet.data.pairs import Pair, find_pairs
from mhnet.data.split import hold_out
from mhnet.evaluation import protocols, sheets
from mhnet.evaluation.protocols import mean_of
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.restore.restorer import Restorer

ROOT = Path(__file__).resolve().parent.parent
DEMO, PAGE, FIGURES = ROOT / "demo" / "photos", ROOT / "docs" / "small-models.md", ROOT / "fig"
SEED, HELD_BACK = 1, 4
DAMAGES = {  # by the network: a word, kind, severities
    "derain-small": [("light rain", "rain", (0.15, 0.35)), ("heavy rain", "rain", (0.75, 0.95))],
    "deblur-small": [("shake", "blur", (0.0, 1.0))],
}
PIECE = (200, 300)  # height and width of what a picture shows of a photograph


class Result(NamedTuple):
    """One image: its name, degraded, restored and clean pixels, and the scores of the first two."""

    name: str
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray]
    before: protocols.Score
    after: protocols.Score


class MeanScores(NamedTuple):
    """The means over a set, ready for a table."""

    label: str
    option: str
    cells: tuple[str, ...]


def restored(pairs: Iterable[Pair], restorer: Restorer, protocol: str) -> list[Result]:
    """Restores and scores pairs, one after the other."""
    results = []
    for pair in tqdm(list(pairs), "restoring", unit="image", leave=False, disable=None):
        degraded, clean = read_rgb(pair.degraded), read_rgb(pair.target)
        image = restorer(degraded)
        scores = (protocols.score(one, clean, protocol) for one in (degraded, image))
        results.append(Result(pair.name, (degraded, image, clean), *scores))
    return results


def row(label: str, option: str, results: list[Result]) -> MeanScores:
    """The means of a set; where the degraded images are the clean ones, they have no PSNR, and nothing is gained."""
    before, after = ([getattr(one, side) for one in results] for side in ("before", "after"))
    psnr = [mean_of([score.psnr for score in scores]) for scores in (before, after)]
    cells = [f"{mean:.2f} / {mean_of([score.ssim for score in scores]):.4f}"
             for mean, scores in zip(psnr, (before, after), strict=True)]  # fmt: skip
    if np.isinf(psnr[0]):
        return MeanScores(label, option, (str(len(results)), "the clean ones", cells[1], ""))
    return MeanScores(label, option, (str(len(results)), *cells, f"{psnr[1] - psnr[0]:+.2f}"))


def on_photographs(name: str, photos: Path, restorer: Restorer, protocol: str) -> dict[str, list[Result]]:
    """Results on photographs degraded in each way that the network is for, and on the photographs as they are."""
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for word, kind, severity in DAMAGES[name]:
            made = Path(place) / word
            degrade_folder(photos, made, kind, severity=severity, seed=SEED)
            results[word] = restored(find_pairs(made), restorer, protocol)
    found = find_images(photos, recursive=True)
    results["nothing to remove"] = restored([Pair(path, path, path.stem) for path in found], restorer, protocol)
    return results


def held_back(gopro: Path) -> list[Pair]:
    """The pairs that training with `DATA.VAL_IMAGES 4` does not see."""
    pairs = find_pairs(gopro)
    kept = hold_out([pair.target.with_suffix("").as_posix() for pair in pairs], HELD_BACK)[1]
    return [pairs[i] for i in kept]


def measure(name: str, args: argparse.Namespace) -> list[MeanScores]:
    """The rows of a network's table; with --write, its failures are drawn as well."""
    task, restorer, rows = bundled.NAMES[name], Restorer.from_weights(name, precision="fp32"), []
    if args.photos:
        by_damage = on_photographs(name, args.photos, restorer, task.protocol)
        rows += [row(f"{len(by)} photographs, {word}", "--photos DIR", by) for word, by in by_damage.items()]
    if args.gopro and task is DEBLURRING:
        pairs = held_back(args.gopro)
        rows.append(row("GoPro, held back", "--gopro DIR", restored(pairs, restorer, task.protocol)))
    if args.gt_rain and task is DERAINING:
        results = restored(find_pairs(args.gt_rain), restorer, task.protocol)
        rows.append(row("GT-Rain, real rain", "--gt-rain DIR", results))
        scenes: dict[str, list[Result]] = {}
        for one in results:
            scene, *rest = one.name.rsplit("-", 3)  # SCENE-Webcam-R-000
            if len(rest) == 3:
                scenes.setdefault(scene, []).append(one)
        rows += [row(f"GT-Rain, {scene}", "--gt-rain DIR", scenes[scene]) for scene in sorted(scenes)]
    if args.demo or not (args.photos or args.gopro or args.gt_rain):
        by_damage = on_photographs(name, DEMO, restorer, task.protocol)
        rows += [row(f"demo/photos, {word}", "--demo", by) for word, by in by_damage.items()]
        if args.write:
            draw_failures(name, by_damage)
    return rows


def draw_failures(name: str, by_damage: dict[str, list[Result]]) -> None:
    """Draws the pieces that are furthest from clean after restoring: of the worst two photographs of the last kind of
    damage, and of the worst of those that had none."""
    *_, damaged, sound = by_damage
    worst = {kind: sorted(by_damage[kind], key=lambda one: one.after.psnr) for kind in (damaged, sound)}
    chosen = [(damaged, worst[damaged][0]), (damaged, worst[damaged][1]), (sound, worst[sound][0])]
    rows, captions = [], []
    for kind, one in chosen:
        part = furthest(one.pictures[1], one.pictures[2])
        rows.append((f"{one.name}, {kind}", [picture[part] for picture in one.pictures]))
        scores = [f"{psnr:.2f} dB / {ssim:.3f}" if np.isfinite(psnr) else "" for psnr, ssim in (one.before, one.after)]
        captions.append([*scores, ""])
    headers = ["before", f"restored by {name}", "clean"]
    sheets.before_after(rows, headers, captions, FIGURES / f"{name}-failures.jpg", width=1000)


def furthest(restored: np.ndarray, clean: np.ndarray) -> tuple[slice, slice]:
    """The piece of an image with the largest squared error."""
    error = np.square(restored.astype(np.float64) - clean).sum(axis=2)
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(piece, side) for piece, side in zip(PIECE, error.shape, strict=True))
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def table(name: str, rows: list[MeanScores], earlier: str) -> str:
    """The scores as Markdown, with those rows of an earlier table of the same weights that are not measured anew."""
    mark = f"Weights of sha256 {sha256(bundled.named(name))[:12]}"
    lines = {}
    if mark in earlier:
        lines = {line.split(" | ")[0]: line for line in earlier.splitlines() if "DIR`" in line or "--demo`" in line}
    lines |= {f"| {one.label}": f"| {one.label} | `{one.option}` | {' | '.join(one.cells)} |" for one in rows}
    head = ["| set | option | images | degraded | restored | gain, dB |", "|---|---|---:|---|---|---:|"]
    first = ("GT-Rain, real", "GT-Rain,", "photographs, nothing", "--gopro", "--photos")  # what is real, and no harm
    ordered = sorted(lines.values(), key=lambda line: next((i for i, word in enumerate(first) if word in line), 9))
    return "\n".join([f"{mark}; PSNR in dB / SSIM by `{bundled.NAMES[name].protocol}`.", "", *head, *ordered])


def facts(name: str) -> str:
    """What the file of weights says of itself, as Markdown."""
    about = describe(bundled.named(name))
    provenance = about["provenance"]
    config, arguments = provenance.get("config", {}), about["arguments"]
    local = read_checkpoint(bundled.named(name)).local_patch()
    data, optim = config.get("DATA", {}), config.get("OPTIM", {})
    lines = {
        "network": f"{about['network']}, " + ", ".join(f"{key} {value}" for key, value in arguments.items()),
        "size": f"{about['parameters']:,} parameters as {', '.join(about['types'])}, {about['bytes'] / 1e6:.1f} MB; "
        f"{about['gmacs']:.2f} GMACs at 256×256",
        "data": provenance.get("data"),
        "training": f"{provenance['step']:,} steps of {optim.get('BATCH_SIZE')} crops of {data.get('PATCH')}×"
        f"{data.get('PATCH')}" + "".join(f", after epoch {epoch} {batch} of {patch}×{patch}"
        for epoch, patch, batch in data.get("PROGRESSIVE", [])) if "step" in provenance else None,
        "local statistics": f"on, as for patches of {local}" if local else "off",
        "validation": f"{provenance['validation_psnr']:.2f} dB (RGB) on "
        f"{data.get('VAL_IMAGES', 0) + data.get('SHARP_VAL_IMAGES', 0)} held-out images"
        if "validation_psnr" in provenance else None,
        "before that": provenance.get("before"),
        "mixture": provenance.get("mixture"),
        "hours": provenance.get("hours"),
        "commit": provenance.get("revision"),
    }  # fmt: skip
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in lines.items() if value)])


def picture(name: str) -> str:
    """The picture of failures, for the card."""
    return (
        f'<img src="../../../fig/{name}-failures.jpg" width="800" alt="Photographs before, after and clean">\n\n'
        "*Pieces of the worst photographs of demo/photos, where the result is furthest from clean.*"
    )


def write_card(name: str, rows: list[MeanScores]) -> None:
    """Writes the table, the facts and the picture into the network's card, and the table into docs/small-models.md."""
    card = bundled.FOLDER / f"{name}.md"
    text = table(name, rows, between(card, "scores"))
    write_between(card, "scores", text)
    write_between(card, "facts", facts(name))
    write_between(card, "failures", picture(name))
    write_between(PAGE, f"scores of {name}", text)


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks (default: all that are bundled)")
    parser.add_argument("--demo", action="store_true", help="the photographs of demo/photos (default without sets)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="sharp photographs, to be degraded here")
    parser.add_argument("--gopro", type=Path, metavar="DIR", help="pairs of one sequence of GoPro's training set")
    parser.add_argument("--gt-rain", type=Path, metavar="DIR", help="pairs of real rain")
    parser.add_argument("--write", action="store_true", help="write cards, page and pictures")
    args = parser.parse_args()
    for name in args.names or bundled.shipping():
        if name not in bundled.NAMES:
            raise MHNetError(f"There are no bundled weights called {name}: use one of {', '.join(bundled.NAMES)}")
        rows = measure(name, args)
        print(f"{name}\n\n{table(name, rows, '')}\n")
        if args.write:
            write_card(name, rows)


if __name__ == "__main__":
    main()
