"""Packages and programs that only some tests need: where one is missing, those tests are skipped, with the reason.

`make test-all`, and so CI, sets MHNET_TEST_ALL: then all must be there, and what is missing is an error.
"""

import importlib.util
import os
import shutil

import pytest

ALL = os.environ.get("MHNET_TEST_ALL", "") not in ("", "0")
HEIF = "pillow_heif"
READERS = {".heic": HEIF, ".heif": HEIF, ".hif": HEIF, ".jxl": "pillow_jxl", ".dng": "rawpy"}
"""By a file's extension, the package of the extra `photos` that reads it."""


def installed(module: str) -> bool:
    """Whether a package is here; under `make test-all` it must be."""
    return ALL or importlib.util.find_spec(module) is not None


def require(module: str, extra: str) -> None:
    """Leaves a file's tests out where a package is missing; call it before the import."""
    if not installed(module):
        pytest.skip(_install(module, extra), allow_module_level=True)


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    """Marks a test that needs a package."""
    return pytest.mark.skipif(not installed(module), reason=_install(module, extra))


def needs_program(name: str, *others: str) -> pytest.MarkDecorator:
    """Marks a test that needs a program, by one of its names."""
    found = any(shutil.which(one) for one in (name, *others))
    return pytest.mark.skipif(not ALL and not found, reason=f"needs the program {name}")


def program(name: str) -> str:
    """A program's path; without it, the test that asks is skipped."""
    path = shutil.which(name)
    if path is None and not ALL:
        pytest.skip(f"needs the program {name}")
    return path or name


def _install(module: str, extra: str) -> str:
    return f"{module} is not installed: pip install -e '.[{extra}]'"
