import os

from jobs.app import build
from mayfly import wiring

handler = build(wiring.jobs(os.environ))
