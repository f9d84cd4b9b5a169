import os

from mayfly import wiring
from sweep_jobs.app import build

handler = build(wiring.sweep_jobs(os.environ))
