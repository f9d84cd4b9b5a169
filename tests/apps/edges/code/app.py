"""Handlers that look at their environment, or reach its limits."""

import os
import subprocess
import threading
import time
from pathlib import Path

CALLS = 0
TICKS = []


def handler(event, context):
    global CALLS
    CALLS += 1
    if "Records" in event:
        return WISHES[event["Records"][0]["body"]](event, context)
    return WISHES[event["pathParameters"]["wish"]](event, context)


def facts(event, context):
    return {"pid": os.getpid(), "calls": CALLS}


def long_message(event, context):
    raise ValueError("x" * 9000)


def megabyte(event, context):
    raise ValueError("x" * 1_000_000)


def above_the_limit(event, context):
    raise ValueError("x" * 7_000_000)


def deep(event, context, levels=500):
    if levels == 0:
        raise ValueError("the real reason")
    return deep(event, context, levels - 1)


def endless(event, context):
    return endless(event, context)


def chained(event, context):
    try:
        deep(event, context, 100)
    except ValueError as reason:
        raise RuntimeError("y" * 5000) from reason


def write(event, context):
    """Writes where the query says."""
    try:
        with open(event["queryStringParameters"]["path"], "w") as file:
            file.write("written")
    except OSError as problem:
        return {"error": problem.strerror}
    return {"error": None}


def tmp(event, context):
    """Reads a file of /tmp, then writes it."""
    path = "/tmp/edges-of-the-runtime"
    left = Path(path).read_text() if os.path.exists(path) else None
    with open(path, "w") as file:
        file.write(context.function_name)
    size = os.statvfs("/tmp")
    return {
        "left": left,
        "entries": os.listdir("/tmp"),
        "megabytes": size.f_blocks * size.f_frsize // 1024 // 1024,
    }


def folders(event, context):
    if not os.path.isdir("/var/task"):
        return {"/var/task": None, "/opt": os.path.isdir("/opt/python")}
    return {
        "/var/task": sorted(os.listdir("/var/task")),
        "/opt": sorted(os.listdir("/opt")),
        "/opt/python": sorted(os.listdir("/opt/python")) if os.path.isdir("/opt/python") else [],
        "data": Path("/var/task/data.txt").read_text(),
        "beside": Path("data.txt").read_text(),
    }


def place(event, context):
    """Returns where the code says that it is."""
    return {"cwd": os.getcwd(), "file": __file__, "root": os.environ["LAMBDA_TASK_ROOT"]}


def layers(event, context):
    import names
    import words

    tool = subprocess.run(["edges-tool"], capture_output=True, text=True, check=True)
    return {"word": words.WORD, "name": names.NAME, "tool": tool.stdout}


def tick():
    while True:
        time.sleep(0.01)
        TICKS.append(time.time())


def start_ticks(event, context):
    threading.Thread(target=tick, daemon=True).start()
    return "started"


def read_ticks(event, context):
    """Returns the ticks until the event came, without those of this invocation."""
    return TICKS[: len(TICKS)]


def tick_within(event, context):
    """Counts the ticks of a thread within one invocation."""
    before = len(TICKS)
    threading.Thread(target=tick, daemon=True).start()
    time.sleep(1)
    return {"ticks": len(TICKS) - before}


def environment(event, context):
    return {**os.environ, "log stream": context.log_stream_name}


WISHES = {
    name.replace("_", "-"): value
    for name, value in globals().items()
    if callable(value) and name not in ("handler", "tick")
}
