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
from mhnet.train.defaults import AT_LEAST_ONE, CHOICES, PATHS, defaults

T = TypeVar("T")
KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text", list: "a list"}


class ConfigError(MHNetError):
    """A setting that is unknown, of the wrong type or out of range."""


class Settings(CfgNode):
    """Settings that say in a sentence what is wrong with what is merged into them, and take 1 for 1.0.

    Args:
        task: gives the defaults, whose types all values have.
    """

    @classmethod
    def of(cls, task: Task) -> "Settings":
        made = cls(defaults(task))
        made.__dict__["kinds"] = defaults(task)  # beside the settings, as yacs keeps what is its own
        return made

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        for section, values in list(cfg_other.items()):
            if section in self and values is None:
                del cfg_other[section]
                continue
            if section in self and not isinstance(values, CfgNode):
                raise ConfigError(f"{section} is a section with keys below it, not {values!r}")
            if not isinstance(values, CfgNode):
                self.default(section)  # which there is none of
            for name, value in values.items():
                values[name] = fitted(value, self.default(f"{section}.{name}"), f"{section}.{name}")
        super().merge_from_other_cfg(cfg_other)

    def merge_from_list(self, cfg_list: list[str]) -> None:
        for position in range(0, len(cfg_list), 2):
            key, text = cfg_list[position : position + 2]
            default = self.default(key)
            value = text if isinstance(default, str) else fitted(read_value(text, key), default, key)
            cfg_list[position + 1] = repr(value)  # which yacs reads again as what it is
        super().merge_from_list(cfg_list)

    def default(self, key: str) -> Any:
        """The default of a key; ConfigError where there is none so called."""
        section, _, name = key.partition(".")
        if section in self and name in self[section]:
            return self.__dict__["kinds"][section][name]
        keys = [f"{section}.{name}" for section in self for name in self[section]]
        near = difflib.get_close_matches(key.upper(), keys, 1, 0.4)
        raise ConfigError(f"there is no setting {key}{f'; did you mean {near[0]}?' if near else ''}")


