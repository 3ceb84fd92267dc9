"""Which code a network was made from: this package's, or an edited copy."""

import ast
import hashlib
import inspect
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

from torch import nn

PUBLISHED = {
    "mhnet.py": "bb0ff7acb50dc964455c9f5221e4488e0233d7da405ef83d0a572c31f20d7263",
    "mhnet_v4.py": "585e2e2954377bcfe42ac235a2a47aec65c4e28ee15ff9528ce838add119c9ea",
}
"""Digests of the package's networks' files, and so of their copies in the rooms; `make copies` writes them."""

N_FEAT = re.compile(r"^    n_feat: int = \d+$", re.MULTILINE)
"""The default in which copies may differ."""

HUB = "mhnet.checkpoints.networks"
"""Where the package's networks get the hub's methods, which change nothing that is computed."""


class NetworkSource(NamedTuple):
    """The edited files that a network was made from."""

    names: str  # of the files
    sha256: str  # of their code, without comments, docstrings and blank lines
    files: dict[str, str]  # name → text


def edited_source(network: nn.Module) -> NetworkSource | None:
    """The files of a network's classes that are not this package's as published; None where all of them are."""
    classes = {base for module in network.modules() for base in type(module).__mro__}
    written = {kind: file for kind in classes if (file := _file(kind))}
    files = {path: path.read_text(encoding="utf-8") for path in _with_imports(set(written.values()))}
    codes = {path.name: code_of(text) for path, text in files.items()}
    codes |= {kind.__name__: _bytecode(kind) for kind, file in written.items() if not file.is_file()}
    edited = sorted(name for name, code in codes.items() if digest(code) not in PUBLISHED.values())
    if not edited:
        return None
    texts = {path.name: text for path, text in files.items() if path.name in edited}
    return NetworkSource(", ".join(edited), digest("\n".join(codes[name] for name in edited)), texts)


def code_of(text: str) -> str:
    """Python source without comments, docstrings, blank lines and the default of n_feat: what decides on results."""
    lines = N_FEAT.sub("    n_feat: int", text).splitlines()
    for token in reversed(list(tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline))):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
                for row in range(first.lineno, (first.end_lineno or first.lineno) + 1):
                    lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def digest(code: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(code.encode()).hexdigest()


def _with_imports(files: set[Path]) -> set[Path]:
    """Those of the files that are there, and what these import from their own folder; but train.py, which brings
    together much that is no network, for itself alone."""
    found = waiting = {path for path in files if path.is_file()}
    while waiting:
        importing = [path for path in waiting if path.name != "train.py"]
        beside = {path.with_name(f"{name}.py") for path in importing for name in _imported(path)}
        waiting = {path for path in beside - found if path.is_file()}
        found = found | waiting
    return found


def _file(kind: type) -> Path | None:
    """The file that a class is written in, such as `<stdin>`; None for those of PyTorch and Python, and for those that
    compute nothing."""
    if kind.__module__.split(".")[0] in ("torch", "builtins", "typing") or kind.__module__ == HUB:
        return None
    return next((Path(one.__code__.co_filename) for one in vars(kind).values() if inspect.isfunction(one)), None)


def _bytecode(kind: type) -> str:
    """What a class computes, where its file is not there."""
    functions = {name: one.__code__ for name, one in vars(kind).items() if inspect.isfunction(one)}
    return "\n".join(f"{name} {code.co_code.hex()} {code.co_names}" for name, code in functions.items())


def _imported(path: Path) -> set[str]:
    """The first names of what a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
