"""What is made of results once they lie on disk: scores against clean images, and sheets of before and after."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from mhnet.core.errors import MHNetError, printable
from mhnet.data.pairs import Pair, clean_side, match_folders
from mhnet.evaluation import sheets
from mhnet.evaluation.protocols import Score
from mhnet.evaluation.scoring import DEGRADED, MHNET, Evaluation, evaluate_pairs
from mhnet.images.read import read_rgb
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Job
from mhnet.restore.report import Entry, Scores

SHEETS = "compare"  # the folder of the sheets, in that of the results


def find_targets(jobs: Sequence[Job], targets: Path) -> dict[Path, Path]:
    """The clean images of all that is to be restored but videos, by source, paired by name as `mhnet.data.pairs` says.

    `targets` is a folder, or the clean image of a single job. MHNetError where the folder is missing, names are
    ambiguous, or nothing in it belongs to any image.
    """
    if targets.is_file():
        if len(jobs) != 1:
            raise MHNetError(f"{printable(targets)} is one image for {len(jobs)}: name the folder of the clean images.")
        return {jobs[0].source: targets}
    wanted = {job.source for job in jobs}
    found = {}
    for root in dict.fromkeys(job.root for job in jobs if not job.film):
        pairs = match_folders(root, clean_side(targets), wanted).pairs
        found |= {pair.degraded: pair.target for pair in pairs}
    if not found:
        raise MHNetError(f"No image in {printable(targets)} has the name of one to restore: check --targets.")
    return found


def score(outcomes: Iterable[Outcome], targets: dict[Path, Path], protocol: str, name: str) -> list[Evaluation]:
    """The scores of the images before and after, where there are clean ones and results."""
    there = [one.job for one in outcomes if one.has_result and one.job.source in targets]
    evaluations = []
    for method in (DEGRADED, MHNET):
        sides = [(job, job.source if method == DEGRADED else job.target) for job in there]
        pairs = [Pair(image, targets[job.source], str(job.source)) for job, image in sides]
        evaluation = evaluate_pairs(pairs, protocol, name=name)
        evaluation.method, evaluation.known = method, None  # these images may be any part of a public set
        evaluations.append(evaluation)
    return evaluations


def sheet_paths(jobs: Sequence[Job], folder: Path) -> dict[Path, Path]:
    """Where the sheet of every image, but of no video, goes in the results' folder, by source; MHNetError where one
    would lie among the originals or take the place of a result."""
    if any(os.path.realpath(job.root) == os.path.realpath(folder) for job in jobs):
        raise MHNetError(f"The sheets would lie among the originals in {printable(folder)}: name another with -o.")
    kept = {os.path.realpath(path) for job in jobs for path in (job.source, job.target)}
    paths: dict[Path, Path] = {}
    for job in jobs:
        if job.film:
            continue
        place = job.target.relative_to(folder)
        path = folder / SHEETS / place.with_name(f"{place.name}.jpg")
        if os.path.realpath(path) in kept:
            raise MHNetError(f"The sheet {printable(path)} would replace an image: name another folder with -o.")
        paths[job.source] = path
    return paths


def write_sheets(
    outcomes: Sequence[Outcome], paths: dict[Path, Path], targets: dict[Path, Path], progress: bool
) -> list[str]:
    """Writes the sheets of what was restored, and those that are missing; returns why one could not be."""
    made = [(one, paths[one.job.source]) for one in outcomes if one.has_result and one.job.source in paths]
    wanted = [(one.job, path) for one, path in made if one.status == "restored" or not path.exists()]
    reasons = []
    for job, path in tqdm(wanted, "comparing", unit="image", delay=2, leave=False, disable=None if progress else True):
        clean = {"clean": targets[job.source]} if job.source in targets else {}
        stages = {"before": job.source, "after": job.target} | clean
        try:
            pictures = [read_rgb(stage) for stage in stages.values()]
            sheets.before_after([("", pictures)], list(stages), None, path)
        except MHNetError as error:
            reasons.append(str(error))
    return reasons


def entries(outcomes: Sequence[Outcome], targets: dict[Path, Path], evaluations: Sequence[Evaluation]) -> list[Entry]:
    """What was restored as a page shows it, with the scores that there are."""
    sides = [{row.name: Score(row.psnr, row.ssim) for row in evaluation.rows} for evaluation in evaluations]
    found = []
    for job, notes in ((one.job, one.notes) for one in outcomes if one.has_result):
        scored = [side[str(job.source)] for side in sides if str(job.source) in side]
        scores = Scores(evaluations[0].protocol, *scored) if len(scored) == 2 else None
        name = job.source.relative_to(job.root).as_posix()
        found.append(Entry(name, job.source, job.target, targets.get(job.source), scores, "; ".join(notes)))
    return found
