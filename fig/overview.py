"""MHNet as a whole: context stage, shallow branch, and the four steps of the full-resolution stage."""

from __future__ import annotations

from itertools import pairwise

from drawing import INK, Canvas, Node

FIRST, PITCH = 194, 144  # left edge of the first level's column; distance between columns
ENCODER, DECODER, JOIN = 94, 208, 280  # heights of the rows of the context stage and of the concatenation below it
UPS, PROJECT, STEPS = 334, 436, 502  # heights of the rows of the full-resolution stage
IMAGE = 576  # height of the line that carries the input image to the last sum
LEFT = 73  # middle of the shallow branch
DEC, SKIP, ENC = 29, 76, 95  # places within a column: decoder's output, skip sum, encoder's output

NOTE = "↓2: conv 2×2, stride 2    ↑2: conv 1×1, PixelShuffle    ↑ a→b: bilinear ×2, conv 1×1 a→b    dashed: optional"


def draw() -> Canvas:
    """The picture of the whole network."""
    canvas = Canvas(640)
    canvas.frame(118, 14, 869, 250, "Context stage: encoder and decoder of NAFBlocks")
    canvas.frame(20, 144, 108, 250)
    canvas.label(32, 197, "Shallow branch", 11.5, INK, bold=True, upright=True)
    canvas.frame(118, 300, 756, 562)
    canvas.label(130, 545, "Full-resolution stage (CASNet)", 12, INK, "left", bold=True)

    image = canvas.picture(LEFT, ENCODER, "input image\nH×W×3", rain=13)
    context_stage(canvas, image)
    features = shallow_branch(canvas, image)
    steps = full_resolution_stage(canvas, features)

    tail = canvas.box(791, STEPS, "conv 3×3\nn→3", "conv", 58)
    total = canvas.sign(842, STEPS, "+")
    restored = canvas.picture(842, 400, "restored\nimage\nH×W×3")
    canvas.arrow(steps, tail.left)
    canvas.arrow(tail.right, total.left)
    canvas.arrow(image.left, (10, ENCODER), (10, IMAGE), (842, IMAGE), total.bottom)
    canvas.arrow(total.top, restored.bottom)
    canvas.legend(602, ["conv", "norm", "attention", "resample", "sum", "block", "plain"])
    canvas.label(440, 624, NOTE)
    return canvas


def context_stage(canvas: Canvas, image: Node) -> None:
    """Encoders from left to right, decoders from right to left, one column for each size."""
    intro = canvas.box(153, ENCODER, "conv 3×3\n3→w", "conv", 58)
    canvas.arrow(image.right, intro.left)
    attention = canvas.box(
        813, (ENCODER + DECODER) / 2, "channel\nself-\nattention\n(8 heads)", "attention", 74, DECODER - ENCODER + 30
    )
    canvas.label(813, 57, "H/16×W/16×16w")
    before = intro.right
    above: Node | None = None
    for level, (blocks, width) in enumerate(
        zip(("1 block", "1 block", "1 block", "28 blocks"), ("w", "2w", "4w", "8w"), strict=True)
    ):
        x = FIRST + PITCH * level
        size = f"/{2**level}" if level else ""
        canvas.label(x + 54, 57, f"H{size}×W{size}×{width}")
        encoder = canvas.box(x + DEC, ENCODER, f"enc[{level}]\n{blocks}", "block", 60, 34)
        decoder = canvas.box(x + DEC, DECODER, f"dec[{3 - level}]\n1 block", "block", 60, 34)
        down = canvas.box(x + 119, ENCODER, "↓2", "resample", 26, 24)
        up = canvas.box(x + 119, DECODER, "↑2", "resample", 26, 24)
        skip = canvas.sign(x + SKIP, DECODER, "+")
        canvas.arrow(before, encoder.left)
        canvas.arrow(encoder.right, down.left)
        canvas.arrow((x + SKIP, ENCODER), skip.top)
        canvas.arrow(up.left, skip.right)
        canvas.arrow(skip.left, decoder.right)
        canvas.dot(x + SKIP, ENCODER)
        canvas.dot(x + ENC, ENCODER)
        if above:
            canvas.arrow(decoder.left, above.right)
        before, above = down.right, up
    canvas.arrow(before, (attention.left[0], ENCODER))
    if above:
        canvas.arrow((attention.left[0], DECODER), above.right)

    head = canvas.box(FIRST + DEC, 152, "conv 3×3\n+ image", "conv", 58, dashed=True)
    canvas.arrow((FIRST + DEC, DECODER - 17), head.bottom, dashed=True)
    canvas.arrow(head.left, (174, 152), dashed=True)
    canvas.label(149, 152, "stage-1\nimage", color=INK)


