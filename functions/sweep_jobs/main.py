import os

from app import build
from mayfly import wiring

handler = build(wiring.sweep_jobs(os.environ))
