"""What MHNet v4 does differently: selective attention, and a full-resolution stage of NAFBlocks and fusion."""

from __future__ import annotations

from drawing import INK, Canvas, Node

STEPS = 230  # height of the four steps
STEP = 560  # height of the inside of a step
FUSION = 760  # height of the middle of the adaptive fusion
SELECTION = 990  # height of the middle of the selective attention


def draw() -> Canvas:
    """The picture of MHNet v4's differences."""
    canvas = Canvas(1136)
    canvas.frame(14, 14, 866, 458, "MHNet v4")
    canvas.frame(14, 470, 866, 634, "Step k, k = 1..4")
    canvas.frame(14, 646, 866, 866, "AFFM(f, e, d): adaptive feature fusion")
    canvas.frame(14, 878, 866, 1096, "Selective attention")
    framework(canvas)
    step(canvas)
    fusion(canvas)
    selection(canvas)
    canvas.legend(1116, ["conv", "norm", "gate", "attention", "resample", "sum", "block", "plain"])
    return canvas


def framework(canvas: Canvas) -> None:
    """The whole network: encoders feed the steps from above, decoders through one shared layer from below."""
    y, low = STEPS, 440
    image = canvas.picture(62, y, "", rain=13)
    canvas.label(62, y + 38, "input image\nH×W×3", color=INK)
    context = canvas.box(122, 122, "context stage with selective\nattention in the middle", "block", 180, 40)
    shallow, join, fuse = canvas.row(
        104, y, [("conv 3×3\n3→w", "conv", 58), ("concat", "plain", 48), ("conv 1×1\n2w→w", "conv", 58)], gap=14
    )
    canvas.arrow(image.right, shallow.left)
    canvas.arrow(image.top, (image.x, context.bottom[1]))
    canvas.arrow((join.x, context.bottom[1]), join.top)
    canvas.label(join.x + 5, 180, "dec[3]", align="left", color=INK)
    canvas.arrow(context.right, (236, context.y))
    canvas.label(240, context.y, "enc[0..3]\ndec[0..3]", align="left", color=INK)

    shared = canvas.box(546, y + 64, "conv 1×1 dec, w→w: one layer shared by the four steps", "conv", 404, 24)
    before = fuse
    for k in (1, 2, 3, 4):
        node = canvas.box(390 + 104 * (k - 1), y, f"step {k}", "block", 62)
        canvas.arrow(before.right, node.left)
        before = node
        feeds(canvas, k, node, shared)
    canvas.label(326, y - 9, "H×W×w", 10)
    tail = canvas.box(776, y, "conv 3×3\nw→3", "conv", 58)
    total = canvas.sign(828, y, "+")
    restored = canvas.picture(828, 142, "restored\nimage\nH×W×3")
    canvas.arrow(before.right, tail.left)
    canvas.arrow(tail.right, total.left)
    canvas.arrow(image.left, (24, y), (24, low), (total.x, low), total.bottom)
    canvas.arrow(total.top, restored.bottom)
    canvas.label(
        40, 398, "↑2 c→c/2: conv 1×1 c→2c, PixelShuffle(2);\nno bias, every ↑2 has its own weights", align="left"
    )


def feeds(canvas: Canvas, k: int, node: Node, shared: Node) -> None:
    """The chains that bring enc[k-1] and dec[4-k] to step k."""
    x = node.x
    doublings = [(f"{2**i}w", f"{2 ** (i - 1)}w" if i > 1 else "w") for i in range(k - 1, 0, -1)]
    project = canvas.box(x, node.y - 64, f"conv 1×1\nenc$_{k}$, w→w", "conv", 76)
    height = project.y - 36 - 28 * len(doublings)
    canvas.label(x, height, f"enc[{k - 1}]", color=INK)
    start = (x, height + 8)
    for i, (a, b) in enumerate(doublings):
        up = canvas.box(x, height + 28 * (i + 1), f"↑2 {a}→{b}", "resample", 72, 18)
        canvas.arrow(start, up.top)
        start = up.bottom
    canvas.arrow(start, project.top)
    canvas.arrow(project.bottom, node.top)

    height = shared.y + 32 + 28 * len(doublings)
    canvas.label(x, height, f"dec[{4 - k}]", color=INK)
    start = (x, height - 8)
    for i, (a, b) in enumerate(doublings):
        up = canvas.box(x, height - 28 * (i + 1), f"↑2 {a}→{b}", "resample", 72, 18)
        canvas.arrow(start, up.bottom)
        start = up.top
    canvas.arrow(start, (x, shared.bottom[1]))
    canvas.arrow((x, shared.top[1]), node.bottom)


