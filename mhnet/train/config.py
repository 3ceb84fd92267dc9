"""Training settings: defaults, a YAML file over them, `KEY VALUE` pairs over both, all checked by name."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from yacs.config import CfgNode

from mhnet.checkpoints import bundled
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import Task
from mhnet.models import MHNetArgs, MHNetV4Args

T = TypeVar("T")
PATHS = (
    "MODEL.WEIGHTS", "DATA.TRAIN_DIR", "DATA.TRAIN_TARGET_DIR", "DATA.VAL_DIR", "DATA.VAL_TARGET_DIR", "DATA.SHARP_DIR",
    "TRAINING.SAVE_DIR",
)  # fmt: skip
CHOICES = {
    "MODEL.ARCHITECTURE": ("mhnet", "mhnet_v4"),
    "OPTIM.SCHEDULE": ("epoch", "step"),
    "TRAINING.PRECISION": ("auto", "fp32", "bf16", "fp16"),
}
AT_LEAST = dict.fromkeys((
    "DATA.WORKERS", "DATA.CACHE_MB", "DATA.VAL_PATCH", "DATA.SHARP_VAL_IMAGES", "OPTIM.EPS", "OPTIM.WEIGHT_DECAY",
    "OPTIM.GRAD_CLIP", "OPTIM.EDGE_WEIGHT", "OPTIM.STAGE1_WEIGHT", "OPTIM.LR_MIN", "OPTIM.WARMUP_EPOCHS",
    "TRAINING.MAX_MINUTES", "TRAINING.SAVE_MINUTES",
), 0) | dict.fromkeys((
    "DATA.VAL_IMAGES", "DATA.PATCH", "DATA.REPEAT", "DATA.PREFETCH", "DATA.SHARP_REPEAT", "DATA.CANDIDATES",
    "OPTIM.BATCH_SIZE", "OPTIM.ACCUMULATE", "OPTIM.EPOCHS", "OPTIM.MAX_SKIPPED", "TRAINING.VAL_EVERY",
    "TRAINING.SAVE_EVERY",
), 1)  # fmt: skip
FREE = {
    "DATA": {"TRAIN_DIR", "TRAIN_TARGET_DIR", "VAL_DIR", "VAL_TARGET_DIR", "SHARP_DIR", "WORKERS", "PREFETCH",
             "CACHE_MB"},
    "OPTIM": {"ACCUMULATE", "MAX_SKIPPED"},
    "TRAINING": {"SAVE_DIR", "RESUME", "DEVICE", "CHANNELS_LAST", "COMPILE", "RECOMPUTE", "VAL_EVERY", "SAVE_EVERY",
                 "SAVE_MINUTES", "MAX_MINUTES", "TENSORBOARD", "WANDB_PROJECT"},
}  # fmt: skip
"""Settings that may change when a run goes on: data may have moved, and these change results by rounding at most."""
KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text", list: "a list"}


class ConfigError(MHNetError):
    """A setting that is unknown, of the wrong type or out of range."""


def defaults(task: Task) -> CfgNode:
    """The paper's recipe for a task. Every key of the YAML files stands here."""
    with Path(__file__).with_name("defaults.yml").open(encoding="utf-8") as file:
        settings = CfgNode.load_cfg(file)
    settings.MODEL.N_FEAT, settings.DATA.TRAIN_DIR, settings.OPTIM.EPOCHS = task.n_feat, task.train_dir, task.epochs
    return settings


