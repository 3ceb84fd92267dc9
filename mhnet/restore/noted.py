"""What weights note of how they want to be restored with."""

from mhnet.weights import Checkpoint


def local_patch(checkpoint: Checkpoint, wanted: bool | None = None) -> int | None:
    """The patch that local statistics follow; None for global means.

    Weights that restore better with them note that in `checkpoint.provenance["local_statistics"]`: a patch, or true for
    the one that they were trained on.

    Args:
        wanted: None: as is noted, which is global means where nothing is. False: global means. True: the noted patch,
            or else the one of training, or else 256, the paper's.
    """
    noted = checkpoint.provenance.get("local_statistics")
    if isinstance(noted, bool) or not isinstance(noted, int) or noted < 1:
        noted = training_patch(checkpoint) if noted is True else None
    if wanted is None:
        return noted
    return (noted or training_patch(checkpoint)) if wanted else None


def training_patch(checkpoint: Checkpoint) -> int:
    """The side of the patches that the weights were trained on; 256, the paper's, where that is not noted."""
    try:
        patch = checkpoint.provenance["config"]["DATA"]["PATCH"]
    except (KeyError, TypeError):
        return 256
    return patch if isinstance(patch, int) and patch > 0 else 256
