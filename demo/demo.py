"""`make demo`: restore rainy and shaken photographs with the weights that ship, and show before, after and scores.

What it makes lies in demo/out: the restored photographs, a sheet, and a page with a slider over every picture.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mhnet.checkpoints import bundled
from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.core.tasks import DEBLURRING, DERAINING, Task
from mhnet.evaluation import sheets
from mhnet.images.read import read_rgb
from mhnet.restore import results
from mhnet.restore.folders import restore_all
from mhnet.restore.plan import plan
from mhnet.restore.report import Entry, write_report
from mhnet.restore.restorer import Restorer

DEMO = Path(__file__).resolve().parent
PHOTOS = DEMO / "photos" / "test"
OUT = DEMO / "out"


class Damage(NamedTuple):
    """A kind of photographs to restore: what it is called, their folder in demo/, what restores them."""

    name: str
    folder: str
    task: Task


DAMAGES = (Damage("rain", "rainy", DERAINING), Damage("shake", "shaken", DEBLURRING))


def restored(damage: Damage, weights: Path) -> list[Entry]:
    """Restores a folder of photographs and scores them against those of demo/photos/test.

    Raises:
        MHNetError: one of them cannot be restored.
    """
    jobs = plan([str(DEMO / damage.folder)], OUT / damage.folder, extension=".png").jobs
    targets = results.find_targets(jobs, PHOTOS)
    outcomes = restore_all(jobs, Restorer.from_weights(weights, precision="fp32"), overwrite=True)
    if reasons := [one.reason for one in outcomes if one.status == "failed"]:
        raise MHNetError(f"the demo did not get through: {reasons[0]}")
    evaluations = results.score(outcomes, targets, damage.task.protocol, damage.folder)
    return results.entries(outcomes, targets, evaluations)


def table(damage: Damage, weights: Path, entries: Sequence[Entry]) -> str:
    """The scores before and after, and their means in the last line."""
    rows = [(entry.name, entry.scores.before, entry.scores.after) for entry in entries if entry.scores]
    lines = [f"{damage.name}, restored by {weights.stem} (PSNR / SSIM by {damage.task.protocol})",
             f"{'photograph':<24}{'before':>18}{'after':>18}{'gain':>10}"]  # fmt: skip
    columns = [list(zip(*(row[side] for row in rows), strict=True)) for side in (1, 2)]
    means = [[sum(values) / len(rows) for values in column] for column in columns]
    for name, before, after in [*rows, (f"mean of {damage.folder}", *means)]:
        cells = (f"{psnr:.2f} dB / {ssim:.3f}" for psnr, ssim in (before, after))
        lines.append(f"{name:<24}{''.join(f'{cell:>18}' for cell in cells)}{after[0] - before[0]:>+7.2f} dB")
    return "\n".join(lines)


def write_sheet(path: Path, entries: Sequence[Entry]) -> None:
    """Writes one picture of all photographs, before, after and clean."""
    rows, captions = [], []
    for entry in entries:
        assert entry.target and entry.scores
        rows.append(("", [read_rgb(one) for one in (entry.before, entry.after, entry.target)]))
        captions.append([f"{psnr:.2f} dB / {ssim:.3f}" for psnr, ssim in (entry.scores.before, entry.scores.after)])
    sheets.before_after(rows, ["before", "restored by MHNet", "clean"], [[*line, ""] for line in captions], path)


@exits_cleanly
def main() -> int:
    start = time.perf_counter()
    everything: list[Entry] = []
    for damage in DAMAGES:
        if damage.task not in bundled.shipping().values():
            print(f"{damage.name}: no weights for {damage.task.name} ship with this version, so that is left out\n")
            continue
        weights = bundled.for_task(damage.task)
        entries = restored(damage, weights)
        print(table(damage, weights, entries) + "\n")
        everything += [replace(entry, name=f"{damage.folder}/{entry.name}") for entry in entries]
    sheet, page = OUT / "before_after.png", OUT / "index.html"
    write_sheet(sheet, everything)
    about = {"weights": ", ".join(bundled.shipping()), "device": "cpu"}
    write_report(page, everything, "What make demo restored", about=about)
    print(f"done in {time.perf_counter() - start:.0f} seconds on the CPU; look at")
    print(f"  {page}  in a browser: a slider over every picture")
    print(f"  {sheet}  all of them on one sheet")
    print(f"  {OUT}  the restored photographs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
