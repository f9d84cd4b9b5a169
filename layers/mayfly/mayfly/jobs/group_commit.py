"""Commits completions and effects of several jobs in one transaction, with an outcome for each job.

A call costs more than its writes, so finished jobs are committed together. No job is harmed by the
others of its group: a member whose condition fails leaves the group, a member that meets a conflict
is committed alone, and the rest is sent again.
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

#: A transaction that was cancelled only for these reasons has written nothing. It may be sent
#: again, with a new token.
_DEFINITE: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
#: Tries of a transaction that meets only conflicts and throttling.
_TRIES: Final = 6
#: DynamoDB takes 4 MB in a transaction; the size computed here is an estimate.
_BYTES: Final = 3_500_000
#: The most bytes of a write without its texts.
_SMALL: Final = 1_000

#: The outcome of a member: None if it is committed.
CommitOutcome = StaleWrite | EffectRefused | Contended | StoreUnavailable | None


@dataclass(frozen=True, eq=False)
class Member:
    """The completion and the effects of one delivery.

    The completion is the write of its job's item.
    """

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
    """Members that fit into one transaction.

    `writes` are its items, each with the members that need it.
    """

    members: list[Member] = field(default_factory=list)
    writes: list[_Write] = field(default_factory=list)
    size: int = 0

    def takes(self, member: Member) -> bool:
        """Adds a member if it fits, and returns True if it does.

        The group must stay within DynamoDB's limits. No item may be named twice, except by
        increments, which become one write.
        """
        effects = [Effect("its own record", dict(member.completion)), *member.effects]
        size = _SMALL * len(effects) + sum(
            _size(effect.write) for effect in effects if effect.adds is None
        )
        shared: list[tuple[_Write, Effect]] = []
        alone: list[_Write] = []
        for effect in effects:
            item = effect.item
            same = [write for write in self.writes if write.item.may_be(item)]
            if not same:
                alone.append(_Write(effect, item, [member]))
            elif len(same) == 1 and effect.adds is not None and same[0].effect.adds is not None:
                shared.append((same[0], effect))
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
    """Returns about the fewest transactions: each member goes into the first one that takes it."""
    groups: list[Group] = []
    for member in members:
        if not any(group.takes(member) for group in groups):
            groups.append(Group())
            groups[-1].takes(member)
    return groups


class GroupCommit:
    """Commits members, whatever made their writes."""

    def __init__(self, db: DynamoDB) -> None:
        self._db = db

    def commit(self, members: Sequence[Member]) -> list[CommitOutcome]:
        """Commits each member completely or not at all, and returns their outcomes in order.

        ::

            None              the member is committed
            StaleWrite        its job has another owner or version, or has ended
            EffectRefused     one of its effects could not be applied
            Contended         every try met conflicts
            StoreUnavailable  the outcome is unknown; the message is redelivered, and the
                              member's condition makes that safe
        """
        outcomes: dict[Member, CommitOutcome] = {}
        for group in plan(members):
            self._send(group, outcomes)
        return [outcomes[member] for member in members]

    def _send(self, group: Group, outcomes: dict[Member, CommitOutcome]) -> None:
        conflicts = 0
        while group.members:
            try:
                self._write(group, conflicts)
            except RequestRefused as refusal:
                self._commit_separately(group, refusal, outcomes)
                return
            except StoreUnavailable as unknown:
                outcomes.update(dict.fromkeys(group.members, unknown))
                return
            except TransactionCancelled as refusal:
                in_conflict = self._decide(group, refusal.reasons, outcomes)
                left = [member for member in group.members if member not in outcomes]
                if in_conflict:
                    conflicts += 1
                    # Those without a conflict do not wait for those with one.
                    self._send(
                        _group([member for member in left if member not in in_conflict]), outcomes
                    )
                    left = in_conflict
                if conflicts == _TRIES or (in_conflict and not self._db.pause(conflicts)):
                    outcomes.update(
                        {member: Contended(member.job_id, conflicts) for member in left}
                    )
                    return
                if not in_conflict and len(left) == len(group.members):
                    outcomes.update(
                        dict.fromkeys(
                            left, StoreUnavailable("commit", "cancelled without a reason")
                        )
                    )
                    return
                group = _group(left)
            else:
                outcomes.update(dict.fromkeys(group.members))
                return

    def _write(self, group: Group, conflicts: int) -> None:
        """Sends a group. Raises TransactionCancelled, RequestRefused, StoreUnavailable."""
        if len(group.writes) == 1:  # one job without effects, at half the price of a transaction
            ((verb, request),) = group.writes[0].effect.write.items()
            try:
                (self._db.put if verb == "Put" else self._db.update)("commit", **request)
            except ConditionFailed as refusal:
                raise TransactionCancelled(
                    [Reason("ConditionalCheckFailed", refusal.item)]
                ) from refusal
            return
        # A retry by the SDK has the same token, and counts as the same transaction. A try after a
        # definite cancellation is another transaction.
        names = [
            part
            for member in group.members
            for part in (member.tenant, member.job_id, member.nonce)
        ]
        token = derived_id("commit", str(conflicts), *names)
        self._db.transact("commit", [write.effect.write for write in group.writes], token=token)

    def _decide(
        self, group: Group, reasons: Sequence[Reason], outcomes: dict[Member, CommitOutcome]
    ) -> list[Member]:
        """Decides the outcomes that the reasons of a cancelled group allow to decide.

        Returns the members without an outcome that met a conflict.
        """
        in_conflict: list[Member] = []
        suspects: list[Member] = []
        for write, reason in zip(group.writes, reasons, strict=True):
            if reason.code == "None":
                continue
            if reason.code in _DEFINITE:
                in_conflict += write.owners
            elif len(write.owners) > 1:
                # One step of a shared increment is refused: each member is committed alone.
                suspects += write.owners
            else:
                # A job's own record comes before its effects, so it decides first: the effects of
                # a late worker do not matter.
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

    def _commit_separately(
        self, group: Group, refusal: RequestRefused, outcomes: dict[Member, CommitOutcome]
    ) -> None:
        """Commits each member alone, since one of them cannot be sent at all."""
        if len(group.members) == 1:
            (member,) = group.members
            outcomes[member] = EffectRefused(
                member.job_id, "set as a whole", refusal.message, is_malformed=refusal.is_malformed
            )
            return
        for member in group.members:
            self._send(_group([member]), outcomes)


def _group(members: Sequence[Member]) -> Group:
    """Returns members that were in one group, as a group again."""
    group = Group()
    for member in members:
        assert group.takes(member)
    return group


def stale_write(job_id: str, nonce: str, item: Mapping[str, Any] | None) -> StaleWrite:
    """Returns the error of a worker that has lost its job; `item` is the job's item."""
    if item is None:
        return StaleWrite(job_id, nonce, "the job's record is gone", has_ended=True)
    has_ended = Status(item["status"]["S"]) in TERMINAL
    holder = "it has ended" if has_ended else f"now: {(item.get('owner') or item['status'])['S']}"
    return StaleWrite(
        job_id,
        nonce,
        holder,
        has_ended=has_ended,
        fingerprints=frozenset(
            item[name]["S"] for name in ("fingerprint", "canonical_fingerprint") if name in item
        ),
    )


def _verdict(member: Member, reason: Reason) -> CommitOutcome:
    if reason.code != "ConditionalCheckFailed":
        return EffectRefused(member.job_id, "record of the job itself", reason.code)
    item = reason.item
    if (
        item
        and item.get("owner") == {"S": member.nonce}
        and item["status"] == {"S": Status.COMPLETED}
    ):
        return None  # an earlier try succeeded, and its response was lost
    return stale_write(member.job_id, member.nonce, item)


def _size(write: Mapping[str, Any]) -> int:
    """Returns about the number of bytes of a write, and not less than its texts have.

    A character beyond ASCII counts as four bytes, the most that UTF-8 uses.
    """
    text = repr(write)  # This is quicker than a walk over the nested values.
    return len(text) if text.isascii() else 4 * len(text)
