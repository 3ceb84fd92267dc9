"""Which degraded image belongs to which clean one: layouts of folders, and names.

A set is a folder that holds two sides, known by their names: `input`, `blur`, `rain`, `rainy`, `lq` or `degraded`, and
`target`, `sharp`, `norain`, `clean`, `gt` or `hq`, each also with `_crops` behind. In PReNet's layout the clean images
lie loose beside `rainy/`, or both kinds in one folder, and are told apart by `rain-` and `norain-` in their names.

Names are compared without extension, case and the prefixes `rain`, `norain`, `blur` and `gt`, with `-` and `_` alike.
An equal name comes first; else a degraded image belongs to the clean one whose name, followed by `-` or `_`, begins
its own (`12_x2` to `12`), the longest such name where there are several.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted
from tqdm import tqdm

from mhnet.core.errors import shortened
from mhnet.core.files import StrPath
from mhnet.data.names import (
    DEGRADED_SIDES,
    NATURAL,
    PREFIX,
    SPLITS,
    TARGET_SIDES,
    Pair,
    PairError,
    comparable,
    read_lists,
    side_of,
    split_of,
)
from mhnet.images.header import Header, read_header
from mhnet.images.listing import find_images, walk_folder

_LACKING = "No image in {} has the name of {}; add it there, or take this away."
_OF_NO_SIDE = ("rainstreak_", "rainregion_")
_Key = tuple[str, str]


class Sides(NamedTuple):
    """The two folders of a set; in PReNet's layout the second is the first or holds it."""

    degraded: Path
    target: Path

    @property
    def holder(self) -> Path:
        """The folder of the set itself."""
        return self.target if self.target in (self.degraded, self.degraded.parent) else self.target.parent


class Matches(NamedTuple):
    """What two folders hold: pairs, degraded images without a clean one, clean images without a degraded one."""

    pairs: list[Pair]
    without_target: list[Path]
    without_input: list[Path]


def find_pairs(root: StrPath, split: str | None = None) -> list[Pair]:
    """All pairs of the sets at or below a folder, in natural order.

    Args:
        root: a set, or a folder with sets at any depth below it (raw GoPro: one per sequence; RealBlur: by its lists).
        split: 'train', 'val' or 'test': only sets below a folder of that name. Where no set lies below a folder
            named so, all are taken. Needed where the root holds several.

    Raises:
        PairError: a folder is empty, there are no pairs or several splits, an image has no partner, or names are
            ambiguous; ImageError, where a folder is missing or cannot be listed.
    """
    root = Path(root)
    if split not in (None, *SPLITS):
        raise PairError(f"There is no split '{split}'; use one of {', '.join(SPLITS)}.")
    lists, sets = find_sets(root)
    splits = [split_of(sides.holder.relative_to(root)) for sides in sets]
    present = sorted({name for name in splits if name} | set(lists))
    if split is None and len(present) > 1:
        raise PairError(f"{root} holds {' and '.join(present)}; name the split, or the folder of one of them.")
    if split is not None and present:
        sets = [sides for sides, name in zip(sets, splits, strict=True) if name == split]
        if not sets and split not in lists:
            raise PairError(f"{root} holds pairs for {' and '.join(present)} but none in a folder '{split}'; add it.")
    pairs = [pair for name, of_list in lists.items() if split in (None, name) for pair in of_list]
    for sides in sets:
        place = Path(*(part for part in sides.holder.relative_to(root).parts if part.lower() != split))
        pairs += [pair._replace(name=(place / pair.name).as_posix()) for pair in pair_folders(*sides)]
    return natsorted(pairs, key=lambda pair: pair.name, alg=NATURAL)


def find_sets(root: Path, required: bool = True) -> tuple[dict[str, list[Pair]], list[Sides]]:
    """What lies at or below a folder: the pairs of RealBlur's lists by split, and the sets that are in no list's care.
    PairError as by `find_sides` and `read_lists`, and where there is no set but one is required."""
    lists, sets = read_lists(root), find_sides(root)
    if required and not sets:
        raise PairError(
            f"No pairs at or below {root}; name a folder that holds one of {', '.join(DEGRADED_SIDES)} "
            f"beside one of {', '.join(TARGET_SIDES)}."
        )
    listed = {pair.degraded.parent.parent.parent for pairs in lists.values() for pair in pairs}
    return lists, [sides for sides in sets if sides.holder.parent not in listed]


def find_sides(root: StrPath) -> list[Sides]:
    """The sets at or below a folder, in natural order: of whole images rather than of `_crops`, where it holds both.
    PairError where a folder holds several candidates for one side."""
    found = []
    for here, folders, names in walk_folder(root):
        if sides := _sides_in(here, folders, names):
            found.append(sides)
            folders[:] = [name for name in folders if side_of(name) not in DEGRADED_SIDES + TARGET_SIDES]
    return natsorted(found, key=lambda sides: sides.degraded.as_posix(), alg=NATURAL)


def clean_side(folder: Path) -> Path:
    """The folder itself, or the clean side of the one set that it holds side by side."""
    sides = [one for one in find_sides(folder) if one.holder == folder]
    return sides[0].target if len(sides) == 1 else folder


def pair_folders(degraded_dir: StrPath, target_dir: StrPath) -> list[Pair]:
    """Pair the images of two folders and of their subfolders of the same names, in natural order.

    Raises PairError for a folder without images, an image without its partner, and names that are ambiguous.
    """
    pairs, alone = pair_results(degraded_dir, target_dir)
    if alone:
        raise PairError(_LACKING.format(degraded_dir, shortened(alone)))
    return pairs


