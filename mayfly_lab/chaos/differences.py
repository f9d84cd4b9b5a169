"""Differences between a ledger and what is stored, each with its tenant and count."""

from collections.abc import Iterator

from mayfly_lab.chaos.api import Answer
from mayfly_lab.chaos.callers import LIMIT_POLICY
from mayfly_lab.chaos.ledger import CHAINED, EFFECTS, KEYED, PLAIN, Ledger, Session
from mayfly_lab.chaos.present import Present

__all__ = ["differences"]


def differences(ledger: Ledger, has: Present) -> list[str]:
    """Returns a sentence for each difference of one tenant, none if everything is exact."""
    found = [
        *_of_jobs(ledger, has),
        *_of_effects(has),
        *_of_webhooks(has),
        *_of_increments(ledger, has),
        *_of_sessions(ledger, has),
        *_of_limit(ledger, has),
        *(f"{what} ({times} times)" for what, times in ledger.wrong.items()),
    ]
    if ledger.open_requests:
        found.append(f"{len(ledger.open_requests)} requests with a key were never answered")
    return [f"{ledger.tenant}: {text}" for text in found]


def _of_jobs(ledger: Ledger, has: Present) -> Iterator[str]:
    chained = {job.id for job in has.jobs.values() if _is_chained(has, job.id)}
    own = set(has.jobs) - chained
    lost = ledger.jobs - set(has.jobs)
    if lost:
        yield f"{len(ledger.jobs)} jobs accepted, {len(lost)} of them lost: {_some(lost)}"
    stranded = [job.id for job in has.jobs.values() if not job.is_ended]
    if stranded:
        yield f"{len(stranded)} of {len(has.jobs)} jobs have not ended: {_some(stranded)}"
    # Each task of a storm succeeds in the end, also one that fails at first.
    for job in sorted(has.jobs.values(), key=lambda job: job.id):
        if job.status == "DEAD":
            yield f"job {job.id} ({job.task}) is dead: {job.error or 'without an error'}"
    # The id of a message's job follows from its key; only their number is compared.
    due, found = len(ledger.messages), len(own - ledger.jobs)
    if due != found:
        yield f"{due} messages with a key were sent, and {found} jobs were made of them"
    links = sum(
        job.task == "chaos.chain" and bool(job.effect_on(EFFECTS)) for job in has.jobs.values()
    )
    if links != len(chained):
        yield f"{links} jobs submitted another one, and {len(chained)} such jobs are there"


def _of_effects(has: Present) -> Iterator[str]:
    due = has.effects_on(EFFECTS)
    yield from _unequal(EFFECTS, has.counters[EFFECTS], due, "succeeded jobs add up to")
    due = sum(job.status == "COMPLETED" for job in has.jobs.values() if _is_chained(has, job.id))
    yield from _unequal(CHAINED, has.counters[CHAINED], due, "succeeded jobs add up to")


def _of_webhooks(has: Present) -> Iterator[str]:
    sent = {job.id for job in has.jobs.values() if job.is_sent_webhook}
    if missing := sent - has.arrived:
        yield f"{len(sent)} webhooks succeeded, {len(missing)} never arrived: {_some(missing)}"


def _of_increments(ledger: Ledger, has: Present) -> Iterator[str]:
    yield from _unequal(KEYED, has.counters[KEYED], ledger.keyed, "acknowledged increments are")
    value, effects = has.counters[PLAIN], has.effects_on(PLAIN)
    least = ledger.plain + effects
    most = least + ledger.plain_unknown
    if not least <= value <= most:
        yield (
            f"counter {PLAIN} is {value}; succeeded jobs add up to {effects}, {ledger.plain} "
            f"increments were acknowledged, and {ledger.plain_unknown} more may have counted: "
            f"{_by(value, least, most)}"
        )


def _of_sessions(ledger: Ledger, has: Present) -> Iterator[str]:
    pairs = list(zip(ledger.sessions, has.sessions, strict=True))
    lost = sum(answer.status == 404 and not session.may_have_ended for session, answer in pairs)
    if lost:
        yield f"{len(pairs)} sessions acknowledged, {lost} of them lost"
    alive = sum(answer.status == 200 and session.is_ended for session, answer in pairs)
    if alive:
        yield f"{alive} sessions are alive after an acknowledged logout"
    wrong = [answer.status for _, answer in pairs if answer.status not in (200, 404)]
    if wrong:
        yield f"{len(wrong)} sessions could not be read: {sorted(set(wrong))}"
    old = sum(answer.status == 200 and not _is_current(session, answer)
              for session, answer in pairs)  # fmt: skip
    if old:
        yield f"{old} sessions are without an acknowledged change"


def _is_current(session: Session, answer: Answer) -> bool:
    return bool(session.acknowledged <= int(answer.body["data"]["n"]) <= session.sent)


def _of_limit(ledger: Ledger, has: Present) -> Iterator[str]:
    limit = LIMIT_POLICY["limit"]
    if ledger.admitted > limit:
        yield f"the limit of {limit} has admitted {ledger.admitted} takes"
    if has.taken < ledger.admitted:
        yield f"the limit has admitted {ledger.admitted} takes, and counts {has.taken}"
    most = ledger.admitted + ledger.takes_unknown
    if ledger.refused and most < limit:
        yield f"the limit of {limit} has refused a take after {most} at most"


def _is_chained(has: Present, job_id: str) -> bool:
    return bool(has.jobs[job_id].payload.get("name") == CHAINED)


def _unequal(counter: str, value: int, due: int, what: str) -> Iterator[str]:
    if value != due:
        yield f"counter {counter} is {value}, and {what} {due}: {_by(value, due, due)}"


def _by(value: int, least: int, most: int) -> str:
    return f"{least - value} missing" if value < least else f"{value - most} too many"


def _some(ids: "set[str] | list[str]") -> str:
    few = sorted(ids)[:5]
    return ", ".join(few) + (", ..." if len(ids) > len(few) else "")
