"""`python -m local`: the `mayfly` command."""

import sys

from mayfly_cli.command import main

sys.exit(main())
