import os

import tasks
from app import build
from mayfly import wiring

handler = build(wiring.run_jobs(os.environ, tasks))
