"""The context stage: the encoder-decoder, and inside it the NAFBlock and the channel self-attention."""

from __future__ import annotations

from drawing import INK, Canvas, Node

LEVELS, PITCH = 192, 72  # height of the first level; distance between levels
BLOCK = 588  # height of the NAFBlock's first half
ATTENTION = 866  # height of the middle of the channel self-attention


def draw() -> Canvas:
    """The picture of the context stage and its parts."""
    canvas = Canvas(978)
    canvas.frame(14, 14, 866, 520, "Context stage")
    canvas.frame(14, 532, 866, 760, "NAFBlock(c): H×W×c → H×W×c")
    canvas.frame(14, 772, 866, 938, "Channel self-attention")
    encoder_decoder(canvas)
    nafblock(canvas)
    channel_attention(canvas)
    canvas.legend(959, ["conv", "depthwise", "norm", "gate", "attention", "resample", "sum", "block", "plain"])
    return canvas


def encoder_decoder(canvas: Canvas) -> None:
    """Four levels down on the left, four up on the right, the sums of the skips on the way up."""
    image = canvas.picture(124, 92, "input image\nH×W×3", rain=13)
    intro = canvas.box(124, 142, "conv 3×3  3→w", "conv", 96, 24)
    attention = canvas.box(440, LEVELS + 4 * PITCH, "channel self-attention, 8 heads", "attention", 196)
    canvas.label(440, LEVELS + 4 * PITCH + 26, "H/16×W/16×16w, no residual around it")
    canvas.arrow(image.bottom, intro.top)

    below: list[tuple[Node, Node]] = []
    before = intro.bottom
    for level, blocks in enumerate(("1 NAFBlock", "1 NAFBlock", "1 NAFBlock", "28 NAFBlocks")):
        x, y = 124 + 65 * level, LEVELS + PITCH * level
        width, double = (f"{2**level}w" if level else "w"), f"{2 ** (level + 1)}w"
        encoder = canvas.box(x, y, blocks, "block", 86)
        canvas.arrow(before, encoder.top)
        turn = x + 65
        skip = canvas.sign(880 - turn, y, "+")
        decoder = canvas.box(880 - x, y, "1 NAFBlock", "block", 86)
        canvas.arrow(encoder.right, skip.left)
        canvas.dot(turn, y)
        canvas.arrow(skip.right, decoder.left)
        canvas.arrow(decoder.right, (880 - x + 60, y))
        canvas.label(880 - x + 64, y, f"dec[{3 - level}]", align="left", color=INK)
        canvas.label(440, y - 9, f"enc[{level}]", color=INK)
        size = f"/{2**level}" if level else ""
        canvas.label(440, y + 10, f"H{size}×W{size}×{width}")

        down = canvas.box(turn, y + 37, f"↓2 {width}→{double}", "resample", 70, 20)
        up = canvas.box(880 - turn, y + 37, f"↑2 {double}→{width}", "resample", 70, 20)
        canvas.arrow((turn, y), down.top)
        canvas.arrow(up.top, skip.bottom)
        for upper in below:
            canvas.arrow(decoder.top, upper[1].bottom)
        below = [(down, up)]
        before = down.bottom
    canvas.arrow(before, (before[0], attention.top[1]))
    canvas.arrow((880 - before[0], attention.top[1]), below[0][1].bottom)

    head = canvas.box(756, 142, "conv 3×3  w→3", "conv", 96, 24, dashed=True)
    total = canvas.sign(756, 92, "+")
    stage1 = canvas.picture(818, 92, "stage-1 image\nH×W×3", rain=4)
    canvas.arrow((756, LEVELS - 15), head.bottom, dashed=True)
    canvas.arrow(head.top, total.bottom, dashed=True)
    canvas.arrow(image.right, total.left, dashed=True)
    canvas.arrow(total.right, stage1.left, dashed=True)
    canvas.label(
        30,
        466,
        "↓2: conv 2×2, stride 2, no padding, c→2c\n↑2: conv 1×1 c→2c, PixelShuffle(2)\ndashed: optional stage-1 head",
        align="left",
    )
    canvas.label(
        850,
        466,
        "enc[k−1] and dec[4−k] also feed step k of\nthe full-resolution stage; dec[3] also joins\n"
        "the shallow branch before it",
        align="right",
    )


