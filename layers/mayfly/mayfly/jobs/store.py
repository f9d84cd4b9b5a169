"""Jobs on DynamoDB: every change of a job's state is one conditional write here, and nowhere else.

::

    submit               claim (owner, lease)         commit
      ├─► QUEUED ────────────► INPROGRESS ──────────────► COMPLETED   with the job's effects, in one transaction
      └─► SCHEDULED ────────────┤ ▲    │ failed, may retry
          (not before its time) │ │    ▼
             lease ran out  ────┘ └── RETRY (not before its time)
             (process died)     └──────────────────────► DEAD         permanent, or the last attempt; redrive: QUEUED again
          whatever has not ended ── cancel ────────────► CANCELLED    and its owner is refused

Nothing is ever deleted and no write is unconditional, so that a late worker can only be refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.errors import EffectRefused, Fenced, JobEnded, JobNotFound, MayflyError, StoreUnavailable
from mayfly.ids import derived_id
from mayfly.jobs.effects import Effect
from mayfly.jobs.items import DUE, attempt_value, attention, attention_partition, job_key, new_items, payload_key, read_job
from mayfly.jobs.model import TERMINAL, Attempt, Job, Outcome, Status
from mayfly.jobs.rules import RETENTION_SECONDS, is_expired

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["ClaimRefused", "JobExists", "JobStore", "Page"]

#: A cancelled transaction whose only reasons are these has written nothing and may be sent again, under a new token.
_DEFINITE: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
#: Refusals of a transaction that every repeat would meet again: malformed, or not allowed to this role.
_REFUSED_FOR_GOOD: Final = {"ValidationException", "AccessDeniedException", "ResourceNotFoundException"}
_COMMIT_TRIES: Final = 6
_CANCEL_TRIES: Final = 5
#: Attributes that place a job in the indexes.
_PLACES: Final = ("attention", "attention_at", "due")


class JobExists(MayflyError):
    """The id is taken; `job` is what stands there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id!r} exists")


class ClaimRefused(MayflyError):
    """The job is not to be claimed now; `job` is its state at that moment, None where there is no such job."""

    def __init__(self, job_id: str, job: Job | None) -> None:
        self.job = job
        super().__init__(f"job {job_id!r} cannot be claimed ({job.status if job else 'absent'})")


@dataclass(frozen=True)
class Page:
    """Some jobs, and where the next page begins: the last job's id and time, None after the last page."""

    jobs: list[Job]
    next: tuple[str, int] | None


