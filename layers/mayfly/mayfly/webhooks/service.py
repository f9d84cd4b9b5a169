"""The delivery of a webhook: one attempt of a job of `http.deliver`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.clock import Clock
from mayfly.core.errors import InvalidRequest
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.outcomes import Continue, Permanent, Retry
from mayfly.jobs.model import Job
from mayfly.webhooks.errors import Unreachable
from mayfly.webhooks.model import Endpoint, Policy, Webhook
from mayfly.webhooks.receivers import Receivers
from mayfly.webhooks.rules import (
    GONE,
    check_addresses,
    content,
    headers,
    is_delivered,
    pause_seconds,
    read_endpoint,
    read_webhook,
)
from mayfly.webhooks.store import Endpoints, Secrets
from mayfly.webhooks.wire import Answer, post

__all__ = ["Deps", "deliver", "rest_seconds"]

#: The longest exchange, in seconds. Standard Webhooks advises receivers to answer within 15 to 30.
_SECONDS: Final = 15.0
#: The longest attempt, in seconds: looking the host up, connecting, and the exchange. An attempt
#: is not started with less time left.
_NEEDED_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Deps:
    """Dependencies of a delivery.

    `resolve(host, port)` returns a host's addresses; `pauses` are the seconds between attempts.
    """

    secrets: Secrets
    endpoints: Endpoints
    policy: Policy
    pauses: Sequence[int]
    resolve: Callable[[str, int], list[str]]
    clock: Clock
    receivers: Receivers


def deliver(job: Job, effects: Effects, deps: Deps) -> dict[str, Any]:
    """Runs one attempt of `http.deliver`. Payload `{url, body?, headers?, secret_name?}`.

    Returns `{"status"}`. An attempt may have reached the receiver although that is not known. So
    the receiver may see the same `webhook-id`, which belongs to the job, again. Raises Retry if
    there was no response or not a good one, Permanent if another attempt would change nothing.
    """
    if effects.seconds_left() < _NEEDED_SECONDS:  # other jobs have used up the invocation
        raise Continue
    try:
        webhook = read_webhook(job.payload)
        endpoint = read_endpoint(webhook.url, deps.policy)
        # A redrive asks the endpoint again on purpose.
        if job.run == 1 and deps.endpoints.is_gone(job.tenant, webhook.url):
            raise Permanent(
                f"this URL of {endpoint.origin} has answered 410 before; redrive this job to "
                "try it again"
            )
        keys = deps.secrets.read(job.tenant, webhook.secret_name)
        answer = _attempt(job, webhook, endpoint, keys, deps)
    except Unreachable as problem:
        raise _retry(str(problem), job, deps, None) from None
    if is_delivered(answer.status):
        if job.run > 1:
            deps.endpoints.reopen(job.tenant, webhook.url)
        return {"status": answer.status}
    if answer.status == GONE:
        deps.endpoints.end(job.tenant, webhook.url)
        raise Permanent(f"{endpoint.origin} answered 410: it wants no more webhooks")
    why = ", a redirect, which is not followed" if 300 <= answer.status < 400 else ""
    raise _retry(f"{endpoint.origin} answered {answer.status}{why}", job, deps, answer)


def _attempt(
    job: Job, webhook: Webhook, endpoint: Endpoint, keys: Sequence[bytes], deps: Deps
) -> Answer:
    body = content(webhook.body)
    with deps.receivers.waiting(job.tenant, endpoint.origin):
        # The name is looked up once, all its addresses are checked, and the connection goes to a
        # checked address. So the name cannot change in between.
        addresses = check_addresses(
            endpoint.host, deps.resolve(endpoint.host, endpoint.port), deps.policy
        )
        signed = headers(webhook, keys, f"msg_{job.id}", body, at_s=deps.clock() // 1000)
        return post(endpoint, addresses, signed, body, seconds=_SECONDS)


def rest_seconds(job: Job, receives: int, deps: Deps) -> float:
    """Returns the seconds for which a delivery must wait because of its slow receiver.

    `receives` counts the receives of its message so far: the more there are, the longer it waits.
    Returns 0 if it may be made now, also if the job is malformed: its attempt gives the reason.
    """
    try:
        endpoint = read_endpoint(read_webhook(job.payload).url, deps.policy)
    except InvalidRequest:
        return 0.0
    return deps.receivers.rest_seconds(job.tenant, endpoint.origin, receives)


def _retry(reason: str, job: Job, deps: Deps, answer: Answer | None) -> Retry:
    pause = pause_seconds(
        deps.pauses,
        job.attempt,
        job.id,
        status=answer.status if answer else None,
        retry_after=answer.retry_after if answer else None,
        now_s=deps.clock() // 1000,
    )
    return Retry(reason, after_seconds=pause)
