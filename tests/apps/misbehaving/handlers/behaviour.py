"""Handlers that break the rules of Lambda."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time

CALLS = 0


def handler(event, context):
    """Does what the path or the event requests.

    Without a request, returns how often this process was called.
    """
    global CALLS
    CALLS += 1
    wish = event.get("wish") or event.get("rawPath", "/").strip("/")
    return BEHAVIOURS.get(wish, fine)(event, context)


def fine(event, context):
    facts = {
        "pid": os.getpid(),
        "calls": CALLS,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "remaining_ms": context.get_remaining_time_in_millis(),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "path": [each for each in sys.path if "site-packages" in each],
    }
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(facts),
    }


def ask(event, context):
    """Sends a request of its own to the Runtime API."""
    host, slash, token = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
    connection = http.client.HTTPConnection(host)
    connection.request(
        event.get("method", "GET"),
        f"{slash}{token}/2018-06-01/runtime{event['path']}",
        event.get("body"),
    )
    reply = connection.getresponse()
    facts = {"calls": CALLS, "asked": {"status": reply.status, "body": json.loads(reply.read())}}
    return {"statusCode": 200, "body": json.dumps(facts)}


def crash(event, context):
    raise RuntimeError("crashed on purpose")


def hang(event, context):
    while True:
        time.sleep(60)


def leave(event, context):
    sys.stdout.flush()
    os._exit(3)


def kill(event, context):
    os.kill(os.getpid(), signal.SIGKILL)


def eat(event, context):
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024)) * 8192)


def huge(event, context):
    return "x" * (6 * 1024 * 1024 + 1)


def unmarshalled(event, context):
    return {"value": object()}


def slow(event, context):
    time.sleep(float((event.get("queryStringParameters") or {}).get("seconds", 3)))
    return fine(event, context)


def spawn(event, context):
    """Leaves a child process behind, in its own process group."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL
    )
    return {"statusCode": 200, "body": str(child.pid)}


def daemon(event, context):
    """Leaves a process behind that has left the session, and holds the pipe of the output."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    return {"statusCode": 200, "body": str(child.pid)}


def garble(event, context):
    """Prints lines that no log expects."""
    print(json.dumps({"message": "\ud800"}))
    print("[" * 100_000)
    sys.stdout.buffer.write(b"\xff\xfe\n")
    print("after all that")
    return fine(event, context)


def broken_header(event, context):
    return {"statusCode": 200, "headers": {"X-A": "a\r\nX-B: b"}, "body": ""}


def echo(event, context):
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(event),
    }


def shout(event, context):
    print("a line of text")
    print(json.dumps({"level": "WARNING", "message": "a line of JSON"}))
    print("to the error stream", file=sys.stderr)
    return fine(event, context)


BEHAVIOURS = {
    "ask": ask,
    "crash": crash,
    "hang": hang,
    "exit": leave,
    "kill": kill,
    "eat": eat,
    "huge": huge,
    "unmarshalled": unmarshalled,
    "slow": slow,
    "spawn": spawn,
    "shout": shout,
    "daemon": daemon,
    "garble": garble,
    "broken-header": broken_header,
    "echo": echo,
}
