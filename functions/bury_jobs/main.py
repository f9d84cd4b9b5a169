import os

from bury_jobs.app import build
from mayfly import wiring

handler = build(wiring.bury_jobs(os.environ))
