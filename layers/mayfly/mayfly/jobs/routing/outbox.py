"""Announcements of jobs that wait to be run, from the jobs table's stream to the queues.

Each goes to the queue of the function that runs the job's task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.jobs.model import Status

__all__ = ["Announcement", "Outbox", "Send", "announcement", "wake"]

#: Sends bodies by name, each with its delay in seconds. Returns the names of those that were not
#: sent (`mayfly.aws.queue.Queue.send`).
Send = Callable[[Mapping[str, Mapping[str, str]], Mapping[str, float]], set[str]]

_ANNOUNCED = (Status.QUEUED, Status.SCHEDULED)


@dataclass(frozen=True)
class Announcement:
    """A message that wakes an existing job, the job's task, and the delay of the message."""

    task: str
    body: dict[str, str]
    delay_seconds: float


@dataclass(frozen=True)
class Outbox:
    """The queues of the functions that run jobs.

    Some tasks have a queue of their own; `jobs` is for all others.
    """

    jobs: Send
    by_task: Mapping[str, Send]

    def send(self, announcements: Mapping[str, Announcement]) -> set[str]:
        """Sends announcements, and returns the names of those that were not sent.

        The caller may choose any different names.
        """
        unsent: set[str] = set()
        for send in dict.fromkeys([self.jobs, *self.by_task.values()]):
            some = {
                name: announcement
                for name, announcement in announcements.items()
                if self.by_task.get(announcement.task, self.jobs) == send
            }
            if some:
                unsent |= send(
                    {name: announcement.body for name, announcement in some.items()},
                    {name: announcement.delay_seconds for name, announcement in some.items()},
                )
        return unsent


def announcement(image: Mapping[str, Any], now_ms: int) -> Announcement | None:
    """Returns the announcement for the new image of an item, None if it needs none.

    A job in the `due` index is too far away for the queue's own delay. It appears in the stream
    again when a sweep takes it out of the index.
    """
    is_job = image.get("sk") == {"S": "job"}
    if not is_job or image["status"]["S"] not in _ANNOUNCED or "due" in image:
        return None
    delay = (
        max(0.0, (int(image["not_before"]["N"]) - now_ms) / 1000) if "not_before" in image else 0.0
    )
    return wake(image["tenant"]["S"], image["id"]["S"], image["task"]["S"], delay)


def wake(tenant: str, job_id: str, task: str, delay_seconds: float) -> Announcement:
    """Returns the announcement of an existing job."""
    return Announcement(task, {"tenant": tenant, "id": job_id}, delay_seconds)
