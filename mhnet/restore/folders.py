"""Many images through a network, from files to files."""

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mhnet import images
from mhnet.errors import MHNetError
from mhnet.restore.restorer import Restorer


def check_targets(targets: Sequence[Path], originals: Sequence[Path]) -> None:
    """Makes the folders that results go to, before any work is done.

    Raises:
        MHNetError: a result would replace an original, or a folder cannot be written to.
    """
    kept = {path.resolve() for path in originals}
    for target in targets:
        if target.resolve() in kept:
            raise MHNetError(f"{target} would be replaced by its own restored image: name another --result_dir")
    for folder in {target.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MHNetError(f"{folder} cannot be made ({error.strerror}): name another --result_dir") from error
        if not os.access(folder, os.W_OK):
            raise MHNetError(f"{folder} cannot be written to: name another --result_dir")


def restore_files(restorer: Restorer, files: Sequence[tuple[Path, Path]], title: str = "") -> list[tuple[Path, str]]:
    """Restores images to other files, each written whole or not at all; one that fails does not stop the rest.

    Args:
        restorer: the network.
        files: (image, where its restored one goes).
        title: what stands before the progress bar.

    Returns:
        The images that failed, each with the reason.
    """
    failures: list[tuple[Path, str]] = []
    for source, target in tqdm(files, f"restoring {title}".strip(), unit="image", delay=1, leave=False, disable=None):
        try:
            images.write(target, restorer(images.read(source)))
        except MHNetError as error:  # noqa: PERF203
            target.unlink(missing_ok=True)  # what an earlier run left there is not this run's result
            failures.append((source, str(error)))
    return failures
