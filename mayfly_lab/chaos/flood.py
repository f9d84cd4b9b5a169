"""A flooding tenant: a process with callers that send requests as fast as they are answered.

It runs as `python -m mayfly_lab.chaos.flood PORT CALLERS`. It reads the tenant's key from standard
input, and ends with it.
"""

import sys
import threading
import uuid

from mayfly_lab.chaos.api import Api

__all__ = ["send_pair"]


def send_pair(api: Api) -> int:
    """Sends a job and an increment; returns how many of the two were accepted."""
    job = api.send("POST", "/jobs", {"task": "counter.add", "payload": {"name": "flood-jobs"}})
    increment = api.send("POST", "/counters/flood/increment", {}, repeat_key=uuid.uuid4().hex)
    return (job.status == 202) + (increment.status == 200)


def main() -> None:
    """Floods until standard input ends; then prints the numbers of sent and accepted requests."""
    port, callers = int(sys.argv[1]), int(sys.argv[2])
    key = sys.stdin.readline().strip()
    sent, accepted = [0] * callers, [0] * callers

    def call(number: int) -> None:
        api = Api(port, key)
        while True:
            accepted[number] += send_pair(api)
            sent[number] += 2

    for number in range(callers):
        threading.Thread(target=call, args=(number,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    print(sum(sent), sum(accepted), flush=True)


if __name__ == "__main__":
    main()
