"""The command `mhnet app`."""

import argparse
import os
import sys

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError


def add_app_command(commands: Commands) -> None:
    app = add_command(commands, "app", _app)
    app.add_argument("--weights", action="append", default=[], metavar="FILE", help="weights of yours or the authors', "
                     "in the place of those that ship; may be given twice")  # fmt: skip
    app.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    app.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    app.add_argument("--port", type=int, help="port to listen on (default: the first that is free from 7860 up)")
    app.add_argument("--address", metavar="URL", help="where a reverse proxy serves the page, as in "
                     "https://photos.example.org/mhnet")  # fmt: skip
    app.add_argument("--max-mb", type=int, default=64, metavar="N", help="megabytes of a photo (default: %(default)s)")
    app.add_argument("--max-megapixels", type=int, default=50, metavar="N", help="(default: %(default)s)")
    app.add_argument("--no-browser", action="store_true", help="do not open the page")


def _app(args: argparse.Namespace) -> int:
    """a page in the browser to restore photos with

    Serves a page on this machine: drop photos, see before and after, download the results. Nothing leaves the
    machine, and nothing is kept (pip install 'mhnet[app]').

    mhnet app
    mhnet app --weights model_deblurring.pth
    mhnet app --host 0.0.0.0 --no-browser      for everybody in the network
    """
    if min(args.max_mb, args.max_megapixels) < 1:
        raise MHNetError("--max-mb and --max-megapixels are numbers from 1 up.")
    from mhnet.app.restoring import Limits
    from mhnet.app.server import Options, serve

    limits = Limits(args.max_mb * 1_000_000, args.max_megapixels * 1_000_000)
    options = Options(args.weights, args.host, args.port, args.device, limits, args.address)
    windows = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    serve(options, bool(windows) and sys.stdout.isatty() and not args.no_browser)  # where somebody sits and sees them
    return 0
