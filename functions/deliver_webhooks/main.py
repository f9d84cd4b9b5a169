import os

from app import build
from mayfly import wiring

handler = build(wiring.deliver_webhooks(os.environ))