class JobStore:
    """Jobs of all tenants.

    `pause(attempt)` waits before a transaction that lost a conflict is sent again: with jitter in production, not at all
    in a test.
    """

    def __init__(self, client: "DynamoDBClient", table: str, pause: Callable[[int], None]) -> None:
        self._client: Any = client  # the stubs describe neither cancellation reasons nor built requests
        self._table = table
        self._pause = pause

    def create(self, job: Job) -> None:
        """Stores a new job. Raises JobExists with the one that has this id, or StoreUnavailable.

        A repeat by the SDK after a lost answer meets this very job, and counts as success.
        """
        puts = self.puts(job)
        try:
            if len(puts) == 1:
                self._client.put_item(**puts[0])
            else:
                self._client.transact_write_items(TransactItems=[{"Put": put} for put in puts])
        except ClientError as refusal:
            existing = _old_item(refusal)
            if existing is None:
                raise StoreUnavailable("submit", _code(refusal)) from refusal
            found = self._with_payload(existing)
            if (found.created_at_ms, found.fingerprint) != (job.created_at_ms, job.fingerprint):
                raise JobExists(found) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable("submit", type(problem).__name__) from problem

    def puts(self, job: Job) -> list[dict[str, Any]]:
        """The conditional puts that make a new job, for a transaction of the caller's."""
        item, *beside = new_items(job)
        # The job's own condition guards its payload, too: together they are written, or not.
        return [self._put_new(item, job.created_at_ms), *({"TableName": self._table, "Item": each} for each in beside)]

    def read(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """The job. Strongly consistent. Raises JobNotFound (also once it has expired), StoreUnavailable."""
        item = self._get(job_key(tenant, job_id), "read")
        if item is None or is_expired(read_job(item), now_ms):
            raise JobNotFound(job_id)
        return self._with_payload(item)

    def claim(self, tenant: str, job_id: str, *, nonce: str, now_ms: int, lease_ms: int, new: Job | None = None) -> Job:
        """Makes the caller the owner of the job for `lease_ms`, and returns it.

        `new` is the job to create where a message on the queue asks for one that does not exist yet; its item is written
        by its first claim. Raises ClaimRefused with the job's state; StoreUnavailable when the outcome is unknown (the
        lease of a claim that did count runs out by itself).

        ::

            owner A   claim ─── runs ─── lease_until ┄┄ late: refused by its nonce
            owner B                          claim ──── runs ──── commit
        """
        attempt = Attempt(started_at_ms=now_ms)
        is_queued = "#status = :queued"
        is_due = "(#status IN (:retry, :scheduled) AND #not_before <= :now)"
        # Nobody runs it: the process that claimed it died, or it would have renewed its lease.
        was_abandoned = "(#status = :inprogress AND #lease_until < :now)"
        has_attempts_left = "#attempt < #max_attempts"
        condition = f"({is_queued} OR {is_due} OR {was_abandoned}) AND {has_attempts_left}"
        created: dict[str, Any] = {}
        if new:
            item, *beside = new_items(new)
            created = {name: value for name, value in item.items() if name not in _SET_BY_CLAIM}
            # The same job asked for again; another body under its idempotency key is another request, and refused.
            is_same_request = "#fingerprint = :new_fingerprint"
            condition = f"attribute_not_exists(pk) OR ({is_same_request} AND {condition})"
            for payload_item in beside:  # before the job's own item, so that whoever sees the job finds its payload
                self._put_payload(payload_item)
        sets = [
            "#status = :inprogress",
            "#owner = :nonce",
            "#lease_until = :until",
            "#history = list_append(if_not_exists(#history, :none), :entry)",
            *(f"#{name} = if_not_exists(#{name}, :new_{name})" for name in created),
        ]
        names = ["status", "owner", "lease_until", "history", "attempt", "max_attempts", "not_before", "fence", *_PLACES, *created]
        values: dict[str, Any] = {
            ":queued": {"S": Status.QUEUED},
            ":retry": {"S": Status.RETRY},
            ":scheduled": {"S": Status.SCHEDULED},
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": nonce},
            ":now": {"N": str(now_ms)},
            ":until": {"N": str(now_ms + lease_ms)},
            ":none": {"L": []},
            ":entry": {"L": [attempt_value(attempt)]},
            ":one": {"N": "1"},
            **{f":new_{name}": value for name, value in created.items()},
        }
        try:
            reply = self._client.update_item(
                TableName=self._table,
                Key=job_key(tenant, job_id),
                UpdateExpression=f"SET {', '.join(sets)} REMOVE #not_before, #attention, #attention_at, #due ADD #fence :one, #attempt :one",
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in dict.fromkeys(names)},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as refusal:
            if _code(refusal) != "ConditionalCheckFailedException":
                raise StoreUnavailable("claim", _code(refusal)) from refusal
            found = _item(refusal)
            if found is None:
                raise ClaimRefused(job_id, None) from refusal
            if found.get("owner") == {"S": nonce} and found["status"] == {"S": Status.INPROGRESS}:
                return self._with_payload(found)  # the answer to my own claim was lost, and this is the SDK's repeat
            raise ClaimRefused(job_id, read_job(found)) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable("claim", type(problem).__name__) from problem
        return self._with_payload(dict(reply["Attributes"]))

    def renew(self, job: Job, *, now_ms: int, lease_ms: int) -> None:
        """Holds a claim for another `lease_ms`. Raises Fenced when the job has another owner or an end, StoreUnavailable."""
        is_mine = "#status = :inprogress AND #owner = :nonce"
        update = {
            "TableName": self._table,
            "Key": job_key(job.tenant, job.id),
            "UpdateExpression": "SET #lease_until = :until",
            "ConditionExpression": is_mine,
            "ExpressionAttributeNames": {"#status": "status", "#owner": "owner", "#lease_until": "lease_until"},
            "ExpressionAttributeValues": {
                ":inprogress": {"S": Status.INPROGRESS},
                ":nonce": {"S": job.owner},
                ":until": {"N": str(now_ms + lease_ms)},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._client.update_item(**update)
        except ClientError as refusal:
            if _code(refusal) != "ConditionalCheckFailedException":
                raise StoreUnavailable("renew", _code(refusal)) from refusal
            raise _fenced(job, _item(refusal)) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable("renew", type(problem).__name__) from problem

    def commit(self, job: Job, *, result: str, effects: Sequence[Effect], now_ms: int) -> None:
        """Ends the job as COMPLETED and applies its effects, all or nothing, if the caller still owns it.

        `job` is what `claim` returned. Raises Fenced when it has another owner or an end; EffectRefused when a condition
        of an effect did not hold; StoreUnavailable when the outcome is unknown: then the job is left to redelivery,
        which finds it COMPLETED or takes it over, after which this transaction can only be refused.
        """
        ended = replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.SUCCEEDED)
        update = self._end(job, Status.COMPLETED, ended, now_ms, {"result": {"S": result}})
        if not effects:
            self._update(job, update, "commit")
            return
        for attempt in range(1, _COMMIT_TRIES + 1):
            try:
                self._client.transact_write_items(
                    TransactItems=[{"Update": update}, *(effect.write for effect in effects)],
                    # The same attempt repeated by the SDK is one transaction; a new try after a definite cancel is another.
                    ClientRequestToken=derived_id("commit", job.tenant, job.id, job.owner or "", str(attempt)),
                )
                return
            except self._client.exceptions.TransactionCanceledException as refusal:
                if self._completed_by(job, refusal):
                    return
                self._raise_unless_definite(job, refusal, effects)
            except ClientError as refusal:
                if _code(refusal) in _REFUSED_FOR_GOOD:
                    raise EffectRefused(job.id, "set as a whole", str(refusal)) from refusal
                raise StoreUnavailable("commit", _code(refusal)) from refusal
            except BotoCoreError as problem:
                raise StoreUnavailable("commit", type(problem).__name__) from problem
            self._pause(attempt)
        raise StoreUnavailable("commit", f"{_COMMIT_TRIES} conflicts in a row")

    def release(self, job: Job, *, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Gives up the caller's claim after a failure: to RETRY not before `retry_at_ms`, or to DEAD where that is None.

        Raises Fenced, StoreUnavailable.
        """
        failed = replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.FAILED, error=error)
        if retry_at_ms is None:
            update = self._end(job, Status.DEAD, failed, now_ms, {"error": {"S": error}})
        else:
            update = self._leave(job, Status.RETRY, failed, {"not_before": {"N": str(retry_at_ms)}})
        self._update(job, update, "release")

    def bury(self, job: Job, *, error: str, now_ms: int) -> None:
        """Ends as DEAD a job whose last attempt was interrupted. `job` is its state as a refused claim found it.

        Raises Fenced when it has moved on since, StoreUnavailable.
        """
        lost = replace(job.history[-1], outcome=Outcome.INTERRUPTED, error=error)
        update = self._end(job, Status.DEAD, lost, now_ms, {"error": {"S": error}})
        is_still_abandoned = "#lease_until = :seen_lease"  # or its owner has renewed it meanwhile
        update["ConditionExpression"] += f" AND {is_still_abandoned}"
        update["ExpressionAttributeValues"][":seen_lease"] = {"N": str(job.lease_until_ms)}
        self._update(job, update, "bury")

    def cancel(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Ends a job that has not ended, and returns it. Nothing of it can be committed after this.

        Raises JobNotFound, JobEnded when it has ended in another way, StoreUnavailable.
        """
        for _ in range(_CANCEL_TRIES):
            job = self.read(tenant, job_id, now_ms=now_ms)
            if job.status is Status.CANCELLED:
                return job
            if job.status in TERMINAL:
                raise JobEnded(job_id, job.status)
            if self._cancel_as_seen(job, now_ms):
                return self.read(tenant, job_id, now_ms=now_ms)
        raise StoreUnavailable("cancel", "the job changed hands again and again")

    def _cancel_as_seen(self, job: Job, now_ms: int) -> bool:
        is_as_seen = "#status = :seen AND #fence = :fence"
        sets = ["#status = :cancelled", "#expires_at = :expires"]
        names = ["status", "fence", "expires_at", "lease_until", "not_before", *_PLACES]
        values: dict[str, Any] = {
            ":seen": {"S": job.status},
            ":fence": {"N": str(job.fence)},
            ":cancelled": {"S": Status.CANCELLED},
            ":expires": {"N": str(now_ms // 1000 + RETENTION_SECONDS)},
        }
        if job.status is Status.INPROGRESS:  # its owner is refused from here on, and hears of it at its next heartbeat
            sets.append(f"#history[{len(job.history) - 1}] = :attempt")
            names.append("history")
            values[":attempt"] = attempt_value(replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.CANCELLED))
        return self._change(
            job,
            "cancel",
            f"SET {', '.join(sets)} REMOVE #lease_until, #not_before, #attention, #attention_at, #due",
            is_as_seen,
            names=names,
            values=values,
        )

    def redrive(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Opens a new run of a dead job, with all its attempts, and returns it; the stream announces it.

        Raises JobNotFound, JobEnded when it is not dead, StoreUnavailable.
        """
        job = self.read(tenant, job_id, now_ms=now_ms)
        if job.status is not Status.DEAD:
            raise JobEnded(job_id, job.status)
        is_the_run_seen = "#status = :dead AND #run = :run"
        names = ["status", "attempt", "run", "error", "expires_at", *(place for place in _PLACES if place != "due")]
        values: dict[str, Any] = {
            ":dead": {"S": Status.DEAD},
            ":queued": {"S": Status.QUEUED},
            ":run": {"N": str(job.run)},
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
        }
        expression = "SET #status = :queued, #attempt = :zero REMOVE #error, #expires_at, #attention, #attention_at ADD #run :one"
        self._change(job, "redrive", expression, is_the_run_seen, names=names, values=values)  # refused: somebody else has just done it
        return self.read(tenant, job_id, now_ms=now_ms)

    def list(self, tenant: str, status: Status, *, limit: int, after: tuple[str, int] | None, now_ms: int) -> "Page":
        """A page of a tenant's scheduled or dead jobs, by their time. Raises StoreUnavailable.

        `after` is where the page before ended. Eventually consistent: a job may show a moment late.
        """
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": "attention",
            "KeyConditionExpression": "#attention = :partition",
            "ExpressionAttributeNames": {"#attention": "attention"},
            "ExpressionAttributeValues": {":partition": {"S": attention_partition(tenant, status)}},
            "Limit": limit,
        }
        if after is not None:
            job_id, at_ms = after
            query["ExclusiveStartKey"] = {**job_key(tenant, job_id), **attention(tenant, status, at_ms)}
        try:
            reply = self._client.query(**query)
        except (BotoCoreError, ClientError) as problem:
            raise StoreUnavailable("list", type(problem).__name__) from problem
        # Without payloads that stand beside their job: a page of them could be larger than any answer.
        jobs = [job for job in map(read_job, reply["Items"]) if not is_expired(job, now_ms)]
        last = reply.get("LastEvaluatedKey")
        return Page(jobs, (last["pk"]["S"].rsplit("/", 1)[1], int(last["attention_at"]["N"])) if last else None)

    def release_due(self, *, before_ms: int, limit: int) -> int:
        """Takes up to `limit` jobs whose time comes before `before_ms` out of the `due` index; returns how many it found.

        The stream then announces each to the queue, with the delay that is left. Taking one out twice is refused, so that
        several sweeps at once do no harm; what a sweep that dies has not taken out stays for the next. Raises
        StoreUnavailable.
        """
        try:
            found = self._client.query(
                TableName=self._table,
                IndexName="due",
                KeyConditionExpression="#due = :due AND #at < :before",
                ExpressionAttributeNames={"#due": "due", "#at": "attention_at"},
                ExpressionAttributeValues={":due": {"S": DUE}, ":before": {"N": str(before_ms)}},
                Limit=limit,
            )["Items"]
        except (BotoCoreError, ClientError) as problem:
            raise StoreUnavailable("sweep", type(problem).__name__) from problem
        for item in found:
            is_not_taken = "attribute_exists(#due)"
            self._change(read_job(item), "sweep", "REMOVE #due", is_not_taken, names=["due"], values={})
        return len(found)

    def _change(self, job: Job, operation: str, expression: str, condition: str, *, names: Sequence[str], values: dict[str, Any]) -> bool:
        """A conditional update; False where its condition did not hold. Raises StoreUnavailable."""
        update: dict[str, Any] = {
            "TableName": self._table,
            "Key": job_key(job.tenant, job.id),
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
        }
        try:
            self._client.update_item(**update, **({"ExpressionAttributeValues": values} if values else {}))
        except ClientError as refusal:
            if _code(refusal) != "ConditionalCheckFailedException":
                raise StoreUnavailable(operation, _code(refusal)) from refusal
            return False
        except BotoCoreError as problem:
            raise StoreUnavailable(operation, type(problem).__name__) from problem
        return True

    def _end(self, job: Job, status: Status, attempt: Attempt, now_ms: int, extra: dict[str, Any]) -> dict[str, Any]:
        # Only a job that has ended may vanish: TTL counts from here.
        expires = {"expires_at": {"N": str(now_ms // 1000 + RETENTION_SECONDS)}}
        place = attention(job.tenant, status, now_ms) if status is Status.DEAD else {}
        return self._leave(job, status, attempt, {**extra, **expires, **place})

    def _leave(self, job: Job, status: Status, attempt: Attempt, extra: dict[str, Any]) -> dict[str, Any]:
        """The write with which an owner leaves its job, applied only while it is the owner."""
        is_mine = "#status = :inprogress AND #owner = :nonce"
        sets = ["#status = :status", f"#history[{len(job.history) - 1}] = :attempt", *(f"#{name} = :{name}" for name in extra)]
        return {
            "TableName": self._table,
            "Key": job_key(job.tenant, job.id),
            "UpdateExpression": f"SET {', '.join(sets)} REMOVE #lease_until",
            "ConditionExpression": is_mine,
            "ExpressionAttributeNames": {f"#{name}": name for name in ("status", "history", "lease_until", "owner", *extra)},
            "ExpressionAttributeValues": {
                ":inprogress": {"S": Status.INPROGRESS},
                ":nonce": {"S": job.owner},
                ":status": {"S": status},
                ":attempt": attempt_value(attempt),
                **{f":{name}": value for name, value in extra.items()},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _update(self, job: Job, update: dict[str, Any], operation: str) -> None:
        try:
            self._client.update_item(**update)
        except ClientError as refusal:
            if _code(refusal) != "ConditionalCheckFailedException":
                raise StoreUnavailable(operation, _code(refusal)) from refusal
            wanted = update["ExpressionAttributeValues"][":status"]["S"]
            if not _is_own_repeat(job, _item(refusal), wanted):
                raise _fenced(job, _item(refusal)) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable(operation, type(problem).__name__) from problem

    def _completed_by(self, job: Job, refusal: ClientError) -> bool:
        """Whether the transaction was refused because an earlier send of it had done its work. Raises Fenced."""
        mine = _reasons(refusal)[0]
        if mine["Code"] != "ConditionalCheckFailed":
            return False
        if not _is_own_repeat(job, mine.get("Item"), Status.COMPLETED):
            raise _fenced(job, mine.get("Item")) from refusal
        return True

    def _raise_unless_definite(self, job: Job, refusal: ClientError, effects: Sequence[Effect]) -> None:
        reasons = [reason["Code"] for reason in _reasons(refusal)]
        for effect, code in zip(effects, reasons[1:], strict=True):
            if code not in _DEFINITE | {"None"}:
                raise EffectRefused(job.id, effect.name, code) from refusal
        if reasons[0] not in _DEFINITE | {"None"}:
            raise StoreUnavailable("commit", reasons[0]) from refusal

    def _put_new(self, item: dict[str, Any], now_ms: int) -> Any:
        is_free = "attribute_not_exists(pk)"
        has_expired = "#expires_at < :now"  # TTL deletes late; an expired item is absent
        return {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": f"{is_free} OR {has_expired}",
            "ExpressionAttributeNames": {"#expires_at": "expires_at"},
            "ExpressionAttributeValues": {":now": {"N": str(now_ms // 1000)}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _put_payload(self, item: dict[str, Any]) -> None:
        try:
            self._client.put_item(TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)")
        except ClientError as refusal:
            if _code(refusal) != "ConditionalCheckFailedException":  # refused: it stands there already
                raise StoreUnavailable("claim", _code(refusal)) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable("claim", type(problem).__name__) from problem

    def _with_payload(self, item: dict[str, Any]) -> Job:
        job = read_job(item)
        if "payload" in item:
            return job
        return read_job(item, self._get(payload_key(job.tenant, job.id, job.fingerprint), "read payload") or {})

    def _get(self, item_key: dict[str, Any], operation: str) -> dict[str, Any] | None:
        try:
            reply: dict[str, Any] = self._client.get_item(TableName=self._table, Key=item_key, ConsistentRead=True)
        except (BotoCoreError, ClientError) as problem:
            raise StoreUnavailable(operation, type(problem).__name__) from problem
        return reply.get("Item")


#: Attributes of a new item that the claim itself writes.
_SET_BY_CLAIM: Final = {"pk", "sk", "status", "history", "attempt", "fence"}


def _is_own_repeat(job: Job, found: dict[str, Any] | None, wanted: str) -> bool:
    return found is not None and found.get("owner") == {"S": job.owner} and found["status"] == {"S": wanted}


def _fenced(job: Job, found: dict[str, Any] | None) -> Fenced:
    if found is None:
        return Fenced(job.id, job.owner or "", "the job's record is gone", has_ended=True)
    has_ended = Status(found["status"]["S"]) in TERMINAL
    holder = "it has ended" if has_ended else f"now: {found.get('owner', found['status'])['S']}"
    return Fenced(job.id, job.owner or "", holder, has_ended=has_ended)


def _old_item(refusal: ClientError) -> dict[str, Any] | None:
    if _code(refusal) == "ConditionalCheckFailedException":
        return _item(refusal)
    return next((reason["Item"] for reason in _reasons(refusal) if "status" in reason.get("Item", {})), None)


def _item(refusal: ClientError) -> dict[str, Any] | None:
    """The item that made a condition fail, which the stubs do not know."""
    answer: dict[str, Any] = dict(refusal.response)
    return answer.get("Item")


def _reasons(refusal: ClientError) -> list[dict[str, Any]]:
    """Why a transaction was cancelled, one entry for each of its writes."""
    answer: dict[str, Any] = dict(refusal.response)
    return list(answer.get("CancellationReasons", []))


def _code(refusal: ClientError) -> str:
    return refusal.response["Error"]["Code"]