def pair_results(results_dir: StrPath, target_dir: StrPath) -> tuple[list[Pair], list[Path]]:
    """The pairs as `pair_folders` gives them, and the clean images that nothing was restored for."""
    found = match_folders(results_dir, target_dir)
    if found.without_target:
        raise PairError(_LACKING.format(target_dir, shortened(found.without_target)))
    return found.pairs, found.without_input


def match_folders(degraded_dir: StrPath, target_dir: StrPath, only: Collection[Path] | None = None) -> Matches:
    """The pairs of two folders as `pair_folders` gives them, and the images without a partner; of the degraded images
    `only` these, if given."""
    degraded_dir, target_dir = Path(degraded_dir), Path(target_dir)
    degraded, targets = _keys(degraded_dir), _keys(target_dir)
    targets = _beginning("norain", targets) or targets  # in PReNet's layout those alone
    if target_dir == degraded_dir:
        degraded = _beginning("rain", degraded) or degraded
    for folder, side in ((degraded_dir, degraded), (target_dir, targets)):
        if not side:
            raise PairError(f"There are no images in {folder}; put them there, or name another folder.")
    if only is not None:
        degraded = {path: key for path, key in degraded.items() if path in only}
    for same in _grouped(degraded).values():
        _only(same)
    equal = _grouped(targets)
    stripped = _grouped({path: _strip(key) for path, key in targets.items()})
    pairs, missing, claims = [], [], {}
    for path, key in degraded.items():
        if found := equal.get(key) or stripped.get(_strip(key)):
            _only([claims.setdefault(found[0], path), path])
        elif not (found := _longest_beginning(_strip(key), stripped)):
            missing.append(path)
            continue
        pairs.append(Pair(path, _only(found), path.relative_to(degraded_dir).with_suffix("").as_posix()))
    taken = {pair.target for pair in pairs}
    return Matches(pairs, missing, [path for path in targets if path not in taken])


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Raise PairError naming the first pair whose two images differ in size, or of which one is grey and one in colour.

    Reads headers only; ImageError for a file that is no image.
    """
    for pair in tqdm(pairs, "checking pairs", unit="pair", delay=2, leave=False, disable=None):
        if fault := mismatch(pair, read_header(pair.degraded), read_header(pair.target)):
            raise PairError(fault)


def mismatch(pair: Pair, degraded: Header, target: Header) -> str | None:
    """What keeps two images from being a pair, as a sentence."""
    for path, head in ((pair.degraded, degraded), (pair.target, target)):
        if head.mode == "F":
            return f"{path} holds numbers with a fraction; export it again with whole numbers of 8 or 16 bits."
    clean = f"its clean image {pair.target}"
    if degraded.upright_size != target.upright_size:
        size, clean_size = (f"{height}×{width}" for height, width in (degraded.upright_size, target.upright_size))
        return f"{pair.degraded} has {size} pixels and {clean} {clean_size}; a pair needs one size."
    if degraded.grey != target.grey:
        kind, clean_kind = ("grey" if head.grey else "RGB" for head in (degraded, target))
        return f"{pair.degraded} is {kind} and {clean} {clean_kind}; both must be RGB."
    return None


def _sides_in(here: Path, folders: list[str], files: list[str]) -> Sides | None:
    """The set that a folder holds, if any."""
    for crops in (False, True):
        kind = [name for name in folders if name.lower().endswith("_crops") == crops]
        degraded = [name for name in kind if side_of(name) in DEGRADED_SIDES]
        targets = [name for name in kind if side_of(name) in TARGET_SIDES]
        if degraded and targets:
            for several in (degraded, targets):
                if len(several) > 1:
                    raise PairError(f"{here} holds {' and '.join(several)} for one side; move all but one elsewhere.")
            return Sides(here / degraded[0], here / targets[0])
    kinds = {match[1] for name in files if (match := PREFIX.match(comparable(name)))}
    if "norain" in kinds:
        rainy = [name for name in folders if side_of(name) in ("rain", "rainy")]
        if rainy:
            return Sides(here / rainy[0], here)
        if "rain" in kinds:
            return Sides(here, here)
    return None


def _keys(folder: Path) -> dict[Path, _Key]:
    """What is compared of every image below a folder that may belong to a side: its subfolder and its name."""
    keys = {}
    for path in find_images(folder, recursive=True):
        place = path.relative_to(folder)
        key = comparable(place.parent.as_posix()), comparable(place.stem)
        if not key[1].startswith(_OF_NO_SIDE):
            keys[path] = key
    return keys


def _beginning(prefix: str, keys: dict[Path, _Key]) -> dict[Path, _Key]:
    """The images that lie in the folder itself and whose names begin with a prefix."""
    found = ((path, key, PREFIX.match(key[1])) for path, key in keys.items() if key[0] == ".")
    return {path: key for path, key, match in found if match and match[1] == prefix}


def _strip(key: _Key) -> _Key:
    """A key without the prefix of its side."""
    return key[0], PREFIX.sub("", key[1])


def _grouped(keys: dict[Path, _Key]) -> dict[_Key, list[Path]]:
    groups: dict[_Key, list[Path]] = {}
    for path, key in keys.items():
        groups.setdefault(key, []).append(path)
    return groups


def _only(paths: list[Path]) -> Path:
    """The one image of that name; PairError where there are two."""
    for other in paths[1:]:
        if other != paths[0]:
            raise PairError(
                f"{paths[0]} and {other} have the same name when extension, case, '-' for '_' and prefixes such as "
                "'rain-' are left aside; rename or remove one."
            )
    return paths[0]


def _longest_beginning(key: _Key, targets: dict[_Key, list[Path]]) -> list[Path] | None:
    """The clean images whose name is the longest beginning of a name that ends before a separator."""
    parts = key[1].split("_")
    beginnings = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((targets[key[0], name] for name in beginnings if (key[0], name) in targets), None)
