"""`python -m mhnet` is the command `mhnet`."""

import sys

from mhnet.cli import main

sys.exit(main())
