"""The full-resolution stage from the inside: SCAB, CABG, one step of CASNet, and the chains that feed it."""

from __future__ import annotations

from itertools import pairwise

from drawing import INK, Canvas

SCAB, CABG, STEP, CHAINS = 112, 228, 430, 574  # heights of the four parts


def draw() -> Canvas:
    """The picture of the full-resolution stage's parts."""
    canvas = Canvas(778)
    canvas.frame(14, 14, 866, 160, "SCAB")
    canvas.frame(14, 172, 866, 276, "CABG")
    canvas.frame(14, 288, 866, 508, "Step k of the full-resolution stage, k = 1..4")
    canvas.frame(14, 520, 866, 732, "up, then conv 1×1: from a level of the context stage to full size")
    scab(canvas)
    cabg(canvas)
    step(canvas)
    chains(canvas)
    canvas.legend(755, ["conv", "depthwise", "norm", "gate", "attention", "resample", "sum", "block", "plain"])
    return canvas


def scab(canvas: Canvas) -> None:
    """Two depthwise-pointwise pairs around a gate, then channel attention."""
    y = SCAB
    canvas.label(34, y, "in", 12, INK)
    canvas.dot(56, y)
    parts = canvas.row(
        70,
        y,
        [
            ("dw1 3×3\nn→n", "depthwise", 58),
            ("pw1 1×1\nn→n", "conv", 58),
            ("SimpleGate\nn→n/2", "gate", 72),
            ("dw2 3×3\nn/2→n/2", "depthwise", 62),
            ("pw2 1×1\nn/2→n", "conv", 58),
        ],
    )
    canvas.arrow((46, y), parts[0].left)
    canvas.frame(458, y - 70, 764, y + 20, "Channel attention, no sigmoid", "attention")
    mean = canvas.box(550, y - 34, "mean\nover H, W", "plain", 68)
    conv = canvas.box(666, y - 34, "conv 1×1\nn→n", "conv", 58)
    times = canvas.sign(742, y, "×")
    total = canvas.sign(796, y, "+")
    canvas.arrow(parts[-1].right, times.left)
    canvas.label(600, y + 10, "t, H×W×n", 10)
    canvas.dot(476, y)
    canvas.arrow((476, y), (476, y - 34), mean.left)
    canvas.arrow(mean.right, conv.left)
    canvas.label(610, y - 43, "1×1×n", 10)
    canvas.arrow(conv.right, (times.x, y - 34), times.top)
    canvas.arrow(times.right, total.left)
    canvas.arrow((56, y), (56, y + 34), (total.x, y + 34), total.bottom)
    canvas.arrow(total.right, (826, y))
    canvas.label(830, y, "out", 12, INK, "left")
    canvas.label(850, 29, "all convolutions with bias", align="right")


def cabg(canvas: Canvas) -> None:
    """Eight SCABs and a convolution inside one residual."""
    y = CABG
    canvas.label(34, y, "in", 12, INK)
    canvas.dot(56, y)
    start = (46, y)
    for i in range(8):
        block = canvas.box(98 + 75 * i, y, f"SCAB {i + 1}", "block", 58)
        canvas.arrow(start, block.left)
        start = block.right
    conv = canvas.box(704, y, "conv 3×3\nn→n", "conv", 60)
    total = canvas.sign(796, y, "+")
    canvas.arrow(start, conv.left)
    canvas.arrow(conv.right, total.left)
    canvas.label(760, y - 10, "H×W×n", 10)
    canvas.arrow((56, y), (56, y + 32), (total.x, y + 32), total.bottom)
    canvas.arrow(total.right, (826, y))
    canvas.label(830, y, "out", 12, INK, "left")
    canvas.label(850, 187, "conv 3×3 without bias", align="right")


def step(canvas: Canvas) -> None:
    """Normalise, refine, then add what the context stage knows at this level."""
    y = STEP
    canvas.label(34, y, "x", 12, INK)
    norm = canvas.box(126, y, "LN$_k$", "norm", 46)
    canvas.frame(204, y - 44, 458, y + 40, "CABG$_k$", "block")
    blocks, conv = canvas.row(236, y, [("8 SCABs", "block", 66), ("conv 3×3\nn→n", "conv", 60)])
    inner = canvas.sign(434, y, "+")
    total = canvas.sign(740, y - 38, "+", h=100)
    canvas.arrow((44, y), norm.left)
    canvas.arrow(norm.right, blocks.left)
    canvas.dot(220, y)
    canvas.arrow((220, y), (220, y + 28), (inner.x, y + 28), inner.bottom)
    canvas.arrow(conv.right, inner.left)
    canvas.arrow(inner.right, (total.left[0], y))
    canvas.arrow((total.right[0], y), (810, y))
    canvas.label(814, y, "next x", 12, INK, "left")
    for x in (72, 176, 401, 596, 779):
        canvas.label(x, y - 9, "H×W×n", 10)
    for lane, name, source in ((y - 100, "enc", "enc[k−1]"), (y - 50, "dec", "dec[4−k]")):
        canvas.label(534, lane, source, 12, INK, "right")
        up, project = canvas.row(560, lane, [("up", "resample", 44), (f"conv 1×1\n{name}$_k$", "conv", 60)])
        canvas.arrow((538, lane), up.left)
        canvas.arrow(project.right, *([(total.x, lane), total.top] if name == "enc" else [(total.left[0], lane)]))
        canvas.label(705, lane - 9, "H×W×n", 10)
    canvas.label(
        26,
        y + 62,
        "LN$_k$ replaces x: nothing leads around it, and the residual of CABG$_k$ starts after it",
        align="left",
    )


def chains(canvas: Canvas) -> None:
    """How many doublings each step needs, and the widths on the way."""
    canvas.label(782, CHAINS - 30, "enc$_k$, dec$_k$")
    for k in (1, 2, 3, 4):
        y = CHAINS + 36 * (k - 1)
        canvas.label(26, y, f"k = {k}", align="left", color=INK)
        canvas.label(74, y, f"enc[{k - 1}], dec[{4 - k}]", align="left", color=INK)
        size = f"/{2 ** (k - 1)}" if k > 1 else ""
        width = f"{2 ** (k - 1)}w" if k > 1 else "w"
        canvas.label(205, y - 9, f"H{size}×W{size}×{width}", 10)
        widths = [f"{2**i}w" for i in range(k - 1, 0, -1)] + ["n" if k > 1 else "w"]
        boxes: list[tuple[str, str, float]] = []
        for a, b in pairwise(widths):
            boxes += [("bilinear ×2", "resample", 72), (f"1×1 {a}→{b}", "conv", 76)]
        boxes.append((f"1×1 {widths[-1]}→n", "conv", 60))
        row = canvas.row(812 - sum(w for _, _, w in boxes) - 10 * (len(boxes) - 1), y, boxes, gap=10, h=22)
        canvas.arrow((164, y), row[0].left)
        canvas.arrow(row[-1].right, (826, y))
    canvas.label(
        26,
        CHAINS + 140,
        "No bias. Every doubling has its own weights: for every k, and for enc and dec apart. All chains end at H×W×n.",
        align="left",
    )
