"""The delivery of a webhook: one attempt of a job of `http.deliver`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.clock import Clock
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.task import Continue, Permanent, Retry
from mayfly.jobs.model import Job
from mayfly.webhooks.errors import Unreachable
from mayfly.webhooks.model import Endpoint, Policy, Webhook
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

__all__ = ["Courier", "deliver"]

#: The longest exchange, in seconds. Standard Webhooks advises receivers to answer within 15 to 30.
_SECONDS: Final = 15.0
#: The longest attempt, in seconds: looking the host up, connecting, and the exchange. An attempt
#: is not started with less time left.
_NEEDED_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Courier:
    """Dependencies of a delivery.

    `resolve(host, port)` returns a host's addresses; `pauses` are the seconds between attempts.
    """

    secrets: Secrets
    endpoints: Endpoints
    policy: Policy
    pauses: Sequence[int]
    resolve: Callable[[str, int], list[str]]
    clock: Clock


def deliver(job: Job, effects: Effects, courier: Courier) -> dict[str, Any]:
    """Runs one attempt of `http.deliver`. Payload `{url, body?, headers?, secret_name?}`.

    Returns `{"status"}`. An attempt may have reached the receiver although that is not known. So
    the receiver may see the same `webhook-id`, which belongs to the job, again. Raises Retry if
    there was no response or not a good one, Permanent if another attempt would change nothing.
    """
    if effects.seconds_left() < _NEEDED_SECONDS:  # other jobs have used up the invocation
        raise Continue
    try:
        webhook = read_webhook(job.payload)
        endpoint = read_endpoint(webhook.url, courier.policy)
        # A redrive asks the endpoint again on purpose.
        if job.run == 1 and courier.endpoints.is_gone(job.tenant, webhook.url):
            raise Permanent(
                f"this URL of {endpoint.origin} has answered 410 before; redrive this job to "
                "try it again"
            )
        keys = courier.secrets.read(job.tenant, webhook.secret_name)
        answer = _attempt(job, webhook, endpoint, keys, courier)
    except Unreachable as problem:
        raise _retry(str(problem), job, courier, None) from None
    if is_delivered(answer.status):
        if job.run > 1:
            courier.endpoints.reopen(job.tenant, webhook.url)
        return {"status": answer.status}
    if answer.status == GONE:
        courier.endpoints.end(job.tenant, webhook.url)
        raise Permanent(f"{endpoint.origin} answered 410: it wants no more webhooks")
    why = ", a redirect, which is not followed" if 300 <= answer.status < 400 else ""
    raise _retry(f"{endpoint.origin} answered {answer.status}{why}", job, courier, answer)


def _attempt(
    job: Job, webhook: Webhook, endpoint: Endpoint, keys: Sequence[bytes], courier: Courier
) -> Answer:
    body = content(webhook.body)
    # The name is looked up once, all its addresses are checked, and the connection goes to a
    # checked address. So the name cannot change in between.
    addresses = check_addresses(
        endpoint.host, courier.resolve(endpoint.host, endpoint.port), courier.policy
    )
    signed = headers(webhook, keys, f"msg_{job.id}", body, at_s=courier.clock() // 1000)
    return post(endpoint, addresses, signed, body, seconds=_SECONDS)


def _retry(reason: str, job: Job, courier: Courier, answer: Answer | None) -> Retry:
    pause = pause_seconds(
        courier.pauses,
        job.attempt,
        job.id,
        status=answer.status if answer else None,
        retry_after=answer.retry_after if answer else None,
        now_s=courier.clock() // 1000,
    )
    return Retry(reason, after_seconds=pause)
