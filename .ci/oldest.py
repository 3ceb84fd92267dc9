#!/usr/bin/env python3
"""Prints the dependencies of pyproject.toml at the oldest versions that it allows."""

import re
from pathlib import Path

text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
assert listed
for name, version in re.findall(r'"([\w.-]+)>=([\w.]+)"', listed[1]):
    # Releases of opencv-python have four parts, the last of which is the build's number.
    print(f"{name}=={version}.*" if name == "opencv-python" else f"{name}=={version}")
