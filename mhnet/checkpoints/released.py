"""Names of parameters in the authors' released checkpoints, and what they say of the network they belong to.

The names are facts read off the released files; our own follow the field's terms. Some released parameters are dead:
no computation uses them. They are dropped on reading, and written as zeros for code that insists on them.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mhnet.models import MHNet, MHNetArgs, MHNetV4, MHNetV4Args

State = Mapping[str, Tensor]
Args = MHNetArgs | MHNetV4Args
ARCHITECTURES: dict[str, type[Args]] = {"mhnet": MHNetArgs, "mhnet_v4": MHNetV4Args}

# (our name, the published one) as regular expressions; every rule that matches is applied, in this order.
_BOTH = [
    (r"^context\.head\.", "stage1.ending."),
    (r"^context\.attention\.", "stage1.middle_blks.0."),
    (r"^context\.(decoders\.\d)\.", r"stage1.\1.0."),
    (r"^context\.", "stage1."),
    (r"\.qkv_depthwise\.", ".qkv_dwconv."),
    (r"\.project\.", ".project_out."),
    (r"^full_resolution\.", "stage2."),
]
_V1 = [
    *_BOTH,
    (r"^(stage1\..*)\.sca\.", r"\1.sca.1."),
    (r"^shallow\.", "shallow_feat1.0."),
    (r"^dual_attention\.conv1\.", "shallow_feat1.1.body.0."),
    (r"^dual_attention\.conv2\.", "shallow_feat1.1.body.2."),
    (r"^dual_attention\.spatial\.", "shallow_feat1.1.SA.spatial.conv."),
    (r"^dual_attention\.squeeze\.", "shallow_feat1.1.CA.conv_du.0."),
    (r"^dual_attention\.excite\.", "shallow_feat1.1.CA.conv_du.2."),
    (r"^dual_attention\.merge\.", "shallow_feat1.1.conv1x1."),
    (r"^merge\.", "concat12."),
    (r"^stage2\.intro\.", "stage2.info."),
    (r"\.group\.blocks\.(\d+)\.sca\.", r".group.blocks.\1.SCA.conv_du.0."),
    (r"\.group\.blocks\.(\d+)\.(depth|point)wise1\.", r".group.blocks.\1.body.0.\2_conv."),
    (r"\.group\.blocks\.(\d+)\.(depth|point)wise2\.", r".group.blocks.\1.body.2.\2_conv."),
    (r"\.group\.blocks\.", ".group.body."),
]
_V4 = [
    *_BOTH,
    (r"\.sca\.", ".sca.1."),
    (r"^shallow\.", "intro2."),
    (r"^merge\.", "concat12."),
    (r"^tail\.", "ending."),
    (r"^stage2\.decoder_conv\.", "stage2.conv_dnc1."),
    (r"\.fusion\.squeeze\.", ".fusion.conv_du.0."),
    (r"\.fusion\.features\.", ".fusion.fcs.0."),
    (r"\.fusion\.encoder\.", ".fusion.fcs.1."),
    (r"\.fusion\.decoder\.", ".fusion.fcs.2."),
]
_DEAD = {MHNetArgs: r"^info\.", MHNetV4Args: r"^(intro|stage2\.conv_dnc[234])\."}
_STEP = re.compile(r"^stage2\.steps\.(\d)\.(\w+)\.(.*)$")
_SHARE = re.compile(r"\.shares\.(\d)$")


def published_name(name: str, args: Args) -> str:
    """The released checkpoints' name of one of our parameters."""
    for ours, theirs in _V1 if isinstance(args, MHNetArgs) else _V4:
        name = re.sub(ours, theirs, name)
    name = _SHARE.sub(lambda found: f".attn{int(found[1]) + 1}", name)
    if found := _STEP.match(name):
        return "stage2." + _published_step(int(found[1]), found[2], found[3], args)
    return name


