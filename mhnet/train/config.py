"""Training settings: defaults, a YAML file over them, `KEY VALUE` pairs over both, all checked by name."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yacs.config import CfgNode

from mhnet.checkpoints import bundled
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import Task
from mhnet.models import MHNetArgs, MHNetV4Args
from mhnet.train.defaults import AT_LEAST_ONE, CHOICES, PATHS, defaults


class ConfigError(MHNetError):
    """A setting that is unknown, of the wrong type or out of range."""


def load_config(task: Task, path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """The settings of a run, frozen.

    Args:
        task: gives the defaults.
        path: the YAML file; relative paths in it start at its folder.
        overrides: `KEY VALUE KEY VALUE …`, such as `OPTIM.BATCH_SIZE 8`; relative paths start at the current folder.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    path, config, kinds = Path(path), defaults(task), defaults(task)
    _merge(config, kinds, _read(path), str(path))
    _anchor(config, PATHS, path.resolve().parent)
    if len(overrides) % 2:
        raise ConfigError(f"overrides come as KEY VALUE pairs with a space between, and {overrides[-1]} has no partner")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        _set(config, kinds, key, text if _is_text(config, key) else _parse(text, key), "the command line")
        _anchor(config, [key] if key in PATHS else [], Path.cwd())
    _check(config)
    config.freeze()
    return config


def network_args(config: CfgNode) -> MHNetArgs | MHNetV4Args:
    """The arguments of the network that the settings ask for; the stage-1 head is built if its loss has a weight."""
    model = config.MODEL
    common = {
        "width": model.WIDTH,
        "encoder_blocks": tuple(model.ENCODER_BLOCKS),
        "group_blocks": model.GROUP_BLOCKS,
        "stage1_head": config.OPTIM.STAGE1_WEIGHT > 0,
    }
    try:
        if model.ARCHITECTURE == "mhnet_v4":
            return MHNetV4Args(**common)
        return MHNetArgs(n_feat=model.N_FEAT, **common)
    except ValueError as error:
        raise ConfigError(f"MODEL: {error}") from error


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


def as_dict(config: CfgNode) -> dict[str, Any]:
    """The settings as plain values, folders by their last two names only: what a checkpoint tells of its training."""
    plain = yaml.safe_load(config.dump())
    for key in PATHS:
        section, name = key.split(".")
        plain[section][name] = "/".join(Path(plain[section][name]).parts[-2:])
    return plain


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds no settings: sections such as OPTIM were expected")
    return content or {}


def _is_text(config: CfgNode, key: str) -> bool:
    section, _, name = key.partition(".")
    return section in config and isinstance(config[section].get(name), str)


def _parse(text: str, key: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value {text!r} of {key} cannot be read: write a number, or a list as [1, 2]") from error


def _merge(config: CfgNode, kinds: CfgNode, content: Mapping[str, Any], source: str) -> None:
    for section, values in content.items():
        if section in config and values is None:
            continue
        if section in config and not isinstance(values, Mapping):
            raise ConfigError(f"{source}: {section} is a section with keys below it, not {values!r}")
        for key, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            _set(config, kinds, f"{section}.{key}".rstrip("."), value, source)


def _set(config: CfgNode, kinds: CfgNode, key: str, value: Any, source: str) -> None:
    """Sets a key to a value of the kind that its default is."""
    section, _, name = str(key).partition(".")
    if section not in config or name not in config[section]:
        known = [f"{section}.{name}" for section in config for name in config[section]]
        near = difflib.get_close_matches(str(key).upper(), known, 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{source}: there is no setting {key}{hint}")
    config[section][name] = _coerced(value, kinds[section][name], f"{source}: {key}")


def _coerced(value: Any, default: Any, what: str) -> Any:
    """The value as the default's type; a number such as 2e-4, which YAML takes for text, is meant as a number."""
    if default == []:
        if not isinstance(value, list):
            raise ConfigError(f"{what} must be a list, not {value!r}")
        return value
    if isinstance(default, list):
        if not isinstance(value, list) or len(value) != len(default):
            raise ConfigError(f"{what} must be a list of {len(default)} values, not {value!r}")
        return [_coerced(one, default[0], what) for one in value]
    if isinstance(default, str):
        if value is None or isinstance(value, str):
            return value or ""
        raise ConfigError(f"{what} must be text, not {value!r}")
    if isinstance(default, bool) or isinstance(value, bool):
        if isinstance(default, bool) and isinstance(value, bool):
            return value
        raise ConfigError(
            f"{what} must be {'true or false' if isinstance(default, bool) else 'a number'}, not {value!r}"
        )
    if isinstance(default, int):
        if isinstance(value, int):
            return value
        raise ConfigError(f"{what} must be a whole number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{what} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise ConfigError(f"{what} must be a finite number, not {value!r}")
    return number


def _anchor(config: CfgNode, keys: Sequence[str], folder: Path) -> None:
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
