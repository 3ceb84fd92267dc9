"""Every training setting with its default, the paper's recipe, and what values some of them can take."""

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
    return CfgNode(
        {
            "MODEL": {
                "ARCHITECTURE": "mhnet",
                "WIDTH": 32,
                "N_FEAT": task.n_feat,
                "ENCODER_BLOCKS": [1, 1, 1, 28],
                "GROUP_BLOCKS": 8,
                "WEIGHTS": "",
            },
            "DATA": {
                "TRAIN_DIR": task.train_dir,
                "TRAIN_TARGET_DIR": "",
                "VAL_DIR": "",
                "VAL_TARGET_DIR": "",
                "VAL_IMAGES": 32,
                "SELECT_BY_TEST_SET": False,
                "DEGRADE": "",
                "SHARP_DIR": "",
                "SHARP_REPEAT": 1,
                "SHARP_VAL_IMAGES": 0,
                "SEVERITY": [0.0, 1.0],
                "PATCH": 256,
                "PROGRESSIVE": [],
                "CANDIDATES": 1,
                "VAL_PATCH": 256,
                "REPEAT": 1,
                "WORKERS": 4,
                "PREFETCH": 4,
                "CACHE_MB": 500,
            },
            "OPTIM": {
                "LOSS": "psnr",
                "EDGE_WEIGHT": 0.0,
                "STAGE1_WEIGHT": 0.0,
                "OPTIMIZER": "adam",
                "BETAS": [0.9, 0.999],
                "EPS": 1e-8,
                "WEIGHT_DECAY": 0.0,
                "BATCH_SIZE": 16,
                "ACCUMULATE": 1,
                "EPOCHS": task.epochs,
                "WARMUP_EPOCHS": 3,
                "SCHEDULE": "epoch",
                "LR_INITIAL": 2e-4,
                "LR_MIN": 1e-6,
                "GRAD_CLIP": 0.0,
                "MAX_SKIPPED": 20,
                "EMA": 0.0,
            },
            "TRAINING": {
                "SAVE_DIR": "checkpoints/mhnet",
                "RESUME": True,
                "DEVICE": "auto",
                "PRECISION": "fp32",
                "CHANNELS_LAST": True,
                "COMPILE": False,
                "RECOMPUTE": False,
                "SEED": 1234,
                "TORCH_SEED": 42,
                "VAL_EVERY": 20,
                "SAVE_EVERY": 1,
                "SAVE_MINUTES": 10.0,
                "MAX_MINUTES": 0.0,
                "TENSORBOARD": True,
                "WANDB_PROJECT": "",
            },
        }
    )
