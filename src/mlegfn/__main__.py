"""``python -m mlegfn``, where the command is not installed."""

import sys

from mlegfn.cli import main

sys.exit(main())