def shallow_branch(canvas: Canvas, image: Node) -> Node:
    """The branch beside the context stage, its join with dec[3], and the convolution after it."""
    conv = canvas.box(LEFT, 172, "conv 3×3\n3→w", "conv", 58)
    attention = canvas.box(LEFT, 222, "dual\nattention", "attention", 58)
    join = canvas.box(LEFT, JOIN, "concat", "plain", 56, 22)
    fuse = canvas.box(LEFT, 340, "conv 3×3\n2w→w", "conv", 58)
    for start, end in ((image, conv), (conv, attention), (attention, join), (join, fuse)):
        canvas.arrow(start.bottom, end.top)
    canvas.arrow((FIRST, DECODER), (130, DECODER), (130, JOIN), join.right)
    canvas.label(FIRST - 32, DECODER - 10, "dec[3]", color=INK)
    canvas.label(LEFT - 6, 307, "H×W×2w", 10, align="right")
    return fuse


def full_resolution_stage(canvas: Canvas, features: Node) -> tuple[float, float]:
    """The four steps, with the chains that bring enc[k-1] and dec[4-k] to full size; returns where it ends."""
    widen = canvas.box(152, 340, "conv 1×1\nw→n", "conv", 58)
    canvas.arrow(features.right, widen.left)
    canvas.label(157, 392, "H×W×n", 10, align="left")
    before = widen.bottom
    for step in (1, 2, 3, 4):
        x = FIRST + PITCH * (step - 1)
        norm = canvas.box(x - 4, STEPS, f"LN$_{step}$", "norm", 32)
        group = canvas.box(x + 50, STEPS, f"CABG$_{step}$", "block", 50)
        total = canvas.sign(x + ENC, STEPS - 12, "+", h=46)
        canvas.arrow(before, *([(before[0], STEPS)] if step == 1 else []), norm.left)
        canvas.arrow(norm.right, group.left)
        canvas.arrow(group.right, (x + ENC - 9, STEPS))

        widths = [f"{2**i}w" if i else "w" for i in range(step - 1, 0, -1)] + ["n"]
        if step == 1:
            widths = ["w"]
        for place, name in ((DEC, f"dec[{4 - step}]"), (ENC, f"enc[{step - 1}]")):
            start = (x + place, DECODER + 17 if place == DEC else ENCODER)
            canvas.label(x + place + 4, JOIN, name, align="left", color=INK)
            for i, (a, b) in enumerate(pairwise(widths)):
                up = canvas.box(x + place, UPS + 29 * (i + 4 - step), f"↑ {a}→{b}", "resample", 58, 20)
                canvas.arrow(start, up.top, hop=DECODER if place == ENC and i == 0 else None)
                start = up.bottom
            project = canvas.box(x + place, PROJECT, f"conv 1×1\n{'w' if step == 1 else 'n'}→n", "conv", 58)
            canvas.arrow(start, project.top, hop=DECODER if place == ENC and step == 1 else None)
            if place == ENC:
                canvas.arrow(project.bottom, total.top)
            else:
                canvas.arrow(project.bottom, (x + DEC, STEPS - 26), (x + ENC - 9, STEPS - 26))
        before = (x + ENC + 9, STEPS)
        canvas.label(x + ENC + 9, STEPS + 22, "H×W×n", 10)
    return before
