"""Several jobs' completions and effects in one transaction, and what that means for each of them.

A call costs more than what it writes, so what has finished is committed together. No member loses
anything by its company: whoever's condition fails leaves, whoever's item is in conflict goes on
alone, and the rest goes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mayfly.aws.dynamodb import (
    ConditionFailed,
    DynamoDB,
    Reason,
    RequestRefused,
    TransactionCancelled,
)
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import derived_id
from mayfly.jobs.authoring.effects import EFFECT_LIMIT, Effect, Item, merged
from mayfly.jobs.errors import Contended, EffectRefused, StaleWrite
from mayfly.jobs.model import TERMINAL, Status

__all__ = ["GroupCommit", "Member", "plan", "stale_write"]

#: A cancelled transaction whose only reasons are these has written nothing and may be sent again,
#: under a new token.
_DEFINITE: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
#: How often a transaction that meets nothing but conflicts and throttling is sent.
_TRIES: Final = 6
#: DynamoDB takes 4 MB in a transaction; what is counted here is an estimate.
_BYTES: Final = 3_500_000
#: What a write has beside its texts, at most.
_SMALL: Final = 1_000

#: What came of a member: None where it is committed.
Outcome = StaleWrite | EffectRefused | Contended | StoreUnavailable | None


@dataclass(frozen=True, eq=False)
class Member:
    """One attempt's completion: the write of its job's item, conditional, and its effects."""

    tenant: str
    job_id: str
    nonce: str
    completion: Mapping[str, Any]
    effects: Sequence[Effect]


@dataclass
class _Write:
    effect: Effect
    item: Item
    owners: list[Member]


@dataclass
class Group:
    """Members that fit into one transaction: `writes` are its items, each with the members that it
    is for.
    """

    members: list[Member] = field(default_factory=list)
    writes: list[_Write] = field(default_factory=list)
    size: int = 0

    def takes(self, member: Member) -> bool:
        """Adds a member if it fits: within DynamoDB's limits, and no item named twice but by
        increments, which add up.
        """
        effects = [Effect("its own record", dict(member.completion)), *member.effects]
        size = _SMALL * len(effects) + sum(
            _size(effect.write) for effect in effects if effect.adds is None
        )
        shared: list[tuple[_Write, Effect]] = []
        alone: list[_Write] = []
        for effect in effects:
            item = effect.item
            met = [write for write in self.writes if write.item.may_be(item)]
            if not met:
                alone.append(_Write(effect, item, [member]))
            elif len(met) == 1 and effect.adds is not None and met[0].effect.adds is not None:
                shared.append((met[0], effect))
            else:
                return False
        if self.members and (
            len(self.writes) + len(alone) > EFFECT_LIMIT + 1 or self.size + size > _BYTES
        ):
            return False
        for write, effect in shared:
            write.effect = merged(write.effect, effect)
            write.owners.append(member)
        self.writes += alone
        self.members.append(member)
        self.size += size
        return True


def plan(members: Sequence[Member]) -> list[Group]:
    """The fewest transactions, roughly: each member goes into the first one that takes it."""
    groups: list[Group] = []
    for member in members:
        if not any(group.takes(member) for group in groups):
            groups.append(Group())
            groups[-1].takes(member)
    return groups


class GroupCommit:
    """Commits members; knows nothing of how their writes came to be."""

    def __init__(self, db: DynamoDB) -> None:
        self._db = db

    def commit(self, members: Sequence[Member]) -> list[Outcome]:
        """Commits each member, all of it or nothing of it; one outcome for each, in their order.

        None where it is committed. StaleWrite where its job has another owner, version or end;
        EffectRefused where one of its effects could not be applied; Contended where nothing but
        conflicts were met; StoreUnavailable where the outcome is unknown: such a member is left to
        redelivery, which its own condition makes safe.
        """
        outcomes: dict[Member, Outcome] = {}
        for group in plan(members):
            self._send(group, outcomes)
        return [outcomes[member] for member in members]

    def _send(self, group: Group, outcomes: dict[Member, Outcome]) -> None:
        conflicts = 0
        while group.members:
            try:
                self._write(group, conflicts)
            except RequestRefused as refusal:
                self._refused_as_a_whole(group, refusal, outcomes)
                return
            except StoreUnavailable as unknown:
                outcomes.update(dict.fromkeys(group.members, unknown))
                return
            except TransactionCancelled as refusal:
                in_conflict = self._sort_out(group, refusal.reasons, outcomes)
                left = [member for member in group.members if member not in outcomes]
                if in_conflict:
                    conflicts += 1
                    # Those without a conflict do not wait for those with one.
                    self._send(
                        _group([member for member in left if member not in in_conflict]), outcomes
                    )
                    left = in_conflict
                if conflicts == _TRIES:
                    outcomes.update({member: Contended(member.job_id, _TRIES) for member in left})
                    return
                if not in_conflict and len(left) == len(group.members):
                    outcomes.update(
                        dict.fromkeys(
                            left, StoreUnavailable("commit", "cancelled without a reason")
                        )
                    )
                    return
                if in_conflict:
                    self._db.pause(conflicts)
                group = _group(left)
            else:
                outcomes.update(dict.fromkeys(group.members))
                return

    def _write(self, group: Group, conflicts: int) -> None:
        """Sends a group. Raises TransactionCancelled, RequestRefused, StoreUnavailable."""
        if len(group.writes) == 1:  # one job without effects: half the price of a transaction
            ((verb, request),) = group.writes[0].effect.write.items()
            try:
                (self._db.put if verb == "Put" else self._db.update)("commit", **request)
            except ConditionFailed as refusal:
                raise TransactionCancelled(
                    [Reason("ConditionalCheckFailed", refusal.item)]
                ) from refusal
            return
        # The same content repeated by the SDK is one transaction; what is sent after a definite
        # cancel is another.
        names = [
            part
            for member in group.members
            for part in (member.tenant, member.job_id, member.nonce)
        ]
        token = derived_id("commit", str(conflicts), *names)
        self._db.transact("commit", [write.effect.write for write in group.writes], token=token)

    def _sort_out(
        self, group: Group, reasons: Sequence[Reason], outcomes: dict[Member, Outcome]
    ) -> list[Member]:
        """Decides what the reasons of a cancelled group can decide; returns who of those that are
        left met a conflict.
        """
        in_conflict: list[Member] = []
        suspects: list[Member] = []
        for write, reason in zip(group.writes, reasons, strict=True):
            if reason.code == "None":
                continue
            if reason.code in _DEFINITE:
                in_conflict += write.owners
            elif (
                len(write.owners) > 1
            ):  # an increment of several, and one of them is too much: each finds out alone
                suspects += write.owners
            else:
                # A job's own record stands before its effects and speaks first: what a late worker
                # wanted is nobody's business.
                (owner,) = write.owners
                is_own_record = write.effect.write == owner.completion
                refused = (
                    _verdict(owner, reason)
                    if is_own_record
                    else EffectRefused(owner.job_id, write.effect.name, reason.code)
                )
                outcomes.setdefault(owner, refused)
        for member in dict.fromkeys(suspects):
            if member not in outcomes:
                self._send(_group([member]), outcomes)
        return [member for member in dict.fromkeys(in_conflict) if member not in outcomes]

    def _refused_as_a_whole(
        self, group: Group, refusal: RequestRefused, outcomes: dict[Member, Outcome]
    ) -> None:
        """One of them cannot be sent at all, and its company must not suffer for it."""
        if len(group.members) == 1:
            (member,) = group.members
            outcomes[member] = EffectRefused(
                member.job_id, "set as a whole", refusal.message, is_malformed=refusal.is_malformed
            )
            return
        for member in group.members:
            self._send(_group([member]), outcomes)


def _group(members: Sequence[Member]) -> Group:
    """Members that were in one group, as one again."""
    group = Group()
    for member in members:
        assert group.takes(member)
    return group


def stale_write(job_id: str, nonce: str, found: Mapping[str, Any] | None) -> StaleWrite:
    """What an attempt is told that lost its job; `found` is the job's item."""
    if found is None:
        return StaleWrite(job_id, nonce, "the job's record is gone", has_ended=True)
    has_ended = Status(found["status"]["S"]) in TERMINAL
    holder = "it has ended" if has_ended else f"now: {(found.get('owner') or found['status'])['S']}"
    return StaleWrite(
        job_id, nonce, holder, has_ended=has_ended, fingerprint=found["fingerprint"]["S"]
    )


def _verdict(member: Member, reason: Reason) -> Outcome:
    if reason.code != "ConditionalCheckFailed":
        return EffectRefused(member.job_id, "record of the job itself", reason.code)
    found = reason.item
    if (
        found
        and found.get("owner") == {"S": member.nonce}
        and found["status"] == {"S": Status.COMPLETED}
    ):
        return None  # an earlier send had done its work, and its answer was lost
    return stale_write(member.job_id, member.nonce, found)


def _size(value: Any) -> int:
    """About how many bytes there are in a write's texts, of which only the long ones matter;
    letters beyond ASCII count for the most that UTF-8 gives one."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, dict):
        return sum(_size(each) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(_size(each) for each in value)
    return len(value) if isinstance(value, bytes | bytearray) else 0