def load_config(task: Task, path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """The settings of a run, frozen.

    Args:
        task: gives the defaults.
        path: the YAML file; relative paths in it start at its folder.
        overrides: `KEY VALUE KEY VALUE …`, such as `OPTIM.BATCH_SIZE 8`; relative paths start at the current folder.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    path, settings = Path(path), Settings.of(task)
    try:
        settings.merge_from_file(str(path))
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
        settings.merge_from_list(list(overrides))
    except ConfigError as error:
        raise ConfigError(f"the command line: {error}") from error
    anchor(settings, [key for key in overrides[::2] if key in PATHS], Path.cwd())
    _check(settings)
    settings.freeze()
    return settings


def fitted(value: Any, default: Any, key: str) -> Any:
    """A value as the default's type; a number such as 2e-4, which YAML takes for text, is meant as a number.

    Raises:
        ConfigError: it is of another type.
    """
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
    are.

    Raises:
        ConfigError: an entry of DATA.PROGRESSIVE is not [epoch, patch, batch], or the epochs do not rise.
    """
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
    return partial(patch_of, stages(settings))


def patch_of(plan: Sequence[Stage], epoch: int) -> int:
    """The side of an epoch's crops."""
    return stage_of(plan, epoch).patch


def batch_of(plan: Sequence[Stage], epoch: int) -> int:
    """Crops in a batch of an epoch, of all processes together."""
    return stage_of(plan, epoch).batch


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
    def value(key: str) -> Any:
        section, name = key.split(".")
        return config[section][name]

    for key, choices in CHOICES.items():
        if value(key) not in choices:
            raise ConfigError(f"{key} is {value(key)!r}; it can be {', '.join(repr(one) for one in choices)}")
    for key in AT_LEAST_ONE:
        if value(key) < 1:
            raise ConfigError(f"{key} is {value(key)}; it must be at least 1")
    optim, data, training = config.OPTIM, config.DATA, config.TRAINING
    faults = {
        f"DATA.SEVERITY {data.SEVERITY} must be two rising values in [0, 1]": not 0
        <= data.SEVERITY[0]
        <= data.SEVERITY[1]
        <= 1,
        "DATA.TRAIN_TARGET_DIR and VAL_TARGET_DIR are for pairs, not for DATA.DEGRADE": bool(
            data.DEGRADE and not data.SHARP_DIR and data.TRAIN_TARGET_DIR + data.VAL_TARGET_DIR
        ),
        "DATA.SHARP_DIR needs DATA.DEGRADE, and SHARP_VAL_IMAGES 0 or more": data.SHARP_VAL_IMAGES < 0
        or bool(data.SHARP_DIR and not data.DEGRADE),
        "DATA.VAL_TARGET_DIR needs DATA.VAL_DIR": bool(data.VAL_TARGET_DIR and not data.VAL_DIR),
        f"DATA.VAL_PATCH {data.VAL_PATCH} must be 0 (whole images) or more": data.VAL_PATCH < 0,
        "DATA.SELECT_BY_TEST_SET needs the test set in DATA.VAL_DIR": data.SELECT_BY_TEST_SET and not data.VAL_DIR,
        f"DATA.VAL_DIR {data.VAL_DIR} is a test set, and choosing weights by it flatters them: name other pairs, "
        "or set DATA.SELECT_BY_TEST_SET true": _is_test_set(data.VAL_DIR) and not data.SELECT_BY_TEST_SET,
        f"DATA.WORKERS {data.WORKERS} and CACHE_MB {data.CACHE_MB} must not be negative": min(
            data.WORKERS, data.CACHE_MB
        )
        < 0,
        f"OPTIM.LR_INITIAL {optim.LR_INITIAL} must be above LR_MIN {optim.LR_MIN}, and that not negative": not 0
        <= optim.LR_MIN
        < optim.LR_INITIAL,
        f"OPTIM.WARMUP_EPOCHS {optim.WARMUP_EPOCHS} must be from 0 to less than EPOCHS {optim.EPOCHS}": not 0
        <= optim.WARMUP_EPOCHS
        < optim.EPOCHS,
        f"OPTIM.BETAS {optim.BETAS} must lie in [0, 1)": not all(0 <= beta < 1 for beta in optim.BETAS),
        "OPTIM.EPS, WEIGHT_DECAY, GRAD_CLIP, EDGE_WEIGHT and STAGE1_WEIGHT must not be negative": min(
            optim.EPS, optim.WEIGHT_DECAY, optim.GRAD_CLIP, optim.EDGE_WEIGHT, optim.STAGE1_WEIGHT
        )
        < 0,
        f"OPTIM.EMA {optim.EMA} must be 0 (off) or more, and less than 1": not 0 <= optim.EMA < 1,
        f"TRAINING.SEED {training.SEED} must be from 0 to 2^32 − 1": not 0 <= training.SEED < 1 << 32,
        f"TRAINING.TORCH_SEED {training.TORCH_SEED} must be from 0 to 2^63 − 1": not 0 <= training.TORCH_SEED < 1 << 63,
        "TRAINING.MAX_MINUTES and SAVE_MINUTES must be 0 (no limit) or more": min(
            training.MAX_MINUTES, training.SAVE_MINUTES
        )
        < 0,
        "DATA.TRAIN_DIR and TRAINING.SAVE_DIR must be named": not (data.TRAIN_DIR and training.SAVE_DIR),
    }
    for sentence, wrong in faults.items():
        if wrong:
            raise ConfigError(sentence)
    network_args(config)
    stages(config)


def _is_test_set(folder: str) -> bool:
    """Whether a folder is a `test` folder, or lies up to two below one."""
    return "test" in [part.lower() for part in Path(folder).parts[-3:]]
