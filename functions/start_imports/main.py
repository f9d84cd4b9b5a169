import os

from mayfly import wiring
from start_imports.app import build

handler = build(wiring.start_imports(os.environ))
