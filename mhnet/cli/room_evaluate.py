"""The command line of the rooms' evaluate_PSNR_SSIM.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mhnet.cli import room_scores
from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.core.tasks import Task


@exits_cleanly
def evaluate_command(task: Task, room: Path, words: Sequence[str] | None = None) -> int:
    """`evaluate_PSNR_SSIM.py`: scores restored images that lie in `RESULTS/SET/`."""
    parser = argparse.ArgumentParser(description=f"PSNR and SSIM of restored images ({task.name}).")
    room_scores.add_sets(parser, task, room)
    return score_results(task, parser.parse_args(words))


def score_results(task: Task, args: argparse.Namespace) -> int:
    """Scores whichever results there are, with and without local statistics; the options are `room_scores.add_sets`'.

    Raises:
        MHNetError: there are none.
    """
    found, complete = room_scores.find_sets(task, args)
    places = {local: room_scores.results_in(args.result_dir, local) for local in (False, True)}
    there = [local for local, place in places.items() if any((place / one.name).is_dir() for one in found)]
    if not there:
        raise MHNetError(
            f"There are no results in {args.result_dir}: run test.py first, or name them with --result_dir"
        )
    return max(int(not complete), room_scores.score(found, there, args))