def step(canvas: Canvas) -> None:
    """The norm replaces x; the group of blocks has a residual of its own on top of theirs."""
    y = STEP
    canvas.label(34, y, "x", 12, INK)
    norm = canvas.box(122, y, "LN$_k$", "norm", 44)
    group = canvas.box(268, y, "NAFG$_k$:\n8 NAFBlocks", "block", 92, 34)
    total = canvas.sign(372, y, "+")
    merge = canvas.box(728, y, "AFFM$_k$", "attention", 62, 128)
    canvas.arrow((44, y), norm.left)
    canvas.arrow(norm.right, group.left)
    canvas.dot(204, y)
    canvas.arrow((204, y), (204, y + 34), (total.x, y + 34), total.bottom)
    canvas.arrow(group.right, total.left)
    canvas.arrow(total.right, (merge.left[0], y))
    canvas.arrow(merge.right, (806, y))
    canvas.label(810, y, "next x", 12, INK, "left")
    for x in (72, 174, 338, 530, 782):
        canvas.label(x, y - 9, "H×W×w", 10)
    canvas.label(676, y - 10, "f", 12, INK)
    for lane, source, layer, name in ((y - 46, "enc[k−1]", "enc$_k$", "e"), (y + 46, "dec[4−k]", "dec", "d")):
        canvas.label(494, lane, source, 12, INK, "right")
        up, project = canvas.row(520, lane, [("up", "resample", 44), (f"conv 1×1\n{layer}", "conv", 60)])
        canvas.arrow((498, lane), up.left)
        canvas.arrow(project.right, (merge.left[0], lane))
        canvas.label(676, lane - 10, name, 12, INK)
    canvas.label(26, y + 58, "LN$_k$ replaces x: nothing leads around it", align="left")


def fusion(canvas: Canvas) -> None:
    """One weight per channel and branch, each branch's weights summing to one over the channels."""
    y = FUSION
    total = canvas.sign(84, y, "+", h=122)
    mean, shrink, gate = canvas.row(
        136,
        y,
        [("mean\nover H, W", "plain", 66), ("conv 1×1\nc→m", "conv", 58), ("SimpleGate\nm→m/2", "gate", 72)],
        gap=18,
    )
    canvas.arrow(total.right, mean.left)
    canvas.arrow(mean.right, shrink.left)
    fork = (392, y)
    out = canvas.sign(748, y, "+", h=142)
    for lane, name, weight in ((y - 56, "f", "$a$"), (y, "e", "$a_e$"), (y + 56, "d", "$a_d$")):
        canvas.label(34, y + (lane - y) * 0.8, name, 12, INK)
        canvas.arrow((42, y + (lane - y) * 0.8), (total.left[0], y + (lane - y) * 0.8))
        grow, softmax = canvas.row(
            412, lane, [("conv 1×1\nm/2→c", "conv", 58), ("softmax over\nc channels", "plain", 86)], gap=16
        )
        bend = [(fork[0], lane)] if lane != y else []
        canvas.arrow(gate.right if lane == y else fork, *bend, grow.left)
        times = canvas.sign(668, lane, "×")
        canvas.arrow(softmax.right, times.left)
        canvas.label(615, lane - 9, f"{weight}, 1×1×c", 10)
        canvas.label(times.x, lane - 29, name, 12, INK)
        canvas.arrow((times.x, lane - 21), times.top)
        canvas.arrow(times.right, (out.left[0], lane))
        canvas.label(707, lane - 9, "H×W×c", 10)
    canvas.dot(*fork)
    canvas.label(379, y - 9, "z", 12, INK)
    canvas.arrow(out.right, (806, y))
    canvas.label(782, y - 9, "H×W×c", 10)
    canvas.label(810, y, "out", 12, INK, "left")
    canvas.label(26, y + 90, "m = max(⌊c/8⌋, 4); no bias", align="left")


def selection(canvas: Canvas) -> None:
    """The same attention map cut to four lengths, and a learned mixture of the four results."""
    y = SELECTION
    lanes = [y - 60, y - 20, y + 20, y + 60]
    fork = (98, y)
    canvas.label(34, y, "A", 12, INK)
    canvas.arrow((44, y), fork, head=False)
    canvas.label(70, y - 9, "8×C×C", 10)
    product = canvas.box(396, y, "$P_i$ v", "attention", 48, 152)
    out = canvas.sign(566, y, "+", h=146)
    for i, (lane, kept) in enumerate(zip(lanes, ("⌊C/2⌋", "⌊2C/3⌋", "⌊3C/4⌋", "⌊4C/5⌋"), strict=True)):
        keep, softmax = canvas.row(
            118, lane, [(f"keep top {kept}", "attention", 122), ("softmax,\nlast axis", "plain", 66)], gap=20
        )
        canvas.arrow(fork, (fork[0], lane), keep.left)
        canvas.arrow(softmax.right, (product.left[0], lane))
        scale = canvas.box(508, lane, f"× s$_{i + 1}$", "gate", 46, 24)
        canvas.arrow((product.right[0], lane), scale.left)
        canvas.label(452, lane - 9, "8×C×HW", 10)
        canvas.label(product.left[0] - 18, lane - 9, f"$P_{i + 1}$", 10)
        canvas.arrow(scale.right, (out.left[0], lane))
    canvas.dot(*fork)
    canvas.label(336, y + 90, "v", 12, INK)
    canvas.arrow((344, y + 90), (product.x, y + 90), product.bottom)
    join, last = canvas.row(646, y, [("join\nheads", "plain", 48), ("conv 1×1\nd→d", "conv", 58)])
    canvas.arrow(out.right, join.left)
    canvas.label(609, y - 9, "8×C×HW", 10)
    canvas.arrow(last.right, (806, y))
    canvas.label(810, y, "out", 12, INK, "left")
    canvas.label(850, 893, "A = q kᵀ · temperature; q, k, v as in the channel self-attention of MHNet", align="right")
    canvas.label(
        850,
        1072,
        "keep top: in every row of A, the rest −∞\ns$_1$..s$_4$: learned scalars, start at 0.2",
        align="right",
    )
