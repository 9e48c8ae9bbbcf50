"""``python -m reproduction``, where the command is not installed."""

import sys

from reproduction.cli import main

sys.exit(main())
