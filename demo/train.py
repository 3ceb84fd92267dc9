"""`make demo-train`: train a small MHNet against synthetic rain for a few minutes, from nothing, and restore
photographs that it has not seen.

Everything it makes lies in demo/out/training. A second run goes on where the first one stopped.
"""

import subprocess
import sys
from pathlib import Path

from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.data.make import degrade_folder
from mhnet.data.pairs import Pair
from mhnet.evaluation import sheets
from mhnet.evaluation.scoring import Evaluation, evaluate_pairs
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb

DEMO = Path(__file__).resolve().parent
ROOM = DEMO.parent / "Deraining"
OUT = DEMO / "out" / "training"
PROTOCOL = "rain_y_matlab"


def run(script: str, *words: object) -> None:
    """Runs one of the room's scripts, as a person would."""
    print(f"$ python Deraining/{script} {' '.join(str(word) for word in words)}", flush=True)
    if subprocess.run([sys.executable, ROOM / script, *map(str, words)]).returncode:
        raise MHNetError(f"Deraining/{script} failed: what went wrong stands above ('make clean' starts afresh)")


def show(degraded: Evaluation, restored: Evaluation) -> str:
    """A table of the scores before and after."""
    lines = [f"{'photograph':<20}{'degraded':>18}{'restored':>18}{'gain':>10}    (PSNR / SSIM, {PROTOCOL})"]
    for name, before, after in [
        *((b.name, b, a) for b, a in zip(degraded.rows, restored.rows, strict=True)),
        ("mean", degraded.mean, restored.mean),
    ]:
        cells = (f"{score.psnr:.2f} dB / {score.ssim:.3f}" for score in (before, after))
        lines.append(f"{name:<20}{''.join(f'{cell:>18}' for cell in cells)}{after.psnr - before.psnr:>+7.2f} dB")
    return "\n".join(lines)


@exits_cleanly
def main() -> int:
    rainy = OUT / "rainy"
    degrade_folder(DEMO / "photos" / "test", rainy, "rain", severity=(0.3, 0.75))
    names = [path.stem for path in find_images(rainy / "target")]
    print("training a small MHNet for about three minutes, four at most", flush=True)
    run("train.py", "--config", DEMO / "training.yml")
    weights = OUT / "run" / "model_best.safetensors"
    run("test.py", "--input_dir", rainy, "--result_dir", OUT / "results", "--weights", weights)

    folders = [rainy / "input", OUT / "results" / "rainy", rainy / "target"]
    scores = [
        evaluate_pairs([Pair(folder / f"{name}.png", folders[2] / f"{name}.png", name) for name in names], PROTOCOL)
        for folder in folders[:2]
    ]
    print("\n" + show(*scores))
    rows = [(name, [read_rgb(folder / f"{name}.png") for folder in folders]) for name in names]
    captions = [
        [f"{row.psnr:.2f} dB / {row.ssim:.3f}" for row in pair] + [""]
        for pair in zip(*(score.rows for score in scores), strict=True)
    ]
    sheet = OUT / "before_after.png"
    sheets.before_after(rows, ["rain", "restored by MHNet", "clean"], captions, sheet)
    print(f"\nbefore and after: {sheet}\nrestored photographs: {folders[1]}\nweights: {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