def load_config(task: Task, path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """The settings of a run, frozen.

    Args:
        task: gives the defaults.
        path: the YAML file; relative paths in it start at its folder.
        overrides: `KEY VALUE KEY VALUE …`, such as `OPTIM.BATCH_SIZE 8`; relative paths start at the current folder.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    path, settings, kinds = Path(path), defaults(task), defaults(task)
    try:
        for section, values in CfgNode.load_cfg(path.read_text(encoding="utf-8")).items():
            if section in kinds and not isinstance(values, CfgNode | None):
                raise ConfigError(f"{section} is a section with keys below it, not {values!r}")
            if section not in kinds and not (isinstance(values, CfgNode) and values):
                default_of(section, kinds)  # which there is none of
            for name, value in (values or {}).items():
                key = f"{section}.{name}"
                settings[section][name] = fitted(value, default_of(key, kinds), key)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (AttributeError, AssertionError, TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} holds no settings: sections such as OPTIM were expected") from error
    anchor(settings, PATHS, path.resolve().parent)
    if len(overrides) % 2:
        raise ConfigError(f"overrides come as KEY VALUE pairs with a space between, and {overrides[-1]} has no partner")
    try:
        for key, text in zip(overrides[::2], overrides[1::2], strict=True):
            default = default_of(key, kinds)
            section, name = key.split(".")
            settings[section][name] = text if isinstance(default, str) else fitted(read_value(text, key), default, key)
    except ConfigError as error:
        raise ConfigError(f"the command line: {error}") from error
    anchor(settings, [key for key in overrides[::2] if key in PATHS], Path.cwd())
    _check(settings)
    settings.freeze()
    return settings


def default_of(key: str, kinds: CfgNode) -> Any:
    """The default of a key; ConfigError where there is none so called."""
    section, _, name = key.partition(".")
    if section in kinds and name in kinds[section]:
        return kinds[section][name]
    keys = [f"{section}.{name}" for section in kinds for name in kinds[section]]
    near = difflib.get_close_matches(key.upper(), keys, 1, 0.4)
    raise ConfigError(f"there is no setting {key}{f'; did you mean {near[0]}?' if near else ''}")


def fitted(value: Any, default: Any, key: str) -> Any:
    """A value as the default's type, or a ConfigError; 2e-4, which YAML takes for text, is meant as a number."""
    if isinstance(default, list) and default and isinstance(value, list) and len(value) == len(default):
        return [fitted(one, default[0], key) for one in value]
    if isinstance(default, str) and value is None:
        return ""
    if isinstance(default, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    if type(value) is not type(default) or isinstance(value, float) or (isinstance(default, list) and default):
        wanted = f"a list of {len(default)} values" if isinstance(default, list) and default else KINDS[type(default)]
        raise ConfigError(f"{key} must be {wanted}, not {value!r}")
    return value


def read_value(text: str, key: str) -> Any:
    """A value from the command line, written as in YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value {text!r} of {key} cannot be read: write a number, or a list as [1, 2]") from error


def network_arguments(settings: CfgNode) -> dict[str, Any]:
    """What the class of the network that the settings ask for is called with; the stage-1 head is built if its loss has
    a weight."""
    model = settings.MODEL
    arguments = {
        "width": model.WIDTH,
        "encoder_blocks": tuple(model.ENCODER_BLOCKS),
        "group_blocks": model.GROUP_BLOCKS,
        "stage1_head": settings.OPTIM.STAGE1_WEIGHT > 0,
    }
    return arguments if model.ARCHITECTURE == "mhnet_v4" else arguments | {"n_feat": model.N_FEAT}


def network_args(settings: CfgNode) -> MHNetArgs | MHNetV4Args:
    """The same as this package's networks take them; ConfigError where they cannot be."""
    kind = MHNetV4Args if settings.MODEL.ARCHITECTURE == "mhnet_v4" else MHNetArgs
    try:
        return kind(**network_arguments(settings))
    except ValueError as error:
        raise ConfigError(f"MODEL: {error}") from error


def one_of(choices: Mapping[str, T], settings: CfgNode, key: str) -> T:
    """What a setting names among choices; ConfigError where it is none of them."""
    section, name = key.split(".")
    return choose(choices, getattr(getattr(settings, section), name), key)


def choose(choices: Mapping[str, T], value: str, key: str) -> T:
    """What a value of a setting names among choices; ConfigError where it is none of them."""
    if value not in choices:
        raise ConfigError(f"{key} is {value!r}; it can be {', '.join(map(repr, choices))}")
    return choices[value]


class Stage(NamedTuple):
    """From an epoch on (counted from 0): side of the crops, and crops in a batch."""

    epoch: int
    patch: int
    batch: int


def stages(config: CfgNode) -> list[Stage]:
    """The stages of progressive training, as in Restormer (Zamir et al., CVPR 2022); one where the crops stay as they
    are. ConfigError where DATA.PROGRESSIVE is not a list of [epoch, patch, batch] with rising epochs."""
    found = [Stage(0, config.DATA.PATCH, config.OPTIM.BATCH_SIZE)]
    for entry in config.DATA.PROGRESSIVE:
        fits = isinstance(entry, list) and len(entry) == 3 and all(type(one) is int and one > 0 for one in entry)
        if not fits or not found[-1].epoch < entry[0] < config.OPTIM.EPOCHS:
            raise ConfigError(
                f"DATA.PROGRESSIVE {config.DATA.PROGRESSIVE} must be a list of [epoch, patch, batch], such as "
                f"[[100, 320, 8]], with epochs that rise and end before {config.OPTIM.EPOCHS}"
            )
        found.append(Stage(*entry))
    return found


def stage_of(found: Sequence[Stage], epoch: int) -> Stage:
    """The stage that an epoch belongs to."""
    return [stage for stage in found if stage.epoch <= epoch][-1]


def patch_by_epoch(settings: CfgNode) -> Callable[[int], int]:
    """The side of an epoch's crops, as a function of the epoch."""
    return partial(_patch_of, stages(settings))  # which, unlike a function in here, loader processes can be sent


def _patch_of(plan: Sequence[Stage], epoch: int) -> int:
    return stage_of(plan, epoch).patch


def as_dict(config: CfgNode) -> dict[str, Any]:
    """The settings as plain values, folders by their last two names only: what a checkpoint tells of its training."""
    plain = yaml.safe_load(config.dump())
    for key in PATHS:
        section, name = key.split(".")
        plain[section][name] = "/".join(Path(plain[section][name]).parts[-2:])
    return plain


def anchor(config: CfgNode, keys: Sequence[str], folder: Path) -> None:
    """Makes relative paths start at a folder."""
    for key in keys:
        section, name = key.split(".")
        if config[section][name] and config[section][name] not in bundled.NAMES:
            try:
                config[section][name] = str(folder / Path(config[section][name]).expanduser())
            except RuntimeError as error:
                raise ConfigError(f"{key} {config[section][name]!r} names no home folder that is here") from error


def _check(config: CfgNode) -> None:
    for key, choices in CHOICES.items():
        one_of(dict.fromkeys(choices), config, key)
    for key, least in AT_LEAST.items():
        section, name = key.split(".")
        if config[section][name] < least:
            raise ConfigError(f"{key} is {config[section][name]}; it must be at least {least}")
    optim, data, training = config.OPTIM, config.DATA, config.TRAINING
    low, high = data.SEVERITY
    of_test = "test" in Path(data.VAL_DIR.lower()).parts[-3:]
    pairs_only = data.DEGRADE and not data.SHARP_DIR
    faults = {
        f"DATA.SEVERITY {data.SEVERITY} must be two rising values in [0, 1]": not 0 <= low <= high <= 1,
        "DATA.TRAIN_TARGET_DIR and VAL_TARGET_DIR are for pairs, not for DATA.DEGRADE": pairs_only
        and data.TRAIN_TARGET_DIR + data.VAL_TARGET_DIR,
        "DATA.SHARP_DIR needs DATA.DEGRADE": data.SHARP_DIR and not data.DEGRADE,
        "DATA.VAL_TARGET_DIR needs DATA.VAL_DIR": data.VAL_TARGET_DIR and not data.VAL_DIR,
        "DATA.SELECT_BY_TEST_SET needs the test set in DATA.VAL_DIR": data.SELECT_BY_TEST_SET and not data.VAL_DIR,
        f"DATA.VAL_DIR {data.VAL_DIR} is a test set, and choosing weights by it flatters them: name other pairs, "
        "or set DATA.SELECT_BY_TEST_SET true": of_test and not data.SELECT_BY_TEST_SET,
        f"OPTIM.LR_INITIAL {optim.LR_INITIAL} must be above LR_MIN {optim.LR_MIN}": optim.LR_MIN >= optim.LR_INITIAL,
        f"OPTIM.WARMUP_EPOCHS {optim.WARMUP_EPOCHS} must be less than EPOCHS {optim.EPOCHS}": optim.WARMUP_EPOCHS
        >= optim.EPOCHS,
        f"OPTIM.BETAS {optim.BETAS} must lie in [0, 1)": not all(0 <= beta < 1 for beta in optim.BETAS),
        f"OPTIM.EMA {optim.EMA} must be 0 (off) or more, and less than 1": not 0 <= optim.EMA < 1,
        f"TRAINING.SEED {training.SEED} must be from 0 to 2^32 − 1": not 0 <= training.SEED < 1 << 32,
        f"TRAINING.TORCH_SEED {training.TORCH_SEED} must be from 0 to 2^63 − 1": not 0 <= training.TORCH_SEED < 1 << 63,
        "DATA.TRAIN_DIR and TRAINING.SAVE_DIR must be named": not (data.TRAIN_DIR and training.SAVE_DIR),
    }
    for sentence, wrong in faults.items():
        if wrong:
            raise ConfigError(sentence)
    network_args(config)
    stages(config)
