"""Every training setting with its default, the paper's recipe, and what values some of them can take."""

from pathlib import Path

from yacs.config import CfgNode

from mhnet.core.tasks import Task

PATHS = (
    "MODEL.WEIGHTS", "DATA.TRAIN_DIR", "DATA.TRAIN_TARGET_DIR", "DATA.VAL_DIR", "DATA.VAL_TARGET_DIR", "DATA.SHARP_DIR",
    "TRAINING.SAVE_DIR",
)  # fmt: skip
CHOICES = {
    "MODEL.ARCHITECTURE": ("mhnet", "mhnet_v4"),
    "OPTIM.SCHEDULE": ("epoch", "step"),
    "TRAINING.PRECISION": ("fp32", "bf16", "fp16"),
}
AT_LEAST_ONE = (
    "DATA.VAL_IMAGES", "DATA.PATCH", "DATA.REPEAT", "DATA.PREFETCH", "DATA.SHARP_REPEAT", "DATA.CANDIDATES",
    "OPTIM.BATCH_SIZE", "OPTIM.ACCUMULATE", "OPTIM.EPOCHS", "OPTIM.MAX_SKIPPED", "TRAINING.VAL_EVERY",
    "TRAINING.SAVE_EVERY",
)  # fmt: skip
FREE = {
    "DATA": {"TRAIN_DIR", "TRAIN_TARGET_DIR", "VAL_DIR", "VAL_TARGET_DIR", "SHARP_DIR", "WORKERS", "PREFETCH",
             "CACHE_MB"},
    "OPTIM": {"ACCUMULATE", "MAX_SKIPPED"},
    "TRAINING": {"SAVE_DIR", "RESUME", "DEVICE", "CHANNELS_LAST", "COMPILE", "RECOMPUTE", "VAL_EVERY", "SAVE_EVERY",
                 "SAVE_MINUTES", "MAX_MINUTES", "TENSORBOARD", "WANDB_PROJECT"},
}  # fmt: skip
"""Settings that may change when a run goes on: data may have moved, and these change results by rounding at most."""


def defaults(task: Task) -> CfgNode:
    """The paper's recipe for a task. Every key of the YAML files stands here."""
    with Path(__file__).with_name("defaults.yml").open(encoding="utf-8") as file:
        settings = CfgNode.load_cfg(file)
    settings.MODEL.N_FEAT, settings.DATA.TRAIN_DIR, settings.OPTIM.EPOCHS = task.n_feat, task.train_dir, task.epochs
    return settings
