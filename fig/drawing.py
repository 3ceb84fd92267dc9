"""The drawing language of the pictures: boxes, arrows, sums, frames and a legend on one canvas.

Lengths are pixels of a page 880 wide, the width of a README; y grows downwards. The files have twice as many pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path as FilePath

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text
from PIL import Image

WIDTH = 880
INK = "#333844"
QUIET = "#5F6675"

Point = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """How one kind of operation looks, and what the legend calls it."""

    fill: str
    edge: str
    name: str


KINDS = {
    "conv": Kind("#D5E4F8", "#3A6DB0", "conv"),
    "depthwise": Kind("#CBEDEA", "#1A8580", "depthwise"),
    "norm": Kind("#E4E6EB", "#6E7583", "normalise"),
    "gate": Kind("#FDE3BD", "#C4740B", "gate, multiply"),
    "attention": Kind("#E8DAF6", "#7A4BAD", "attention"),
    "resample": Kind("#D6ECCB", "#47892C", "down, up"),
    "sum": Kind("#F9D3D6", "#BF3B49", "sum"),
    "block": Kind("#FFF6D6", "#8C7A3A", "blocks"),
    "plain": Kind("#FFFFFF", "#6E7583", "other"),
}


@dataclass(frozen=True)
class Node:
    """A drawn shape: its centre and size, and the middles of its sides to tie arrows to."""

    x: float
    y: float
    w: float
    h: float

    @property
    def left(self) -> Point:
        return self.x - self.w / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.w / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y - self.h / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y + self.h / 2


class Canvas:
    """A white page of 880 × `height` pixels."""

    def __init__(self, height: float) -> None:
        matplotlib.rcdefaults()  # the pictures are the same under anyone's matplotlibrc
        self.figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=200, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.axis("off")

    def label(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 10.5,
        color: str = QUIET,
        align: str = "center",
        bold: bool = False,
        upright: bool = False,
    ) -> list[Text]:
        """Text whose middle (or left or right end: `align`) is at (x, y); `$...$` is mathtext."""
        lines = text.split("\n")
        first = y if upright else y + 0.36 * size - 0.65 * size * (len(lines) - 1)
        return [
            self.axes.text(
                x,
                first + 1.3 * size * i,
                line,
                fontsize=size * 0.72,
                color=color,
                ha=align,
                va="center" if upright else "baseline",
                rotation=90 if upright else 0,
                fontweight="bold" if bold else "normal",
                zorder=6,
            )
            for i, line in enumerate(lines)
        ]

    def box(
        self,
        x: float,
        y: float,
        text: str,
        kind: str,
        w: float,
        h: float = 30,
        dashed: bool = False,
    ) -> Node:
        """A rounded box of one kind of operation around (x, y)."""
        look = KINDS[kind]
        self._rounded(x - w / 2, y - h / 2, w, h, 5, look.fill, look.edge, 1.1, dashed, layer=4)
        self.label(x, y, text, color=INK)
        return Node(x, y, w, h)

    def sign(self, x: float, y: float, sign: str, h: float = 18) -> Node:
        """A circle with + (sum) or × (multiply); a taller one is a pill with room for more arrows."""
        look = KINDS["sum" if sign == "+" else "gate"]
        w, arm = 18, 4.6 if sign == "+" else 3.4
        if h == w:
            self._add(Circle((x, y), w / 2, facecolor=look.fill, edgecolor=look.edge, linewidth=1.2, zorder=4))
        else:
            self._rounded(x - w / 2, y - h / 2, w, h, w / 2, look.fill, look.edge, 1.2, False, layer=4)
        strokes = [(arm, 0), (0, arm)] if sign == "+" else [(arm, arm), (arm, -arm)]
        for dx, dy in strokes:
            self.axes.plot([x - dx, x + dx], [y - dy, y + dy], color=look.edge, linewidth=1.3, zorder=5)
        return Node(x, y, w, h)

    def dot(self, x: float, y: float) -> None:
        """The point where a line branches."""
        self._add(Circle((x, y), 2.4, facecolor=INK, edgecolor="none", zorder=3))

    def arrow(self, *points: Point, head: bool = True, dashed: bool = False, hop: float | None = None) -> None:
        """A line through `points` with rounded corners and a head at its end.

        Where a vertical last stretch crosses a line that it has nothing to do with, `hop` is the height of that line.
        """
        corners = [points[0]]
        codes = [Path.MOVETO]
        end = _towards(points[-1], points[-2], 5) if head else points[-1]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            corners += [_towards(corner, before, 5), corner, _towards(corner, after, 5)]
            codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
        if hop is not None:
            x, r = points[-1][0], 5 if points[-1][1] > points[-2][1] else -5
            corners += [(x, hop - r), (x + 7, hop - r), (x + 7, hop + r), (x, hop + r)]
            codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        path = Path([*corners, end], [*codes, Path.LINETO])
        style = (0, (3.5, 2)) if dashed else "solid"
        self._add(PathPatch(path, facecolor="none", edgecolor=INK, linewidth=1.05, linestyle=style, zorder=2))
        if head:
            (x, y), (fx, fy) = points[-1], _towards(points[-1], points[-2], 6.5)
            nx, ny = (fy - y) * 0.48, (x - fx) * 0.48
            self._add(
                Polygon([(x, y), (fx + nx, fy + ny), (fx - nx, fy - ny)], facecolor=INK, edgecolor="none", zorder=3)
            )

    def row(
        self, x: float, y: float, boxes: list[tuple[str, str, float]], gap: float = 16, h: float = 30
    ) -> list[Node]:
        """Boxes (text, kind, width) from left edge x to the right, tied by arrows; texts + and × give circles."""
        nodes: list[Node] = []
        for text, kind, w in boxes:
            node = self.sign(x + 9, y, text) if text in "+×" else self.box(x + w / 2, y, text, kind, w, h)
            if nodes:
                self.arrow(nodes[-1].right, node.left)
            nodes.append(node)
            x += node.w + gap
        return nodes

    def frame(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        title: str = "",
        kind: str = "",
        dashed: bool = False,
    ) -> None:
        """A tinted area behind a group of shapes, its title at the top left; `kind` lends it that kind's colours."""
        look = KINDS[kind] if kind else Kind("#F6F7FA", "#D3D7E0", "")
        fill = _mix(look.fill, 0.6) if kind else look.fill
        edge = _mix(look.edge, 0.55) if kind else look.edge
        self._rounded(x0, y0, x1 - x0, y1 - y0, 9, fill, edge, 0.9, dashed, layer=1 if kind else 0.5)
        if title:
            small = bool(kind)
            self.label(
                x0 + (8 if small else 12),
                y0 + (11 if small else 15),
                title,
                10.5 if small else 12,
                look.edge if small else INK,
                "left",
                bold=True,
            )

    def picture(self, x: float, y: float, text: str, rain: int = 0, w: float = 54, h: float = 40) -> Node:
        """A small landscape under `rain` streaks, with its name above."""
        left, top = x - w / 2, y - h / 2
        frame = Rectangle((left, top), w, h, facecolor="#DCEBFA", edgecolor="none", zorder=4)
        self._add(frame)
        far = [(0, 0.8), (0.3, 0.35), (0.5, 0.62), (0.7, 0.42), (1, 0.75), (1, 1), (0, 1)]
        near = [(0, 0.85), (0.25, 0.7), (0.6, 0.88), (1, 0.72), (1, 1), (0, 1)]
        for outline, color in ((far, "#9DB4CE"), (near, "#7FA588")):
            self._add(Polygon([(left + w * a, top + h * b) for a, b in outline], facecolor=color, zorder=4.1))
        self._add(Circle((left + w * 0.78, top + h * 0.24), h * 0.1, facecolor="#F4C95D", zorder=4.1))
        for i in range(rain):
            sx, sy = left + w * ((i * 0.37 + 0.08) % 0.92), top + h * ((i * 0.61 + 0.05) % 0.72)
            self.axes.plot([sx + 3, sx], [sy, sy + 10], color="white", linewidth=1.1, alpha=0.9, zorder=4.2)
        self._add(Rectangle((left, top), w, h, facecolor="none", edgecolor=INK, linewidth=1, zorder=4.3))
        if text:
            self.label(x, y - h / 2 - 4 - 6.5 * (text.count("\n") + 1), text, color=INK)
        return Node(x, y, w, h)

    def legend(self, y: float, kinds: list[str]) -> None:
        """One centred line that names the colours."""
        left, labels = 0.0, []
        for kind in kinds:
            labels.append(self.label(left + 24, y, KINDS[kind].name, align="left")[0])
            left += 24 + labels[-1].get_window_extent().width / 2 + 16  # two file pixels to a page pixel
        shift = (WIDTH - left + 16) / 2
        for kind, label in zip(kinds, labels, strict=True):
            x = label.get_position()[0] + shift
            label.set_x(x)
            self._rounded(x - 24, y - 6, 18, 12, 3.5, KINDS[kind].fill, KINDS[kind].edge, 1, False, layer=4)

    def save(self, path: FilePath) -> None:
        """Write the picture as a PNG of 1760 pixels' width in 256 colours."""
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png")
        Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)

    def _rounded(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        radius: float,
        fill: str,
        edge: str,
        line: float,
        dashed: bool,
        layer: float,
    ) -> None:
        style = (0, (3.5, 2)) if dashed else "solid"
        self._add(
            FancyBboxPatch(
                (x, y),
                w,
                h,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=fill,
                edgecolor=edge,
                linewidth=line,
                linestyle=style,
                zorder=layer,
            )
        )

    def _add(self, patch: Patch) -> None:
        self.axes.add_patch(patch)


def _towards(start: Point, end: Point, length: float) -> Point:
    """The point `length` from `start` on the way to `end`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = length / max((dx * dx + dy * dy) ** 0.5, 1e-9)
    return start[0] + dx * share, start[1] + dy * share


def _mix(color: str, white: float) -> str:
    """`color` with that share of white."""
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * white):02X}" for part in parts)
