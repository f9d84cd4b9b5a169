"""`python -m local`: the `mayfly` command."""

import sys

from local.command import main

sys.exit(main())
