"""Imports every module of the installed package, with the dependencies that it names and no extra.

The argument is the checkout, from which nothing may be imported.
"""

import importlib
import pkgutil
import sys

import mhnet
import warmup_scheduler
from mhnet.core.errors import MHNetError

EXTRAS = ("mhnet.app.", "mhnet.cli.bulk", "mhnet.restore.bulk", "mhnet.restore.video", "mhnet.checkpoints.spandrel")
"""How the names begin of modules that may need an extra; all others must import."""

for package in (mhnet, warmup_scheduler):
    assert not str(package.__file__).startswith(sys.argv[1]), package.__file__
imported, left_out = 0, []
for module in pkgutil.walk_packages(mhnet.__path__, "mhnet."):
    if module.name == "mhnet.__main__":  # which runs the command
        continue
    try:
        importlib.import_module(module.name)
        imported += 1
    except (ModuleNotFoundError, MHNetError):
        if not module.name.startswith(EXTRAS):
            raise
        left_out.append(module.name)
mhnet.load("derain-small")
print(f"{imported} modules import with the bare dependencies; {len(left_out)} need an extra: {', '.join(left_out)}")