def _published_step(step: int, part: str, rest: str, args: Args) -> str:
    if part == "norm":
        return f"norm{step + 1}.{rest}"
    if part == "group":
        if isinstance(args, MHNetArgs):
            rest = re.sub(r"^conv\.", f"body.{args.group_blocks}.", rest)
        return f"CABG{step + 1}.{rest}"
    if part == "fusion":
        return f"skff{step + 1}.{rest}"
    side = part[:3]  # encoder_term, decoder_term, decoder_up
    index, _, leaf = rest.partition(".")
    if part != "decoder_up" and int(index) == step:
        return f"conv_{side}{step + 1}.{leaf}"
    chain = f"up_{side}{step}" if step == 1 else f"up_{side}{step}.{index}"
    return f"{chain}.up.{leaf}"


def expected_by_others(args: Args) -> dict[str, tuple[int, ...]]:
    """Published names and shapes of the parameters that other code expects and this network does not have: dead ones,
    and the stage-1 head where it is not built."""
    if isinstance(args, MHNetArgs):
        names = {"info.weight": (args.n_feat, args.width, 1, 1), "info.bias": (args.n_feat,)}
    else:
        names = {f"stage2.conv_dnc{k}.weight": (args.width, args.width, 1, 1) for k in (2, 3, 4)}
        names["intro.weight"] = (args.width, 3, 3, 3)
    if not args.stage1_head:
        names |= {"stage1.ending.weight": (3, args.width, 3, 3), "stage1.ending.bias": (3,)}
    return names


def recognise(state: State) -> Args | None:
    """The arguments of the network that parameters belong to, read off names (ours or the published ones) and shapes;
    None if no MHNet has such parameters."""
    ours = "context.intro.weight" in state
    context, stage2 = ("context", "full_resolution") if ours else ("stage1", "stage2")
    v4 = f"{stage2}.decoder_conv.weight" in state or f"{stage2}.conv_dnc1.weight" in state
    if v4:
        block = r"steps\.0\.group\.(\d+)\." if ours else r"CABG1\.(\d+)\."
    else:
        block = r"steps\.0\.group\.blocks\.(\d+)\." if ours else r"CABG1\.body\.(\d+)\.body\."
    try:
        common: dict[str, Any] = {
            "width": state[f"{context}.intro.weight"].shape[0],
            "encoder_blocks": tuple(_count(state, rf"{context}\.encoders\.{level}\.(\d+)\.") for level in range(4)),
            "group_blocks": _count(state, rf"{stage2}\.{block}"),
            "stage1_head": f"{context}.{'head' if ours else 'ending'}.weight" in state,
        }
        if v4:
            return MHNetV4Args(**common)
        return MHNetArgs(n_feat=state[f"{stage2}.{'intro' if ours else 'info'}.weight"].shape[0], **common)
    except (KeyError, ValueError, IndexError):
        return None


def _count(state: State, pattern: str) -> int:
    """How many different indices stand in the names that match."""
    matches = (re.match(pattern, name) for name in state)
    return len({found[1] for found in matches if found})


def to_published(state: State, args: Args) -> dict[str, Tensor]:
    """Our parameters under the published names; those that only other code expects are zeros of the same type."""
    renamed = {published_name(name, args): tensor for name, tensor in state.items()}
    dtype = next(iter(state.values())).dtype
    return renamed | {name: torch.zeros(shape, dtype=dtype) for name, shape in expected_by_others(args).items()}


def from_published(state: State, args: Args, names: Iterable[str]) -> dict[str, Tensor]:
    """Published parameters under our names, the dead ones dropped; foreign names stay as they are. `names` are ours of
    all the network's parameters."""
    ours = {published_name(name, args): name for name in names}
    if not args.stage1_head:  # written as zeros for other code
        state = {name: tensor for name, tensor in state.items() if not name.startswith("stage1.ending.")}
    return {ours.get(name, name): tensor for name, tensor in state.items() if not re.match(_DEAD[type(args)], name)}


def build(args: Args) -> MHNet | MHNetV4:
    """The network that the arguments describe."""
    return MHNet(args) if isinstance(args, MHNetArgs) else MHNetV4(args)


@lru_cache(maxsize=4)
def blueprint(args: Args) -> MHNet | MHNetV4:
    """The network that the arguments describe, on the meta device, without values; not to be changed."""
    with torch.device("meta"):
        return build(args)
