"""Ends a moment after its answer if it was asked to stop meanwhile."""

import os
import signal
import threading
import time

ASKED = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: ASKED.set())


def leave():
    print("left by itself", flush=True)
    os._exit(0)


def handler(event, context):
    time.sleep(1)
    if ASKED.is_set():
        threading.Timer(0.3, leave).start()
    return {"statusCode": 200, "body": "{}"}
