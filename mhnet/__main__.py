"""`python -m mhnet` is the command `mhnet`."""

import sys

from mhnet.cli.main import main

sys.exit(main())
