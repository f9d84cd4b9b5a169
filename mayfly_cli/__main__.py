"""`python -m mayfly_cli` is the command `mayfly`."""

import sys

from mayfly_cli.command import main

sys.exit(main())
