"""Many images through a network, from files to files."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mhnet import images
from mhnet.errors import MHNetError
from mhnet.restore.restorer import Restorer


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
            failures.append((source, str(error)))
    return failures
