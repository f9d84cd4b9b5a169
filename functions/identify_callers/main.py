import os

from .app import build
from .deps import from_environ

handler = build(from_environ(os.environ))
