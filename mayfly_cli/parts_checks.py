"""Checks of a stack's parts against those of the installed release.

Each check is a function of both, and yields its findings. The parts are of a template, of the local
stack or of a deployed one.
"""

from collections.abc import Callable, Iterator
from typing import Final

from mayfly import __version__
from packaging.version import InvalidVersion, Version

from mayfly_cli.findings import Finding, note, problem
from mayfly_cli.stack_parts import RELEASE, StackParts

__all__ = ["compared"]

Check = Callable[[StackParts, StackParts, str], Iterator[Finding]]


def compared(parts: StackParts, installed: StackParts, update: str) -> list[Finding]:
    """Returns the findings of all checks. `update` says how to get the parts of this release."""
    found = [finding for check in _CHECKS for finding in check(parts, installed, update)]
    counts = (
        f"{len(parts.functions)} functions, {len(parts.tables)} tables, {len(parts.queues)} queues"
    )
    return [*found, note("parts", "", f"{counts} were compared with mayfly {__version__}")]


def _release(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Compares the release of the template that made the functions with the library's."""
    releases: dict[str | None, list[str]] = {}
    for name in sorted(set(parts.functions) & set(installed.functions)):
        releases.setdefault(parts.functions[name].variables.get(RELEASE), []).append(name)
    for release, names in releases.items():
        if release == __version__:
            continue
        if release is not None and _is_newer(release):
            yield problem(
                "release",
                _functions(names),
                f"the template is of mayfly {release}, and the library here is {__version__}",
                f"install mayfly-serverless {release}",
            )
            continue
        of = f"of mayfly {release}" if release else "of a release before MAYFLY_RELEASE (0.3.0)"
        yield problem(
            "release",
            _functions(names),
            f"the template is {of}, and the library here is {__version__}",
            update,
        )


def _is_newer(release: str) -> bool:
    try:
        return Version(release) > Version(__version__)
    except InvalidVersion:
        return False


def _missing(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds functions, tables, queues and buckets that this release has, and the stack has not."""
    for kind, names, present in (
        ("function", installed.functions, parts.functions),
        ("table", installed.tables, parts.tables),
        ("queue", installed.queues, parts.queues),
        ("bucket", installed.buckets, parts.buckets),
    ):
        for name in names:
            if name not in present:
                yield problem("missing part", name, f"this {kind} is missing", update)


def _variables(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds variables that functions of this release read, and that are not set."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for name, function in installed.functions.items():
        if name in parts.functions:
            missing = set(function.variables) - {RELEASE, *parts.functions[name].variables}
            if missing:
                lacking.setdefault(tuple(sorted(missing)), []).append(name)
    for variables, names in lacking.items():
        yield problem(
            "variables", _functions(names), f"the environment has no {', '.join(variables)}", update
        )


def _visibility(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds queues whose messages come back while a function may still work on them.

    Lambda refuses such a mapping when it is made, but not a later change of the queue.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    for mapped in parts.mapped if parts.mapped is not None else installed.mapped or ():
        queue, function = parts.queues.get(mapped.source), parts.functions.get(mapped.function)
        if queue is None or function is None or None in (queue.visibility, function.timeout):
            continue
        assert queue.visibility is not None
        assert function.timeout is not None
        if queue.visibility < function.timeout:
            yield problem(
                "visibility timeout",
                mapped.source,
                f"its visibility timeout is {queue.visibility} s, below the timeout of "
                f"{mapped.function}, {function.timeout:g} s",
                f"set VisibilityTimeout to {function.timeout:g} or more",
            )


def _dead_letters(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds queues without the dead-letter queue of this release, or that use it too early."""
    for name, queue in installed.queues.items():
        if name not in parts.queues or queue.receives is None:
            continue
        receives = parts.queues[name].receives
        if receives is None:
            yield problem(
                "dead letters",
                name,
                "it has no dead-letter queue, so a message that always fails comes back until it "
                "expires",
                f"set its RedrivePolicy, with a maxReceiveCount of {queue.receives}",
            )
        elif receives < queue.receives:
            yield problem(
                "dead letters",
                name,
                f"messages are dead letters after {receives} receives, and this release needs "
                f"{queue.receives}",
                f"set maxReceiveCount to {queue.receives}",
            )


def _mappings(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds queues and streams that call no function, or whose failures are not reported."""
    if parts.mapped is None:
        return
    mapped = {(each.source, each.function): each for each in parts.mapped}
    for wanted in installed.mapped or ():
        if wanted.function not in parts.functions:
            continue
        own = mapped.get((wanted.source, wanted.function))
        if own is None:
            yield problem(
                "mapping", wanted.function, f"{wanted.source} does not call this function", update
            )
        elif wanted.reports_failures and not own.reports_failures:
            yield problem(
                "failed items",
                wanted.function,
                f"its mapping of {wanted.source} has no ReportBatchItemFailures, so a failed "
                "message is deleted with its batch",
                "set FunctionResponseTypes: [ReportBatchItemFailures]",
            )


def _tables(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Finds tables with other keys, and without an index, a stream or TTL of this release."""
    for name, wanted in installed.tables.items():
        table = parts.tables.get(name)
        if table is None:
            continue
        if table.keys != wanted.keys:
            yield problem(
                "keys",
                name,
                f"its keys are {', '.join(table.keys)}, and must be {', '.join(wanted.keys)}",
                "keys of a table cannot be changed: move its items to a new table",
            )
        for index, keys in wanted.indexes.items():
            if table.indexes.get(index) != keys:
                has = "has other keys" if index in table.indexes else "is missing"
                yield problem("index", name, f"its index {index} {has}", update)
        if table.stream != wanted.stream:
            has = f"is {table.stream}" if table.stream else "is missing"
            yield problem("stream", name, f"its stream of {wanted.stream} {has}", update)
        if table.ttl is not None and table.ttl != wanted.ttl:
            yield problem(
                "TTL",
                name,
                f"items are not deleted by {wanted.ttl}, so they stay when they have expired",
                update,
            )


def _shards(parts: StackParts, installed: StackParts, update: str) -> Iterator[Finding]:
    """Says what to do before a rollback, if jobs are in shards that releases before do not read."""
    shards = {function.variables.get("DUE_SHARDS") for function in parts.functions.values()}
    known = sorted(shard for shard in shards if shard is not None)
    if known and known != ["1"]:
        yield note(
            "shards",
            "DueShards",
            f"jobs for later are in {known[-1]} shards, which releases up to 0.3.0 do not read",
            "before a rollback to one, set DueShards to 1 and wait until they are empty",
        )


def _functions(names: list[str]) -> str:
    return ", ".join(names)


_CHECKS: Final[tuple[Check, ...]] = (
    _release, _missing, _variables, _visibility, _dead_letters, _mappings, _tables, _shards,
)  # fmt: skip
