"""What the jobs table's stream says to the queues: a job that waits to be run is announced to the
function that runs its task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.jobs.model import Status

__all__ = ["Announcement", "Outbox", "Send", "announcement", "wake"]

#: Sends bodies by name, each after its seconds of delay; returns the names of those that were not
#: sent (`mayfly.aws.queue.Queue.send`).
Send = Callable[[Mapping[str, Mapping[str, str]], Mapping[str, float]], set[str]]

_ANNOUNCED = (Status.QUEUED, Status.SCHEDULED)


@dataclass(frozen=True)
class Announcement:
    """A message that wakes a job which exists, the task of that job, and the seconds that the
    message has to wait.
    """

    task: str
    body: dict[str, str]
    delay_seconds: float


@dataclass(frozen=True)
class Outbox:
    """The queues of the functions that run jobs: those of single tasks, and the one of all
    others.
    """

    jobs: Send
    by_task: Mapping[str, Send]

    def send(self, announcements: Mapping[str, Announcement]) -> set[str]:
        """Sends announcements, by any name that tells them apart, and returns the names of those
        that were not sent.
        """
        unsent: set[str] = set()
        for send in dict.fromkeys([self.jobs, *self.by_task.values()]):
            some = {
                name: each
                for name, each in announcements.items()
                if self.by_task.get(each.task, self.jobs) == send
            }
            if some:
                unsent |= send(
                    {name: each.body for name, each in some.items()},
                    {name: each.delay_seconds for name, each in some.items()},
                )
        return unsent


def announcement(image: Mapping[str, Any], now_ms: int) -> Announcement | None:
    """What the new image of an item asks for, None where it is not to be announced.

    A job whose time is too far away for the queue's own delay stands in the `due` index: it comes
    again when a sweep takes it out.
    """
    is_job = image.get("sk") == {"S": "job"}
    if not is_job or image["status"]["S"] not in _ANNOUNCED or "due" in image:
        return None
    delay = (
        max(0.0, (int(image["not_before"]["N"]) - now_ms) / 1000) if "not_before" in image else 0.0
    )
    return wake(image["tenant"]["S"], image["id"]["S"], image["task"]["S"], delay)


def wake(tenant: str, job_id: str, task: str, delay_seconds: float) -> Announcement:
    """The announcement of a job which exists."""
    return Announcement(task, {"tenant": tenant, "id": job_id}, delay_seconds)
