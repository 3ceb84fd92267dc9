"""The command `mhnet`."""

import argparse
from collections.abc import Sequence

from mhnet.cli.app import add_app_command
from mhnet.cli.completion import add_completion_command
from mhnet.cli.data import add_data_commands
from mhnet.cli.doctor import add_doctor_command
from mhnet.cli.evaluate import add_evaluate_command
from mhnet.cli.export import add_export_command
from mhnet.cli.reproduce import add_reproduce_command
from mhnet.cli.restore import add_restore_command
from mhnet.cli.train_test import add_room_commands
from mhnet.cli.usage import HelpFormatter
from mhnet.cli.weights import add_weights_commands
from mhnet.core import allocator
from mhnet.core.errors import exits_cleanly
from mhnet.core.version import __version__

EPILOG = """\
examples:
  mhnet restore photo.jpg -o restored.jpg --task derain
  mhnet train deraining
  mhnet evaluate results/ clean/ --protocol rain_y_matlab
  mhnet doctor

exit status:
  0    all is done
  1    something was refused or failed; a sentence on standard error says what, and the way out
  2    wrong usage
  130  interrupted by Ctrl-C
  141  whoever read the output has left, as in mhnet ... | head

environment:
  NO_COLOR=1 switches colours off; they are on terminals only
  CUDA_VISIBLE_DEVICES=1 shows one GPU only
  MHNET_KEEP_PAGES=0 leaves freed memory to glibc; else it is kept, which is faster
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="mhnet",
        description="MHNet: image deblurring and deraining. Each command has its own --help, with examples.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mhnet {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_restore_command(commands)
    add_app_command(commands)
    add_room_commands(commands)
    add_evaluate_command(commands)
    add_data_commands(commands)
    add_weights_commands(commands)
    add_export_command(commands)
    add_reproduce_command(commands)
    add_doctor_command(commands)
    add_completion_command(commands, parser)
    return top


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which EPILOG lists."""
    allocator.keep_pages()
    args = parser().parse_args(argv)
    return args.run(args)
