"""What the jobs table's stream says to the queue: a job that waits to be run is announced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.jobs.model import Status

__all__ = ["Announcement", "announcement", "wake_body"]

_ANNOUNCED = (Status.QUEUED, Status.SCHEDULED)


@dataclass(frozen=True)
class Announcement:
    """A message for the jobs queue, and the seconds that it has to wait."""

    body: dict[str, str]
    delay_seconds: float


def announcement(image: Mapping[str, Any], now_ms: int) -> Announcement | None:
    """What the new image of an item asks for, None where it is not to be announced.

    A job whose time is too far away for the queue's own delay stands in the `due` index: it comes again when a sweep takes
    it out.
    """
    is_job = image.get("sk") == {"S": "job"}
    if not is_job or image["status"]["S"] not in _ANNOUNCED or "due" in image:
        return None
    delay = max(0.0, (int(image["not_before"]["N"]) - now_ms) / 1000) if "not_before" in image else 0.0
    return Announcement(wake_body(image["tenant"]["S"], image["id"]["S"]), delay)


def wake_body(tenant: str, job_id: str) -> dict[str, str]:
    """The message that wakes a job which exists."""
    return {"tenant": tenant, "id": job_id}
