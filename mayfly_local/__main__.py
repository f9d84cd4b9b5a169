"""`python -m local`: the `mayfly` command."""

import sys

from mayfly_local.command import main

sys.exit(main())