def nafblock(canvas: Canvas) -> None:
    """Both halves of a block, each with its residual."""
    y = BLOCK + 26
    halves = (
        (y, "in", "LN1", [("conv 1×1\nc→2c", "conv", 60), ("dw 3×3\n2c→2c", "depthwise", 60)], "β", "y"),
        (y + 94, "y", "LN2", [("conv 1×1\nc→2c", "conv", 60)], "γ", "out"),
    )
    for y, start, norm, convs, scale, end in halves:
        canvas.label(34, y, start, 12, INK)
        parts = canvas.row(72, y, [(norm, "norm", 38), *convs, ("SimpleGate\n2c→c", "gate", 72)])
        canvas.arrow((46, y), parts[0].left)
        canvas.dot(56, y)
        gate = parts[-1]
        x = gate.right[0] + 16
        if start == "in":
            canvas.frame(x - 6, y - 64, x + 238, y + 20, "SCA", "attention")
            mean = canvas.box(x + 64, y - 38, "mean\nover H, W", "plain", 68)
            conv = canvas.box(x + 174, y - 38, "conv 1×1\nc→c", "conv", 60)
            times = canvas.sign(x + 222, y, "×")
            canvas.arrow(gate.right, times.left)
            canvas.arrow((x + 10, y), (x + 10, y - 38), mean.left)
            canvas.arrow(mean.right, conv.left)
            canvas.arrow(conv.right, (times.x, y - 38), times.top)
            canvas.dot(x + 10, y)
            canvas.label(x + 121, y - 48, "1×1×c", 10)
            gate, x = times, x + 254
        tail = canvas.row(x, y, [("conv 1×1\nc→c", "conv", 60), ("×", "gate", 0), ("+", "sum", 0)], gap=18)
        canvas.arrow(gate.right, tail[0].left)
        canvas.label(tail[1].x, y - 34, scale, 12.5, INK)
        canvas.arrow((tail[1].x, y - 25), tail[1].top)
        canvas.arrow((56, y), (56, y + 32), (tail[2].x, y + 32), tail[2].bottom)
        canvas.arrow(tail[2].right, (tail[2].x + 32, y))
        canvas.label(tail[2].x + 38, y, end, 12, INK, "left")
    canvas.label(
        850,
        halves[1][0],
        "All convolutions with bias.\nβ, γ: shape (1, c, 1, 1), start at 0.\n"
        "SCA: simplified channel\nattention, no sigmoid.",
        align="right",
    )


def channel_attention(canvas: Canvas) -> None:
    """Attention between channels: a C×C matrix for each head."""
    y = ATTENTION
    canvas.label(34, y, "in", 12, INK)
    conv, _, split = canvas.row(
        62, y, [("conv 1×1\nd→3d", "conv", 58), ("dw 3×3\n3d→3d", "depthwise", 58), ("split,\n8 heads", "plain", 56)]
    )
    canvas.arrow((46, y), conv.left)
    rows = {"q": y - 42, "k": y, "v": y + 42}
    scores = canvas.box(432, y - 21, "q kᵀ", "attention", 42, 72)
    output = canvas.box(657, y, "P v", "attention", 42, 114)
    for name, height in rows.items():
        start = split.right if name == "k" else (split.x, split.y + (-15 if name == "q" else 15))
        bend = [] if name == "k" else [(split.x, height)]
        canvas.label(split.x + 35, height - 8, name, 12, INK)
        if name == "v":
            canvas.arrow(start, *bend, (output.left[0], height))
            canvas.label(383, height - 9, "8×C×HW", 10)
        else:
            norm = canvas.box(322, height, "normalise\nalong HW", "norm", 68)
            canvas.arrow(start, *bend, norm.left)
            canvas.arrow(norm.right, (scores.left[0], height))
            canvas.label(383, height - 9, "8×C×HW", 10)
    times, softmax = canvas.row(471, y - 21, [("×", "gate", 0), ("softmax,\nlast axis", "plain", 62)], gap=22)
    canvas.arrow(scores.right, times.left)
    canvas.arrow(softmax.right, (output.left[0], y - 21))
    canvas.label(times.x, y - 66, "temperature (8, 1, 1)", color=INK)
    canvas.arrow((times.x, y - 57), times.top)
    canvas.label(607, y - 30, "P: 8×C×C", 10)
    canvas.label(times.x + 19, y - 30, "A", 10)
    join, last = canvas.row(696, y, [("join\nheads", "plain", 48), ("conv 1×1\nd→d", "conv", 58)])
    canvas.arrow(output.right, join.left)
    canvas.arrow(last.right, (834, y))
    canvas.label(838, y, "out", 12, INK, "left")
    canvas.label(26, 922, "d = 16w, C = d/8 channels a head; no bias, no LayerNorm, no residual", align="left")
