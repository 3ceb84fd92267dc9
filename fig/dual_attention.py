"""The dual attention of the shallow branch: spatial and channel attention side by side over one body."""

from __future__ import annotations

from drawing import INK, Canvas, Node

BODY, TIMES, SUM = 66, 592, 810  # where the body, the two products and the last sum stand
SPATIAL, MIDDLE, CHANNEL = 228, 264, 300  # heights of the lanes
START, LEFT, RIGHT = 76, 146, 612  # height of the residual; where the two attentions begin and end


def draw() -> Canvas:
    """The picture of the dual attention."""
    canvas = Canvas(440)
    canvas.frame(14, 14, 866, 402, "Dual attention")
    canvas.label(BODY, 54, "in", 12, INK)
    body = [
        canvas.box(BODY, 122, "conv 3×3\nw→w", "conv", 60),
        canvas.box(BODY, 193, "SimpleGate\nw→w/2", "gate", 72),
        canvas.box(BODY, MIDDLE, "conv 3×3\nw/2→w", "conv", 60),
    ]
    canvas.arrow((BODY, 62), body[0].top)
    canvas.dot(BODY, START)
    canvas.arrow(body[0].bottom, body[1].top)
    canvas.arrow(body[1].bottom, body[2].top)

    spatial, channel = spatial_attention(canvas), channel_attention(canvas)
    fork = (132, MIDDLE)
    canvas.arrow(body[2].right, fork, head=False)
    canvas.label(114, MIDDLE - 10, "body", color=INK)
    canvas.dot(*fork)
    canvas.arrow(fork, (fork[0], SPATIAL), spatial.left)
    canvas.arrow(fork, (fork[0], CHANNEL), channel.left)
    join = canvas.box(651, MIDDLE, "concat", "plain", 46, 112)
    canvas.arrow(spatial.right, (join.left[0], SPATIAL))
    canvas.arrow(channel.right, (join.left[0], CHANNEL))
    fuse = canvas.box(760, MIDDLE, "conv 1×1\n2w→w", "conv", 60)
    total = canvas.sign(SUM, MIDDLE, "+")
    canvas.arrow(join.right, fuse.left)
    canvas.label(702, MIDDLE - 10, "H×W×2w", 10)
    canvas.arrow(fuse.right, total.left)
    canvas.arrow((BODY, START), (SUM, START), total.top)
    canvas.label(360, START - 10, "H×W×w", 10)
    canvas.arrow(total.right, (834, MIDDLE))
    canvas.label(837, MIDDLE, "out", 12, INK, "left")
    canvas.label(850, 384, "r = 4; no bias anywhere", align="right")
    canvas.legend(422, ["conv", "gate", "attention", "sum", "plain"])
    return canvas


def spatial_attention(canvas: Canvas) -> Node:
    """One weight per pixel, from the maximum and the mean over the channels; returns its product."""
    canvas.frame(LEFT, 92, RIGHT, 250, "Spatial attention", "attention")
    bus, lane = LEFT + 18, 154
    join = canvas.box(330, lane, "concat\n[max, mean]", "plain", 80, 74)
    for height, name in ((lane - 20, "max over\nchannels"), (lane + 20, "mean over\nchannels")):
        pool = canvas.box(221, height, name, "plain", 70, 32)
        canvas.arrow((bus, lane + 20 if height < lane else SPATIAL), (bus, height), pool.left)
        canvas.arrow(pool.right, (join.left[0], height))
    canvas.dot(bus, SPATIAL)
    canvas.dot(bus, lane + 20)
    weigh = canvas.box(460, lane, "conv 5×5\n2→1", "conv", 58)
    squash = canvas.box(534, lane, "sigmoid", "plain", 54)
    times = canvas.sign(TIMES, SPATIAL, "×")
    canvas.arrow(join.right, weigh.left)
    canvas.label(400, lane - 9, "H×W×2", 10)
    canvas.arrow(weigh.right, squash.left)
    canvas.arrow(squash.right, (TIMES, lane), times.top)
    canvas.label(TIMES - 5, 190, "H×W×1", 10, align="right")
    canvas.label(400, SPATIAL - 9, "H×W×w", 10)
    return times


def channel_attention(canvas: Canvas) -> Node:
    """One weight per channel, from its mean over the image; returns its product."""
    canvas.frame(LEFT, 260, RIGHT, 390, "Channel attention", "attention")
    bus, lane = LEFT + 18, 354
    mean = canvas.box(215, lane, "mean\nover H, W", "plain", 66)
    shrink = canvas.box(322, lane, "conv 1×1\nw→w/r", "conv", 58)
    relu = canvas.box(421, lane, "ReLU", "plain", 38)
    grow = canvas.box(483, lane, "conv 1×1\nw/r→w", "conv", 58)
    squash = canvas.box(553, lane, "sigmoid", "plain", 52)
    times = canvas.sign(TIMES, CHANNEL, "×")
    canvas.arrow((bus, CHANNEL), (bus, lane), mean.left)
    canvas.dot(bus, CHANNEL)
    for a, b in ((mean, shrink), (shrink, relu), (relu, grow), (grow, squash)):
        canvas.arrow(a.right, b.left)
    canvas.arrow(squash.right, (TIMES, lane), times.bottom)
    canvas.label(271, lane - 9, "1×1×w", 10)
    canvas.label(376.5, lane - 9, "1×1×w/r", 10)
    canvas.label(TIMES - 5, 328, "1×1×w", 10, align="right")
    canvas.label(400, CHANNEL - 9, "H×W×w", 10)
    return times
