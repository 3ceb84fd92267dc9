"""Make the pictures of this folder: all of them, or those named (`python fig/draw.py overview v4`)."""

from __future__ import annotations

import argparse
from pathlib import Path

import context_stage
import curve
import dual_attention
import overview
import scab_cabg
import v4

PICTURES = {
    "overview": overview.draw,
    "context_stage": context_stage.draw,
    "dual_attention": dual_attention.draw,
    "scab_cabg": scab_cabg.draw,
    "v4": v4.draw,
    "curve": curve.draw,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures beside this script.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(PICTURES)} (default: all)")
    names = parser.parse_args().names or list(PICTURES)
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        parser.error(f"no picture is called {unknown[0]!r}; there are {', '.join(PICTURES)}")
    for name in names:
        path = Path(__file__).resolve().parent / f"{name}.png"
        PICTURES[name]().save(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
